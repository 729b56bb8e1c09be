/*
 * A tablet's checkpoint: its state at one entry as a sorted file, from which
 * recovery starts (R16). Written from a snapshot in slices that never hold up
 * the loop, published atomically; the one before it stays until the new one
 * is safe. Layout: checkpoint.c.
 */
#ifndef STORAGE_CHECKPOINT_H
#define STORAGE_CHECKPOINT_H

#include "common/env.h"
#include "storage/state.h"

struct checkpoint_writer;

/* Whose file it is; checked on loading. */
struct checkpoint_ids {
    struct id128 cluster;
    struct id128 store;
    uint32_t node;
    uint32_t tablet;
};

#define CHECKPOINT_CONFIG_MAX KIB(16)
#define CHECKPOINT_NAME_MAX 128

struct checkpoint_job {
    struct env *env;
    const char *folder; /* in the data directory, e.g. "shard-00" */
    struct checkpoint_ids ids;
    struct slice config; /* the caller's bytes, copied */
    /* On the loop, once, when nothing is under way any more. ST_OK: FILE
     * (without the folder) is on disk under its name, and of the tablet's
     * others only the newest before it is left. Else the others are as they
     * were, and FILE may be there, whole, or not; after ST_NO_SPACE it is not,
     * and it may be tried again. */
    void (*done)(void *ctx, enum status s, const char *file);
    void *ctx;
};

/* Begins; the snapshot is the writer's from here on, and freed by it. The
 * writer is gone when done() is called. One a tablet at a time. */
struct checkpoint_writer *checkpoint_write_take(const struct checkpoint_job *j,
                                                struct state_snapshot *p);
/* Removes all of a tablet's checkpoints, after WAL_DROP: done() comes as for
 * writing, FILE being ""; the job's config is not used. */
struct checkpoint_writer *checkpoint_remove(const struct checkpoint_job *j);
/* Gives up: done() is not called. What is under way on disk is waited for
 * inside, so the env must outlive it; what is under the temporary name is
 * removed by the tablet's next writer. */
void checkpoint_cancel(struct checkpoint_writer *w);

/* What a loaded checkpoint says. */
struct checkpoint_info {
    char file[CHECKPOINT_NAME_MAX]; /* without the folder */
    struct name applied;            /* name of the last entry in it */
    uint64_t cells;
    struct id128 digest;
    bool older; /* a newer one was damaged ... */
    /* ... of this seq: all up to it had been committed here. If the log does
     * not reach that far the replica has less than it acknowledged, and counts
     * as damaged (R16). */
    uint64_t newest_seq;
};

/* Loads the newest valid checkpoint of ids->tablet into *STATE (new, the
 * caller's). CONFIG gets the caller's bytes. Blocks: for start-up.
 * ST_NOT_FOUND: there is none. ST_CORRUPT: there are some and none is whole;
 * ERR names the file and the place. If a damaged one was passed over,
 * info->older is set and ERR tells of it. */
enum status checkpoint_load(struct env *env, const char *folder,
                            const struct checkpoint_ids *ids,
                            struct state **state, struct buf *config,
                            struct checkpoint_info *info,
                            struct err *err) MUST_CHECK;

/* The same of the N-th newest file alone (0: the newest), for inspecting.
 * ST_NOT_FOUND: there are not so many. */
struct checkpoint_file {
    struct state *state; /* the caller's; NULL on failure */
    struct buf config;   /* the caller's */
    /* Whenever there is such a file, FILE is set, and NEWEST_SEQ is what its
     * name says. */
    struct checkpoint_info info;
    struct err err;
};
enum status checkpoint_load_nth(struct env *env, const char *folder,
                                const struct checkpoint_ids *ids, size_t n,
                                struct checkpoint_file *out) MUST_CHECK;

/* The tablets that have a checkpoint in FOLDER, ascending; at most MAX.
 * Blocks: for start-up. */
enum status checkpoint_list(struct env *env, const char *folder,
                            uint32_t *tablets, size_t max,
                            size_t *count) MUST_CHECK;

#endif
