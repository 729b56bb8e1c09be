/*
 * A shard's write-ahead log, one for all its tablets (R6, R16, R18): records
 * in preallocated segment files, written in groups with one fdatasync each.
 * Layout, recovery and what can fail: wal.c, wal_recover.c.
 *
 * A position is a 64-bit place in the log that is never used twice, whatever
 * segment holds it. Everything here runs on the env's loop.
 */
#ifndef STORAGE_WAL_H
#define STORAGE_WAL_H

#include "common/env.h"
#include "common/metrics.h"

struct wal;
struct wal_witness; /* wal_witness.h */

enum wal_kind {
    WAL_ENTRY = 1,  /* name, previous; payload: the entry's command */
    WAL_EPOCH = 2,  /* payload: the configuration, the caller's encoding */
    WAL_COMMIT = 3, /* seq: committed up to it */
    WAL_CUT = 4,    /* name: kept up to it, all beyond is gone */
    WAL_RESET = 5,  /* begun anew, or a note of damage (replica_damage.c) */
    WAL_DROP = 6,   /* replica deleted */
    WAL_MARK = 7,   /* the log's own: a position known synced (R16) */
    /* 8 is the log's own, too. */
    WAL_VALUE = 9, /* payload: a value, which only places name; no entry, and
                      never replayed */
};

struct wal_record {
    enum wal_kind kind;
    uint32_t tablet;
    struct name name;     /* ENTRY, CUT, RESET */
    struct name previous; /* ENTRY: the entry before it */
    uint64_t seq;         /* COMMIT; MARK: the position known synced */
    struct slice payload;
    uint64_t position; /* set by append, replay, read: where it starts ... */
    uint64_t end;      /* ... and where it ends */
};

/* A record's payload begins so far behind its position. */
#define WAL_RECORD_HEAD 80u
/* What one record takes beyond its payload, at most. */
#define WAL_RECORD_OVERHEAD 256
#define WAL_PAYLOAD_MAX (LIMIT_BATCH + KIB(16))
#define WAL_SEGMENT_DEFAULT MIB(16)
#define WAL_SEGMENT_MAX (UINT64_C(1) << 30) /* what configurations may say */
#define WAL_DAMAGE_MAX 16

struct wal_options {
    struct id128 cluster; /* in segment headers; zero if not known yet */
    uint32_t node;
    struct id128 store;
    uint32_t shard;
    uint64_t key[2];        /* the store's random record key (R16) */
    uint64_t start_counter; /* this start's, above every earlier one */
    uint64_t segment_size;  /* 0: WAL_SEGMENT_DEFAULT */
    unsigned bugs;          /* storage/bugs.def; only with PENN_BUGS */
    const char *folder;     /* in the data directory; "" is itself */
    const struct wal_witness *witness; /* of the opening; NULL: nobody */
    /* While it is opened, before the first record is replayed: from here on
     * wal_value_live() may be called, and is, of all places that checkpoints
     * name. W must not be used otherwise, and is gone if wal_open() fails.
     * NULL: no values are kept (wal_kept.c). */
    void (*on_found)(void *ctx, struct wal *w);
    /* Once the log is open: everything that ends at or before POSITION is on
     * disk. Called on the loop, positions only grow. */
    void (*on_synced)(void *ctx, uint64_t position);
    /* Once, final: a write or sync failed; nothing is retried (R18). */
    void (*on_failed)(void *ctx, enum status why);
    /* The disk gives no segment and there is too little room, or that is over
     * (wal_is_full()); may be NULL. Also from within wal_append(). */
    void (*on_full)(void *ctx, bool full);
    /* Asked before a group is written: are messages due meanwhile that others
     * wait for? Then the loop is not held up for it. NULL: never. */
    bool (*is_busy)(void *ctx);
    void *ctx;
};

/* What recovery found (R16). */
struct wal_report {
    uint64_t begin; /* oldest position kept */
    uint64_t end;   /* where appending goes on */
    uint64_t records;
    bool torn;        /* the tail was cut at TORN_AT ... */
    uint64_t torn_at; /* ... a position; nothing synced was there */
    bool buffered;    /* the medium could not be read past the page cache */
    /* Ranges that cannot be read although the log proves that they were
     * synced: replicas whose chain of names does not bridge them are
     * condemned by the caller. Beyond WAL_DAMAGE_MAX the last one grows. */
    struct wal_damage {
        uint64_t from, to;
    } damage[WAL_DAMAGE_MAX];
    uint32_t damage_count;
};

/* Opens or creates the log, replays each valid record in order through
 * REPLAY (slices live until it returns; a status other than ST_OK ends the
 * opening with it), syncs it, and makes it ready to append. Blocks: for
 * start-up. ST_CORRUPT with text where a segment belongs to another store or
 * has a newer format; damage inside the log is no failure but reported. */
enum status wal_open(struct env *env, const struct wal_options *options,
                     enum status (*replay)(void *ctx,
                                           const struct wal_record *r),
                     struct wal_report *report, struct wal **out,
                     struct err *err) MUST_CHECK;
/* What was appended and not synced may be lost. No callback follows; what is
 * under way on disk is waited for inside, so the env must outlive it. NULL is
 * fine. Not from within a callback of W. */
void wal_close(struct wal *w);

/* Appends R (payload copied), sets its position and end, and returns the
 * latter; on_synced tells when that is on disk. After on_failed it does
 * nothing. The caller asks wal_room() or wal_has_room() first, but for records
 * that must be (WAL_EPOCH and such); payloads are at most WAL_PAYLOAD_MAX. */
uint64_t wal_append(struct wal *w, struct wal_record *r);

/* May commands that need BYTES (payloads plus WAL_RECORD_OVERHEAD each) be
 * appended? ST_OK: the disk has given us room for them, and a reserve behind
 * them. ST_NO_SPACE: it is full. ST_BUSY: a segment is being made, or too much
 * waits for the disk. ST_STOPPING: nothing is appended any more. */
enum status wal_room(struct wal *w, size_t bytes) MUST_CHECK;
/* The same of what another primary sends and has taken already: the reserve
 * is for it. False: it may be there later. */
bool wal_has_room(struct wal *w, size_t bytes);
/* The same of commands that free room, of which it takes less. */
bool wal_has_room_to_free(struct wal *w, size_t bytes);
/* The same of WAL_VALUE records that empty a kept segment: there is room for
 * that which nobody else gets. */
bool wal_has_room_to_move(struct wal *w, size_t bytes);
/* Commands are refused for want of space, and nothing more should be sent. */
bool wal_is_full(const struct wal *w);
/* The same, and there are segments that some tablet still needs and that
 * could be used again if none did. */
bool wal_wants_relief(const struct wal *w);

/* TABLET needs nothing before POSITION any more (UINT64_MAX: nothing at all).
 * A tablet counts from its first record on; segments that no tablet needs are
 * reused. Positions never go back. */
void wal_release(struct wal *w, uint32_t tablet, uint64_t position);
/* The tablet that needs the oldest position; false if none needs any. */
bool wal_oldest_tablet(const struct wal *w, uint32_t *tablet,
                       uint64_t *position);

/* What stands before POSITION is damaged: as soon as nobody needs it that is
 * noted durably, so that no restart takes it for a loss. */
void wal_bury(struct wal *w, uint64_t position);
/* First position that anybody needs. */
uint64_t wal_needed(const struct wal *w);

/* POSITION is in the segment that is being written: to need less than that
 * gives nothing back. */
bool wal_is_newest(struct wal *w, uint64_t position);

/* Where TABLET needs the log from; false if it needs nothing of it. */
bool wal_needs(const struct wal *w, uint32_t tablet, uint64_t *position);

/* Reads back the entry that starts at POSITION, for sending it to a peer
 * (R17). Blocks. ST_GONE if the position was released; ST_CORRUPT if it does
 * not read as a record. The payload is appended to OUT, and R's slice points
 * there. */
enum status wal_read(struct wal *w, uint64_t position, struct wal_record *r,
                     struct buf *out) MUST_CHECK;

/* Reads the LEN bytes of a value that stand at POSITION, the first being
 * within a record's payload, into TO; LEN is at most WAL_PAYLOAD_MAX. IO as in
 * env.h, with done and data set: done() comes on the loop, never from within,
 * and not after wal_close(); TO is written right before, if ST_OK. What is not
 * on disk yet comes from memory. ST_GONE: no segment has that position (any
 * more); else a failure of the disk, ST_CORRUPT if the segment is lost. The
 * bytes are as they are: the caller compares their digest. */
void wal_value_read(struct wal *w, uint64_t position, uint32_t len, uint8_t *to,
                    struct env_io *io);
/* The same at once. Blocks: for start-up and inspecting. */
enum status wal_value_read_now(struct wal *w, uint64_t position, uint32_t len,
                               uint8_t *to) MUST_CHECK;

/* ---- values that places name (wal_kept.c) ---- */

/* DELTA bytes of TABLET at POSITION became live, or (below 0) dead. A segment
 * with live values is not reused. False of a position that no segment has;
 * then it does nothing. */
bool wal_value_live(struct wal *w, uint32_t tablet, uint64_t position,
                    int64_t delta);
/* Some segment has POSITION. */
bool wal_value_has(struct wal *w, uint64_t position);
/* Grows with each change of what is live. What knows of the tablet's places
 * as they are now (a snapshot, a lookup) was begun at this time. */
uint64_t wal_value_clock(const struct wal *w);
/* TABLET's newest durable checkpoint is of a snapshot taken at CLOCK: no older
 * one will be begun with. */
void wal_value_checkpointed(struct wal *w, uint32_t tablet, uint64_t clock);
/* The last snapshot of TABLET that a checkpoint was begun with was taken at
 * CLOCK: no file names what came later and is dead. */
void wal_value_unnamed(struct wal *w, uint32_t tablet, uint64_t clock);
/* All values of TABLET are dead: another state has taken its state's place. */
void wal_value_drop(struct wal *w, uint32_t tablet);
/* TABLET is gone, and so are its checkpoints. */
void wal_value_forget(struct wal *w, uint32_t tablet);
/* Gives back kept segments that no checkpoint can name; what is open in
 * memory and holds places was begun at OLDEST or later (UINT64_MAX: nothing
 * is open). */
void wal_kept_release(struct wal *w, uint64_t oldest);

/* Segments that no tablet needs for replay, by position. */
struct wal_kept {
    uint64_t begin, end; /* positions */
    uint64_t live;       /* bytes of values */
    size_t tablets;      /* that have live values, or may name some */
};
struct wal_kept_tablet {
    uint32_t tablet;
    uint64_t live; /* 0: a checkpoint may name some */
};
size_t wal_kept_count(const struct wal *w);
void wal_kept_get(const struct wal *w, size_t i, struct wal_kept *out);
void wal_kept_get_tablet(const struct wal *w, size_t i, size_t k,
                         struct wal_kept_tablet *out);

/* Writes the last mark and syncs all; DONE comes on the loop, once. Nothing
 * may be appended after it. */
void wal_stop(struct wal *w, void (*done)(void *ctx, enum status s), void *ctx);

uint64_t wal_begin(const struct wal *w);  /* oldest position kept */
uint64_t wal_end(const struct wal *w);    /* of what was appended */
uint64_t wal_synced(const struct wal *w); /* known on disk */
/* Bytes between the oldest position needed and the end. */
uint64_t wal_size(const struct wal *w);
/* Age of the oldest append that is not on disk yet (R18); 0 if there is none,
 * or it waits for a full disk. */
int64_t wal_pending_age_us(const struct wal *w);
/* For /metrics. */
struct wal_stats {
    uint64_t groups, records, bytes, marks, segments_made, segments_reused;
    uint64_t payload; /* bytes of entries, of BYTES */
    uint64_t queued;  /* now: bytes not on disk */
    uint64_t value_reads;
    uint64_t moved;     /* bytes of WAL_VALUE records' payloads, of BYTES */
    uint64_t collected; /* bytes of kept segments given back */
    uint64_t kept, kept_bytes; /* now: kept segments */
    uint64_t kept_live, live;  /* bytes of values: in these, in all */
    uint64_t nowhere; /* calls of wal_value_live() where no segment is */
    struct metric_histogram group_records, group_bytes; /* of each group */
};
void wal_get_stats(const struct wal *w, struct wal_stats *out);

#endif
