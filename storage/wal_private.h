/*
 * What the files of the log share; nobody else includes it.
 *   wal.c          design; appending, groups, marks, stopping
 *   wal_need.c     which tablet needs the log from where on
 *   wal_read.c     reading a record back
 *   wal_value.c    reading a value back
 *   wal_kept.c     segments that hold live values
 *   wal_record.c   one record's bytes
 *   wal_segment.c  segment files: headers, spare ones, making, reusing
 *   wal_room.c     what may be appended while the disk is short
 *   wal_begin.c    the durable note of what is not needed any more
 *   wal_find.c     opening: which file holds what
 *   wal_recover.c  opening: R16
 */
#ifndef STORAGE_WAL_PRIVATE_H
#define STORAGE_WAL_PRIVATE_H

#include <sys/queue.h>

#include "storage/wal.h"
#include "storage/wal_segment.h"

#define WAL_FORMAT 2u
#define WAL_BLOCK 4096u /* header at a segment's start, copy at its end */
#define WAL_SEAL 8      /* a segment's last record: go on in the next */
#define WAL_MARK_AFTER_US (20 * 1000)
#define WAL_QUEUE_MAX MIB(64) /* appended and waiting for the disk */
#define WAL_SPARE_MIN 1       /* free segments: always made ready ... */
#define WAL_SPARE_MAX 4       /* ... and more are given back */

_Static_assert(WAL_RECORD_HEAD + 8 <= WAL_RECORD_OVERHEAD,
               "a record's head and padding");

/* ---- wal_record.c ---- */

/* What is in a record besides struct wal_record. */
struct wal_stamp {
    uint64_t counter; /* start counter of the process that wrote it */
    uint64_t mark;    /* a position known synced (R16) */
};

/* Bytes that a record with LEN of payload takes. */
uint64_t wal_record_size(size_t len);
/* Appends R as the record at POSITION. */
void wal_record_encode(struct buf *out, const uint64_t key[2],
                       uint64_t position, const struct wal_stamp *stamp,
                       const struct wal_record *r);
/* True if BYTES begin with a whole valid record of POSITION; R's payload
 * points into BYTES. */
bool wal_record_decode(struct slice bytes, const uint64_t key[2],
                       uint64_t position, struct wal_stamp *stamp,
                       struct wal_record *r);
/* True if BYTES begin with the head of a record of POSITION; *SIZE is that of
 * the whole record, which may be torn. */
bool wal_record_head(struct slice bytes, const uint64_t key[2],
                     uint64_t position, uint64_t *size);

/* ---- wal_room.c ---- */

/* Bytes that records may take in a segment, beside its seal. */
uint64_t wal_segment_room(const struct wal *w);
/* True if another spare segment is to be made. */
bool wal_wants_segment(struct wal *w);
/* Tells on_full if that has changed. */
void wal_check_full(struct wal *w);

/* ---- wal_begin.c ---- */

/* Reads the note, or makes it; for start-up. */
enum status wal_begin_open(struct wal *w, struct err *err) MUST_CHECK;
/* Writes into it that all up to the end is synced; for start-up. */
enum status wal_begin_now(struct wal *w, struct err *err) MUST_CHECK;
/* Brings it up to date if a spare segment waits for it, or the log rests. */
void wal_begin_tend(struct wal *w);
void wal_begin_close(struct wal *w);

/* ---- wal_value.c ---- */

struct wal_value_read;
TAILQ_HEAD(wal_value_reads, wal_value_read);

struct wal_reads {
    struct wal_value_reads under_way; /* on the disk */
    struct wal_value_reads answers;   /* to be told by TIMER */
    struct env_timer timer;
    bool armed;
};

void wal_reads_init(struct wal *w);
/* Nobody is told any more. */
void wal_reads_close(struct wal *w);
/* Frees what is under way, and never ends. */
void wal_reads_free(struct wal *w);

/* ---- the log ---- */

/* Records that one write and one fdatasync make durable. */
struct wal_group {
    struct wal_group *next;
    struct buf data;
    uint64_t sequence; /* of its segment */
    uint64_t start;    /* position of DATA's first byte */
    uint64_t end;
    uint64_t mark;  /* greatest that its records carry */
    uint64_t bytes; /* of records */
    uint64_t records;
    int64_t since_us; /* first append */
    struct env_io io;
    struct wal *wal;
};

/* A tablet that needs the log from POSITION on. */
struct wal_need {
    uint32_t tablet;
    uint64_t position;
};

/* The file beside the log (wal_begin.c). */
struct wal_begin_note {
    struct env_file *file;
    uint64_t generation;
    uint64_t begin, known; /* as read or last written */
    uint64_t safe;         /* block that was synced last */
    uint64_t buried;       /* what is before it is damaged (wal_bury()) */
    bool busy, syncing;
    struct buf block;
    struct env_io io;
};

struct wal {
    struct env *env;
    struct wal_options o;
    char folder[WAL_FILE_MAX / 2];
    struct wal_segments live, spare, kept;
    uint64_t value_clock;
    uint32_t next_slot;
    struct wal_maker maker;
    bool more_wanted; /* a record was put off for want of a segment */
    bool full;        /* as on_full was told */
    struct env_io removal;
    bool removing;
    struct wal_begin_note note;
    uint64_t begin_durable; /* what the note says on disk */

    uint64_t end;      /* of what was appended */
    uint64_t synced;   /* on disk up to here */
    uint64_t awaited;  /* somebody waits for what ends here */
    uint64_t marked;   /* greatest mark on disk */
    uint64_t data_end; /* end of the last record that is no mark */
    struct wal_group *groups, *groups_tail; /* oldest first */
    struct wal_group *in_flight;            /* groups, if it is being written */
    uint64_t queued;                        /* bytes in groups */
    struct buf spare_data;                  /* memory for the next group */
    struct buf footer;                      /* being written */
    struct env_io footer_io;
    bool footer_busy;

    struct wal_reads reads;

    struct wal_need *needs; /* sorted by tablet */
    size_t needs_count, needs_cap;

    struct env_timer flush, idle, stop;
    bool running, flush_armed, idle_armed;
    bool untold; /* SYNCED has grown, and on_synced() does not know yet */
    bool failed;
    enum status why;
    bool stopping, stopped;
    uint32_t ios; /* operations under way */
    bool closed;  /* to be freed when they are done */
    void (*on_stopped)(void *ctx, enum status s);
    void *stop_ctx;
    struct wal_stats stats;
};

/* Writes a mark that says that all before it is synced, and syncs it; for
 * start-up. */
enum status wal_mark_now(struct wal *w, struct err *err) MUST_CHECK;
/* Bytes that records may still take in the tail, beside its seal. */
uint64_t wal_tail_room(struct wal *w);
/* The log is open: timers may run. */
void wal_begin_running(struct wal *w);
/* Every operation is begun with the first (IO's data becomes DATA), and its
 * done() begins with the second: true, W is closed and may be gone. */
void wal_io_begin(struct wal *w, struct env_io *io,
                  void (*done)(struct env_io *io, enum status s), void *data);
bool wal_io_end(struct wal *w);
/* Writes the oldest group if none is being written. */
void wal_pump(struct wal *w);
/* R18: final. */
void wal_fail(struct wal *w, enum status why);
/* Answers wal_stop() once nothing is under way. */
void wal_check_stopped(struct wal *w);
/* TABLET has a record at POSITION. */
void wal_need_from(struct wal *w, uint32_t tablet, uint64_t position);

#endif
