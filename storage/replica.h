/*
 * One tablet's replica: the state machine of replication.md, pure. An event
 * goes in, effects come out; it owns the tablet's state and the tail of its
 * log in memory, and touches no socket, file or clock. The shard (shard.h)
 * feeds it and carries out the effects in their order before the next event.
 *
 * The core is several files, by reason to change:
 *   replica.c            life, dispatch, phases, reports
 *   replica_log.c        entries in memory, their names, what is synced
 *   replica_epoch.c      entering a configuration (R3, R4, R12 a-c)
 *   replica_follow.c     a secondary or learner (R6, R12 d, R17)
 *   replica_lead.c       a primary: appending, committing, answering (R6, R7)
 *   replica_peers.c      a primary's dialogue with each peer (R10-R12, R17)
 *   replica_read.c       leases and reads (R9, R12 e)
 *   replica_damage.c     what it does once it cannot vouch for its data (R16)
 *   replica_compare.c    replicas compare their states (R19)
 */
#ifndef STORAGE_REPLICA_H
#define STORAGE_REPLICA_H

#include "common/log.h"
#include "storage/beacon_table.h"
#include "storage/blobs.h"
#include "storage/state.h"
#include "storage/wal.h"

struct replica_core;

/* What all replicas of a process share. Owned by the shard, which keeps it
 * up to date; read by the cores. */
struct replica_host {
    struct replica self;
    struct incarnation incarnation;
    struct beacon_table *beacons;
    const struct log *log;
    const struct msg_map *map; /* the newest; NULL: none yet */
    uint8_t min_insync;        /* from the map */
    int64_t coordinator_us;    /* when it last answered a heartbeat; 0: never */
    int64_t stall_us;          /* R11 */
    uint64_t tail_bytes_max;   /* entries kept in memory behind the commit */
    unsigned bugs;
    /* May commands of BYTES (payloads plus WAL_RECORD_OVERHEAD each) be
     * appended here? As wal_room(); for some NEEDs a reserve is there, too.
     * NULL: always. */
    enum status (*room)(void *ctx, size_t bytes, enum need need);
    /* Reads the payload of entry NAME of TABLET, whose record starts at
     * POSITION of the log, into ARENA. Blocks. NULL: only what is in memory is
     * sent. */
    enum status (*read)(void *ctx, uint32_t tablet, uint64_t position,
                        struct name name, struct arena *arena,
                        struct slice *out);
    bool full; /* this disk is: for reports */
    /* Called before a cut to NAME of a log that ends at LAST, for I5. */
    void (*on_cut)(void *ctx, uint32_t tablet, struct name to,
                   struct name committed);
    /* An entry in the log of TABLET's replica begins (1) or ceases (-1) to
     * refer to a blob (R6); NULL: nobody keeps blobs. */
    void (*on_blob)(void *ctx, uint32_t tablet, const struct blob_ref *ref,
                    int delta);
    void *ctx;
};

enum event_kind {
    EVENT_CONFIG,      /* a configuration of this tablet, any epoch */
    EVENT_SYNCED,      /* records up to an ordinal are on this disk */
    EVENT_MESSAGE,     /* from another storage process */
    EVENT_COMMAND,     /* a client's command, checked */
    EVENT_PEER_UP,     /* a connection to a node opened (again) */
    EVENT_PEER_DOWN,   /* it closed and could not be reopened (R11) */
    EVENT_SNAPSHOT,    /* a snapshot is durable here: install it (R17) */
    EVENT_PINNED,      /* a learner reads a snapshot at this name */
    EVENT_COORD_LEASE, /* the coordinator's answer to a heartbeat (R9) */
    EVENT_BLOB,        /* a peer got bytes of blobs from here (R11) */
    EVENT_BLOBS_HERE,  /* what a refused PREPARE referred to has come (R6) */
    EVENT_TICK,        /* replica_next_us() has come */
    EVENT_CONDEMN,     /* its data were found damaged (R16, R19) */
    EVENT_COMPARE,     /* a primary compares itself with the others (R19) */
    EVENT_WALKED,      /* after FX_DISPUTED: the own state was looked through */
    EVENT_RENEW,       /* what it needs of the log should stand at its end */
};

struct event {
    enum event_kind kind;
    int64_t now_us;
    union {
        const struct tablet_config *config;
        uint64_t ordinal; /* SYNCED */
        struct {
            struct replica from;
            struct incarnation incarnation; /* of the process that sent it */
            const struct wire_msg *m;
        } message;
        struct {
            struct slice payload; /* an encoded REC(command) */
            void *cookie;         /* the shard's, given back in FX_REPLY */
            enum need need;       /* state_need() of it */
        } command;
        struct replica peer;
        struct {
            struct state *state; /* taken */
            struct name name;
            uint64_t epoch; /* in which it was asked for */
        } snapshot;
        struct name pinned;
        struct {
            uint64_t epoch;
            int64_t end_us;
        } coord_lease;
        const char *damage; /* CONDEMN: what was found; a literal */
        bool sound;         /* WALKED: it has the digest that it should */
        bool voids;         /* RENEW: its RESET, too, makes checkpoints void */
    } u;
};

enum effect_kind {
    FX_APPEND,    /* append RECORD; EVENT_SYNCED(ordinal) when it is durable */
    FX_SEND,      /* send MSG to TO */
    FX_REPLY,     /* answer COOKIE with STATUS or, if OK, RESULT */
    FX_CHANGE,    /* ask the coordinator for CHANGE (R10, R11) */
    FX_FETCH,     /* read a snapshot from TO (R17), then EVENT_SNAPSHOT */
    FX_KICK,      /* send a beacon now (R9) */
    FX_WANT_MAP,  /* this replica heard of an epoch that it does not have */
    FX_INSTALLED, /* the state is another object now */
    FX_CONDEMNED, /* it found itself damaged: to be counted and told */
    FX_COMPARED,  /* with the others (R19); DIFFERING: how many did */
    FX_DISPUTED,  /* look through the state, then EVENT_WALKED */
};

/* One of some hundreds in a step: only what its kind has is written and read,
 * KIND and what stands before the union apart. */
struct effect {
    enum effect_kind kind;
    enum status status; /* REPLY */
    uint64_t ordinal;   /* APPEND */
    struct replica to;  /* SEND, FETCH */
    void *cookie;       /* REPLY */
    uint64_t epoch;     /* FETCH, WANT_MAP */
    uint32_t differing; /* COMPARED */
    union {
        struct wal_record record; /* APPEND */
        struct wire_msg msg;      /* SEND */
        struct applied result;    /* REPLY, if OK */
        struct msg_change change; /* CHANGE */
    };
};

/* Effects of one step; slices in them live until the next step. */
struct effects {
    struct effect *items;
    uint32_t count, cap;
    struct arena arena; /* lists and copies that messages point at */
};
void effects_clear(struct effects *fx);
void effects_free(struct effects *fx);

/* A replica as recovery found it (R16): the STATE of its checkpoint (taken),
 * which ends at BASE. Its log's records follow by replica_replay(), then
 * replica_recovered(). */
struct replica_core *replica_new(const struct replica_host *host,
                                 uint32_t tablet, struct state *state);
void replica_free(struct replica_core *r);

/* Gives a replayed record of this tablet, in log order. ST_CORRUPT if it does
 * not follow from what came before (then the replica is damaged). */
enum status replica_replay(struct replica_core *r,
                           const struct wal_record *record) MUST_CHECK;
/* False for a record that is none, or only a note, of a replica begun anew. */
bool replica_resets(const struct wal_record *record);
/* The configuration that the checkpoint brought. */
void replica_replay_config(struct replica_core *r,
                           const struct tablet_config *config);
/* Replay is over; all of it is on disk. */
void replica_recovered(struct replica_core *r, bool damaged);

/* One event. FX was cleared by the caller and holds the effects after. */
void replica_step(struct replica_core *r, const struct event *e,
                  struct effects *fx);

/* Takes back a cookie whose FX_REPLY has not come, for freeing; false when
 * there is none left. Only before replica_free(). */
bool replica_take_cookie(struct replica_core *r, void **cookie);

/* True if R has the entry of NAME, or an equal one was committed. */
bool replica_has_entry(const struct replica_core *r, struct name name);
/* The peers of a primary that get new entries at once, members and shadows
 * first: of *WAITED of them commits wait. Returns how many. */
#define REPLICA_PEERS_MAX (LIMIT_REPLICAS * 2)
uint32_t replica_streams(const struct replica_core *r,
                         struct replica out[REPLICA_PEERS_MAX],
                         uint32_t *waited);
/* True if EVENT_SNAPSHOT with the state of NAME, asked for in EPOCH, would be
 * installed. */
bool replica_installs(const struct replica_core *r, struct name name,
                      uint64_t epoch);
/* Calls FN for each blob that the entries in R's log refer to. */
void replica_each_blob(const struct replica_core *r,
                       void (*fn)(void *ctx, const struct blob_ref *ref),
                       void *ctx);

/* When the next EVENT_TICK is due; INT64_MAX if none. */
int64_t replica_next_us(const struct replica_core *r);

/* ST_OK if the value fetched just before may be given to a client now (R9);
 * ST_BUSY: wait and ask again; ST_NOT_PRIMARY: not here. */
enum status replica_may_read(const struct replica_core *r, int64_t now_us);
/* True if it would serve a read at this instant (I1). */
bool replica_serving(const struct replica_core *r, int64_t now_us);

struct state *replica_state(const struct replica_core *r);
const struct tablet_config *replica_config(const struct replica_core *r);
enum replica_role replica_role_of(const struct replica_core *r);
bool replica_is_open(const struct replica_core *r);
/* It cannot vouch for its log, or for its state (R16). */
/* Recovery found that COUNT values of the state are nowhere (an older
 * checkpoint than the newest may name what was moved since): condemned, unless
 * it is all there is of its tablet. */
void replica_lost_values(struct replica_core *r, int64_t count);
bool replica_is_damaged(const struct replica_core *r);
void replica_report(const struct replica_core *r, struct tablet_report *out);
/* How many commands wait for the opening, how many entries for the commit;
 * the size of its in-sync set. */
struct replica_figures {
    uint64_t held, uncommitted;
    uint32_t in_sync;
};
void replica_figures(const struct replica_core *r, struct replica_figures *out);
/* Entries of an open primary that are on this disk and that others have yet to
 * acknowledge. */
uint64_t replica_awaited(const struct replica_core *r);
/* The record of FX_APPEND's ORDINAL starts at log position POSITION. */
void replica_placed(struct replica_core *r, uint64_t ordinal,
                    uint64_t position);
/* Log position of the oldest record that must not be recycled, given a
 * checkpoint that ends at NAME and brings the configuration of EPOCH;
 * UINT64_MAX: none. Names up to the checkpoint's may be forgotten now. */
uint64_t replica_checkpointed(struct replica_core *r, struct name name,
                              uint64_t epoch);
/* "open", "gathering", ...: for status and logs. */
const char *replica_phase_name(const struct replica_core *r);

#endif
