/*
 * Where a cell's value is. Values up to LIMIT_VALUE_INLINE are kept in memory,
 * in the tree itself. A larger one stays on disk: where a record of the log
 * holds it, or in the blob log; the tree then has its place, with the value's
 * length and digest. So a value is replaced, compared and counted without
 * being read, and what is read from the disk is verified.
 *
 * The digest is seeded by the cell's key: the bytes of another cell, or of
 * this one's former value, never pass for it.
 */
#ifndef STORAGE_PLACE_H
#define STORAGE_PLACE_H

#include "common/buf.h"
#include "common/limits.h"
#include "common/status.h"

/* What a value in a tree is: the tag of its tree_value, also on disk. */
enum value_tag {
    VALUE_INLINE = 0, /* the value's bytes */
    VALUE_LOG = 1,    /* its place: in the log */
    VALUE_BLOB = 2,   /* its place: in the blob log */
};

struct place {
    uint8_t tag;       /* enum value_tag */
    uint64_t position; /* LOG: of the value's first byte, a log position */
    struct id128 blob; /* BLOB: its name */
    uint32_t len;      /* of the value */
    struct id128 digest;
};

/* Bytes that a place takes at most. */
#define PLACE_MAX 36

/* The seed of the digests of values of (encoded) KEY. */
uint64_t place_seed(struct slice key);
/* XXH3-128 of VALUE, seeded by the (encoded) KEY's: the value's part of the
 * pair's digest (state.c), little endian. */
struct id128 place_digest(struct slice key, struct slice value);

/* P, which is not INLINE, without its tag, in ROOM. */
struct slice place_encode(const struct place *p, uint8_t room[PLACE_MAX]);
/* ST_CORRUPT if BYTES are no place of kind TAG: unknown kinds, other lengths,
 * values that would not be on disk at all or larger than LIMIT_VALUE. */
enum status place_decode(uint8_t tag, struct slice bytes,
                         struct place *out) MUST_CHECK;

/* The same value at the same place. */
bool place_equal(const struct place *a, const struct place *b);
/* BYTES are the value of KEY that P speaks of. */
bool place_verify(const struct place *p, struct slice key, struct slice bytes);

#endif
