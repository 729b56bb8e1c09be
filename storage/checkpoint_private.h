/*
 * What the checkpoint's writer and its loader share (checkpoint.c has the
 * layout).
 */
#ifndef STORAGE_CHECKPOINT_PRIVATE_H
#define STORAGE_CHECKPOINT_PRIVATE_H

#include "storage/checkpoint.h"

#define CHECKPOINT_MAGIC "PENNCKPT"
#define CHECKPOINT_FORMAT 1u
#define CHECKPOINT_HEAD 80 /* before the config: magic .. random */
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
/* Removes PATH; if that fails, it stays until the next start. */
void checkpoint_remove_file(struct env *env, const char *path);
/* Removes all but the KEEP newest files of TABLET. */
void checkpoint_remove_older(struct env *env, const char *folder,
                             uint32_t tablet, size_t keep);

#endif
