/*
 * What everything in cloud/ works on: the store's handle, the mail domains,
 * the limits of accounts and sessions. cloud/ is the only code that knows the
 * schema (penncloud-schema(5)).
 *
 * All of cloud/ is thread-safe and blocks. Each call takes a struct cloud_op,
 * which carries the deadline of one request; a request may make many calls
 * under one op.
 *
 * Outcomes, everywhere in cloud/: reads answer ST_OK, ST_NOT_FOUND, or why
 * not. Writes answer ST_OK, a definite refusal (surely without effect), or,
 * only after settling up to the deadline was in vain, ST_UNKNOWN_OUTCOME: it
 * may have happened and may yet happen. A lost client session
 * (ST_UNKNOWN_CLIENT) never leaves cloud/: there we look what happened.
 */
#ifndef CLOUD_CLOUD_H
#define CLOUD_CLOUD_H

#include "common/log.h"
#include "common/limits.h"
#include "common/status.h"
#include "kv/kv.h"

struct cloud;

struct cloud_options {
    struct kv *kv; /* borrowed; outlives the cloud */
    const struct log *log;
    const char *const *domains; /* our mail domains; ends with NULL; copied */
    const char *postmaster;     /* account that gets mail to postmaster@, NULL:
                                   only an account of that name */
    int64_t quota_bytes;        /* of a new account; 0: LIMIT_QUOTA_DEFAULT */
    unsigned hash_parallel;     /* Argon2id runs at once (64 MiB each); 0: 2 */
    unsigned hash_waiting;      /* callers that may wait for one; 0: 64 */
    int64_t session_idle_ms;    /* 0: 7 days */
    int64_t session_end_ms;     /* absolute; 0: 30 days */
    /* Milliseconds since 1970; NULL: the real clock. For tests. */
    int64_t (*wall_ms)(void *ctx);
    void *wall_ctx;
    /* Cost of Argon2id; 0: 64 MiB and 3 passes. Tests alone set it. */
    size_t hash_memory;
};

/* ST_CONFIG with a text if an option is bad. */
enum status cloud_open(const struct cloud_options *o, struct cloud **out,
                       struct err *err) MUST_CHECK;
void cloud_close(struct cloud *c);

/* One request: whose cloud, until when. */
struct cloud_op {
    struct cloud *cloud;
    int64_t deadline_ms; /* CLOCK_BOOTTIME, milliseconds */
    /* NULL, or where an earlier deadline may appear (0: none) while calls are
     * under way: the process has been told to stop. */
    const _Atomic int64_t *cut_ms;
};
struct cloud_op cloud_op_make(struct cloud *c, int timeout_ms);
/* Milliseconds left, at least 0. */
int cloud_op_left(const struct cloud_op *op);

struct kv *cloud_kv(const struct cloud *c);
const struct log *cloud_log(const struct cloud *c);
int64_t cloud_wall_ms(const struct cloud *c);
/* First of our domains: completes a user name to an address. */
const char *cloud_main_domain(const struct cloud *c);
bool cloud_domain_is_local(const struct cloud *c, const char *domain);

/* Removes what writers that died left behind: intents older than an hour by
 * their writer's clock, with their chunks and reservations. Goes through all
 * accounts; *REMOVED counts. A gateway calls it now and then. */
enum status cloud_collect(const struct cloud_op *op,
                          uint64_t *removed) MUST_CHECK;

#endif
