/*
 * Loading checkpoints: the newest whole one of a tablet. Every block is
 * checked before anything of it is believed, and the digest at the end against
 * the state that came out.
 */
#include "storage/checkpoint_private.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

struct reader {
    struct env *env;
    struct env_file *file;
    const char *path;
    uint64_t offset, seed;
    uint32_t format;
    struct buf bytes;
    struct err *err;
};

static enum status corrupt(struct reader *r, const char *what)
{
    return err_set(r->err, ST_CORRUPT, "%s: at %" PRIu64 ": %s", r->path,
                   r->offset, what);
}

/* Reads LEN bytes into OUT. */
static enum status read_exactly(struct reader *r, struct buf *out, size_t len)
{
    size_t got = 0;
    buf_clear(out);
    uint8_t *to = buf_reserve(out, len);
    enum status s = r->env->ops->file_read(r->file, r->offset, to, len, &got);
    if (s == ST_IO) {
        return corrupt(r, status_text(s)); /* a bad sector is damage, too */
    }
    if (s != ST_OK) {
        return err_set(r->err, s, "%s: at %" PRIu64 ": %s", r->path, r->offset,
                       status_text(s));
    }
    out->len = got;
    return got == len ? ST_OK : corrupt(r, "ends too early");
}

static enum status check_ids(struct reader *r, struct cursor *c,
                             const struct checkpoint_ids *ids,
                             uint32_t *config_len)
{
    uint32_t tablet = cursor_u32(c), node = cursor_u32(c);
    *config_len = cursor_u32(c);
    struct id128 store = cursor_id128(c);
    (void)cursor_id128(c); /* the cluster: the store's file vouches for it */
    if (tablet != ids->tablet || node != ids->node ||
        !id128_equal(store, ids->store)) {
        return corrupt(r, "belongs to another store or tablet");
    }
    return *config_len <= CHECKPOINT_CONFIG_MAX ? ST_OK
                                                : corrupt(r, "bad head");
}

/* True if the head that begins r->bytes is one of ours but for its format: so
 * it is rotten, not of a newer version. */
static bool flipped_format(struct reader *r)
{
    struct cursor c = cursor_of(slice_make(r->bytes.data + 20, 4));
    size_t all = CHECKPOINT_HEAD + (size_t)cursor_u32(&c);
    if (all > CHECKPOINT_HEAD + CHECKPOINT_CONFIG_MAX ||
        read_exactly(r, &r->bytes, all + 8) != ST_OK) {
        return false;
    }
    c = cursor_of(slice_make(r->bytes.data + all, 8));
    uint64_t sum = cursor_u64(&c);
    bool ours = false;
    for (uint32_t f = CHECKPOINT_FORMAT_OLDEST; f <= CHECKPOINT_FORMAT; f++) {
        for (size_t i = 0; i < 4; i++) {
            r->bytes.data[8 + i] = (uint8_t)(f >> (8 * i));
        }
        ours = ours || sum == XXH3_64bits(r->bytes.data, all);
    }
    return ours;
}

static enum status check_format(struct reader *r)
{
    if (r->format >= CHECKPOINT_FORMAT_OLDEST &&
        r->format <= CHECKPOINT_FORMAT) {
        return ST_OK;
    }
    if (flipped_format(r)) {
        return corrupt(r, "bad head");
    }
    return err_set(r->err, ST_VERSION,
                   "%s: has format %" PRIu32 ", this version reads %u to %u",
                   r->path, r->format, CHECKPOINT_FORMAT_OLDEST,
                   CHECKPOINT_FORMAT);
}

static enum status read_head(struct reader *r, const struct checkpoint_ids *ids,
                             struct buf *config, struct checkpoint_info *info)
{
    uint32_t config_len = 0;
    enum status s = read_exactly(r, &r->bytes, CHECKPOINT_HEAD);
    if (s != ST_OK) {
        return s;
    }
    struct cursor c = cursor_of(buf_slice(&r->bytes));
    if (!slice_equal(cursor_bytes(&c, 8), slice_of(CHECKPOINT_MAGIC))) {
        return corrupt(r, "is no checkpoint");
    }
    r->format = cursor_u32(&c);
    s = check_format(r);
    if (s != ST_OK) {
        return s;
    }
    s = check_ids(r, &c, ids, &config_len);
    if (s != ST_OK) {
        return s;
    }
    info->applied.epoch = cursor_u64(&c);
    info->applied.seq = cursor_u64(&c);
    r->seed = cursor_u64(&c);
    size_t all = CHECKPOINT_HEAD + config_len;
    s = read_exactly(r, &r->bytes, all + 8);
    if (s != ST_OK) {
        return s;
    }
    c = cursor_of(slice_make(r->bytes.data + all, 8));
    if (cursor_u64(&c) != XXH3_64bits(r->bytes.data, all)) {
        return corrupt(r, "bad head");
    }
    buf_put(config, r->bytes.data + CHECKPOINT_HEAD, config_len);
    r->offset = all + 8;
    return ST_OK;
}

struct block {
    uint32_t kind, len;
    uint64_t at, sum; /* of its head */
};

static enum status read_block_head(struct reader *r, struct block *out)
{
    enum status s = read_exactly(r, &r->bytes, CHECKPOINT_BLOCK_HEAD);
    if (s != ST_OK) {
        return s;
    }
    struct cursor c = cursor_of(buf_slice(&r->bytes));
    out->kind = cursor_u32(&c);
    out->len = cursor_u32(&c);
    out->sum = cursor_u64(&c);
    out->at = r->offset;
    if (out->len > CHECKPOINT_BLOCK_MAX) {
        return corrupt(r, "bad block");
    }
    r->offset += CHECKPOINT_BLOCK_HEAD;
    return ST_OK;
}

/* The block's contents are in r->bytes then. */
static enum status read_block(struct reader *r, const struct block *b)
{
    enum status s = read_exactly(r, &r->bytes, b->len);
    if (s == ST_OK && b->sum != checkpoint_sum(b->kind, buf_slice(&r->bytes),
                                               b->at, r->seed)) {
        r->offset = b->at;
        return corrupt(r, "bad block");
    }
    r->offset += b->len;
    return s;
}

static enum status take_part(struct reader *r, struct checkpoint_parts *parts)
{
    uint64_t at;
    const char *wrong;
    if (!checkpoint_parts_take(parts, &at, &wrong)) {
        r->offset = at;
        return corrupt(r, wrong);
    }
    return ST_OK;
}

static enum status take_parts(struct reader *r, struct checkpoint_parts *parts)
{
    enum status s = ST_OK;
    while (s == ST_OK && parts->count > 0) {
        s = take_part(r, parts);
    }
    return s;
}

static enum status begin_part(struct reader *r, const struct block *b,
                              struct checkpoint_parts *parts)
{
    enum status s = ST_OK;
    if (parts->count == CHECKPOINT_PARTS) {
        s = take_part(r, parts);
    }
    if (s == ST_OK) {
        s = read_exactly(r, checkpoint_parts_room(parts), b->len);
    }
    if (s == ST_OK) {
        checkpoint_parts_begin(parts, b->at, b->sum);
        r->offset += b->len;
    }
    return s;
}

static enum status check_end(struct reader *r, struct state *state,
                             uint64_t cells, struct checkpoint_info *info)
{
    struct cursor c = cursor_of(buf_slice(&r->bytes));
    uint64_t said = cursor_u64(&c);
    struct id128 digest = cursor_id128(&c);
    if (c.bad || cursor_left(&c) != 0 || said != cells) {
        return corrupt(r, "bad end");
    }
    state_load_done(state, info->applied);
    if (!id128_equal(digest, state_digest(state))) {
        return corrupt(r, "the digest differs");
    }
    info->cells = cells;
    info->digest = digest;
    return ST_OK;
}

/* What follows the cells. */
static enum status load_tail(struct reader *r, const struct block *b,
                             struct checkpoint_parts *parts, bool *clients,
                             struct checkpoint_info *info)
{
    struct state *state = parts->state;
    enum status s = take_parts(r, parts);
    if (s == ST_OK) {
        s = read_block(r, b);
    }
    if (s != ST_OK) {
        return s;
    }
    if (b->kind == CHECKPOINT_CLIENTS && !*clients) {
        *clients = true;
        s = state_load_clients(state, buf_slice(&r->bytes), info->applied.seq);
        return s == ST_OK ? s : corrupt(r, "bad client table");
    }
    if (b->kind == CHECKPOINT_END && *clients) {
        return check_end(r, state, parts->cells, info);
    }
    return corrupt(r, "a block of the wrong kind");
}

static enum status load_blocks(struct reader *r, struct state *state,
                               struct checkpoint_info *info)
{
    struct checkpoint_parts parts = {
        .env = r->env, .state = state, .format = r->format, .seed = r->seed};
    (void)r->env->ops->file_size(r->file, &parts.left);
    struct block b = {.kind = 0};
    bool clients = false;
    enum status s = ST_OK;
    while (s == ST_OK && b.kind != CHECKPOINT_END) {
        s = read_block_head(r, &b);
        if (s == ST_OK && b.kind == CHECKPOINT_CELLS && !clients) {
            s = begin_part(r, &b, &parts);
        } else if (s == ST_OK) {
            s = load_tail(r, &b, &parts, &clients, info);
        }
    }
    /* What was wrong may be the consequence of what is wrong before it. */
    enum status before = s == ST_CORRUPT ? take_parts(r, &parts) : ST_OK;
    checkpoint_parts_fini(&parts);
    return before == ST_OK ? s : before;
}

static enum status load_file(struct reader *r, const struct checkpoint_ids *ids,
                             struct state **out, struct buf *config,
                             struct checkpoint_info *info)
{
    /* Not past the page cache, as the log (R16): a checkpoint has its name only
     * since its fsync succeeded, so the cache has what was synced. What has
     * rotted below it the scrub finds (checkpoint_verify.c). */
    enum status s = r->env->ops->file_open(r->env, r->path,
                                           ENV_READONLY | ENV_AHEAD, &r->file);
    if (s != ST_OK) {
        return err_set(r->err, s, "%s: %s", r->path, status_text(s));
    }
    struct state *state = state_new();
    s = read_head(r, ids, config, info);
    if (s == ST_OK) {
        s = load_blocks(r, state, info);
    }
    r->env->ops->file_close(r->file);
    buf_free(&r->bytes);
    if (s == ST_OK) {
        *out = state;
    } else {
        state_free(state);
        buf_clear(config);
    }
    return s;
}

/* ---- which files there are ---- */

static void list_one(void *ctx, const char *name)
{
    struct checkpoint_listing *l = ctx;
    uint32_t tablet;
    uint64_t seq;
    if (!checkpoint_parse_name(name, &tablet, &seq) || tablet != l->tablet) {
        return;
    }
    size_t at =
        l->count < CHECKPOINT_FILES_MAX ? l->count++ : CHECKPOINT_FILES_MAX - 1;
    while (at > 0 && l->seqs[at - 1] < seq) {
        l->seqs[at] = l->seqs[at - 1];
        at--;
    }
    l->seqs[at] = seq;
}

enum status checkpoint_files(struct env *env, const char *folder,
                             uint32_t tablet, struct checkpoint_listing *out)
{
    struct checkpoint_listing l = {.tablet = tablet};
    enum status s = env->ops->dir_list(env, folder, list_one, &l);
    if (s == ST_OK) {
        *out = l;
    }
    return s;
}

static void path_of(const char *folder, const char *name, char *out)
{
    (void)snprintf(out, CHECKPOINT_NAME_MAX, "%.60s%s%.60s", folder,
                   folder[0] == '\0' ? "" : "/", name);
}

enum status checkpoint_load_nth(struct env *env, const char *folder,
                                const struct checkpoint_ids *ids, size_t n,
                                struct checkpoint_file *out)
{
    struct checkpoint_listing l = {0};
    char path[CHECKPOINT_NAME_MAX];
    *out = (struct checkpoint_file){.state = NULL};
    enum status s = checkpoint_files(env, folder, ids->tablet, &l);
    if (s != ST_OK || n >= l.count) {
        s = s == ST_OK ? ST_NOT_FOUND : s;
        return err_set(&out->err, s, "%s: %s", folder, status_text(s));
    }
    out->info.newest_seq = l.seqs[n];
    checkpoint_name(ids->tablet, l.seqs[n], out->info.file);
    path_of(folder, out->info.file, path);
    struct reader r = {.env = env, .path = path, .err = &out->err};
    return load_file(&r, ids, &out->state, &out->config, &out->info);
}

enum status checkpoint_load(struct env *env, const char *folder,
                            const struct checkpoint_ids *ids,
                            struct state **state, struct buf *config,
                            struct checkpoint_info *info, struct err *err)
{
    struct checkpoint_listing l = {0};
    enum status s = checkpoint_files(env, folder, ids->tablet, &l);
    if (s != ST_OK) {
        return err_set(err, s, "%s: %s", folder, status_text(s));
    }
    s = ST_NOT_FOUND;
    *info = (struct checkpoint_info){0};
    for (size_t i = 0; i < l.count; i++) {
        char path[CHECKPOINT_NAME_MAX];
        struct err why = {""};
        checkpoint_name(ids->tablet, l.seqs[i], info->file);
        path_of(folder, info->file, path);
        struct reader r = {.env = env, .path = path, .err = &why};
        s = load_file(&r, ids, state, config, info);
        info->newest_seq = l.seqs[0];
        if (s == ST_OK) {
            return ST_OK;
        }
        if (!info->older) {
            err_set(err, s, "%s", why.text); /* of the newest */
        }
        if (s != ST_CORRUPT) {
            return s;
        }
        info->older = true;
    }
    return s;
}

/* ---- all tablets ---- */

struct tablets {
    uint32_t *out;
    size_t max, count;
    bool too_many;
};

static void list_tablet(void *ctx, const char *name)
{
    struct tablets *t = ctx;
    uint32_t tablet;
    uint64_t seq;
    if (!checkpoint_parse_name(name, &tablet, &seq)) {
        return;
    }
    size_t at = t->count;
    while (at > 0 && t->out[at - 1] > tablet) {
        at--;
    }
    if (at > 0 && t->out[at - 1] == tablet) {
        return;
    }
    if (t->count == t->max) {
        t->too_many = true;
        return;
    }
    memmove(&t->out[at + 1], &t->out[at], (t->count - at) * sizeof(*t->out));
    t->out[at] = tablet;
    t->count++;
}

enum status checkpoint_list(struct env *env, const char *folder,
                            uint32_t *tablets, size_t max, size_t *count)
{
    struct tablets t = {.out = tablets, .max = max};
    enum status s = env->ops->dir_list(env, folder, list_tablet, &t);
    if (s == ST_OK && t.too_many) {
        s = ST_TOO_MANY;
    }
    if (s == ST_OK) {
        *count = t.count;
    }
    return s;
}
