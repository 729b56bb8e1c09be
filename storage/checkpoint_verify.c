/*
 * The file's parts one after another (checkpoint.c has the layout): the head,
 * its configuration and checksum, then of each block the head and the
 * contents, these in pieces of a size that holds nobody up. What a block says
 * is not looked at: its checksum covers its place and this file's random
 * number, and what was written was read from a state that had its digest.
 */
#include "storage/checkpoint_verify.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "storage/checkpoint_private.h"

#define PIECE KIB(128)

struct checkpoint_verify {
    struct env *env;
    struct env_file *file;
    enum { PART_HEAD, PART_CONFIG, PART_BLOCK, PART_CONTENTS } part;
    uint64_t offset; /* of the piece that is asked for */
    uint64_t left;   /* of the part, from there on */
    size_t asked;
    uint64_t seed;
    struct buf head; /* head and config, for their checksum */
    uint32_t kind;
    uint64_t block, sum; /* of the present block: where, its checksum */
    XXH3_state_t *hash;
    uint8_t piece[PIECE];
};

bool checkpoint_verify_name(struct env *env, const char *folder,
                            uint32_t tablet, size_t n,
                            char name[CHECKPOINT_NAME_MAX])
{
    struct checkpoint_listing l = {0};
    if (checkpoint_files(env, folder, tablet, &l) != ST_OK || n >= l.count) {
        return false;
    }
    checkpoint_name(tablet, l.seqs[n], name);
    return true;
}

struct checkpoint_verify *checkpoint_verify_new(struct env *env,
                                                const char *folder,
                                                const char *name,
                                                enum status *status)
{
    char path[2 * CHECKPOINT_NAME_MAX];
    struct env_file *f;
    (void)snprintf(path, sizeof(path), "%s%s%s", folder,
                   folder[0] == '\0' ? "" : "/", name);
    *status = env->ops->file_open(env, path, ENV_READONLY | ENV_MEDIUM, &f);
    if (*status != ST_OK) {
        return NULL;
    }
    struct checkpoint_verify *v = xcalloc(1, sizeof(*v));
    v->env = env;
    v->file = f;
    v->left = CHECKPOINT_HEAD;
    v->hash = XXH3_createState();
    return v;
}

void checkpoint_verify_free(struct checkpoint_verify *v)
{
    if (v == NULL) {
        return;
    }
    v->env->ops->file_close(v->file);
    buf_free(&v->head);
    XXH3_freeState(v->hash);
    free(v);
}

size_t checkpoint_verify_ask(struct checkpoint_verify *v, struct env_io *io)
{
    v->asked = v->left < PIECE ? (size_t)v->left : PIECE;
    v->env->ops->file_fetch(v->file, v->offset, v->piece, v->asked, io);
    return v->asked;
}

static void next_part(struct checkpoint_verify *v, int part, uint64_t len)
{
    v->part = part;
    v->left = len;
}

static enum status end_head(struct checkpoint_verify *v)
{
    struct cursor c = cursor_of(slice_make(v->head.data, CHECKPOINT_HEAD));
    bool ours = slice_equal(cursor_bytes(&c, 8), slice_of(CHECKPOINT_MAGIC));
    (void)cursor_u32(&c); /* format: others than ours were not loaded */
    (void)cursor_u64(&c); /* tablet, node */
    uint32_t config = cursor_u32(&c);
    if (!ours || config > CHECKPOINT_CONFIG_MAX) {
        return ST_CORRUPT;
    }
    next_part(v, PART_CONFIG, config + 8);
    return ST_MORE;
}

static enum status end_config(struct checkpoint_verify *v)
{
    size_t covered = v->head.len - 8;
    struct cursor c = cursor_of(slice_make(v->head.data + covered, 8));
    if (cursor_u64(&c) != XXH3_64bits(v->head.data, covered)) {
        return ST_CORRUPT;
    }
    c = cursor_of(slice_make(v->head.data + CHECKPOINT_HEAD - 8, 8));
    v->seed = cursor_u64(&c);
    next_part(v, PART_BLOCK, CHECKPOINT_BLOCK_HEAD);
    return ST_MORE;
}

static enum status begin_block(struct checkpoint_verify *v)
{
    struct cursor c = cursor_of(slice_make(v->piece, CHECKPOINT_BLOCK_HEAD));
    v->block = v->offset - CHECKPOINT_BLOCK_HEAD;
    v->kind = cursor_u32(&c);
    uint32_t len = cursor_u32(&c);
    v->sum = cursor_u64(&c);
    if (len > CHECKPOINT_BLOCK_MAX || len == 0) {
        return ST_CORRUPT;
    }
    (void)XXH3_64bits_reset_withSeed(
        v->hash, checkpoint_block_seed(v->kind, len, v->block, v->seed));
    next_part(v, PART_CONTENTS, len);
    return ST_MORE;
}

static enum status end_block(struct checkpoint_verify *v)
{
    if (XXH3_64bits_digest(v->hash) != v->sum) {
        return ST_CORRUPT;
    }
    next_part(v, PART_BLOCK, CHECKPOINT_BLOCK_HEAD);
    return v->kind == CHECKPOINT_END ? ST_OK : ST_MORE;
}

enum status checkpoint_verify_take(struct checkpoint_verify *v,
                                   enum status read, uint64_t *at)
{
    enum status s = ST_MORE;
    *at = v->offset;
    if (read != ST_OK) {
        return read == ST_IO ? ST_CORRUPT : read; /* a bad sector, too */
    }
    v->offset += v->asked;
    v->left -= v->asked;
    switch (v->part) {
    case PART_HEAD:
    case PART_CONFIG:
        buf_put(&v->head, v->piece, v->asked);
        if (v->left == 0) {
            s = v->part == PART_HEAD ? end_head(v) : end_config(v);
        }
        break;
    case PART_BLOCK:
        s = begin_block(v);
        break;
    case PART_CONTENTS:
        (void)XXH3_64bits_update(v->hash, v->piece, v->asked);
        if (v->left == 0) {
            *at = v->block;
            s = end_block(v);
        }
        break;
    }
    return s;
}
