/*
 * What the files of the blob log share; nobody else includes it.
 *   blobs.c          design; life, room, references, orphans
 *   blobs_index.c    which blobs there are
 *   blobs_file.c     files: layout, making, sealing, removing
 *   blobs_spare.c    files that are written again
 *   blobs_write.c    writing and receiving, groups of syncs
 *   blobs_read.c     reading
 *   blobs_scrub.c    reading all of it, in the background
 *   blobs_collect.c  moving what lives out of files that are mostly dead
 *   blobs_recover.c  opening
 */
#ifndef STORAGE_BLOBS_PRIVATE_H
#define STORAGE_BLOBS_PRIVATE_H

#include "storage/blobs.h"

#include <sys/queue.h>
#include <xxhash.h>

#define BLOB_FORMAT 2u       /* 1: files were never written again */
#define BLOB_ALIGN 512u      /* records once began at multiples of it */
#define BLOB_INDEX_ENTRY 52u /* of a blob in a sealed file's index */
#define BLOB_INDEX_MAX MIB(64)
#define BLOB_NAME_MAX 64 /* a file's name, folder included */
#define BLOB_ORPHAN_US (INT64_C(600) * 1000 * 1000) /* R6 */
#define BLOB_TEND_US (1000 * 1000)

struct blob_file;
struct blob_op;

/* A blob that is here (FILE), or is only referred to. */
struct blob {
    struct blob_ref ref;
    struct blob_file *file; /* NULL: not here */
    uint64_t offset;        /* of its record */
    uint64_t refs;
    int64_t born_us;
    bool loose;   /* here, and nobody refers to it yet */
    bool damaged; /* seen to be, so it is not moved */
    struct blob *next_in_bucket;
    TAILQ_ENTRY(blob) of_file;
    TAILQ_ENTRY(blob) of_loose;
};
TAILQ_HEAD(blob_list, blob);
TAILQ_HEAD(blob_in_list, blob_in);

struct blob_file {
    struct blobs *b;
    uint64_t sequence;     /* in its name, never used twice */
    struct env_file *file; /* NULL: could not be opened */
    uint64_t end;          /* where the next record begins, or the size */
    uint64_t live;         /* bytes of records that live */
    uint64_t allocated;    /* the file's size, its index included, once it
                            * has one; 0: not known */
    struct blob_list blobs;
    uint32_t open;    /* blobs being written to it */
    uint32_t readers; /* reads under way */
    bool full;        /* takes no more blobs */
    bool sealed;      /* ... and nothing else is written to it */
    bool removing;
    bool stuck; /* holds what cannot be moved */
    /* Its header, a record's head or its index is damaged: all is moved out
     * while it is known what that is. */
    bool worn;
    /* As recovery found it; for inspecting. */
    uint64_t found; /* heads of records */
    bool recovered, header_bad, indexed;
    /* Operations are done in the order of their numbers. */
    uint64_t issued;
    bool syncing;
    struct blob_in_list complete; /* wait for a sync, oldest first */
    TAILQ_ENTRY(blob_file) link;
};
TAILQ_HEAD(blob_file_list, blob_file);

struct blob_in {
    struct blobs *b;
    struct blob_ref ref;
    struct blob_file *file;
    uint64_t offset;
    uint32_t taken, unwritten; /* ... of that, on its way to the disk */
    uint64_t last_op;          /* its last operation's number */
    uint32_t ops;              /* under way */
    XXH3_state_t *hash;        /* of what was taken */
    /* Of what comes in pieces: the chunk of the record that is being filled,
     * and, once its chunk is written, the first block. */
    struct blob_bytes *chunk, *first;
    bool moving;   /* a copy of a blob that is in the index */
    bool complete; /* all its operations have been asked for */
    int64_t since_us;
    struct blob_sink sink;
    TAILQ_ENTRY(blob_in) of_all;
    TAILQ_ENTRY(blob_in) of_complete;
};

struct blobs {
    struct env *env;
    struct blobs_options o;
    char folder[BLOB_NAME_MAX / 2];
    struct blob **buckets;
    size_t bucket_count;         /* a power of two */
    size_t count;                /* of entries */
    struct blob_list loose;      /* by birth */
    struct blob_file_list files; /* by sequence */
    struct blob_file *active;    /* NULL: none yet */
    struct blob_file_list spares;
    uint32_t spare_count; /* of these, and of those that become one */
    int64_t spare_us;     /* when there last was one more, or less */
    uint64_t next_sequence;
    struct blob_in_list ins;
    uint32_t open;

    uint64_t free_bytes; /* on the disk when it was last asked */
    uint64_t spent;      /* reserved since */
    int64_t asked_us;
    int64_t refused_us; /* when a write last did not fit; 0: never */
    bool asked, full;

    struct blob_file *victim; /* being collected */
    struct blob *moving;      /* being moved, NULL if it died meanwhile */
    struct blob_bytes *moving_bytes;
    struct blob_in *moving_in;
    bool move_reads;

    struct env_timer tend;
    bool settled, failed, closed;
    TAILQ_HEAD(, blob_op) ops; /* under way */
    struct blobs_stats stats;
};

/* An operation on the disk. */
struct blob_op {
    struct env_io io; /* its data is the operation */
    struct blobs *b;
    struct blob_file *file;
    struct blob_in *in;       /* a write for it; NULL: none, or dropped */
    struct blob_bytes *bytes; /* written or read */
    struct buf data;          /* written */
    uint64_t number;          /* of a write, in its file */
    uint32_t len;             /* of the blob's bytes that it writes */
    bool sync;
    struct blob_ref ref; /* read */
    uint64_t offset;
    uint8_t *to;              /* ... into the user's memory */
    struct env_io *user;      /* who waits for that */
    enum status why;          /* it cannot be: told by ... */
    struct env_timer refusal; /* ... this, at once but not from within */
    void (*done)(void *ctx, enum status s, struct blob_bytes *bytes);
    void *ctx;
    TAILQ_ENTRY(blob_op) link;
};

/* ---- blobs.c ---- */
struct blob_op *blob_op_new(struct blobs *b,
                            void (*done)(struct env_io *io, enum status s));
/* To be called first in DONE: false if B is closed (and perhaps freed), and
 * the operation with it. */
bool blob_op_goes_on(struct blob_op *op);
void blob_op_free(struct blob_op *op);
void blobs_fail(struct blobs *b, enum status why);
/* The digest of what HASH has seen. */
struct id128 blob_digest_end(const XXH3_state_t *hash);
/* A write was not done for want of space, whatever the disk says. */
void blobs_refused(struct blobs *b);
/* As blobs_room(), with RESERVE bytes left over. */
enum status blobs_room_beside(struct blobs *b, uint64_t bytes,
                              uint64_t reserve) MUST_CHECK;
/* BLOB leaves the index and its file. */
void blob_die(struct blobs *b, struct blob *blob);

/* ---- blobs_index.c ---- */
struct blob *blob_find(const struct blobs *b, const struct id128 *id);
struct blob *blob_add(struct blobs *b, const struct blob_ref *ref);
void blob_remove(struct blobs *b, struct blob *blob); /* frees it */
void blob_index_free(struct blobs *b);
/* BLOB stands at OFFSET of F from now on. */
void blob_place(struct blobs *b, struct blob *blob, struct blob_file *f,
                uint64_t offset);
void blob_unplace(struct blobs *b, struct blob *blob);

/* ---- blobs_file.c ---- */
static inline uint64_t blob_blocks(uint64_t n)
{
    return (n + BLOB_BLOCK - 1) / BLOB_BLOCK * BLOB_BLOCK;
}
uint64_t blob_record_size(uint32_t len);
void blob_head_encode(const struct blobs *b, uint64_t sequence, uint64_t offset,
                      const struct blob_ref *ref, uint8_t out[BLOB_HEAD]);
/* False: no head of a record at that place. */
bool blob_head_decode(const struct blobs *b, uint64_t sequence, uint64_t offset,
                      const uint8_t in[BLOB_HEAD], struct blob_ref *out);
void blob_file_name(const struct blobs *b, uint64_t sequence,
                    char out[BLOB_NAME_MAX]);
/* ST_OK; ST_NOT_FOUND: no header; ST_GONE: it was a file of a lower number
 * and is spare; ST_CORRUPT: of another store or place; ST_VERSION. */
enum status blob_header_check(const struct blobs *b, uint64_t sequence,
                              struct slice block) MUST_CHECK;
/* The index of what stands in F, as it is appended to it. */
void blob_footer_encode(const struct blob_file *f, struct buf *out);
/* Reads the index in BYTES, the file's last ones from *FROM on if LAST, its
 * last block, says so. */
bool blob_footer_place(const struct blobs *b, uint64_t sequence, uint64_t size,
                       struct slice last, uint64_t *from);
bool blob_footer_decode(const struct blobs *b, uint64_t sequence, uint64_t from,
                        struct slice bytes,
                        void (*fn)(void *ctx, const struct blob_ref *ref,
                                   uint64_t offset),
                        void *ctx);
struct blob_file *blob_file_new(struct blobs *b, uint64_t sequence);
void blob_file_free(struct blob_file *f);
/* Begins another file if what is in the present one is mostly dead: sealed, it
 * can be collected. */
void blob_file_end(struct blobs *b);
/* The file that takes SIZE more bytes. */
enum status blob_file_for(struct blobs *b, uint64_t size,
                          struct blob_file **out) MUST_CHECK;
/* Something about F has changed: seals or removes it if it is time. */
void blob_file_tend(struct blob_file *f);
void blob_file_remove(struct blob_file *f);

/* ---- blobs_spare.c ---- */
/* F, which could be removed, becomes a spare one; false if it should not. */
bool blob_spare_keep(struct blob_file *f);
/* One that is written from its beginning, header first; NULL: there is none. */
struct blob_file *blob_spare_take(struct blobs *b);
void blob_spares_tend(struct blobs *b);

/* ---- blobs_write.c ---- */
/* As blobs_begin(), of one that is in the index; it only moves. */
enum status blob_in_new(struct blobs *b, const struct blob_ref *ref,
                        const struct blob_sink *sink,
                        struct blob_in **out) MUST_CHECK;
void blob_ins_free(struct blobs *b);

/* ---- blobs_read.c ---- */
/* What was read at OFFSET of F, where REF should be, is not REF's, or could
 * not be read (WHY). */
void blob_tell_damage(struct blob_file *f, uint64_t offset,
                      const struct blob_ref *ref, enum status why);
/* F is damaged at OFFSET beside its blobs' bytes; WHAT is a literal. */
void blob_file_wear(struct blob_file *f, const char *what, uint64_t offset);

/* ---- blobs_collect.c ---- */
/* Goes on, or begins if there is a reason. */
void blobs_collect(struct blobs *b);
/* BLOB dies. */
void blobs_collect_forget(struct blobs *b, const struct blob *blob);

#endif
