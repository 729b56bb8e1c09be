/*
 * The log's segments: files, and what each is at present. For the files of
 * the log alone (wal_private.h).
 */
#ifndef STORAGE_WAL_SEGMENT_H
#define STORAGE_WAL_SEGMENT_H

#include "storage/wal.h"

#define WAL_FILE_MAX 64 /* a file's name, folder included */

struct wal_header {
    struct id128 cluster, store;
    uint32_t node, shard;
    uint64_t sequence; /* dense, from 1 */
    uint64_t base;     /* position of its first byte */
    uint64_t size;     /* of the file */
    uint64_t begin;    /* oldest position needed when it was begun */
    uint64_t counter;
};

/* What a segment has, or had, of a tablet's values (wal_kept.c). */
struct wal_row {
    uint32_t tablet;
    uint64_t live;    /* bytes */
    uint64_t dead_at; /* when they became 0 */
    uint64_t born;    /* when there was the first */
};

struct wal_segment {
    uint32_t slot;     /* number in the file's name */
    uint64_t sequence; /* free ones: of their former life; 0: none */
    uint64_t base;
    uint64_t size;
    struct env_file *file; /* NULL: waits for one, or is lost */
    bool seldom;           /* FILE is ENV_SELDOM: it is only read */
    bool unfit;            /* damaged: never used again */
    uint64_t until;        /* spare: usable once this is durably not needed */
    uint32_t reads;        /* under way (wal_value.c): not written meanwhile */
    uint64_t counter;      /* of its header, while the log is opened */
    struct wal_row *rows;  /* by tablet */
    size_t row_count, row_cap;
    uint64_t live;    /* bytes, of all rows */
    uint64_t changed; /* when the rows last were; 0: it never had any */
};

struct wal_segments {
    struct wal_segment *at; /* ascending sequence */
    size_t count, cap;
};

/* Makes a spare segment out of sight of the loop. */
struct wal_maker {
    bool busy;
    bool no_space;         /* the disk was full when it last tried ... */
    bool rests;            /* ... and it waits before it tries again */
    struct env_file *file; /* temporary one */
    uint64_t done;         /* bytes of zeros written */
    uint8_t *zeros;
    uint32_t slot;
    struct env_io io;
    struct env_timer retry;
};

void wal_header_encode(struct buf *out, const struct wal_header *h);
/* ST_OK; ST_CORRUPT: no header; ST_VERSION: a newer format. */
enum status wal_header_decode(struct slice block,
                              struct wal_header *out) MUST_CHECK;

void wal_segments_add(struct wal_segments *s, const struct wal_segment *x);
void wal_segments_erase(struct wal_segments *s, size_t at);
/* Where appending goes on. */
struct wal_segment *wal_tail(struct wal *w);
void wal_file_name(const struct wal *w, uint32_t slot, char out[WAL_FILE_MAX]);
/* Header of S as it would be written now. */
void wal_segment_header(const struct wal *w, const struct wal_segment *s,
                        struct wal_header *out);
/* True if the tail has no file yet. */
bool wal_waits(struct wal *w);
/* True if SPARE may be written: its former contents are durably not needed. */
bool wal_segment_usable(const struct wal *w, const struct wal_segment *spare);
/* S, which has a file, is only read from now on. */
void wal_segment_rest(struct wal *w, struct wal_segment *s);
/* S is spare, so its file is to be written again. Without a file afterwards it
 * is removed: there are enough without it, or it cannot be opened. */
void wal_segment_wake(struct wal *w, struct wal_segment *s);
/* Gives S a file if there is a free one. */
bool wal_segment_bind(struct wal *w, struct wal_segment *s);
/* Moves live segments that nobody needs to the free ones. */
void wal_segments_free_old(struct wal *w);
/* Sees to it that there are spare ones, and not too many. */
void wal_segments_tend(struct wal *w);
/* Makes a segment file at once, durably; for start-up. */
enum status wal_segment_make_now(struct wal *w, struct wal_segment *s,
                                 struct err *err) MUST_CHECK;
void wal_segments_close(struct wal *w);

/* ---- wal_kept.c ---- */

/* The segment that POSITION is in; NULL if none. */
struct wal_segment *wal_segment_at(struct wal *w, uint64_t position);
/* S, out of all lists and not needed by the log, is kept or becomes spare. */
void wal_segment_leave(struct wal *w, struct wal_segment s);
/* Forgets what S is said to hold: it is no part of the log. */
void wal_segment_clear(struct wal *w, struct wal_segment *s);
/* All is told that checkpoints name and replaying changed: gives back what
 * nobody named. */
void wal_kept_settle(struct wal *w);

#endif
