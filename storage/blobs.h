/*
 * A shard's blob log: values above LIMIT_VALUE_LOGGED in files of their own
 * (R6, second half), each blob under a name of 128 random bits. A blob is
 * written or received once, in order; it counts when it is synced, and stays
 * as long as somebody outside refers to it. Layout, recovery, collection and
 * what can fail: blobs.c.
 *
 * Everything here runs on the env's loop; no callback comes from within the
 * call that asked for it.
 */
#ifndef STORAGE_BLOBS_H
#define STORAGE_BLOBS_H

#include "common/env.h"

struct blobs;
struct blob_in;

/* What a log entry or a cell says of a blob, and all that is needed to check
 * its bytes: DIGEST is their XXH3-128, seeded by SEED, little endian. */
struct blob_ref {
    struct id128 id;
    uint32_t len;
    struct id128 digest;
    uint64_t seed;
};
struct id128 blob_digest(uint64_t seed, struct slice bytes);
/* The same name, length and digest. */
bool blob_ref_equal(const struct blob_ref *a, const struct blob_ref *b);

/* Bytes that several share: who writes them, who sends them. */
#define BLOB_HEAD 64u /* of a record on disk, room for it before the bytes */
struct blob_bytes {
    uint32_t refs;
    uint32_t len;
    /* BLOB_HEAD, then LEN bytes, then zeros: whole blocks, as the disk takes
     * them without a copy. */
    uint8_t *room;
};
struct blob_bytes *blob_bytes_new(uint32_t len);
struct blob_bytes *blob_bytes_ref(struct blob_bytes *b);
void blob_bytes_unref(struct blob_bytes *b); /* NULL is fine */
uint8_t *blob_bytes_data(struct blob_bytes *b);

#define BLOB_FILE_DEFAULT MIB(256)
#define BLOB_RESERVE_DEFAULT MIB(64)
#define BLOB_SPARES_DEFAULT 3
#define BLOB_CHUNK_DEFAULT MIB(1)
#define BLOB_BLOCK KIB(4)
#define BLOB_OPEN_MAX 512 /* blobs that are being written or received */

struct blobs_options {
    struct id128 store;
    uint32_t shard;
    uint64_t key[2];    /* the store's random record key (R16) */
    uint64_t file_size; /* 0: BLOB_FILE_DEFAULT */
    uint64_t reserve;   /* left free on the disk; 0: BLOB_RESERVE_DEFAULT */
    uint32_t spares;    /* files at most that are kept to be written again */
    uint32_t chunk;     /* least of what comes in pieces that is written at
                         * once, whole blocks; 0: BLOB_CHUNK_DEFAULT */
    const char *folder; /* in the data directory */
    /* Once, final: a write or sync failed; nothing is retried (R18). */
    void (*on_failed)(void *ctx, enum status why);
    /* There is too little room on the disk, or that is over; may be NULL.
     * The one callback that comes from within calls. */
    void (*on_full)(void *ctx, bool full);
    /* The bytes of REF are not what they were: it is never served. May be
     * NULL. */
    void (*on_damaged)(void *ctx, const struct blob_ref *ref);
    void *ctx;
};

struct blobs_report {
    uint32_t files;
    uint64_t blobs, bytes;
    uint64_t walked; /* bytes of files without an index of their own */
    bool buffered;   /* the medium could not be read past the page cache */
};

/* Opens or creates the blob log: finds every blob that may be whole. Blocks:
 * for start-up. Then each reference is told (blobs_refer()), then
 * blobs_settle(). ST_CORRUPT with text: the files are another store's;
 * ST_VERSION: a newer format. */
enum status blobs_open(struct env *env, const struct blobs_options *options,
                       struct blobs_report *report, struct blobs **out,
                       struct err *err) MUST_CHECK;
/* All references that the store has are told: what has none goes (R6). */
void blobs_settle(struct blobs *b);
/* No callback follows; what is under way on disk is waited for inside, so the
 * env must outlive it. Whoever has a blob_in drops it first. NULL is fine. */
void blobs_close(struct blobs *b);

/* ---- references ---- */

/* One more (or less) refers to REF. True if that blob is here, synced, with
 * this length and digest. One that is not is remembered with its references
 * and may be received later. With the last reference a blob goes. */
bool blobs_refer(struct blobs *b, const struct blob_ref *ref);
void blobs_unrefer(struct blobs *b, const struct blob_ref *ref);
/* True if it is here, synced, and as REF says. */
bool blobs_has(const struct blobs *b, const struct blob_ref *ref);
/* The seed of REF's digest, 0 if it is not here. */
uint64_t blobs_seed(const struct blobs *b, const struct blob_ref *ref);

/* ---- writing ---- */

/* May BYTES more be written? ST_OK; ST_NO_SPACE: the disk is nearly full;
 * ST_STOPPING: nothing is written any more. */
enum status blobs_room(struct blobs *b, uint64_t bytes) MUST_CHECK;

/* What who writes or receives a blob hears. */
struct blob_sink {
    /* The disk has taken something; BYTES as blobs_settled_bytes(). May be
     * NULL. */
    void (*on_written)(void *ctx, uint32_t bytes);
    /* Once: synced, or why not (ST_NO_SPACE, ST_STOPPING; after another
     * failure of the disk nothing comes). The blob_in is dead after it. */
    void (*on_done)(void *ctx, enum status s);
    void *ctx;
};

/* Begins REF. ST_EXISTS: it is here already, synced; ST_BUSY: it is being
 * received, or too many are; ST_INVALID: that name has another length or
 * digest here, or REF is none; ST_NO_SPACE, ST_STOPPING as blobs_room(). */
enum status blobs_begin(struct blobs *b, const struct blob_ref *ref,
                        const struct blob_sink *sink,
                        struct blob_in **out) MUST_CHECK;
/* Writes all its bytes at once; the caller vouches for their digest. It may
 * read BYTES meanwhile, but not change them. */
void blobs_put(struct blob_in *in, struct blob_bytes *bytes);
/* Writes the next piece, which is copied. ST_INVALID: more than the length;
 * ST_CORRUPT: with it all are there, and have another digest. After either the
 * caller drops IN. */
enum status blobs_add(struct blob_in *in, struct slice piece) MUST_CHECK;
/* Bytes taken so far. */
uint32_t blobs_taken(const struct blob_in *in);
/* Of these, those that need not wait for the disk: it has them, or they wait
 * for more of their chunk. */
uint32_t blobs_settled_bytes(const struct blob_in *in);
/* Gives up; what was written is dead. No callback follows. NULL is fine. */
void blobs_drop(struct blob_in *in);

/* ---- reading ---- */

/* Reads all of REF and checks it. ST_GONE: it is not here; ST_CORRUPT: it is
 * known to be damaged; ST_STOPPING. ST_OK: DONE comes once, on the loop, with
 * ST_OK and the bytes (whose receiver unrefs them), or with ST_CORRUPT: they
 * are damaged, and on_damaged has been told. */
enum status blobs_read(struct blobs *b, const struct blob_ref *ref,
                       void (*done)(void *ctx, enum status s,
                                    struct blob_bytes *bytes),
                       void *ctx) MUST_CHECK;

/* The same of its bytes alone, into TO. IO's done() comes once, on the loop,
 * with ST_OK, ST_GONE, ST_CORRUPT or ST_STOPPING; TO stays until then. */
void blobs_fetch(struct blobs *b, const struct blob_ref *ref, uint8_t *to,
                 struct env_io *io);

/* The same at once. Blocks, tells nobody: for inspecting. */
enum status blobs_read_now(struct blobs *b, const struct blob_ref *ref,
                           uint8_t *to) MUST_CHECK;

/* A file as it was found at the opening, and what lives in it now. */
struct blobs_file {
    uint64_t number;     /* in its name */
    uint64_t bytes;      /* of the file, without its index */
    uint64_t blobs;      /* whose heads were found */
    uint64_t live;       /* of these, that something refers to, and ... */
    uint64_t live_bytes; /* ... their records' bytes */
    uint64_t bad_heads;  /* of these, that do not read (any more) */
    bool header_whole;
    bool indexed; /* it is sealed, and its index reads */
};
/* The I-th that there was; false if there is none. Reads heads: blocks. */
bool blobs_file_get(const struct blobs *b, size_t i, struct blobs_file *out);
/* Where REF's record is; false if it is not here. */
bool blobs_where(const struct blobs *b, const struct blob_ref *ref,
                 uint64_t *file, uint64_t *offset);

/* ---- figures ---- */

struct blobs_stats {
    uint64_t written, bytes; /* blobs and their bytes, since the start */
    uint64_t read, read_bytes;
    uint64_t syncs;
    uint64_t moved, moved_bytes; /* by the collection */
    uint64_t freed_bytes;        /* of files removed */
    uint64_t orphans;            /* blobs nobody referred to in time */
    uint64_t damaged;            /* found by reading */
    uint64_t files_damaged;      /* headers, heads, indexes */
    uint64_t blobs, files, live_bytes, dead_bytes, open; /* now */
};
void blobs_get_stats(const struct blobs *b, struct blobs_stats *out);
/* Age of the oldest write that is not on disk yet (R18); 0: none. */
int64_t blobs_pending_age_us(const struct blobs *b);

#endif
