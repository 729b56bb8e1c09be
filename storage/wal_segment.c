/*
 * Segment files, `wal-000001.log` and so on. A file keeps its name for life;
 * what it is at present stands in its header: the first block (4 KiB), and
 * once more in the last, so that one rotten block hides no segment.
 *
 * Header: u64 magic, u32 format, u32 node, u32 shard, u32 zero, cluster id,
 * store id, u64 sequence, base, size, begin, start counter, u64 XXH3-64 of all
 * before. It is written together with the segment's first group. Format 1 had
 * no values beside its entries; a program that knows only that one would take
 * the segments that hold them for free ones.
 *
 * New files are filled with zeros under a temporary name and published, all
 * beside the loop; so a segment in use never grows, and a full disk is met
 * here, where nothing is lost by it: wal_room() says no, and a timer tries
 * again. A file under a segment's name always has its full size: a
 * shorter one is damage.
 * A segment that nobody needs becomes a spare one, and is used again, or
 * removed, when it is on disk that nobody needs it (wal_begin.c): so recovery
 * never takes its absence for a gap.
 *
 * There may be many thousand segments. Only those that are written, or will be
 * next, hold a descriptor; all else is opened when it is read (ENV_SELDOM).
 */
#include "storage/wal_private.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define MAGIC UINT64_C(0x314c41574e4e4550) /* "PENNWAL1" */
#define HEADER_LEN 112
#define ZEROS KIB(256)
#define RETRY_US (1000 * 1000)
#define TEMPORARY "wal-new.tmp"

/* ---- headers ---- */

void wal_header_encode(struct buf *out, const struct wal_header *h)
{
    size_t start = out->len;
    buf_put_u64(out, MAGIC);
    buf_put_u32(out, WAL_FORMAT);
    buf_put_u32(out, h->node);
    buf_put_u32(out, h->shard);
    buf_put_u32(out, 0);
    buf_put(out, h->cluster.b, sizeof(h->cluster.b));
    buf_put(out, h->store.b, sizeof(h->store.b));
    buf_put_u64(out, h->sequence);
    buf_put_u64(out, h->base);
    buf_put_u64(out, h->size);
    buf_put_u64(out, h->begin);
    buf_put_u64(out, h->counter);
    buf_put_u64(out, XXH3_64bits(out->data + start, out->len - start));
    size_t used = out->len - start;
    assert(used <= WAL_BLOCK);
    memset(buf_reserve(out, WAL_BLOCK - used), 0, WAL_BLOCK - used);
    out->len += WAL_BLOCK - used;
}

/* A newer format may have another layout, so its checksum need not be where
 * ours is; but a header that is ours with a format of ours in it is a rotten
 * one. */
static bool only_format_rotten(struct slice block, size_t covered,
                               uint64_t check)
{
    uint8_t ours[HEADER_LEN];
    assert(covered <= sizeof(ours));
    memcpy(ours, block.data, covered);
    for (uint32_t format = 1; format <= WAL_FORMAT; format++) {
        for (size_t i = 0; i < 4; i++) {
            ours[8 + i] = (uint8_t)(format >> (8 * i));
        }
        if (XXH3_64bits(ours, covered) == check) {
            return true;
        }
    }
    return false;
}

enum status wal_header_decode(struct slice block, struct wal_header *out)
{
    struct cursor c = cursor_of(block);
    struct wal_header h;
    if (cursor_u64(&c) != MAGIC) {
        return ST_CORRUPT;
    }
    uint32_t format = cursor_u32(&c);
    h.node = cursor_u32(&c);
    h.shard = cursor_u32(&c);
    (void)cursor_u32(&c);
    h.cluster = cursor_id128(&c);
    h.store = cursor_id128(&c);
    h.sequence = cursor_u64(&c);
    h.base = cursor_u64(&c);
    h.size = cursor_u64(&c);
    h.begin = cursor_u64(&c);
    h.counter = cursor_u64(&c);
    size_t covered = block.len - cursor_left(&c);
    uint64_t check = cursor_u64(&c);
    if (c.bad) {
        return ST_CORRUPT;
    }
    if (XXH3_64bits(block.data, covered) != check) {
        return format > WAL_FORMAT && !only_format_rotten(block, covered, check)
                   ? ST_VERSION
                   : ST_CORRUPT;
    }
    if (format > WAL_FORMAT) {
        return ST_VERSION;
    }
    if (h.size < 2 * WAL_BLOCK || h.size > WAL_SEGMENT_MAX ||
        h.size % WAL_BLOCK != 0 || h.base % 8 != 0 || h.base > UINT64_MAX / 4 ||
        h.sequence == 0) {
        return ST_CORRUPT;
    }
    *out = h;
    return ST_OK;
}

void wal_segment_header(const struct wal *w, const struct wal_segment *s,
                        struct wal_header *out)
{
    uint64_t needed = wal_needed(w);
    uint64_t begin = needed < w->synced ? needed : w->synced;
    *out = (struct wal_header){
        .cluster = w->o.cluster,
        .store = w->o.store,
        .node = w->o.node,
        .shard = w->o.shard,
        .sequence = s->sequence,
        .base = s->base,
        .size = s->size,
        .begin = begin < s->base ? begin : s->base,
        .counter = w->o.start_counter,
    };
}

/* ---- lists ---- */

void wal_segments_add(struct wal_segments *s, const struct wal_segment *x)
{
    if (s->count == s->cap) {
        s->cap = s->cap == 0 ? 8 : 2 * s->cap;
        s->at = xrealloc(s->at, s->cap * sizeof(*s->at));
    }
    size_t i = s->count++;
    for (; i > 0 && s->at[i - 1].sequence > x->sequence; i--) {
        s->at[i] = s->at[i - 1];
    }
    s->at[i] = *x;
}

void wal_segments_erase(struct wal_segments *s, size_t at)
{
    assert(at < s->count);
    s->count--;
    memmove(&s->at[at], &s->at[at + 1], (s->count - at) * sizeof(*s->at));
}

struct wal_segment *wal_tail(struct wal *w)
{
    assert(w->live.count > 0);
    return &w->live.at[w->live.count - 1];
}

static void name_of(const struct wal *w, const char *leaf,
                    char out[WAL_FILE_MAX])
{
    int n = snprintf(out, WAL_FILE_MAX, "%s%s%s", w->folder,
                     w->folder[0] != '\0' ? "/" : "", leaf);
    assert(n > 0 && n < WAL_FILE_MAX);
}

void wal_file_name(const struct wal *w, uint32_t slot, char out[WAL_FILE_MAX])
{
    char leaf[32];
    snprintf(leaf, sizeof(leaf), "wal-%06u.log", slot);
    name_of(w, leaf, out);
}

bool wal_waits(struct wal *w)
{
    return wal_tail(w)->file == NULL;
}

bool wal_segment_usable(const struct wal *w, const struct wal_segment *spare)
{
    return spare->until <= w->begin_durable && spare->reads == 0;
}

void wal_segment_rest(struct wal *w, struct wal_segment *s)
{
    char name[WAL_FILE_MAX];
    struct env_file *f;
    wal_file_name(w, s->slot, name);
    if (!s->seldom &&
        w->env->ops->file_open(w->env, name, ENV_SELDOM, &f) == ST_OK) {
        w->env->ops->file_close(s->file);
        s->file = f;
        s->seldom = true;
    }
}

void wal_segment_wake(struct wal *w, struct wal_segment *s)
{
    char name[WAL_FILE_MAX];
    if (s->file != NULL && !s->seldom) {
        return;
    }
    if (s->file != NULL) {
        w->env->ops->file_close(s->file);
        s->file = NULL;
        s->seldom = false;
    }
    wal_file_name(w, s->slot, name);
    if (s->size != w->o.segment_size || w->spare.count >= WAL_SPARE_MAX ||
        w->env->ops->file_open(w->env, name, 0, &s->file) != ST_OK) {
        s->file = NULL;
    }
}

bool wal_segment_bind(struct wal *w, struct wal_segment *s)
{
    for (size_t i = 0; i < w->spare.count && s->file == NULL; i++) {
        const struct wal_segment *x = &w->spare.at[i];
        if (x->size == s->size && x->file != NULL && wal_segment_usable(w, x)) {
            s->slot = x->slot;
            s->file = x->file;
            w->stats.segments_reused += x->sequence != 0;
            wal_segments_erase(&w->spare, i);
        }
    }
    return s->file != NULL;
}

void wal_segments_free_old(struct wal *w)
{
    uint64_t needed = wal_needed(w);
    while (w->live.count > 1) {
        struct wal_segment s = w->live.at[0];
        uint64_t end = s.base + s.size;
        if (end > needed || end > w->synced) {
            return;
        }
        wal_segments_erase(&w->live, 0);
        s.until = end;
        wal_segment_leave(w, s);
        wal_begin_tend(w);
    }
}

void wal_segments_close(struct wal *w)
{
    struct wal_segments *lists[] = {&w->live, &w->spare, &w->kept};
    for (size_t i = 0; i < 3; i++) {
        for (size_t k = 0; k < lists[i]->count; k++) {
            free(lists[i]->at[k].rows);
            if (lists[i]->at[k].file != NULL) {
                w->env->ops->file_close(lists[i]->at[k].file);
            }
        }
        free(lists[i]->at);
    }
    wal_begin_close(w);
    if (w->maker.file != NULL) {
        w->env->ops->file_close(w->maker.file);
    }
    free(w->maker.zeros);
}

/* ---- making, beside the loop ---- */

static void maker_step(struct wal *w);

static void maker_end(struct wal *w)
{
    struct wal_maker *m = &w->maker;
    if (m->file != NULL) {
        w->env->ops->file_close(m->file);
        m->file = NULL;
    }
    free(m->zeros);
    m->zeros = NULL;
    m->busy = false;
}

static void on_retry(struct env_timer *t)
{
    struct wal *w = t->data;
    w->maker.rests = false;
    wal_segments_tend(w);
}

/* The disk is full; what was written is given back, for checkpoints. */
static void on_given_up(struct env_io *io, enum status s)
{
    struct wal *w = io->data;
    (void)s; /* what stays is overwritten by the next try */
    if (wal_io_end(w)) {
        return;
    }
    w->maker.busy = false;
    w->maker.retry.fn = on_retry;
    w->maker.retry.data = w;
    if (!w->stopping) {
        env_timer_start(w->env, &w->maker.retry, RETRY_US);
    }
    wal_check_stopped(w);
}

/* A full disk is no failure, nor is a process with too many descriptors: what
 * is written here is nobody's data. */
static void maker_failed(struct wal *w, enum status s)
{
    char temporary[WAL_FILE_MAX];
    maker_end(w);
    if (s != ST_NO_SPACE && s != ST_NO_MEMORY) {
        wal_fail(w, s);
        wal_check_stopped(w);
        return;
    }
    if (!w->maker.no_space) {
        log_warn(w->env->log, "wal", "no_space",
                 "status=%s segment_size=%llu action=try_again", status_name(s),
                 (unsigned long long)w->o.segment_size);
    }
    w->maker.no_space = true;
    w->maker.rests = true;
    w->maker.busy = true;
    name_of(w, TEMPORARY, temporary);
    wal_io_begin(w, &w->maker.io, on_given_up, w);
    w->env->ops->file_remove(w->env, temporary, &w->maker.io);
    wal_check_full(w);
}

static void on_zeros_written(struct env_io *io, enum status s)
{
    struct wal *w = io->data;
    if (wal_io_end(w)) {
        return;
    }
    if (s != ST_OK) {
        maker_failed(w, s);
        return;
    }
    uint64_t left = w->o.segment_size - w->maker.done;
    w->maker.done += left < ZEROS ? left : ZEROS;
    maker_step(w);
}

static void on_published(struct env_io *io, enum status s)
{
    struct wal *w = io->data;
    char name[WAL_FILE_MAX];
    if (wal_io_end(w)) {
        return;
    }
    struct wal_segment made = {.slot = w->maker.slot,
                               .size = w->o.segment_size};
    wal_file_name(w, made.slot, name);
    if (s == ST_OK) {
        s = w->env->ops->file_open(w->env, name, 0, &made.file);
    }
    if (s != ST_OK) {
        maker_failed(w, s);
        return;
    }
    maker_end(w);
    w->maker.no_space = false;
    w->next_slot = made.slot + 1;
    w->stats.segments_made++;
    wal_segments_add(&w->spare, &made);
    wal_segments_tend(w);
    wal_pump(w);
    wal_check_stopped(w);
}

static void maker_step(struct wal *w)
{
    struct wal_maker *m = &w->maker;
    char temporary[WAL_FILE_MAX], name[WAL_FILE_MAX];
    uint64_t left = w->o.segment_size - m->done;
    if ((w->stopping && !wal_waits(w)) || w->failed) {
        maker_end(w);
        wal_check_stopped(w);
        return;
    }
    if (left > 0) {
        size_t len = left < ZEROS ? (size_t)left : ZEROS;
        wal_io_begin(w, &m->io, on_zeros_written, w);
        m->io.pieces = true; /* for groups */
        w->env->ops->file_write(m->file, m->done, slice_make(m->zeros, len),
                                false, &m->io);
        return;
    }
    w->env->ops->file_close(m->file);
    m->file = NULL;
    name_of(w, TEMPORARY, temporary);
    wal_file_name(w, m->slot, name);
    wal_io_begin(w, &m->io, on_published, w);
    w->env->ops->file_publish(w->env, temporary, name, &m->io);
}

static void maker_start(struct wal *w)
{
    struct wal_maker *m = &w->maker;
    char temporary[WAL_FILE_MAX];
    uint64_t room;
    m->busy = true;
    m->slot = w->next_slot;
    m->done = 0;
    name_of(w, TEMPORARY, temporary);
    enum status s = w->env->ops->disk_free(w->env, &room);
    if (s == ST_OK && room < w->o.segment_size + w->o.segment_size / 4) {
        s = ST_NO_SPACE; /* leaves something for checkpoints */
    }
    if (s == ST_OK) {
        s = w->env->ops->file_open(w->env, temporary,
                                   ENV_CREATE | ENV_TEMPORARY, &m->file);
    }
    if (s != ST_OK) {
        maker_failed(w, s);
        return;
    }
    m->zeros = xcalloc(1, ZEROS);
    maker_step(w);
}

/* ---- giving back ---- */

static void on_removed(struct env_io *io, enum status s)
{
    struct wal *w = io->data;
    if (wal_io_end(w)) {
        return;
    }
    w->removing = false;
    if (s != ST_OK) {
        log_warn(w->env->log, "wal", "remove_failed", "status=%s",
                 status_name(s));
    }
    wal_segments_tend(w);
    wal_check_stopped(w);
}

/* One at a time: there is no hurry. */
static void remove_spare(struct wal *w, size_t at)
{
    char name[WAL_FILE_MAX];
    wal_file_name(w, w->spare.at[at].slot, name);
    if (w->spare.at[at].file != NULL) {
        w->env->ops->file_close(w->spare.at[at].file);
    }
    wal_segments_erase(&w->spare, at);
    w->removing = true;
    wal_io_begin(w, &w->removal, on_removed, w);
    w->env->ops->file_remove(w->env, name, &w->removal);
}

/* A spare one that is of no use: made under another configuration, damaged,
 * not open, or one too many; spare.count if none. */
static size_t superfluous(const struct wal *w)
{
    for (size_t i = 0; i < w->spare.count; i++) {
        bool odd = w->spare.at[i].size != w->o.segment_size ||
                   w->spare.at[i].file == NULL;
        if ((odd || w->spare.count > WAL_SPARE_MAX) &&
            wal_segment_usable(w, &w->spare.at[i])) {
            return i;
        }
    }
    return w->spare.count;
}

void wal_segments_tend(struct wal *w)
{
    if (!w->running || w->failed || (w->stopping && !wal_waits(w))) {
        return;
    }
    size_t useless = superfluous(w);
    if (useless < w->spare.count && !w->removing) {
        remove_spare(w, useless);
    }
    if (wal_wants_segment(w) && !w->maker.busy && !w->maker.rests) {
        maker_start(w);
    }
    wal_check_full(w);
}

/* ---- at start-up ---- */

enum status wal_segment_make_now(struct wal *w, struct wal_segment *s,
                                 struct err *err)
{
    char name[WAL_FILE_MAX];
    struct wal_header h;
    struct buf b = {0};
    s->slot = w->next_slot++;
    wal_file_name(w, s->slot, name);
    wal_segment_header(w, s, &h);
    wal_header_encode(&b, &h);
    size_t zeros = (size_t)s->size - b.len;
    memset(buf_reserve(&b, zeros), 0, zeros);
    b.len += zeros;
    enum status status = w->env->ops->file_put(w->env, name, buf_slice(&b));
    buf_free(&b);
    if (status == ST_OK) {
        status = w->env->ops->file_open(w->env, name, 0, &s->file);
    }
    if (status != ST_OK) {
        return err_set(err, status, "%s: cannot make a log segment: %s", name,
                       status_text(status));
    }
    w->stats.segments_made++;
    return ST_OK;
}
