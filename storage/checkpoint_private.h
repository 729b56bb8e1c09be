/*
 * What the checkpoint's writer and its loader share (checkpoint.c has the
 * layout).
 */
#ifndef STORAGE_CHECKPOINT_PRIVATE_H
#define STORAGE_CHECKPOINT_PRIVATE_H

#include "common/env_work.h"
#include "storage/checkpoint.h"

#define CHECKPOINT_MAGIC "PENNCKPT"
/* 1 had another digest of clients; 2 had all values in it. */
#define CHECKPOINT_FORMAT 3u
#define CHECKPOINT_FORMAT_OLDEST 2u /* that is read */
#define CHECKPOINT_HEAD 80          /* before the config: magic .. random */
#define CHECKPOINT_BLOCK_HEAD 16
/* A page with the largest cell behind it, or the largest client table. */
#define CHECKPOINT_BLOCK_MAX MIB(64)

enum checkpoint_block {
    CHECKPOINT_CELLS = 1,
    CHECKPOINT_CLIENTS = 2,
    CHECKPOINT_END = 3,
};

void checkpoint_name(uint32_t tablet, uint64_t seq, char *out);
bool checkpoint_parse_name(const char *name, uint32_t *tablet, uint64_t *seq);
uint64_t checkpoint_sum(uint32_t kind, struct slice contents, uint64_t offset,
                        uint64_t seed);
/* What seeds the checksum of a block of LEN bytes at OFFSET. */
uint64_t checkpoint_block_seed(uint32_t kind, uint64_t len, uint64_t offset,
                               uint64_t seed);

/* ---- checkpoint_parts.c ---- */

/* Blocks that are looked at, or wait for it, at once. */
#define CHECKPOINT_PARTS 16

struct part_job {
    struct env_work work;
    struct buf bytes; /* contents of a block of cells ... */
    uint64_t at, sum; /* ... there, whose head says that */
    uint64_t seed;
    uint32_t format, cells;
    struct state_part *part;
    const char *wrong; /* NULL: nothing */
};

/* ENV, STATE, FORMAT, SEED, and LEFT, the file's bytes, are set by its user,
 * the rest is zeros. */
struct checkpoint_parts {
    struct env *env;
    struct state *state;
    uint32_t format;
    uint64_t seed;
    struct part_job jobs[CHECKPOINT_PARTS];
    size_t first, count;
    uint64_t left;
    size_t expected; /* bytes for which there is memory (tree_expect()) */
    uint64_t cells;  /* taken */
};

/* Where the next block's contents go; there are fewer than CHECKPOINT_PARTS. */
struct buf *checkpoint_parts_room(struct checkpoint_parts *p);
/* They are there; the block's contents begin at AT. */
void checkpoint_parts_begin(struct checkpoint_parts *p, uint64_t at,
                            uint64_t sum);
/* Puts the oldest of COUNT > 0 blocks into the state. False: WRONG says what
 * is, with the block at AT. */
bool checkpoint_parts_take(struct checkpoint_parts *p, uint64_t *at,
                           const char **wrong);
void checkpoint_parts_fini(struct checkpoint_parts *p);

/* The files of one tablet, the newest first. More than that many are never
 * there: each writer leaves two. */
#define CHECKPOINT_FILES_MAX 64
struct checkpoint_listing {
    uint32_t tablet;
    uint64_t seqs[CHECKPOINT_FILES_MAX];
    size_t count;
};
enum status checkpoint_files(struct env *env, const char *folder,
                             uint32_t tablet,
                             struct checkpoint_listing *out) MUST_CHECK;

#endif
