/*
 * The log of a shard: a sequence of records at 64-bit positions that are
 * never used twice, in segment files of one size (wal_segment.c).
 *
 * Normal course. wal_append() encodes the record into the group that is being
 * collected. At the end of the loop's turn (a timer of zero), or when the
 * fdatasync under way ends, the group is written with one write and one
 * fdatasync; meanwhile the next one collects (R6, group commit without a
 * timer). When it is done, on_synced() says so. One group is under way at a
 * time, so whatever is on disk is a prefix of what was appended. A quick disk
 * is waited for on the loop, unless messages are due meanwhile (is_busy()) or
 * the group before is still to be told of. Nobody waits
 * for a COMMIT record: it goes with the next group, or after 20 ms of rest.
 *
 * Marks (R16). Each record carries a position that was known synced when it
 * was appended. When nothing followed a synced group for 20 ms, a record that
 * is only a mark is written; a clean stop ends with one. So recovery knows how
 * far the log must be readable, and can tell a torn tail from damage
 * (wal_recover.c). What a disk loses within these 20 ms of the last group
 * looks like a torn tail.
 *
 * Segments. A record never spans two. Where the next one does not fit, a seal
 * ends the segment, and the log goes on behind the header of the next, whose
 * base is this one's end: so a position tells its place. Groups do not span
 * segments either. If no segment file is ready, groups wait in memory; the
 * disk being full is told before anything is appended (wal_room.c), and never
 * ends the process. Any other failure does: on_failed(), once, and from
 * then on nothing is written (R18).
 *
 * Invariants: live segments are dense in sequence and base; synced <= end;
 * all groups but the first begin where the one before them ends, or at the
 * next segment's first record; the tail has room for a seal.
 */
#include "storage/wal_private.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* ---- groups ---- */

static struct wal_group *group_new(struct wal *w)
{
    struct wal_segment *tail = wal_tail(w);
    struct wal_group *g = xcalloc(1, sizeof(*g));
    g->wal = w;
    g->data = w->spare_data;
    w->spare_data = (struct buf){0};
    buf_clear(&g->data);
    g->sequence = tail->sequence;
    g->start = w->end;
    g->since_us = env_now_us(w->env);
    if (w->end == tail->base + WAL_BLOCK) {
        struct wal_header h;
        wal_segment_header(w, tail, &h);
        wal_header_encode(&g->data, &h);
        g->start = tail->base;
    }
    g->end = w->end;
    if (w->groups_tail == NULL) {
        w->groups = g;
    } else {
        w->groups_tail->next = g;
    }
    w->groups_tail = g;
    return g;
}

/* The group that may still grow. */
static struct wal_group *group_open(struct wal *w)
{
    struct wal_group *g = w->groups_tail;
    if (g != NULL && g != w->in_flight &&
        g->sequence == wal_tail(w)->sequence) {
        return g;
    }
    return group_new(w);
}

static void group_free(struct wal *w, struct wal_group *g)
{
    buf_free(&w->spare_data);
    if (g->data.cap <= MIB(1)) {
        w->spare_data = g->data;
    } else {
        buf_free(&g->data);
    }
    free(g);
}

/* Puts R at the end, where it is known to fit. */
static void put_record(struct wal *w, struct wal_record *r)
{
    struct wal_group *g = group_open(w);
    struct wal_stamp stamp = {w->o.start_counter, w->synced};
    size_t before = g->data.len;
    r->position = w->end;
    wal_record_encode(&g->data, w->o.key, w->end, &stamp, r);
    w->end += g->data.len - before;
    w->queued += g->data.len - before;
    g->bytes += g->data.len - before;
    r->end = w->end;
    g->end = w->end;
    g->mark = stamp.mark;
    g->records++;
    w->stats.records++;
    w->stats.payload += r->kind == WAL_ENTRY ? r->payload.len : 0;
    w->stats.moved += r->kind == WAL_VALUE ? r->payload.len : 0;
    w->stats.bytes += g->data.len - before;
}

uint64_t wal_tail_room(struct wal *w)
{
    const struct wal_segment *tail = wal_tail(w);
    uint64_t end = tail->base + tail->size - WAL_BLOCK - WAL_RECORD_HEAD;
    assert(w->end <= end);
    return end - w->end;
}

static void roll(struct wal *w)
{
    struct wal_record seal = {.kind = (enum wal_kind)WAL_SEAL};
    const struct wal_segment *tail = wal_tail(w);
    put_record(w, &seal);
    struct wal_segment next = {.sequence = tail->sequence + 1,
                               .base = tail->base + tail->size,
                               .size = w->o.segment_size};
    wal_segments_add(&w->live, &next);
    w->end = next.base + WAL_BLOCK;
    w->groups_tail->end = w->end; /* so that a mark is always a place */
    (void)wal_segment_bind(w, wal_tail(w));
    wal_segments_tend(w);
}

/* True if somebody waits for what is not on disk yet. */
static bool due(const struct wal *w)
{
    return w->awaited > w->synced || w->stopping;
}

/* 20 ms from the first reason on: what comes meanwhile does not put it off. */
static void arm_idle(struct wal *w)
{
    if (!w->idle_armed) {
        w->idle_armed = true;
        env_timer_start(w->env, &w->idle, WAL_MARK_AFTER_US);
    }
}

static void stop_idle(struct wal *w)
{
    w->idle_armed = false;
    env_timer_stop(w->env, &w->idle);
}

static void arm_flush(struct wal *w)
{
    if (w->running && w->in_flight == NULL && !w->flush_armed) {
        w->flush_armed = true;
        env_timer_start(w->env, &w->flush, 0);
    }
}

uint64_t wal_append(struct wal *w, struct wal_record *r)
{
    uint64_t size = wal_record_size(r->payload.len);
    assert(r->payload.len <= WAL_PAYLOAD_MAX && size <= wal_segment_room(w));
    assert(!w->stopping || r->kind == WAL_MARK);
    if (w->failed) {
        r->position = r->end = w->end;
        return w->end;
    }
    if (size > wal_tail_room(w)) {
        roll(w);
    }
    put_record(w, r);
    if (r->kind != WAL_MARK) {
        w->data_end = r->end;
    }
    if (r->kind != WAL_MARK && r->kind != WAL_VALUE) {
        wal_need_from(w, r->tablet, r->position);
    }
    wal_check_full(w);
    if (r->kind != WAL_COMMIT) {
        w->awaited = r->end;
        arm_flush(w);
    } else if (w->running && w->in_flight == NULL && !due(w)) {
        arm_idle(w);
    }
    return r->end;
}

static void put_mark(struct wal *w)
{
    struct wal_record mark = {.kind = WAL_MARK, .seq = wal_needed(w)};
    w->stats.marks++;
    (void)wal_append(w, &mark);
}

/* ---- writing ---- */

void wal_fail(struct wal *w, enum status why)
{
    if (w->failed) {
        return;
    }
    w->failed = true;
    w->why = why;
    env_timer_stop(w->env, &w->flush);
    stop_idle(w);
    log_error(w->env->log, "wal", "failed", "status=%s synced=%llu",
              status_name(why), (unsigned long long)w->synced);
    if (w->o.on_failed != NULL) {
        w->o.on_failed(w->o.ctx, why);
    }
}

static void on_footer_written(struct env_io *io, enum status s)
{
    struct wal *w = io->data;
    if (wal_io_end(w)) {
        return;
    }
    w->footer_busy = false;
    if (s != ST_OK) {
        wal_fail(w, s);
    }
    wal_pump(w);
    wal_check_stopped(w);
}

/* The header's copy; the group's own sync makes it durable too. */
static void write_footer(struct wal *w, const struct wal_group *g,
                         const struct wal_segment *s)
{
    buf_clear(&w->footer);
    buf_put(&w->footer, g->data.data, WAL_BLOCK);
    w->footer_busy = true;
    wal_io_begin(w, &w->footer_io, on_footer_written, w);
    w->env->ops->file_write(s->file, s->size - WAL_BLOCK, buf_slice(&w->footer),
                            false, &w->footer_io);
}

/* R16: the mark goes out 20 ms after the last synced group. */
static void rest(struct wal *w)
{
    if (w->marked >= w->data_end || w->synced < w->data_end) {
        return;
    }
    if (w->stopping) {
        put_mark(w);
    } else {
        arm_idle(w);
    }
}

static struct wal_segment *segment_of(struct wal *w, uint64_t sequence)
{
    for (size_t i = w->live.count; i-- > 0;) {
        if (w->live.at[i].sequence == sequence) {
            return &w->live.at[i];
        }
    }
    return NULL;
}

/* G, the oldest, is on disk. */
static void group_done(struct wal *w, struct wal_group *g)
{
    assert(g == w->groups);
    w->groups = g->next;
    if (w->groups == NULL) {
        w->groups_tail = NULL;
    }
    w->synced = g->end;
    w->marked = g->mark > w->marked ? g->mark : w->marked;
    struct wal_segment *s = segment_of(w, g->sequence);
    if (s != NULL && s->base + s->size <= w->synced) {
        wal_segment_rest(w, s);
    }
    w->queued -= g->bytes;
    w->stats.groups++;
    metric_add_size(&w->stats.group_records, g->records);
    metric_add_size(&w->stats.group_bytes, g->bytes);
    group_free(w, g);
}

static void on_group_written(struct env_io *io, enum status s)
{
    struct wal_group *g = io->data;
    struct wal *w = g->wal;
    if (wal_io_end(w)) {
        return;
    }
    assert(g == w->in_flight);
    w->in_flight = NULL;
    if (s != ST_OK || w->failed) {
        wal_fail(w, s);
        wal_check_stopped(w);
        return;
    }
    group_done(w, g);
    w->untold = true;
    wal_pump(w);
    w->untold = false;
    if (w->o.on_synced != NULL && !w->failed) {
        w->o.on_synced(w->o.ctx, w->synced);
    }
    if (w->groups == NULL && !w->failed) {
        rest(w);
        wal_begin_tend(w);
    }
    wal_check_stopped(w);
}

void wal_pump(struct wal *w)
{
    struct wal_group *g = w->groups;
    if (w->failed || w->in_flight != NULL || w->footer_busy || g == NULL) {
        return;
    }
    if (!due(w)) {
        arm_idle(w);
        return;
    }
    struct wal_segment *s = segment_of(w, g->sequence);
    assert(s != NULL);
    if (!wal_segment_bind(w, s)) {
        wal_segments_tend(w);
        return;
    }
    stop_idle(w);
    w->in_flight = g;
    if (g->start == s->base) {
        write_footer(w, g, s);
    }
    wal_io_begin(w, &g->io, on_group_written, g);
    g->io.beside =
        w->untold || (w->o.is_busy != NULL && w->o.is_busy(w->o.ctx));
    w->env->ops->file_write(s->file, g->start - s->base, buf_slice(&g->data),
                            true, &g->io);
    wal_segments_tend(w);
}

enum status wal_mark_now(struct wal *w, struct err *err)
{
    const struct env_ops *ops = w->env->ops;
    put_mark(w);
    while (w->groups != NULL) {
        struct wal_group *g = w->groups;
        struct wal_segment *s = segment_of(w, g->sequence);
        enum status st = ST_OK;
        if (!wal_segment_bind(w, s)) {
            st = wal_segment_make_now(w, s, err);
            if (st != ST_OK) {
                return st;
            }
        }
        if (g->start == s->base) {
            st = ops->file_write_now(s->file, s->size - WAL_BLOCK,
                                     slice_make(g->data.data, WAL_BLOCK));
        }
        if (st == ST_OK) {
            st = ops->file_write_now(s->file, g->start - s->base,
                                     buf_slice(&g->data));
        }
        if (st != ST_OK) {
            return err_set(err, st, "log: cannot write: %s", status_text(st));
        }
        group_done(w, g);
    }
    return ST_OK;
}

static void on_flush(struct env_timer *t)
{
    struct wal *w = t->data;
    w->flush_armed = false;
    wal_pump(w);
    wal_segments_tend(w);
}

static void on_idle(struct env_timer *t)
{
    struct wal *w = t->data;
    w->idle_armed = false;
    if (w->failed) {
        return;
    }
    if (w->groups != NULL) {
        w->awaited = w->end; /* commits that nothing followed */
        wal_pump(w);
    } else if (w->marked < w->data_end) {
        put_mark(w);
    }
}

static void on_stop_timer(struct env_timer *t)
{
    wal_check_stopped(t->data);
}

void wal_begin_running(struct wal *w)
{
    w->running = true;
    w->flush = (struct env_timer){.fn = on_flush, .data = w};
    w->idle = (struct env_timer){.fn = on_idle, .data = w};
    w->stop = (struct env_timer){.fn = on_stop_timer, .data = w};
    arm_flush(w); /* makes the first spare segment, too */
}

/* ---- ending ---- */

void wal_check_stopped(struct wal *w)
{
    if (!w->stopping || w->stopped || w->in_flight != NULL || w->footer_busy ||
        w->maker.busy || w->removing || w->note.busy) {
        return;
    }
    if (!w->failed && (w->groups != NULL || w->marked < w->data_end ||
                       w->note.known < w->data_end)) {
        if (!wal_waits(w) || !w->maker.no_space) {
            return;
        }
        w->failed = true; /* what waits for space was never acknowledged */
        w->why = ST_NO_SPACE;
    }
    w->stopped = true;
    w->on_stopped(w->stop_ctx, w->failed ? w->why : ST_OK);
}

void wal_stop(struct wal *w, void (*done)(void *ctx, enum status s), void *ctx)
{
    assert(!w->stopping);
    w->stopping = true;
    w->on_stopped = done;
    w->stop_ctx = ctx;
    env_timer_stop(w->env, &w->maker.retry);
    stop_idle(w);
    if (w->groups == NULL && !w->failed) {
        rest(w);
        wal_begin_tend(w);
    }
    wal_pump(w);
    env_timer_start(w->env, &w->stop, 0);
}

static void wal_free(struct wal *w)
{
    wal_segments_close(w);
    while (w->groups != NULL) {
        struct wal_group *next = w->groups->next;
        buf_free(&w->groups->data);
        free(w->groups);
        w->groups = next;
    }
    buf_free(&w->spare_data);
    buf_free(&w->footer);
    wal_reads_free(w);
    free(w->needs);
    free(w);
}

void wal_io_begin(struct wal *w, struct env_io *io,
                  void (*done)(struct env_io *io, enum status s), void *data)
{
    *io = (struct env_io){.done = done, .data = data};
    w->ios++;
}

bool wal_io_end(struct wal *w)
{
    assert(w->ios > 0);
    w->ios--;
    if (w->closed && w->ios == 0) {
        wal_free(w);
        return true;
    }
    return w->closed;
}

void wal_close(struct wal *w)
{
    if (w == NULL) {
        return;
    }
    env_timer_stop(w->env, &w->flush);
    stop_idle(w);
    env_timer_stop(w->env, &w->stop);
    env_timer_stop(w->env, &w->maker.retry);
    wal_reads_close(w);
    w->closed = true;
    if (w->ios == 0 || !env_disk_alive(w->env)) {
        wal_free(w);
    }
}

/* ---- figures ---- */

uint64_t wal_begin(const struct wal *w)
{
    return w->live.at[0].base;
}

uint64_t wal_end(const struct wal *w)
{
    return w->end;
}

uint64_t wal_synced(const struct wal *w)
{
    return w->synced;
}

uint64_t wal_size(const struct wal *w)
{
    return w->end - wal_needed(w);
}

/* What waits for a segment that a full disk does not give says nothing
 * against the disk: that it is full is told otherwise. */
int64_t wal_pending_age_us(const struct wal *w)
{
    bool pending = w->groups != NULL && w->awaited > w->synced;
    bool no_segment =
        w->maker.no_space && w->in_flight == NULL && !w->footer_busy;
    return pending && !no_segment ? env_now_us(w->env) - w->groups->since_us
                                  : 0;
}

void wal_get_stats(const struct wal *w, struct wal_stats *out)
{
    *out = w->stats;
    out->queued = w->queued;
    out->kept = w->kept.count;
    for (size_t i = 0; i < w->kept.count; i++) {
        out->kept_bytes += w->kept.at[i].size;
        out->kept_live += w->kept.at[i].live;
    }
}
