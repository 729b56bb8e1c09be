/*
 * The cluster's key: 32 bytes that every process of a cluster holds, in a
 * file of 64 lower-case hex digits and a newline that nobody but its owner
 * may read. key.c is the format, key_io.c the file. Key bytes are never
 * logged; whoever holds a struct cluster_key wipes it with key_wipe().
 */
#ifndef COMMON_KEY_H
#define COMMON_KEY_H

#include "common/buf.h"
#include "common/status.h"

#define KEY_BYTES 32
/* Length of a key file with its newline. */
#define KEY_TEXT (2 * KEY_BYTES + 1)

struct cluster_key {
    uint8_t b[KEY_BYTES];
};

void key_wipe(struct cluster_key *k);
/* The file's contents for K, newline included, and a NUL. */
void key_format(const struct cluster_key *k, char out[KEY_TEXT + 1]);
/* Reads a file's contents; a missing newline is forgiven, an all-zero key is
 * not. */
bool key_parse(struct slice text, struct cluster_key *out) MUST_CHECK;

/* Loads PATH. ST_DENIED: group or others may read or write it; ST_NOT_FOUND;
 * ST_CONFIG: not a key; ERR names the file and what to do. */
enum status key_load(const char *path, struct cluster_key *out,
                     struct err *err) MUST_CHECK;
/* Makes PATH (mode 0600) with a new random key; ST_EXISTS if it is there. */
enum status key_create(const char *path, struct err *err) MUST_CHECK;

#endif
