/*
 * The data directory: whose it is, and how often it was started (R5). Two
 * small files say so, `store` and its copy, so that one rotten sector does
 * not make a whole store anonymous. Layout: store.c.
 */
#ifndef STORAGE_STORE_H
#define STORAGE_STORE_H

#include "common/env.h"

#define STORE_FORMAT 1u

struct store {
    struct id128 id;      /* identity (R5), drawn when formatted */
    struct id128 cluster; /* zero until the first map was seen */
    uint32_t node;
    uint32_t shards;                /* fixed when formatted */
    uint64_t record_key[2];         /* for the log's checksums (R16) */
    struct incarnation incarnation; /* of this start; counter is durable */
    bool formatted;                 /* by this very call */
    bool logged; /* its shards have logs: they can only be missing if lost */
};

/* Opens the env's data directory for NODE, formatting it if it is empty, and
 * makes a new start counter durable. CLUSTER is zero if not known. Blocks: for
 * start-up. ERR has one line: ST_WRONG_NODE or ST_WRONG_CLUSTER: it is
 * another's; ST_VERSION: a newer format; ST_CORRUPT: neither copy is whole, or
 * the store's files are gone while its data is there, or the other way
 * round; ST_DENIED, ST_IO, ST_NO_SPACE: it cannot be written. */
enum status store_open(struct env *env, uint32_t node, struct id128 cluster,
                       struct store *out, struct err *err) MUST_CHECK;

/* What the directory says, without opening it: the newer whole one of both
 * files. ST_NOT_FOUND: neither is there; else as store_open(). Blocks. */
enum status store_read(struct env *env, struct store *out,
                       struct err *err) MUST_CHECK;
/* The same of one file alone, 0: `store`, 1: `store.copy`. ST_CORRUPT is
 * without text. */
enum status store_read_copy(struct env *env, unsigned copy, struct store *out,
                            struct err *err) MUST_CHECK;

/* The logs of S were made: notes it, durably, before anything is acknowledged.
 * Blocks. */
enum status store_set_logged(struct env *env, struct store *s,
                             struct err *err) MUST_CHECK;

/* Binds S to CLUSTER, durably, once it is known. ST_WRONG_CLUSTER if it is
 * bound to another. Blocks. */
enum status store_set_cluster(struct env *env, struct store *s,
                              struct id128 cluster, struct err *err) MUST_CHECK;

/* Folder of a shard's log and checkpoints, e.g. "shard-00"; made by
 * store_open(). */
#define STORE_FOLDER_MAX 16
void store_shard_folder(uint32_t shard, char out[STORE_FOLDER_MAX]);

#endif
