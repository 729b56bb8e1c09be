/*
 * Inside of the replica core, for its own files only (replica.h lists them).
 */
#ifndef STORAGE_REPLICA_IMPL_H
#define STORAGE_REPLICA_IMPL_H

#include "storage/bugs.h"
#include "storage/replica.h"

#include <assert.h>
#include <inttypes.h>

#define PEERS_MAX REPLICA_PEERS_MAX
/* A step of a dialogue that is not answered is repeated after the first time,
 * and each further one after twice as long, up to the last. */
#define ASK_AGAIN_US 100000
#define ASK_AGAIN_MOST_US 5000000
/* What can wait does so until the next multiple of its interval: so the timers
 * of all tablets fire at the same few moments, and what they send goes out in
 * one write a peer. */
/* R6: the committed seq is sent alone when nothing followed for so long. */
#define TELL_COMMIT_US 5000
#define LOG_COMMIT_US 20000 /* ... and noted in the own log after this */
#define COORDINATOR_FRESH_US 200000 /* R10 */
#define REPEAT_CHANGE_US 200000     /* an unanswered request is sent again */
#define REFUSED_ADD_US 100000   /* after an ADD in vain; doubles, to 64 times */
#define PEER_TICK_US 20000      /* how often peers that owe are looked at */
#define LEASE_TICK_US 250000    /* ... and the leases of those that do not */
#define PEER_WINDOW MIB(16)     /* bytes sent to a peer ahead of its acks */
#define LOG_WINDOW MIB(1)       /* ... if they must be read for that */
#define HELD_MAX 4096           /* commands that wait for R12 (f) */
#define UNCOMMITTED_MAX MIB(64) /* bytes in the log that wait for acks */
#define CATCHUP_MAX MIB(64)     /* bytes kept for a learner (R17) */
/* Bytes of blobs, on disk, that are kept for nobody in particular, and for a
 * learner. */
#define TAIL_BLOBS_MAX MIB(64)
#define CATCHUP_BLOBS_MAX MIB(512)

struct entry {
    struct name name;
    uint8_t *payload; /* NULL once it is behind the kept tail */
    uint32_t len;
    uint64_t ordinal;
    uint64_t position;
    struct blob_ref *blobs; /* that it refers to */
    uint32_t blob_count;
    uint64_t blob_bytes; /* of all these */
};

/* Entries base.seq + 1 .. last; a ring. */
struct tail {
    struct entry *ring;
    uint32_t head, count, cap;
    struct name base;
    uint64_t payload_from;  /* least seq whose payload is in memory */
    uint64_t payload_bytes; /* of all that are */
    uint64_t blob_bytes;    /* that these refer to */
    uint64_t synced_seq;    /* on this disk up to here */
};

enum phase {
    PHASE_IDLE,      /* no part in the epoch in force */
    PHASE_ENTERING,  /* a newer configuration is on its way to the disk */
    PHASE_FOLLOWING, /* secondary or learner */
    PHASE_GATHERING, /* primary in R12 (c)-(e) */
    PHASE_OPEN,      /* primary, R12 (f) */
    PHASE_READONLY,  /* primary, I below min_insync: nothing commits (R8) */
};

enum peer_kind { PEER_MEMBER, PEER_SHADOW, PEER_LEARNER };

enum peer_phase {
    PEER_ASKING,    /* TAIL_ASK sent, or to be sent */
    PEER_CUTTING,   /* CUT sent */
    PEER_STREAMING, /* entries flow */
    PEER_SNAPSHOT,  /* told to fetch a snapshot */
};

struct peer {
    struct replica id;
    struct incarnation incarnation; /* that this epoch accepted (R5) */
    enum peer_kind kind;
    enum peer_phase phase;
    uint64_t dialogue;
    uint64_t ask_before;
    struct name common;  /* found in the dialogue */
    bool joined;         /* its log was brought to ours in this epoch */
    bool unreadable;     /* the log did not give what it lacks */
    uint64_t next;       /* seq to send next */
    uint64_t acked;      /* acknowledged in this epoch */
    uint64_t flying;     /* bytes sent behind that, about */
    uint64_t told;       /* committed seq that was last sent to it (R6) ... */
    int64_t told_us;     /* ... and when */
    int64_t spoke_us;    /* when the dialogue last sent something */
    int64_t asked_us;    /* when it sent this step first */
    int64_t patience_us; /* after which it sends it again */
    int64_t unleased_us; /* since when it is seen to give no lease; 0: does */
    int64_t progress_us; /* of its acks, or since when it owes any (R11) */
    int64_t change_us;   /* when the coordinator was last asked about it */
    bool change_asked;
    uint32_t refusals; /* epochs that answered its ADD without it, in a row */
    int64_t not_before_us; /* it is not asked to be added again before */
    bool digest_wanted, digest_known; /* R19 */
    struct id128 digest;
};

/* One comparison of states (R19). Of a follower only SEQ. */
struct compare {
    uint64_t seq; /* 0: none */
    int64_t since_us;
    struct id128 digest; /* own, if known */
    bool known;
    bool look;     /* something came: judge, if it can be */
    bool disputed; /* the own state is being walked */
};

struct pending {
    uint64_t seq;
    void *cookie;
};

/* A command that waits for the opening; it refers to its blobs meanwhile. */
struct held {
    struct buf payload;
    enum need need;
    void *cookie;
};

struct replica_core {
    const struct replica_host *host;
    uint32_t tablet;
    struct state *state;
    struct tail tail;
    uint64_t next_ordinal, synced_ordinal;
    uint64_t committed; /* known, and held by this log (R6) */
    uint64_t logged_commit;
    int64_t log_commit_us; /* 0: nothing to note */
    uint64_t told_commit;  /* following: heard from the primary */
    bool damaged, recovered;
    bool condemned; /* replay: a note says so (replica_damage.c) */
    /* Replay: the checkpoint's state, after a RESET that may mean it. */
    struct state *voided;
    struct name loose; /* replay: end of entries that do not reach the base */

    struct arena config_arena, staged_arena;
    struct tablet_config config, staged; /* epoch 0: none */
    uint64_t staged_ordinal;
    /* Where the records of CONFIG and STAGED are; 0: not in the log. */
    uint64_t epoch_position, staged_position;
    /* CONFIG's record is written again; 0: no. */
    uint64_t renew_ordinal, renew_position;
    int64_t last_echo_us; /* to another primary (R12 c) */
    enum replica_role role;
    enum phase phase;
    bool reads_allowed;    /* R12 (e) */
    uint64_t served_epoch; /* last epoch in which they were, in this process */
    int64_t coord_lease_us;

    /* Following. */
    struct name matched;
    struct name acked;      /* last acknowledgement sent in this epoch */
    uint64_t reset_ordinal; /* of the newest installed snapshot's RESET */
    int64_t mismatch_us;    /* when last sent; 0: the next one is sent */
    bool cut_waits;
    uint64_t cut_dialogue, cut_ordinal;
    bool ask_waits; /* a TAIL_ASK of the epoch being entered */
    struct msg_tail_ask ask;
    bool fetching;
    struct compare compare; /* leading, too */

    /* Leading. */
    struct peer peers[PEERS_MAX];
    uint32_t peer_count;
    uint64_t start_seq; /* last seq when the epoch began (R12 e) */
    int64_t gate_us;    /* R12 (c) */
    uint64_t dialogues;
    struct pending *pending;
    uint32_t pending_head, pending_count, pending_cap;
    struct held *held;
    uint32_t held_count, held_cap;
    uint64_t held_bytes;
    int64_t tell_us; /* 0: nothing to tell */
    int64_t ticked_us;
    uint64_t pinned_seq; /* keep payloads above, for a snapshot; 0: none */
};

/* The next multiple of INTERVAL_US after NOW_US. */
static inline int64_t next_multiple(int64_t now_us, int64_t interval_us)
{
    return (now_us / interval_us + 1) * interval_us;
}

/* replica.c */
struct effect *fx_add(struct effects *fx, enum effect_kind kind);
struct wire_msg *fx_send(struct effects *fx, struct replica to,
                         enum msg_type type);
void replica_set_phase(struct replica_core *r, enum phase phase);
void replica_apply_committed(struct replica_core *r, int64_t now_us,
                             struct effects *fx);
bool replica_in(const struct replica *list, uint32_t count, struct replica x);

/* replica_log.c */
struct name log_last(const struct replica_core *r);
/* Entry of SEQ, or NULL if it is not kept. */
struct entry *log_entry(const struct replica_core *r, uint64_t seq);
/* Name at SEQ into *OUT: known for base.seq .. last. */
bool log_name(const struct replica_core *r, uint64_t seq, struct name *out);
/* Appends in memory; asserts that NAME follows. */
struct entry *log_push(struct replica_core *r, struct name name,
                       struct slice payload);
/* The same, with the effect that puts it on disk. */
void log_append(struct replica_core *r, struct name name, struct slice payload,
                struct effects *fx);
/* PAYLOAD, of what is no entry yet, refers to blobs, or does no more. */
void log_tell_blobs(const struct replica_core *r, struct slice payload,
                    int delta);
void log_cut(struct replica_core *r, struct name to);
/* Forgets all entries; the log then ends at NAME. */
void log_reset(struct replica_core *r, struct name name);
void log_forget_names(struct replica_core *r, uint64_t up_to);
void log_trim_payloads(struct replica_core *r);
void log_on_synced(struct replica_core *r);
uint32_t log_runs(const struct replica_core *r, uint64_t before,
                  struct run *out, uint32_t max, bool *more);

/* replica_epoch.c */
/* ST_INVALID, and nothing is done, for one that can be none. */
enum status epoch_on_config(struct replica_core *r,
                            const struct tablet_config *c,
                            struct effects *fx) MUST_CHECK;
void epoch_on_synced(struct replica_core *r, int64_t now_us,
                     struct effects *fx);
/* Puts what a replica whose state may not be checkpointed needs of the log at
 * its end, again: VOIDS, its RESET as well. Nothing is done where it needs
 * more than that. */
void epoch_renew(struct replica_core *r, bool voids, struct effects *fx);
void epoch_on_renewed(struct replica_core *r);

/* replica_follow.c */
void follow_on_message(struct replica_core *r, const struct event *e,
                       struct effects *fx);
void follow_on_synced(struct replica_core *r, int64_t now_us,
                      struct effects *fx);
void follow_answer_tail(struct replica_core *r, struct effects *fx);
/* Says again what was said while no connection led to PEER, if that leads. */
void follow_on_up(struct replica_core *r, struct replica peer,
                  struct effects *fx);
void follow_install(struct replica_core *r, const struct event *e,
                    struct effects *fx);
/* R6: says where this log ends, so that the primary sends from there. */
void follow_on_blobs(struct replica_core *r, int64_t now_us,
                     struct effects *fx);
bool follow_holds(const struct replica_core *r, struct name n);

/* replica_lead.c */
void lead_begin(struct replica_core *r, int64_t now_us, struct effects *fx);
void lead_end(struct replica_core *r, struct effects *fx);
void lead_on_command(struct replica_core *r, const struct event *e,
                     struct effects *fx);
/* Commits and opens what can be; called when anything came closer. */
void lead_advance(struct replica_core *r, int64_t now_us, struct effects *fx);
void lead_on_applied(struct replica_core *r, uint64_t seq,
                     const struct applied *result, struct effects *fx);
void lead_on_tick(struct replica_core *r, int64_t now_us, struct effects *fx);
int64_t lead_next_us(const struct replica_core *r);

/* replica_peers.c */
void peers_begin(struct replica_core *r, int64_t now_us, struct effects *fx);
void peers_on_message(struct replica_core *r, const struct event *e,
                      struct effects *fx);
void peers_on_updown(struct replica_core *r, const struct event *e,
                     struct effects *fx);
void peers_pump(struct replica_core *r, int64_t now_us, struct effects *fx);
void peers_on_blob(struct replica_core *r, const struct event *e);
void peers_on_tick(struct replica_core *r, int64_t now_us, struct effects *fx);
int64_t peers_next_us(const struct replica_core *r);

/* replica_damage.c */
/* Replays a RESET, also one that is a note of damage. */
enum status damage_replay_reset(struct replica_core *r,
                                const struct wal_record *record) MUST_CHECK;
/* WHAT is a literal. Within a step of a primary only at its end: it may be
 * none any more. */
void damage_condemn(struct replica_core *r, const char *what,
                    struct effects *fx);
/* A damaged replica that is no member of I has nothing that anyone counts
 * on: it starts from nothing, durably, and is filled by R17. */
void damage_wipe(struct replica_core *r, struct effects *fx);
/* That start from nothing, once more. */
void damage_renew(struct replica_core *r, struct effects *fx);

/* replica_compare.c */
void compare_begin(struct replica_core *r, int64_t now_us, struct effects *fx);
void compare_on_ask(struct replica_core *r, const struct msg_digest_want *m,
                    struct effects *fx);
void compare_on_digest(struct replica_core *r, struct peer *p,
                       const struct msg_digest_at *m);
void compare_on_applied(struct replica_core *r, struct effects *fx);
void compare_on_walked(struct replica_core *r, bool sound, struct effects *fx);
/* At the end of each step: judges once all have answered, or too late. */
void compare_settle(struct replica_core *r, int64_t now_us, struct effects *fx);

/* replica_read.c */
bool read_below_min(const struct replica_core *r);

#endif
