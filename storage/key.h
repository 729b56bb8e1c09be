/*
 * A cell's whole key as one byte string whose memcmp order is the tablet's
 * order: (hash, partition, row, column).
 *
 * Layout: hash, 8 bytes big endian; partition; end; row; end; column. In
 * partition and row a 00 is written as 00 FF, and the end of a part as 00 01,
 * which is below everything that can follow in a longer part. So a prefix of
 * a part is a prefix of the key.
 */
#ifndef STORAGE_KEY_H
#define STORAGE_KEY_H

#include "common/wire.h"

#define KEY_MAX (8 + 2 * (2 * LIMIT_KEY_PART + 2) + LIMIT_KEY_PART)

struct key {
    uint8_t bytes[KEY_MAX];
    size_t len;
};

/* Its parts, as they were. */
struct key_parts {
    struct slice partition, row, column;
};

struct slice key_slice(const struct key *k);

/* Parts are within LIMIT_KEY_PART (asserted). */
void key_encode(struct key *k, struct slice partition, struct slice row,
                struct slice column);

/* Beginnings of keys: all of a partition; all rows of it that start with ROW;
 * all columns of ROW that start with COLUMN (as key_encode). */
void key_partition(struct key *k, struct slice partition);
void key_rows(struct key *k, struct slice partition, struct slice row);

/* Of K, which begins with a partition that takes PARTITION bytes: the key of
 * ROW and COLUMN there. */
void key_within(struct key *k, size_t partition, struct slice row,
                struct slice column);

/* Turns K into the first string behind all that start with it; false if there
 * is none (K is empty or all FF). */
bool key_behind(struct key *k);

/* Takes an encoded key apart; parts that hold a 00 are copied into A, others
 * point into S. False if S is not an encoded key. */
bool key_decode(struct slice s, struct arena *a, struct key_parts *out);

#endif
