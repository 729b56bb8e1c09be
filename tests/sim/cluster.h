/*
 * A simulated PennCloud cluster: coordinators, storage nodes and clients, each
 * on a host of its own, run by a supervisor that starts again what died, and
 * watched by checkers after every event.
 */
#ifndef TESTS_SIM_CLUSTER_H
#define TESTS_SIM_CLUSTER_H

#include "coordinator/coordinator.h"
#include "storage/node.h"
#include "tests/sim/history.h"
#include "tests/sim/sim_env.h"

#define CLUSTER_MEMBERS 16
#define CLUSTER_TABLETS 8

struct cluster;
struct workload;

enum member_kind { MEMBER_COORDINATOR, MEMBER_STORAGE, MEMBER_CLIENT };

/* The newest epoch in which a replica was asked to prepare, and up to where. */
struct asked {
    uint64_t epoch, seq;
};

/* One host of the cluster and what runs there. */
struct member {
    struct cluster *c;
    enum member_kind kind;
    uint32_t node;
    char name[LIMIT_NAME + 1];
    char address[LIMIT_ADDRESS + 1], beacon_address[LIMIT_ADDRESS + 1];
    struct sim_host *host;
    struct env *env, *beacon_env; /* of the process that runs now */
    bool wanted;                  /* the supervisor starts it again */
    int64_t restart_at;
    uint64_t starts, failures;
    char why[640];                        /* it last ended or could not start */
    struct name applied[CLUSTER_TABLETS]; /* as the checkers last saw it */
    /* Greatest epoch of each tablet that it let others see, or, for the
     * coordinator, announced; zeroed when its disk is taken back or away. */
    uint64_t shown[CLUSTER_TABLETS];
    struct asked asked[CLUSTER_TABLETS];
    bool forgets; /* zero it at the next start */
    bool rotten;  /* its memory was bent: I4 does not hold of it */
};

struct cluster_options {
    uint64_t seed;
    unsigned storages, coordinators, clients; /* number of each */
    unsigned replicas, tablets;
    unsigned bugs; /* storage/bugs.def */
    unsigned coordinator_bugs;
    unsigned sim_bugs; /* sim_bugs.def */
    uint64_t log_limit, segment_size;
    enum log_level log_level;
    int log_fd; /* -1: no logs of the nodes */
};

struct cluster {
    struct cluster_options o;
    struct world *w;
    struct member members[CLUSTER_MEMBERS];
    unsigned member_count;
    const char *coordinators[CLUSTER_MEMBERS + 1];
    struct workload *workload; /* of the clients; may be NULL */
    struct checks *checks;
    /* The first thing found wrong; empty while all is well. */
    struct buf failure;
};

/* Makes the hosts; nothing runs yet. */
struct cluster *sim_cluster_new(const struct cluster_options *o);
void sim_cluster_free(struct cluster *c);
/* All members of KIND shall run; the supervisor sees to it. */
void sim_cluster_want(struct cluster *c, enum member_kind kind, bool wanted);
/* Notes the first failure and stops the world. */
void sim_cluster_fail(struct cluster *c, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
bool sim_cluster_failed(const struct cluster *c);

struct member *sim_cluster_member(struct cluster *c, enum member_kind kind,
                                  unsigned index);
/* "storage-1", "coordinator-1", "client-1"; "primary" and "secondary" (of the
 * first tablet), "secondary-2", "primary:3" (of tablet number 3, from 0).
 * NULL: nobody is that now. */
struct member *sim_cluster_find(struct cluster *c, const char *name);
/* Newest map of a running coordinator; NULL if none runs. */
const struct msg_map *sim_cluster_map(struct cluster *c);

/* Every tablet has all its replicas in sync and an open primary, every wanted
 * member runs. WHY (may be NULL) gets what is missing. */
bool sim_cluster_whole(struct cluster *c, struct buf *why);
/* Runs until it is whole, at most DURATION_US; false if it did not become
 * so or something failed. */
bool sim_cluster_await_whole(struct cluster *c, int64_t duration_us);

/* The process dies and starts again after DELAY_US; < 0: when told to. */
void member_kill(struct member *m, int64_t delay_us);
void member_power_off(struct member *m, int64_t delay_us);
void member_start(struct member *m);
/* Its disk is emptied while it does not run. */
void member_wipe(struct member *m);
/* Its struct coordinator, storage_node or client; NULL: it does not run. */
static inline void *member_object(const struct member *m)
{
    return sim_host_object(m->host);
}

/* ---- checkers (cluster_check.c) ---- */

struct checks *checks_new(struct cluster *c);
void checks_free(struct checks *k);
/* After an event in H: I1, I4 and that no two replicas apply different
 * entries at one seq. */
void checks_observe(struct checks *k, struct sim_host *h);
/* M has started: what it showed to others before was durable (R1, R3). */
void checks_started(struct checks *k, struct member *m);
/* M's disk is not what it was: it may have forgotten. */
void checks_forget(struct member *m);
/* I5's hook: TABLET's log at M is about to be cut to TO. */
void checks_cut(struct checks *k, struct member *m, uint32_t tablet,
                struct name to, struct name committed);
/* At rest: all members of each tablet have applied the same (I4). */
bool checks_equal(struct checks *k, struct buf *why);
/* At rest: all values on disks that nobody damaged are what they were. */
bool checks_values(struct checks *k, struct buf *why);
uint64_t checks_applied(const struct checks *k); /* entries, for figures */

#endif
