/*
 * Two files, `store` and `store.copy`, hold the same 104 bytes:
 *
 *   0   8  "PENNSTOR"             40  16  cluster id, zeros while unknown
 *   8   4  format version         56  16  record key (R16)
 *   12  4  node                   72   8  start counter (R5)
 *   16  4  shards                 80  16  zeros
 *   20  4  1: its log was made    96   8  XXH3-64 of the 96 bytes before
 *   24  16 store id
 *
 * Each is replaced as a whole, the copy after the first: whatever a crash or
 * a bad sector leaves, one of them is whole, and the greater counter counts.
 * A counter that was ever used is on disk before anything else is done with
 * it, so it never comes again.
 */
#include "storage/store.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#define STORE_BYTES 104
#define STORE_MAGIC "PENNSTOR"

static const char *const files[] = {"store", "store.copy"};

void store_shard_folder(uint32_t shard, char out[STORE_FOLDER_MAX])
{
    (void)snprintf(out, STORE_FOLDER_MAX, "shard-%02u", (unsigned)shard % 100);
}

static void encode(const struct store *s, struct buf *out)
{
    static const uint8_t zeros[16];
    buf_put(out, STORE_MAGIC, 8);
    buf_put_u32(out, STORE_FORMAT);
    buf_put_u32(out, s->node);
    buf_put_u32(out, s->shards);
    buf_put_u32(out, s->logged ? 1 : 0);
    buf_put(out, s->id.b, sizeof(s->id.b));
    buf_put(out, s->cluster.b, sizeof(s->cluster.b));
    buf_put_u64(out, s->record_key[0]);
    buf_put_u64(out, s->record_key[1]);
    buf_put_u64(out, s->incarnation.counter);
    buf_put(out, zeros, sizeof(zeros));
    buf_put_u64(out, XXH3_64bits(out->data, out->len));
}

/* True if TEXT is one of ours but for its format: no newer version made it. */
static bool rotten_format(struct slice text)
{
    uint8_t ours[STORE_BYTES];
    if (text.len != STORE_BYTES) {
        return false;
    }
    memcpy(ours, text.data, STORE_BYTES);
    for (size_t i = 0; i < 4; i++) {
        ours[8 + i] = (uint8_t)(STORE_FORMAT >> (8 * i));
    }
    struct cursor c = cursor_of(slice_make(ours + STORE_BYTES - 8, 8));
    return cursor_u64(&c) == XXH3_64bits(ours, STORE_BYTES - 8);
}

/* ST_CORRUPT: not a whole store file; ST_VERSION: a newer format. */
static enum status decode(struct slice text, struct store *out,
                          uint32_t *format)
{
    struct cursor c = cursor_of(text);
    struct slice magic = cursor_bytes(&c, 8);
    if (c.bad || !slice_equal(magic, slice_of(STORE_MAGIC))) {
        return ST_CORRUPT;
    }
    *format = cursor_u32(&c);
    if (*format > STORE_FORMAT) {
        return rotten_format(text) ? ST_CORRUPT : ST_VERSION;
    }
    out->node = cursor_u32(&c);
    out->shards = cursor_u32(&c);
    out->logged = cursor_u32(&c) != 0;
    out->id = cursor_id128(&c);
    out->cluster = cursor_id128(&c);
    out->record_key[0] = cursor_u64(&c);
    out->record_key[1] = cursor_u64(&c);
    out->incarnation.counter = cursor_u64(&c);
    (void)cursor_bytes(&c, 16);
    uint64_t sum = cursor_u64(&c);
    if (c.bad || text.len != STORE_BYTES ||
        sum != XXH3_64bits(text.data, STORE_BYTES - 8)) {
        return ST_CORRUPT;
    }
    return ST_OK;
}

/* One of the files; ST_NOT_FOUND, ST_CORRUPT, ST_VERSION (with text). */
static enum status read_file(struct env *env, const char *name,
                             struct store *out, struct err *err)
{
    struct env_file *f;
    uint8_t text[STORE_BYTES + 1];
    size_t got = 0;
    uint32_t format = 0;
    enum status s =
        env->ops->file_open(env, name, ENV_READONLY | ENV_MEDIUM, &f);
    if (s != ST_OK) {
        return s;
    }
    s = env->ops->file_read(f, 0, text, sizeof(text), &got);
    s = s == ST_IO ? ST_CORRUPT : s; /* a bad sector; there is the copy */
    env->ops->file_close(f);
    if (s == ST_OK) {
        s = decode(slice_make(text, got), out, &format);
    }
    if (s == ST_VERSION) {
        err_set(err, s, "%s: has format %u, this version reads up to %u", name,
                (unsigned)format, STORE_FORMAT);
    }
    return s;
}

/* ---- opening ---- */

static void count_file(void *ctx, const char *name)
{
    size_t *count = ctx;
    (void)name;
    (*count)++;
}

enum status store_read_copy(struct env *env, unsigned copy, struct store *out,
                            struct err *err)
{
    assert(copy < 2);
    struct store one = {0};
    enum status s = read_file(env, files[copy], &one, err);
    if (s == ST_OK) {
        *out = one;
    }
    return s;
}

enum status store_read(struct env *env, struct store *out, struct err *err)
{
    bool found = false, missing = true;
    const char *damaged = NULL;
    for (size_t i = 0; i < 2; i++) {
        struct store one = {0};
        enum status s = read_file(env, files[i], &one, err);
        if (s == ST_VERSION) {
            return s;
        }
        missing = missing && s == ST_NOT_FOUND;
        if (s == ST_CORRUPT) {
            damaged = files[i];
        }
        if (s != ST_OK && s != ST_NOT_FOUND && s != ST_CORRUPT) {
            return err_set(err, s, "%s: %s", files[i], status_text(s));
        }
        if (s == ST_OK &&
            (!found || one.incarnation.counter > out->incarnation.counter)) {
            *out = one;
            found = true;
        }
    }
    if (!found && !missing) {
        return err_set(err, ST_CORRUPT, "store, store.copy: both damaged");
    }
    if (found && damaged != NULL) {
        log_error(env->log, "store", "damaged", "file=%s", damaged);
    }
    return found ? ST_OK : ST_NOT_FOUND;
}

static enum status check(const struct store *s, uint32_t node,
                         struct id128 cluster, struct err *err)
{
    char ours[33], theirs[33];
    if (s->node != node) {
        return err_set(err, ST_WRONG_NODE,
                       "data directory belongs to storage node %u, not %u",
                       (unsigned)s->node, (unsigned)node);
    }
    if (!id128_is_zero(cluster) && !id128_is_zero(s->cluster) &&
        !id128_equal(s->cluster, cluster)) {
        id128_format(cluster, ours);
        id128_format(s->cluster, theirs);
        return err_set(err, ST_WRONG_CLUSTER,
                       "data directory belongs to cluster %s, not %s", theirs,
                       ours);
    }
    return ST_OK;
}

static enum status count_files(struct env *env, const char *folder,
                               size_t *count, struct err *err)
{
    enum status st = env->ops->dir_list(env, folder, count_file, count);
    if (st != ST_OK && st != ST_NOT_FOUND) {
        return err_set(err, st, "%s: %s", folder, status_text(st));
    }
    return ST_OK;
}

/* A store whose shards are gone must not come back under its id: the others
 * would count on what it has acknowledged (R5, R16). */
static enum status check_shards(struct env *env, const struct store *s,
                                struct err *err)
{
    char folder[STORE_FOLDER_MAX];
    enum status st = ST_OK;
    for (uint32_t i = 0; i < s->shards && st == ST_OK && s->logged; i++) {
        size_t count = 0;
        store_shard_folder(i, folder);
        st = count_files(env, folder, &count, err);
        if (st == ST_OK && count == 0) {
            st = err_set(err, ST_CORRUPT,
                         "%s: gone, while store says that it has data; to come "
                         "back as a new replica remove store and store.copy",
                         folder);
        }
    }
    return st;
}

static enum status format(struct env *env, uint32_t node, struct store *s,
                          struct err *err)
{
    char folder[STORE_FOLDER_MAX];
    size_t count = 0;
    store_shard_folder(0, folder);
    enum status st = count_files(env, folder, &count, err);
    if (st != ST_OK) {
        return st;
    }
    if (count > 0) {
        return err_set(err, ST_CORRUPT,
                       "store, store.copy: gone, while %s has data", folder);
    }
    *s = (struct store){.node = node, .shards = 1, .formatted = true};
    env_random(env, s->id.b, sizeof(s->id.b));
    env_random(env, s->record_key, sizeof(s->record_key));
    return ST_OK;
}

static enum status write_both(struct env *env, const struct store *s,
                              struct err *err)
{
    struct buf text = {0};
    enum status st = ST_OK;
    encode(s, &text);
    for (size_t i = 0; i < 2 && st == ST_OK; i++) {
        st = env->ops->file_put(env, files[i], buf_slice(&text));
        if (st != ST_OK) {
            err_set(err, st, "%s: cannot be written: %s", files[i],
                    status_text(st));
        }
    }
    buf_free(&text);
    return st;
}

enum status store_open(struct env *env, uint32_t node, struct id128 cluster,
                       struct store *out, struct err *err)
{
    struct store s = {0};
    char folder[STORE_FOLDER_MAX];
    enum status st = store_read(env, &s, err);
    if (st == ST_NOT_FOUND) {
        st = format(env, node, &s, err);
    } else if (st == ST_OK) {
        st = check(&s, node, cluster, err);
    }
    if (st == ST_OK) {
        st = check_shards(env, &s, err);
    }
    if (st != ST_OK) {
        return st;
    }
    if (id128_is_zero(s.cluster)) {
        s.cluster = cluster;
    }
    s.incarnation.counter++;
    env_random(env, &s.incarnation.random, sizeof(s.incarnation.random));
    st = write_both(env, &s, err);
    for (uint32_t i = 0; i < s.shards && st == ST_OK; i++) {
        store_shard_folder(i, folder);
        st = env->ops->dir_make(env, folder);
        if (st == ST_EXISTS) {
            st = ST_OK;
        }
        if (st != ST_OK) {
            err_set(err, st, "%s: cannot be made: %s", folder, status_text(st));
        }
    }
    if (st == ST_OK) {
        *out = s;
    }
    return st;
}

enum status store_set_logged(struct env *env, struct store *s, struct err *err)
{
    struct store next = *s;
    next.logged = true;
    enum status st = s->logged ? ST_OK : write_both(env, &next, err);
    if (st == ST_OK) {
        s->logged = true;
    }
    return st;
}

enum status store_set_cluster(struct env *env, struct store *s,
                              struct id128 cluster, struct err *err)
{
    enum status st = check(s, s->node, cluster, err);
    if (st != ST_OK || id128_equal(s->cluster, cluster)) {
        return st;
    }
    struct store next = *s;
    next.cluster = cluster;
    st = write_both(env, &next, err);
    if (st == ST_OK) {
        *s = next;
    }
    return st;
}
