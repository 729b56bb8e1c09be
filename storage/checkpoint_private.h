/*
 * What the checkpoint's writer and its loader share (checkpoint.c has the
 * layout).
 */
#ifndef STORAGE_CHECKPOINT_PRIVATE_H
#define STORAGE_CHECKPOINT_PRIVATE_H

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
