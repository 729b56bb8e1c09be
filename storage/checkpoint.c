/*
 * Checkpoint files. `t00000007.000000000000002a.ckpt` is tablet 7's state
 * after the entry of seq 42. Little endian:
 *
 *   head:   "PENNCKPT", u32 format, u32 tablet, u32 node, u32 length of
 *           config, store id, cluster id, name of the last entry (epoch, seq),
 *           u64 random, config, u64 checksum of all that
 *   blocks: u32 kind, u32 length, u64 checksum, contents
 *           CELLS    u32 count, that many in tree order: u8 tag, REC(cell);
 *                    where the tag is not 0 its value is a place (place.c)
 *           CLIENTS  the client table
 *           END      u64 cells, digest; the last block
 *
 * A block's checksum also covers its place and the head's random number, so
 * that blocks swapped within a file or between files do not pass. (Format 2,
 * which is still read, has no tags, and all values in it.) A file
 * without its END block is not whole; none is ever seen under its final name,
 * because it is synced before it is renamed (file_publish).
 *
 * The writer removes what an earlier one left under the temporary name (one a
 * tablet, so that crashes never pile files up). Then it takes a page of the
 * snapshot, encodes it, and writes it; only when that is done it takes the
 * next, so the loop is never held up for more than a page. It publishes, and
 * removes the tablet's other files but the newest before it. What fails before
 * the publishing is told, and leaves those others as they were; an older one
 * that cannot be removed only stays until the next time. But one of a greater
 * seq, of a state that was replaced, would be what a start begins with: while
 * it may still be there the new one has failed, and is written again.
 */
#include "storage/checkpoint_private.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define KEEP 1 /* beside the one just published */

struct checkpoint_writer {
    struct checkpoint_job job;
    char folder[CHECKPOINT_NAME_MAX];
    char temporary[CHECKPOINT_NAME_MAX], final[CHECKPOINT_NAME_MAX];
    char name[CHECKPOINT_NAME_MAX]; /* without the folder */
    struct state_snapshot *snapshot;
    struct env_file *file;
    uint64_t offset, seed, cells;
    enum { STEP_CELLS, STEP_CLIENTS, STEP_END, STEP_PUBLISH } step;
    bool has_after;
    struct buf config, after_partition, after_row, after_column;
    struct buf out;
    struct checkpoint_listing others; /* to be removed */
    enum status status;               /* what done() will be told */
    bool cancelled;
    struct env_io io;
};

/* ---- names ---- */

void checkpoint_name(uint32_t tablet, uint64_t seq, char *out)
{
    (void)snprintf(out, CHECKPOINT_NAME_MAX,
                   "t%08" PRIu32 ".%016" PRIx64 ".ckpt", tablet, seq);
}

bool checkpoint_parse_name(const char *name, uint32_t *tablet, uint64_t *seq)
{
    char again[CHECKPOINT_NAME_MAX];
    if (strlen(name) != 31 ||
        sscanf(name, "t%8" SCNu32 ".%16" SCNx64 ".ckpt", tablet, seq) != 2) {
        return false;
    }
    checkpoint_name(*tablet, *seq, again);
    return strcmp(name, again) == 0;
}

static void join(const char *folder, const char *name, char *out)
{
    int n = snprintf(out, CHECKPOINT_NAME_MAX, "%s%s%s", folder,
                     folder[0] == '\0' ? "" : "/", name);
    assert(n > 0 && n < CHECKPOINT_NAME_MAX);
}

/* ---- encoding ---- */

uint64_t checkpoint_block_seed(uint32_t kind, uint64_t len, uint64_t offset,
                               uint64_t seed)
{
    uint64_t head[4] = {kind, len, offset, seed};
    return XXH3_64bits(head, sizeof(head));
}

uint64_t checkpoint_sum(uint32_t kind, struct slice contents, uint64_t offset,
                        uint64_t seed)
{
    return XXH3_64bits_withSeed(
        contents.data, contents.len,
        checkpoint_block_seed(kind, contents.len, offset, seed));
}

static void encode_head(struct checkpoint_writer *w)
{
    const struct checkpoint_ids *ids = &w->job.ids;
    struct name n = state_snapshot_name(w->snapshot);
    struct buf *b = &w->out;
    buf_put(b, CHECKPOINT_MAGIC, 8);
    buf_put_u32(b, CHECKPOINT_FORMAT);
    buf_put_u32(b, ids->tablet);
    buf_put_u32(b, ids->node);
    buf_put_u32(b, (uint32_t)w->config.len);
    buf_put(b, ids->store.b, sizeof(ids->store.b));
    buf_put(b, ids->cluster.b, sizeof(ids->cluster.b));
    buf_put_u64(b, n.epoch);
    buf_put_u64(b, n.seq);
    buf_put_u64(b, w->seed);
    assert(b->len == CHECKPOINT_HEAD);
    buf_put_slice(b, buf_slice(&w->config));
    buf_put_u64(b, XXH3_64bits(b->data, b->len));
}

/* Puts a block's head around what is in OUT behind AT. */
static void finish_block(struct checkpoint_writer *w, uint32_t kind, size_t at)
{
    struct slice contents = slice_make(w->out.data + at + CHECKPOINT_BLOCK_HEAD,
                                       w->out.len - at - CHECKPOINT_BLOCK_HEAD);
    struct buf head = {0};
    buf_put_u32(&head, kind);
    buf_put_u32(&head, (uint32_t)contents.len);
    buf_put_u64(&head, checkpoint_sum(kind, contents, w->offset + at, w->seed));
    assert(head.len == CHECKPOINT_BLOCK_HEAD);
    memcpy(w->out.data + at, head.data, head.len);
    buf_free(&head);
}

static size_t begin_block(struct checkpoint_writer *w)
{
    static const uint8_t blank[CHECKPOINT_BLOCK_HEAD];
    size_t at = w->out.len;
    buf_put(&w->out, blank, sizeof(blank));
    return at;
}

static void remember(struct buf *b, struct slice s)
{
    buf_clear(b);
    buf_put_slice(b, s);
}

static void encode_cell(struct buf *out, const struct cell *cell,
                        const struct place *place)
{
    struct cell c = *cell;
    uint8_t room[PLACE_MAX];
    buf_put_u8(out, place->tag);
    if (place->tag != VALUE_INLINE) {
        c.value = place_encode(place, room);
    }
    wire_encode_cell(out, &c);
}

static void encode_cells(struct checkpoint_writer *w)
{
    struct arena a = {0};
    struct msg_tablet_page page = {0};
    struct place *places = NULL;
    struct msg_scan_tablet ask = {
        .has_after = w->has_after,
        .after_partition = buf_slice(&w->after_partition),
        .after_row = buf_slice(&w->after_row),
        .after_column = buf_slice(&w->after_column),
    };
    state_snapshot_kept(w->snapshot, &ask, &a, &page, &places);
    size_t at = begin_block(w);
    buf_put_u32(&w->out, page.cells_count);
    for (uint32_t i = 0; i < page.cells_count; i++) {
        encode_cell(&w->out, &page.cells[i], &places[i]);
    }
    finish_block(w, CHECKPOINT_CELLS, at);
    w->cells += page.cells_count;
    if (page.more) {
        const struct cell *last = &page.cells[page.cells_count - 1];
        assert(page.cells_count > 0);
        w->has_after = true;
        remember(&w->after_partition, last->partition);
        remember(&w->after_row, last->row);
        remember(&w->after_column, last->column);
    } else {
        w->step = STEP_CLIENTS;
    }
    arena_free(&a);
}

static void encode_clients(struct checkpoint_writer *w)
{
    size_t at = begin_block(w);
    state_snapshot_clients(w->snapshot, &w->out);
    finish_block(w, CHECKPOINT_CLIENTS, at);
    w->step = STEP_END;
}

static void encode_end(struct checkpoint_writer *w)
{
    struct id128 digest = state_snapshot_digest(w->snapshot);
    assert(w->cells == state_snapshot_cells(w->snapshot)); /* I4 */
    size_t at = begin_block(w);
    buf_put_u64(&w->out, w->cells);
    buf_put(&w->out, digest.b, sizeof(digest.b));
    finish_block(w, CHECKPOINT_END, at);
    w->step = STEP_PUBLISH;
}

/* ---- the writer's course ---- */

static void free_writer(struct checkpoint_writer *w)
{
    if (w->file != NULL) {
        w->job.env->ops->file_close(w->file);
    }
    state_snapshot_free(w->snapshot);
    buf_free(&w->config);
    buf_free(&w->after_partition);
    buf_free(&w->after_row);
    buf_free(&w->after_column);
    buf_free(&w->out);
    free(w);
}

/* There always is an operation under way. */
void checkpoint_cancel(struct checkpoint_writer *w)
{
    w->cancelled = true;
    if (!env_disk_alive(w->job.env)) {
        free_writer(w);
    }
}

/* Every callback begins with this; true: W is gone. */
static bool gone(struct checkpoint_writer *w)
{
    bool cancelled = w->cancelled;
    if (cancelled) {
        free_writer(w);
    }
    return cancelled;
}

static void finish(struct checkpoint_writer *w)
{
    struct checkpoint_job job = w->job;
    enum status s = w->status;
    char name[CHECKPOINT_NAME_MAX];
    memcpy(name, w->name, sizeof(name));
    free_writer(w);
    job.done(job.ctx, s, name);
}

static void on_cleaned(struct env_io *io, enum status s)
{
    (void)s; /* what stays is removed by the next writer */
    if (!gone(io->data)) {
        finish(io->data);
    }
}

static void fail(struct checkpoint_writer *w, enum status s)
{
    w->status = s;
    if (w->file != NULL) {
        w->job.env->ops->file_close(w->file);
        w->file = NULL;
    }
    w->io.done = on_cleaned;
    w->job.env->ops->file_remove(w->job.env, w->temporary, &w->io);
}

static void remove_next(struct checkpoint_writer *w);

static void on_removed(struct env_io *io, enum status s)
{
    struct checkpoint_writer *w = io->data;
    if (gone(w)) {
        return;
    }
    if (s != ST_OK) {
        log_warn(w->job.env->log, "checkpoint", "remove-failed",
                 "tablet=%" PRIu32 " status=%s", w->job.ids.tablet,
                 status_name(s));
    }
    bool replaced =
        w->snapshot != NULL &&
        w->others.seqs[w->others.count] > state_snapshot_name(w->snapshot).seq;
    if (s != ST_OK && s != ST_NOT_FOUND && replaced) {
        w->status = s;
    }
    remove_next(w);
}

/* Those of a greater seq, too: they are of a state that was replaced. */
static void remove_next(struct checkpoint_writer *w)
{
    char name[CHECKPOINT_NAME_MAX], path[CHECKPOINT_NAME_MAX];
    if (w->others.count == 0) {
        finish(w);
        return;
    }
    w->others.count--;
    checkpoint_name(w->job.ids.tablet, w->others.seqs[w->others.count], name);
    join(w->folder, name, path);
    w->io.done = on_removed;
    w->job.env->ops->file_remove(w->job.env, path, &w->io);
}

static void remove_others(struct checkpoint_writer *w)
{
    struct checkpoint_listing all = {0};
    struct env *env = w->job.env;
    uint64_t own =
        w->snapshot == NULL ? 0 : state_snapshot_name(w->snapshot).seq;
    size_t kept = w->snapshot == NULL ? KEEP : 0;
    w->status = checkpoint_files(env, w->folder, w->job.ids.tablet, &all);
    if (w->status != ST_OK) {
        finish(w); /* they are removed after the next checkpoint */
        return;
    }
    for (size_t i = 0; i < all.count; i++) {
        bool before = all.seqs[i] < own;
        if (w->snapshot != NULL && all.seqs[i] == own) {
            continue;
        }
        if (before && kept < KEEP) {
            kept++;
            continue;
        }
        w->others.seqs[w->others.count++] = all.seqs[i];
    }
    remove_next(w);
}

static void on_published(struct env_io *io, enum status s)
{
    struct checkpoint_writer *w = io->data;
    if (gone(w)) {
        return;
    }
    if (s != ST_OK) {
        fail(w, s);
        return;
    }
    remove_others(w);
}

static void step(struct checkpoint_writer *w)
{
    struct env *env = w->job.env;
    buf_clear(&w->out);
    switch (w->step) {
    case STEP_CELLS:
        if (w->offset == 0) {
            encode_head(w);
        }
        encode_cells(w);
        break;
    case STEP_CLIENTS:
        encode_clients(w);
        break;
    case STEP_END:
        encode_end(w);
        break;
    case STEP_PUBLISH:
        env->ops->file_close(w->file);
        w->file = NULL;
        w->io.done = on_published;
        env->ops->file_publish(env, w->temporary, w->final, &w->io);
        return;
    }
    env->ops->file_write(w->file, w->offset, buf_slice(&w->out), false, &w->io);
}

static void on_written(struct env_io *io, enum status s)
{
    struct checkpoint_writer *w = io->data;
    if (gone(w)) {
        return;
    }
    if (s != ST_OK) {
        fail(w, s);
        return;
    }
    w->offset += w->out.len;
    step(w);
}

/* The temporary name is free. */
static void on_free(struct env_io *io, enum status s)
{
    struct checkpoint_writer *w = io->data;
    struct env *env = w->job.env;
    if (gone(w)) {
        return;
    }
    if (w->snapshot == NULL) {
        remove_others(w);
        return;
    }
    if (s == ST_OK || s == ST_NOT_FOUND) {
        s = env->ops->file_open(
            env, w->temporary, ENV_CREATE | ENV_EXCL | ENV_TEMPORARY, &w->file);
    }
    if (s != ST_OK) {
        fail(w, s);
        return;
    }
    w->io.done = on_written;
    step(w);
}

static struct checkpoint_writer *start(const struct checkpoint_job *j,
                                       struct state_snapshot *p)
{
    struct checkpoint_writer *w = xcalloc(1, sizeof(*w));
    char temporary[CHECKPOINT_NAME_MAX];
    assert(j->config.len <= CHECKPOINT_CONFIG_MAX);
    w->job = *j;
    w->snapshot = p;
    buf_put_slice(&w->config, j->config);
    (void)snprintf(w->folder, sizeof(w->folder), "%s", j->folder);
    (void)snprintf(temporary, sizeof(temporary), "t%08" PRIu32 ".tmp",
                   j->ids.tablet);
    join(w->folder, temporary, w->temporary);
    if (p != NULL) {
        checkpoint_name(j->ids.tablet, state_snapshot_name(p).seq, w->name);
        join(w->folder, w->name, w->final);
    }
    env_random(j->env, &w->seed, sizeof(w->seed));
    w->io.done = on_free;
    w->io.data = w;
    j->env->ops->file_remove(j->env, w->temporary, &w->io);
    return w;
}

struct checkpoint_writer *checkpoint_write_take(const struct checkpoint_job *j,
                                                struct state_snapshot *p)
{
    assert(p != NULL);
    return start(j, p);
}

struct checkpoint_writer *checkpoint_remove(const struct checkpoint_job *j)
{
    return start(j, NULL);
}
