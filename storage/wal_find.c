/*
 * Which segment files there are, and what they hold: the chain that recovery
 * reads (wal_recover.c has the rules).
 */
#include "storage/wal_recover.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void on_name(void *ctx, const char *name)
{
    struct recovery *v = ctx;
    unsigned slot;
    char again[32];
    if (sscanf(name, "wal-%6u.log", &slot) != 1) {
        return;
    }
    snprintf(again, sizeof(again), "wal-%06u.log", slot);
    if (strcmp(name, again) != 0) {
        return;
    }
    v->found = xrealloc(v->found, (v->found_count + 1) * sizeof(*v->found));
    v->found[v->found_count++] = (struct found){.slot = slot};
}

enum status wal_find_open(struct recovery *v, uint32_t slot,
                          struct env_file **out)
{
    char name[WAL_FILE_MAX];
    struct env *e = v->w->env;
    wal_file_name(v->w, slot, name);
    enum status s =
        e->ops->file_open(e, name, ENV_READONLY | ENV_MEDIUM | ENV_AHEAD, out);
    if (s == ST_UNSUPPORTED || s == ST_INVALID) {
        v->report->buffered = true;
        s = e->ops->file_open(e, name, ENV_READONLY, out);
    }
    return s;
}

void wal_find_read(struct recovery *v, struct env_file *f, uint64_t offset,
                   uint8_t *out, size_t len)
{
    size_t got = 0;
    memset(out, 0, len);
    enum status s = v->w->env->ops->file_read(f, offset, out, len, &got);
    if (s == ST_OK || len <= WAL_BLOCK) {
        if (s != ST_OK) {
            memset(out, 0, len);
        }
        return;
    }
    for (size_t at = 0; at < len; at += WAL_BLOCK) {
        size_t n = len - at < WAL_BLOCK ? len - at : WAL_BLOCK;
        wal_find_read(v, f, offset + at, out + at, n);
    }
}

static enum status check_identity(struct recovery *v, const char *name,
                                  const struct wal_header *h)
{
    const struct wal_options *o = &v->w->o;
    if (!id128_equal(h->store, o->store)) {
        return err_set(v->err, ST_CORRUPT, "%s: log segment of another store",
                       name);
    }
    if (h->shard != o->shard || h->node != o->node) {
        return err_set(v->err, ST_CORRUPT,
                       "%s: log segment of node %u, shard %u", name, h->node,
                       h->shard);
    }
    return ST_OK;
}

/* The header does not read: its COPY takes its place again. (Or the power went
 * while it was written: then the copy is of the former life.) */
static enum status mend_header(struct recovery *v, const char *name,
                               struct slice copy)
{
    struct env_file *f;
    const struct env_ops *ops = v->w->env->ops;
    log_warn(v->w->env->log, "wal", "header-damaged", "file=%s", name);
    enum status s = ops->file_open(v->w->env, name, 0, &f);
    if (s == ST_OK) {
        s = ops->file_write_now(f, 0, copy);
        ops->file_close(f);
    }
    return s == ST_OK ? s : err_set(v->err, s, "%s: %s", name, status_text(s));
}

/* Reads F's header, or its copy. */
static enum status identify(struct recovery *v, struct found *f)
{
    char name[WAL_FILE_MAX];
    uint8_t block[WAL_BLOCK];
    struct env_file *file;
    const struct env_ops *ops = v->w->env->ops;
    wal_file_name(v->w, f->slot, name);
    enum status s = wal_find_open(v, f->slot, &file);
    if (s != ST_OK) {
        return err_set(v->err, s, "%s: %s", name, status_text(s));
    }
    s = ops->file_size(file, &f->file_size);
    uint64_t last = f->file_size < WAL_BLOCK ? 0 : f->file_size - WAL_BLOCK;
    const uint64_t places[] = {0, last};
    for (size_t i = 0; i < 2 && s == ST_OK && !f->has_header; i++) {
        wal_find_read(v, file, places[i], block, sizeof(block));
        enum status h =
            wal_header_decode(slice_make(block, sizeof(block)), &f->h);
        if (h == ST_VERSION) {
            s = err_set(v->err, h, "%s: made by a newer version", name);
        } else if (h == ST_OK) {
            f->has_header = true;
            s = check_identity(v, name, &f->h);
        }
        if (h == ST_OK && i > 0 && s == ST_OK) {
            s = mend_header(v, name, slice_make(block, sizeof(block)));
        }
    }
    ops->file_close(file);
    f->cut_short =
        f->file_size < (f->has_header ? f->h.size : v->w->o.segment_size);
    return s;
}

/* By sequence; of the same, the one of the later start last. Files without a
 * header first. */
static int found_compare(const void *a, const void *b)
{
    const struct found *x = a, *y = b;
    uint64_t sx = x->has_header ? x->h.sequence : 0;
    uint64_t sy = y->has_header ? y->h.sequence : 0;
    if (sx != sy) {
        return sx < sy ? -1 : 1;
    }
    return x->h.counter < y->h.counter ? -1 : x->h.counter > y->h.counter;
}

enum status wal_find_files(struct recovery *v)
{
    struct wal *w = v->w;
    enum status s = w->env->ops->dir_list(w->env, w->folder, on_name, v);
    if (s == ST_NOT_FOUND) {
        s = ST_OK;
    }
    for (size_t i = 0; i < v->found_count && s == ST_OK; i++) {
        s = identify(v, &v->found[i]);
        if (v->found[i].slot >= w->next_slot) {
            w->next_slot = v->found[i].slot + 1;
        }
    }
    if (v->found_count > 0) {
        qsort(v->found, v->found_count, sizeof(*v->found), found_compare);
    }
    return s;
}

/* ---- the chain ---- */

static void chain_add(struct recovery *v, const struct found *f)
{
    v->chain = xrealloc(v->chain, (v->chain_count + 1) * sizeof(*v->chain));
    v->chain[v->chain_count++] = *f;
}

/* A segment whose file is missing or unreadable. */
void wal_find_hole(struct recovery *v, uint64_t sequence, uint64_t base,
                   uint64_t size)
{
    struct found hole = {.cut_short = true};
    hole.h.sequence = sequence;
    hole.h.base = base;
    hole.h.size = size;
    chain_add(v, &hole);
}

/* A hole before F, if F does not follow the chain's last (or what the newest
 * header needs). */
static void chain_fill(struct recovery *v, const struct found *f,
                       uint64_t begin)
{
    uint64_t base = begin < WAL_BLOCK ? 0 : begin / 8 * 8 - WAL_BLOCK;
    uint64_t sequence = f->h.sequence - 1;
    if (v->chain_count > 0) {
        const struct wal_header *last = &v->chain[v->chain_count - 1].h;
        base = last->base + last->size;
        sequence = last->sequence + 1;
    }
    if (base < f->h.base) {
        wal_find_hole(v, sequence, base, f->h.base - base);
    }
}

void wal_find_spare(struct recovery *v, const struct found *f)
{
    struct wal_segment s = {.slot = f->slot,
                            .sequence = f->has_header ? f->h.sequence : 0,
                            .size = f->cut_short ? 0 : f->file_size};
    wal_segments_add(&v->w->spare, &s);
}

/* S is of no use as what its header says. */
static void make_spare(struct recovery *v, size_t at)
{
    struct wal_segments *kept = &v->w->kept;
    struct wal_segment s = kept->at[at];
    wal_segments_erase(kept, at);
    s.size = s.unfit ? 0 : s.size; /* 0: tending removes it */
    wal_segments_add(&v->w->spare, &s);
}

/* A file before the chain: it may hold live values. Where two say that they
 * have the same positions, the one of the earlier start is of a former life,
 * and behind what the log then ended with. */
static void find_kept(struct recovery *v, const struct found *f)
{
    struct wal_segments *kept = &v->w->kept;
    struct wal_segment s = {.slot = f->slot,
                            .sequence = f->h.sequence,
                            .base = f->h.base,
                            .size = f->h.size,
                            .unfit = f->cut_short,
                            .counter = f->h.counter};
    while (kept->count > 0) {
        const struct wal_segment *last = &kept->at[kept->count - 1];
        if (last->base + last->size <= s.base) {
            break;
        }
        if (last->counter > s.counter) {
            wal_find_spare(v, f);
            return;
        }
        make_spare(v, kept->count - 1);
    }
    wal_segments_add(kept, &s);
}

/* The same where it is the chain that has those positions. */
static void trim_kept(struct recovery *v)
{
    struct wal_segments *kept = &v->w->kept;
    while (kept->count > 0 && v->chain_count > 0 && v->chain[0].has_header) {
        const struct wal_segment *last = &kept->at[kept->count - 1];
        if (last->base + last->size <= v->chain[0].h.base) {
            break;
        }
        make_spare(v, kept->count - 1);
    }
}

void wal_find_chain(struct recovery *v)
{
    const struct found *newest = NULL;
    bool unknown_short = false, hole = false;
    uint64_t begin = 0;
    if (v->found_count > 0 && v->found[v->found_count - 1].has_header) {
        newest = &v->found[v->found_count - 1];
        begin = newest->h.begin;
    }
    begin = begin > v->w->begin_durable ? begin : v->w->begin_durable;
    for (size_t i = 0; i < v->found_count; i++) {
        const struct found *f = &v->found[i];
        bool again = i + 1 < v->found_count && f->has_header &&
                     v->found[i + 1].h.sequence == f->h.sequence;
        bool before = f->has_header && f->h.base + f->h.size <= begin;
        if (before && !again && v->w->o.on_found != NULL) {
            find_kept(v, f);
            continue;
        }
        if (!f->has_header || again || before) {
            unknown_short = unknown_short || (!f->has_header && f->cut_short);
            wal_find_spare(v, f);
            continue;
        }
        size_t count = v->chain_count;
        chain_fill(v, f, begin);
        hole = hole || v->chain_count > count;
        chain_add(v, f);
    }
    trim_kept(v);
    /* A file that was cut to nothing may have been the newest: nothing else
     * cuts our files. It is if no hole waits for it. */
    if (unknown_short && !hole) {
        uint64_t base = newest == NULL ? 0 : newest->h.base + newest->h.size;
        uint64_t sequence = newest == NULL ? 1 : newest->h.sequence + 1;
        wal_find_hole(v, sequence, base, v->w->o.segment_size);
    }
}
