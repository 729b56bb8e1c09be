/*
 * ULIDs: 26 characters of Crockford base 32, 48 bits of milliseconds since
 * 1970 and 80 random bits, so that uids made later sort later. Upper case.
 */
#ifndef CLOUD_ULID_H
#define CLOUD_ULID_H

#include "common/buf.h"
#include "common/status.h"

#define ULID_TEXT 26
#define ULID_SIZE (ULID_TEXT + 1)

/* Writes a new ULID of time WALL_MS and a NUL. Thread-safe. */
void ulid_make(int64_t wall_ms, char out[ULID_SIZE]);
/* From 10 random bytes given by the caller; pure. */
void ulid_encode(int64_t wall_ms, const uint8_t random[10],
                 char out[ULID_SIZE]);
/* True if TEXT has the form of a ULID. Anything from outside is asked this
 * before it becomes part of a key. */
bool ulid_valid(struct slice text);
/* Its milliseconds; -1 if it is not a ULID. */
int64_t ulid_time_ms(struct slice text);

#endif
