/*
 * Looking through the blob log while it is in use, piece by piece: does all
 * that lives in it read from the medium as what it was (R19)? Damage is told
 * as by any other read (on_damaged), and looked after where it is of a file's
 * own parts (blobs_read.c).
 */
#ifndef STORAGE_BLOBS_SCRUB_H
#define STORAGE_BLOBS_SCRUB_H

#include "storage/blobs.h"

struct blobs_scrub;

/* Of all files that there are from now on. May outlive B, then only to be
 * freed. */
struct blobs_scrub *blobs_scrub_new(struct blobs *b);
/* Not while a piece is being read. NULL is fine. */
void blobs_scrub_free(struct blobs_scrub *v);

/* Reads the next piece, at most one blob; IO as for file_fetch(). Returns how
 * many bytes that are; 0: there is nothing more, IO is not told. */
size_t blobs_scrub_ask(struct blobs_scrub *v, struct env_io *io);

/* Where damage was found. */
struct blobs_damage {
    const char *part; /* "header", "head", "value", "index" */
    uint64_t file;    /* its number */
    uint64_t from, to;
};
/* What was asked for has come, READ being IO's status. ST_OK; ST_CORRUPT: it
 * is damaged, see OUT. */
enum status blobs_scrub_take(struct blobs_scrub *v, enum status read,
                             struct blobs_damage *out) MUST_CHECK;

#endif
