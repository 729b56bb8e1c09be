/*
 * Reading values back from where the log holds them: a position is that of a
 * value's first byte within a record's payload.
 *
 * What is not on disk yet is copied from its group; the rest is read beside
 * the loop (file_fetch) into memory of the log's own and copied when it is
 * there, so that whoever asked may go away with the log. Nothing here knows
 * whether the bytes are right: places have a digest (place.h).
 *
 * A segment that is being read is not written again before the read has ended
 * (wal_segment_usable()). A read of a place whose segment has been given back
 * in the meantime finds no segment of that position: ST_GONE, never other
 * bytes, as positions are never used twice.
 */
#include "storage/wal_private.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct wal_value_read {
    TAILQ_ENTRY(wal_value_read) link;
    struct wal *w;
    struct env_io io;    /* ours */
    struct env_io *user; /* who is told */
    enum status status;  /* once there is one */
    uint32_t slot;       /* of the segment that is read */
    uint32_t len;
    uint8_t *to;
    uint8_t bytes[];
};

/* ---- where it is ---- */

/* NULL if it is not whole in one segment. */
static struct wal_segment *find(struct wal *w, uint64_t position, uint64_t len)
{
    struct wal_segment *s = wal_segment_at(w, position);
    return s != NULL && position - s->base + len <= s->size ? s : NULL;
}

static const uint8_t *queued(const struct wal *w, uint64_t position,
                             uint64_t len)
{
    for (const struct wal_group *g = w->groups; g != NULL; g = g->next) {
        if (position >= g->start && position - g->start <= g->data.len &&
            len <= g->data.len - (position - g->start)) {
            return g->data.data + (position - g->start);
        }
    }
    return NULL;
}

static struct wal_segment *of_slot(struct wal *w, uint32_t slot)
{
    struct wal_segments *lists[] = {&w->live, &w->kept, &w->spare};
    for (size_t i = 0; i < 3; i++) {
        for (size_t k = 0; k < lists[i]->count; k++) {
            if (lists[i]->at[k].slot == slot) {
                return &lists[i]->at[k];
            }
        }
    }
    return NULL;
}

/* ---- beside the loop ---- */

static void answer(struct wal_value_read *r, enum status s)
{
    struct env_io *user = r->user;
    if (s == ST_OK) {
        memcpy(r->to, r->bytes, r->len);
    }
    free(r);
    user->impl = NULL;
    user->done(user, s);
}

/* As many as there are: what these ask for comes in the next turn. */
static void on_answers(struct env_timer *t)
{
    struct wal *w = t->data;
    struct wal_value_read *r;
    size_t count = 0;
    w->reads.armed = false;
    TAILQ_FOREACH(r, &w->reads.answers, link)
    {
        count++;
    }
    for (; count > 0; count--) {
        r = TAILQ_FIRST(&w->reads.answers);
        TAILQ_REMOVE(&w->reads.answers, r, link);
        answer(r, r->status);
    }
}

/* Tells R's user in the next turn. */
static void answer_later(struct wal_value_read *r, enum status s)
{
    struct wal *w = r->w;
    r->status = s;
    TAILQ_INSERT_TAIL(&w->reads.answers, r, link);
    if (!w->reads.armed) {
        w->reads.armed = true;
        w->reads.timer.fn = on_answers;
        w->reads.timer.data = w;
        env_timer_start(w->env, &w->reads.timer, 0);
    }
}

/* The segment may have become a spare one that somebody waits for. */
static void segment_read(struct wal *w, uint32_t slot)
{
    struct wal_segment *s = of_slot(w, slot);
    assert(s != NULL && s->reads > 0);
    s->reads--;
    if (s->reads == 0 && w->running) {
        if (wal_segment_bind(w, wal_tail(w))) {
            wal_pump(w);
        }
        wal_segments_tend(w);
    }
}

static void on_fetched(struct env_io *io, enum status s)
{
    struct wal_value_read *r = io->data;
    struct wal *w = r->w;
    TAILQ_REMOVE(&w->reads.under_way, r, link);
    if (wal_io_end(w)) {
        free(r);
        return;
    }
    segment_read(w, r->slot);
    answer(r, s == ST_NOT_FOUND ? ST_CORRUPT : s); /* its file is lost */
}

void wal_value_read(struct wal *w, uint64_t position, uint32_t len, uint8_t *to,
                    struct env_io *io)
{
    struct wal_segment *s = find(w, position, len);
    const uint8_t *bytes = NULL;
    assert(io->done != NULL && io->impl == NULL && !w->closed);
    assert(len <= WAL_PAYLOAD_MAX);
    struct wal_value_read *r = xmalloc(sizeof(*r) + len);
    *r = (struct wal_value_read){.w = w, .user = io, .len = len, .to = to};
    io->impl = r;
    w->stats.value_reads++;
    if (position >= w->synced) {
        bytes = queued(w, position, len);
        if (bytes != NULL) {
            memcpy(r->bytes, bytes, len);
        }
        answer_later(r, bytes != NULL ? ST_OK : ST_GONE);
    } else if (s == NULL || s->file == NULL) {
        answer_later(r, s == NULL ? ST_GONE : ST_CORRUPT);
    } else {
        r->slot = s->slot;
        s->reads++;
        TAILQ_INSERT_TAIL(&w->reads.under_way, r, link);
        wal_io_begin(w, &r->io, on_fetched, r);
        w->env->ops->file_fetch(s->file, position - s->base, r->bytes, len,
                                &r->io);
    }
}

enum status wal_value_read_now(struct wal *w, uint64_t position, uint32_t len,
                               uint8_t *to)
{
    const struct wal_segment *s = find(w, position, len);
    const uint8_t *bytes = NULL;
    size_t got = 0;
    if (position >= w->synced) {
        bytes = queued(w, position, len);
        if (bytes == NULL) {
            return ST_GONE;
        }
        memcpy(to, bytes, len);
        return ST_OK;
    }
    if (s == NULL || s->file == NULL) {
        return s == NULL ? ST_GONE : ST_CORRUPT;
    }
    enum status st =
        w->env->ops->file_read(s->file, position - s->base, to, len, &got);
    return (st == ST_OK && got < len) || st == ST_NOT_FOUND ? ST_CORRUPT : st;
}

void wal_reads_init(struct wal *w)
{
    TAILQ_INIT(&w->reads.under_way);
    TAILQ_INIT(&w->reads.answers);
}

void wal_reads_close(struct wal *w)
{
    struct wal_value_read *r;
    env_timer_stop(w->env, &w->reads.timer);
    while ((r = TAILQ_FIRST(&w->reads.answers)) != NULL) {
        TAILQ_REMOVE(&w->reads.answers, r, link);
        free(r);
    }
}

void wal_reads_free(struct wal *w)
{
    struct wal_value_read *r;
    while ((r = TAILQ_FIRST(&w->reads.under_way)) != NULL) {
        TAILQ_REMOVE(&w->reads.under_way, r, link);
        free(r);
    }
}
