/*
 * Inside of the shard, for its own files only (shard.h lists them).
 */
#ifndef STORAGE_SHARD_IMPL_H
#define STORAGE_SHARD_IMPL_H

#include "storage/checkpoint.h"
#include "storage/replica.h"
#include "storage/shard.h"
#include "storage/value_cache.h"

#include <assert.h>
#include <inttypes.h>
#include <sys/queue.h>

#define WATCH_BUCKETS 1024
#define SNAPSHOTS_MAX 16 /* pinned by learners and scans at once */

/* A blob that a cell had until the entry SEQ, or somewhat before it: the newest
 * checkpoint may name it, or a snapshot that is being read. */
struct dead_blob {
    struct blob_ref ref;
    uint64_t seq;
};

/* What a refused entry refers to and is not here (R6). */
#define WANTED_MAX 16
struct wanted_blob {
    struct blob_ref ref;
    int64_t asked_us; /* 0: not yet */
};

/* What a tablet has to do with blobs (shard_blobs.c). */
struct tablet_blobs {
    struct dead_blob *dead; /* ring, by seq */
    uint32_t dead_head, dead_count, dead_cap;
    uint64_t dead_bytes;
    uint64_t dead_ever; /* how many have been put there ... */
    uint64_t dead_void; /* ... when the newest checkpoint became void */
    /* While a fetched state is freed that was not installed: no file names its
     * blobs, or one may that ends before this seq (0: as usual). */
    bool dies_unnamed;
    uint64_t dies_at;
    struct wanted_blob wanted[WANTED_MAX];
    uint32_t wanted_count; /* entries wait while there are any */
    int64_t gone_us;       /* when the primary last had not got one; 0: never */
    bool whole;            /* recovery: nothing was missing so far */
};

struct tablet {
    uint32_t id;
    struct shard *shard;
    struct replica_core *core;
    int64_t next_us;
    uint64_t synced; /* ordinal to be reported, while syncs are handled */
    /* Newest checkpoint: what it ends with, which configuration it brings. */
    struct name checkpoint;
    uint64_t checkpoint_epoch;
    int64_t checkpoint_us;     /* when it was written, or found */
    uint64_t checkpoint_bytes; /* its file */
    struct checkpoint_writer *writer;
    int64_t writing_since_us;
    struct name writing;
    uint64_t writing_epoch;
    uint64_t writing_clock; /* the log's, when its snapshot was taken */
    /* The same of the last that may have become a file with places in it, and
     * of the one before. */
    uint64_t named_clock, named_before;
    bool writing_wanted; /* it was wanted for itself */
    struct fetch *fetch;
    /* After one that found a full disk: when the next may begin, how long
     * that rest is. */
    int64_t fetch_after_us, fetch_rest_us;
    bool installing;               /* the writer writes a fetched snapshot */
    bool checkpoint_wanted;        /* one is due, whatever the log is */
    struct state_verify *disputed; /* its state is being walked (R19) */
    bool condemned;  /* recovery: its chain of names broke (R16) */
    uint64_t known;  /* recovery: a damaged checkpoint ended with this seq */
    uint64_t proven; /* recovery: up to this position nothing is missing */
    bool seen;       /* recovery: has a checkpoint or a record */
    /* Begun from nothing by the RESET at this position; checkpoints below this
     * seq are void because of it, and it is needed as long as one may be
     * there. 0: not, or a snapshot was installed since. */
    uint64_t void_seq, void_position;
    /* Once the log is synced up to here nobody begins with those checkpoints,
     * nor with the places that died before this time, and it is this RESET
     * that is needed. 0: it is. */
    uint64_t void_end, void_clock, void_next;
    int64_t missing;        /* its places that no segment of the log has */
    int64_t damage_next_us; /* when a damaged value may be told of again */
    struct tablet_blobs blobs;
    bool leased; /* it could read when last asked, as primary in ... */
    uint64_t leased_epoch;
    uint64_t awaited; /* replica_awaited() after its last step */
};

/* A connection that came in. */
struct client {
    struct shard *shard;
    struct env_conn *conn;
    struct env_peer peer;
    struct request *requests; /* list by next_of_client */
    uint32_t request_count;
    struct client *next, *prev;
};

enum request_kind {
    REQUEST_COMMAND,
    REQUEST_READ, /* waits for a lease, or for room */
    REQUEST_WATCH,
    REQUEST_FORWARD,
    REQUEST_FETCH /* its values are on their way */
};

/* A page of cells, and what else an answer is made of, while values that are
 * not in memory are fetched (shard_values.c). */
struct values {
    struct shard *shard;
    struct cell *cells;
    struct place *places; /* of the same COUNT */
    uint32_t count;
    struct cell one; /* for those that have one cell: CELLS and PLACES are */
    struct place one_place;
    struct arena arena;              /* of all that CELLS point at, or ... */
    struct state_snapshot *snapshot; /* ... this; may be NULL */
    struct msg_tablet_page *page;    /* in ARENA, for SCAN_TABLET */
    bool more;                       /* SCAN: cells follow */
    bool changed;                    /* WATCH */

    /* Fetching. DONE comes on the loop, once. STATUS is ST_OK, or why the value
     * of cell BAD could not be had. */
    void (*done)(struct values *v);
    void *ctx;
    enum status status;
    uint32_t bad;
    struct value_read *reads;
    uint32_t reads_count, next, under_way;
    uint8_t *room; /* for all values that were not in memory */
    uint64_t cost;
    uint64_t clock; /* the log's, when they were looked up */
    bool linked;    /* in the shard's list, with its cost */
    TAILQ_ENTRY(values) link;
};
TAILQ_HEAD(values_list, values);

/* Something that will be answered later. */
struct request {
    enum request_kind kind;
    struct client *client; /* NULL once its connection is gone */
    uint64_t id;
    struct tablet *tablet;
    struct request *next_of_client, *prev_of_client;
    struct request *next, *prev; /* waiting reads, or a watch's bucket */
    int64_t deadline_us;
    /* The request as it came, for reads and watches. */
    struct buf frame;
    uint64_t bucket;
    bool fired;
    /* Of one that was sent on: to whom, under which number, what it asks. */
    struct replica to;
    uint64_t number;
    enum msg_type asked; /* of REQUEST_FETCH, too */
    /* Of one whose values are fetched: they, and since which epoch. */
    struct values *values;
    uint64_t epoch;
    unsigned again; /* times that a value was not where it was thought */
};

/* Marks request ids on the bulk lane that are of reads sent on. */
#define FORWARD_BIT (UINT64_C(1) << 63)

/* A record on its way to the disk. */
struct placed {
    uint64_t end;
    uint64_t ordinal;
    struct tablet *tablet;
};

struct pinned {
    uint64_t id; /* 0: free */
    uint32_t tablet;
    struct state_snapshot *snapshot;
    uint64_t clock; /* the log's, when it was taken */
    struct client *client;
    int64_t used_us;
};

struct shard {
    struct storage_node_options o;
    struct env *env;
    struct store *store;
    struct beacon *beacon;
    struct replica_host host;
    char folder[STORE_FOLDER_MAX];

    struct wal *wal;
    struct shard_blobs *blobs;
    uint64_t log_limit;
    uint64_t log_allowed; /* for the data, when it was last counted */
    /* After a checkpoint that failed: when there may be another. */
    struct env_timer checkpoint_timer;
    bool checkpoint_waits;
    /* Clients' bytes in the log when it was last looked at; whether it will be
     * again; whether they write nothing and the log is being shortened. */
    struct env_timer rest_timer;
    uint64_t rest_payload;
    bool rest_watched, rests;
    enum status checkpoint_told;    /* why the last one failed */
    struct env_timer catchup_timer; /* of fetches that rest */
    struct placed *placed;          /* ring, in log order */
    uint32_t placed_head, placed_count, placed_cap;

    /* shard_busy.c: AWAITED of all tablets, and who appended entries since the
     * log last began a group. */
    uint64_t awaited;
    bool leads, follows;

    struct tablet **tablets; /* in order of id */
    uint32_t tablet_count;
    struct effects fx;
    bool stepping;
    struct buf out;
    struct buf payload; /* of the command that is being taken */
    struct env_timer tick;
    int64_t tick_us; /* when it is set for; INT64_MAX: not */

    struct client *clients;
    uint32_t client_count;
    struct request *waiting; /* reads without a lease */
    struct env_timer read_timer;
    struct request *watches[WATCH_BUCKETS];
    uint32_t watch_count;
    struct env_timer watch_timer;
    bool watch_fired;
    /* Reads sent on, by number; answered, given up or dropped in time. */
    struct request *forwards[LIMIT_FORWARDS];
    uint32_t forward_count;
    uint64_t last_forward;
    struct env_timer forward_timer;
    struct values_list values; /* under way */
    uint64_t values_bytes;     /* that they cost */
    struct value_cache *cache;
    struct collector *collector;
    struct pinned pinned[SNAPSHOTS_MAX];
    uint64_t last_pin;

    struct scrub *scrub;
    struct repairs *repairs;

    /* The cluster. */
    struct links *links, *bulk;
    struct env_conn *coordinator;
    bool coordinator_open;
    uint32_t coordinator_turn;
    struct env_timer heartbeat_timer, coordinator_timer;
    int64_t heartbeat_due_us;
    struct arena map_arena;
    struct msg_map *map; /* NULL: none yet */
    uint64_t term;
    bool refused_told, bad_map_told;
    bool announced; /* the coordinator accepted a heartbeat */

    bool fatal, stopping;
    bool log_stopped;
    void (*stopped)(void *ctx);
    void *stopped_ctx;
    struct storage_stats stats;
    struct storage_figures figures; /* what is counted, not what is now */
};

/* shard.c */
struct tablet *shard_tablet(const struct shard *s, uint32_t id);
struct tablet *shard_add_tablet(struct shard *s, uint32_t id,
                                struct state *state);
void shard_step(struct shard *s, struct tablet *t, struct event *e);
void shard_fatal(struct shard *s, enum status why, const char *text);
/* Tells who stops the shard once log and checkpoints are at rest. */
void shard_at_rest(struct shard *s);
void shard_hook_state(struct shard *s, struct tablet *t);
/* The log's account of CTX's, a tablet's, values (state_on_place()). */
void shard_on_place(void *ctx, const struct place *p, int delta);
/* Age of the oldest write that is not on disk yet (R18). */
int64_t shard_pending_us(const struct shard *s);

/* shard_room.c */
/* The log or the blob log found the disk full, or has room again. */
void shard_tell_full(struct shard *s);
/* Gives back what can be on a full disk; from time to time. */
void shard_relieve(struct shard *s);
/* struct replica_host's; CTX is the shard. */
enum status shard_room(void *ctx, size_t bytes, enum need need) MUST_CHECK;

/* shard_busy.c */
/* T's replica made a step; FX are its effects. */
void shard_note_step(struct tablet *t, const struct effects *fx);
/* For the log (is_busy). */
bool shard_is_busy(void *ctx);

/* shard_net.c */
extern const struct env_conn_events shard_client_events;
void shard_send_error(struct client *c, uint64_t id, enum status why,
                      const struct tablet *t);
void shard_on_replication(struct shard *s, const struct env_peer *from,
                          const struct wire_msg *m);
void shard_close_clients(struct shard *s);

/* shard_requests.c */
void requests_on_message(struct client *c, const struct wire_msg *m);
/* The read M of T: answers it, now or later. */
void requests_on_read(struct client *c, struct tablet *t,
                      const struct wire_msg *m);
void requests_reply(struct shard *s, struct request *q, enum status why,
                    const struct applied *result);
void requests_on_changed(void *ctx, struct slice partition, struct slice row,
                         struct slice column);
/* After a step: watches that fired, reads that may go on. */
void requests_after_step(struct shard *s);
void requests_init(struct shard *s);
struct request *requests_new(struct client *c, struct tablet *t,
                             enum request_kind kind, uint64_t id);
void requests_free(struct request *q);
void requests_drop_client(struct client *c);
/* Ends all that waits on T with NOT_PRIMARY when it is that no more. */
void requests_on_role(struct shard *s, struct tablet *t);
void requests_free_all(struct shard *s);

/* shard_reads.c */
/* Answers the read M of C. ST_OK: done, or, if *LATER is set (the caller's),
 * its values are on their way, and LATER's done and ctx are to be set. ST_BUSY:
 * wait for a lease or room; ST_MORE: a watch rests, unless the deadline is
 * OVER; else refuse it. */
enum status reads_try(struct client *c, struct tablet *t,
                      const struct wire_msg *m, bool over,
                      struct values **later) MUST_CHECK;
/* What Q waited for has come. ST_OK: answered; ST_BUSY: try again (a damaged
 * value is being repaired, or it has moved); else refuse it, and CONDEMN the
 * replica if so. */
enum status reads_finish(struct request *q, const struct values *v,
                         bool *condemn) MUST_CHECK;

/* shard_values.c */
void values_init(struct shard *s);
/* True while hardly more may be under way: a page is not even looked up. */
bool values_full(const struct shard *s);
/* True if all values of V are in memory or in the cache: then they are with
 * V's cells, until the cache changes. */
bool values_at_hand(struct values *v);
/* Begins to fetch FROM's values. FROM, on the stack, is copied, and what it
 * owns taken, unless NULL is returned: too much is under way. DONE, to be set
 * at once, never comes from within. */
struct values *values_begin_take(struct values *from);
/* DONE comes no more. NULL is fine. */
void values_free(struct values *v);
/* After the log was closed. */
void values_free_all(struct shard *s);
/* The log's clock when the oldest of what is open in memory and holds places
 * was begun; UINT64_MAX: nothing is. */
uint64_t values_oldest(const struct shard *s);

/* shard_forward.c */
void forward_init(struct shard *s);
/* Sends the read M of C on to T's primary, to be answered by DEADLINE_US;
 * false if that cannot be. */
bool forward_begin(struct client *c, struct tablet *t, const struct wire_msg *m,
                   int64_t deadline_us);
void forward_on_answer(struct shard *s, const struct env_peer *p,
                       const struct wire_msg *m);
/* The connection to NODE ended or is a new one. */
void forward_on_link(struct shard *s, uint32_t node);
/* T has entered another epoch. */
void forward_on_epoch(struct shard *s, const struct tablet *t);
/* Q's client is gone. */
void forward_drop(struct request *q);

/* shard_catchup.c */
void catchup_init(struct shard *s);
void catchup_stop(struct shard *s);
void catchup_on_scan(struct client *c, const struct wire_msg *m);
/* The snapshot that ASK speaks of: the caller's to free. */
enum status catchup_snapshot(struct client *c, struct tablet *t,
                             const struct msg_scan_tablet *ask,
                             struct state_snapshot **out) MUST_CHECK;
void catchup_count_page(struct client *c, const struct msg_tablet_page *page,
                        size_t bytes);
void catchup_drop_client(struct client *c);
/* Lets go of snapshots that nobody has asked for in a long time. */
void catchup_unpin_idle(struct shard *s);
void catchup_fetch(struct shard *s, struct tablet *t, struct replica from,
                   uint64_t epoch);
void catchup_on_page(struct shard *s, const struct env_peer *p,
                     const struct wire_msg *m);
/* The checkpoint of a fetched snapshot was written, or not. */
void catchup_on_written(struct tablet *t, enum status st);
/* Writes a snapshot that was fetched, unless a file is being written. */
void catchup_begin_writing(struct tablet *t);
void catchup_on_up(struct shard *s, uint32_t node);
void catchup_on_down(struct shard *s, uint32_t node);
/* T's next file is of a snapshot that it has fetched. */
bool catchup_is_complete(const struct tablet *t);
/* T waits with a snapshot, because the last one found a full disk. */
bool catchup_rests(const struct tablet *t);
void catchup_abort(struct tablet *t);
void catchup_free_all(struct shard *s);

/* shard_checkpoint.c */
void checkpoint_init(struct shard *s);
void checkpoint_stop(struct shard *s);
/* Writes SNAPSHOT (taken) as T's checkpoint. */
void checkpoint_begin_take(struct shard *s, struct tablet *t,
                           struct state_snapshot *snapshot);
void checkpoint_consider(struct shard *s);
/* The same, soon; also from within a step. */
void checkpoint_soon(struct shard *s);
/* Once nothing has been written for a while the log is shortened. */
void checkpoint_watch_rest(struct shard *s);
/* Records were synced. */
void checkpoint_on_synced(struct shard *s);
/* Lets go of what the present checkpoints make superfluous. */
void checkpoint_release_all(struct shard *s);
bool checkpoint_running(const struct shard *s);
/* One of T is wanted and can be had. */
bool checkpoint_is_due(const struct tablet *t);
/* Bytes of a checkpoint FILE (without the folder); 0 if it is gone. */
uint64_t checkpoint_file_bytes(struct shard *s, const char *file);

/* shard_blobs.c (R6, second half) */
struct blobs_report;
enum status shard_blobs_open(struct shard *s, struct err *err) MUST_CHECK;
/* Recovery: false if blobs that T refers to are missing (R16) and cannot be
 * repaired; else that has begun. */
bool shard_blobs_whole(struct shard *s, struct tablet *t);
/* Recovery is over: all references are told. */
void shard_blobs_settle(struct shard *s);
void shard_blobs_free(struct shard *s);
/* A cell of T (the tablet) has, or has no more, the blob at P. */
void shard_blobs_on_place(struct tablet *t, const struct place *p, int delta);
/* T's newest checkpoint, or what is pinned, has changed. */
void shard_blobs_release(struct tablet *t);
/* T's checkpoints are made void by a RESET; and that is on disk. */
void shard_blobs_on_void(struct tablet *t);
void shard_blobs_release_void(struct tablet *t);
/* The tablet whose checkpoint gives most blobs free, if it is time for one. */
struct tablet *shard_blobs_wants_checkpoint(struct shard *s);
/* True if the client's command M has large values and is taken care of. */
bool shard_blobs_command(struct client *c, struct tablet *t,
                         const struct wire_msg *m);
/* True if T must not be given this PREPARE yet. */
bool shard_blobs_prepare(struct shard *s, struct tablet *t,
                         const struct env_peer *from,
                         const struct msg_prepare *m);
/* False if M is not about blobs. */
bool shard_blobs_on_message(struct shard *s, const struct env_peer *from,
                            const struct wire_msg *m);
void shard_blobs_on_link(struct shard *s, uint32_t node, bool up);
void shard_blobs_on_epoch(struct tablet *t);
bool shard_blobs_full(const struct shard *s);
void shard_blobs_figures(const struct shard *s, struct storage_figures *out);
int64_t shard_blobs_pending_us(const struct shard *s); /* R18 */
void shard_blobs_free_tablet(struct tablet *t);

/* shard_figures.c */
/* T's replica could, or could not, read just now. */
void shard_note_lease(struct tablet *t, bool serving);

/* shard_cluster.c */
void cluster_init(struct shard *s);
void cluster_start(struct shard *s);
void cluster_ask_change(struct shard *s, const struct msg_change *change);
void cluster_want_map(struct shard *s);
/* Sends a heartbeat now, for news that should not wait. */
void cluster_tell(struct shard *s);
/* Address of a node's service, or "" into OUT. */
void cluster_address(const struct shard *s, uint32_t node, const char *service,
                     char out[LIMIT_ADDRESS + 1]);
void cluster_free(struct shard *s);

#endif
