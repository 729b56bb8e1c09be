/*
 * What the two halves of opening the log share: wal_find.c says which files
 * hold what, wal_recover.c reads it.
 */
#ifndef STORAGE_WAL_RECOVER_H
#define STORAGE_WAL_RECOVER_H

#include "storage/wal_private.h"

/* A file as found. */
struct found {
    uint32_t slot;
    uint64_t file_size;
    bool has_header, cut_short;
    struct wal_header h;
};

struct recovery {
    struct wal *w;
    enum status (*replay)(void *ctx, const struct wal_record *r);
    struct wal_report *report;
    struct err *err;
    struct found *found;
    size_t found_count;
    /* The chain; has_header false: a hole, with sequence, base and size
     * filled in. */
    struct found *chain;
    size_t chain_count;
    /* Contents of chain[loaded]. */
    struct buf bytes;
    size_t loaded;
    uint64_t counter; /* of the last valid record */
    bool have_mark;
    uint64_t mark; /* M */
};

/* Finds and identifies the segment files: v->found, in order. */
enum status wal_find_files(struct recovery *v) MUST_CHECK;
/* Makes v->chain of them; the rest is spare. */
void wal_find_chain(struct recovery *v);
/* Appends a segment whose file is missing or unreadable to the chain. */
void wal_find_hole(struct recovery *v, uint64_t sequence, uint64_t base,
                   uint64_t size);
void wal_find_spare(struct recovery *v, const struct found *f);
/* Opens a segment for reading from the medium. */
enum status wal_find_open(struct recovery *v, uint32_t slot,
                          struct env_file **out) MUST_CHECK;
/* Reads LEN bytes at OFFSET; what cannot be read, or is not there, is zeros:
 * the checksums will say. */
void wal_find_read(struct recovery *v, struct env_file *f, uint64_t offset,
                   uint8_t *out, size_t len);

#endif
