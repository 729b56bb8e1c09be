/*
 * Commands with large values and the entries they become (R6): each value that
 * a PUT brings whole and that is above LIMIT_VALUE_LOGGED goes to the blob log,
 * and the entry refers to it. Values that are put together when the entry is
 * applied, or whose key is only known then, stay in the entry.
 */
#ifndef STORAGE_BLOB_COMMAND_H
#define STORAGE_BLOB_COMMAND_H

#include "storage/blobs.h"
#include "storage/place.h"

/* A value and what the entry says of it. */
struct blob_part {
    struct blob_ref ref;
    struct slice value; /* as in the command */
};

/* How many of C's values go to the blob log; C was checked. */
uint32_t blob_command_count(const struct command *c);
/* Makes *OUT of C, with references, and lists the values in *PARTS, as many as
 * blob_command_count() says; all in A, pointing into C. Names are drawn from
 * E. */
void blob_command_split(const struct command *c, struct env *e, struct arena *a,
                        struct command *out, struct blob_part **parts);

/* True if an entry's PAYLOAD may refer to blobs. */
bool blob_command_refers(struct slice payload);
/* What PAYLOAD refers to, in *OUT (in A); returns how many. None where it will
 * have no effect because it is no command. */
uint32_t blob_command_refs(struct slice payload, struct arena *a,
                           struct blob_ref **out);
/* The blob of a place. Its seed is not known. */
struct blob_ref blob_of_place(const struct place *p);

#endif
