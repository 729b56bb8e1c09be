/*
 * Which segments hold values that somebody may still read (VALUE_LOG places),
 * and when one may be written again.
 *
 * Each segment, live or kept, has a row for each tablet of which it ever held
 * a live value: the bytes that are live now, and when that became 0. When is a
 * clock that counts the changes of all rows: a snapshot of a tablet is taken
 * at some time of it, and knows of all that changed before.
 *
 * A segment that no tablet needs any more for replay or for sending becomes
 * spare at once if it never held a value; else it is kept. A row goes when
 *   (a) the tablet's newest durable checkpoint is of a snapshot that was taken
 *       after the row's bytes became 0, so that none which recovery may begin
 *       with names a place there (wal_value_checkpointed()), or the tablet is
 *       gone (wal_value_forget()), or
 *       no checkpoint was begun since the row's first value came, and none is
 *       left (wal_value_unnamed()): as of a snapshot that was not fetched to
 *       its end.
 * A kept segment without rows becomes spare when
 *   (b) no snapshot in memory is older than the last change of its rows
 *       (wal_kept_release()), and
 *   (c) no read of it is under way, and it is durably not needed by the log
 *       (wal_segment_usable()).
 * So moving a value to the head needs no record that says so: until a
 * checkpoint names the new place, the old one is there.
 *
 * Recovery (wal_recover.c) keeps each segment before the chain that may be one
 * of these, has the caller tell of all places that its checkpoints name, and
 * of what replaying changes, and gives back what nobody named. A header of a
 * segment's former life names none: rule (a) saw to that before it became
 * spare. Damage in a kept segment is no damage of the log: nobody replays it.
 */
#include "storage/wal_private.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* ---- segments and rows ---- */

/* The segment of LIST that POSITION lies in; bases ascend. */
static struct wal_segment *find_in(struct wal_segments *list, uint64_t position)
{
    size_t lo = 0, hi = list->count;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (list->at[mid].base <= position) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    if (lo == 0 || position - list->at[lo - 1].base >= list->at[lo - 1].size) {
        return NULL;
    }
    return &list->at[lo - 1];
}

struct wal_segment *wal_segment_at(struct wal *w, uint64_t position)
{
    struct wal_segment *s = find_in(&w->live, position);
    return s != NULL ? s : find_in(&w->kept, position);
}

static size_t row_place(const struct wal_segment *s, uint32_t tablet)
{
    size_t lo = 0, hi = s->row_count;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (s->rows[mid].tablet < tablet) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

static struct wal_row *row_find(const struct wal_segment *s, uint32_t tablet)
{
    size_t at = row_place(s, tablet);
    bool there = at < s->row_count && s->rows[at].tablet == tablet;
    return there ? &s->rows[at] : NULL;
}

static struct wal_row *row_make(struct wal_segment *s, uint32_t tablet,
                                uint64_t now)
{
    size_t at = row_place(s, tablet);
    if (at == s->row_count || s->rows[at].tablet != tablet) {
        if (s->row_count == s->row_cap) {
            s->row_cap = s->row_cap == 0 ? 4 : 2 * s->row_cap;
            s->rows = xrealloc(s->rows, s->row_cap * sizeof(*s->rows));
        }
        memmove(&s->rows[at + 1], &s->rows[at],
                (s->row_count - at) * sizeof(*s->rows));
        s->rows[at] = (struct wal_row){.tablet = tablet, .born = now};
        s->row_count++;
    }
    return &s->rows[at];
}

static void row_erase(struct wal_segment *s, size_t at)
{
    s->row_count--;
    memmove(&s->rows[at], &s->rows[at + 1],
            (s->row_count - at) * sizeof(*s->rows));
}

/* ---- accounts ---- */

bool wal_value_live(struct wal *w, uint32_t tablet, uint64_t position,
                    int64_t delta)
{
    struct wal_segment *s = wal_segment_at(w, position);
    if (s == NULL) {
        w->stats.nowhere++;
        return false;
    }
    s->changed = ++w->value_clock;
    struct wal_row *r = row_make(s, tablet, s->changed);
    uint64_t bytes = (uint64_t)(delta < 0 ? -delta : delta);
    if (delta >= 0) {
        r->live += bytes;
        s->live += bytes;
        w->stats.live += bytes;
        return true;
    }
    if (r->live < bytes) {
        w->stats.nowhere++; /* its birth fell into a lost end of the log */
        bytes = r->live;
    }
    r->live -= bytes;
    s->live -= bytes;
    w->stats.live -= bytes;
    r->dead_at = w->value_clock;
    return true;
}

bool wal_value_has(struct wal *w, uint64_t position)
{
    return wal_segment_at(w, position) != NULL;
}

uint64_t wal_value_clock(const struct wal *w)
{
    return w->value_clock;
}

/* Calls FN with each segment that has a row of TABLET. */
static void each_row(struct wal *w, uint32_t tablet, uint64_t clock,
                     void (*fn)(struct wal *w, struct wal_segment *s, size_t at,
                                uint64_t clock))
{
    struct wal_segments *lists[] = {&w->live, &w->kept};
    for (size_t i = 0; i < 2; i++) {
        for (size_t k = 0; k < lists[i]->count; k++) {
            struct wal_segment *s = &lists[i]->at[k];
            const struct wal_row *r = row_find(s, tablet);
            if (r != NULL) {
                fn(w, s, (size_t)(r - s->rows), clock);
            }
        }
    }
}

static void on_checkpointed(struct wal *w, struct wal_segment *s, size_t at,
                            uint64_t clock)
{
    (void)w;
    if (s->rows[at].live == 0 && s->rows[at].dead_at <= clock) {
        row_erase(s, at);
    }
}

void wal_value_checkpointed(struct wal *w, uint32_t tablet, uint64_t clock)
{
    assert(clock <= w->value_clock);
    each_row(w, tablet, clock, on_checkpointed);
}

static void on_unnamed(struct wal *w, struct wal_segment *s, size_t at,
                       uint64_t clock)
{
    (void)w;
    if (s->rows[at].live == 0 && s->rows[at].born > clock) {
        row_erase(s, at);
    }
}

void wal_value_unnamed(struct wal *w, uint32_t tablet, uint64_t clock)
{
    each_row(w, tablet, clock, on_unnamed);
}

static void on_dropped(struct wal *w, struct wal_segment *s, size_t at,
                       uint64_t clock)
{
    struct wal_row *r = &s->rows[at];
    s->live -= r->live;
    w->stats.live -= r->live;
    s->changed = clock;
    r->dead_at = r->live > 0 ? clock : r->dead_at;
    r->live = 0;
}

void wal_value_drop(struct wal *w, uint32_t tablet)
{
    each_row(w, tablet, ++w->value_clock, on_dropped);
}

static void on_forgotten(struct wal *w, struct wal_segment *s, size_t at,
                         uint64_t clock)
{
    on_dropped(w, s, at, clock);
    row_erase(s, at);
}

void wal_value_forget(struct wal *w, uint32_t tablet)
{
    each_row(w, tablet, ++w->value_clock, on_forgotten);
}

/* ---- kept segments ---- */

static void to_spare(struct wal *w, struct wal_segment s)
{
    assert(s.row_count == 0 && s.live == 0); /* rule (a) */
    free(s.rows);
    s.rows = NULL;
    s.row_cap = 0;
    s.changed = 0;
    s.size = s.unfit ? 0 : s.size; /* 0: tending removes it */
    if (w->running) {
        wal_segment_wake(w, &s);
    }
    if (s.file != NULL || s.slot != 0) {
        wal_segments_add(&w->spare, &s);
    }
}

void wal_segment_leave(struct wal *w, struct wal_segment s)
{
    if (s.changed != 0) {
        wal_segments_add(&w->kept, &s);
    } else {
        to_spare(w, s);
    }
}

void wal_segment_clear(struct wal *w, struct wal_segment *s)
{
    w->stats.live -= s->live;
    s->row_count = 0;
    s->live = 0;
    s->changed = 0;
    free(s->rows);
    s->rows = NULL;
    s->row_cap = 0;
}

void wal_kept_settle(struct wal *w)
{
    for (size_t i = w->kept.count; i-- > 0;) {
        if (w->kept.at[i].changed == 0) {
            struct wal_segment s = w->kept.at[i];
            wal_segments_erase(&w->kept, i);
            to_spare(w, s);
        }
    }
}

void wal_kept_release(struct wal *w, uint64_t oldest)
{
    bool any = false;
    for (size_t i = w->kept.count; i-- > 0;) {
        struct wal_segment s = w->kept.at[i];
        if (s.row_count == 0 && s.changed <= oldest) {
            wal_segments_erase(&w->kept, i);
            w->stats.collected += s.size;
            to_spare(w, s);
            any = true;
        }
    }
    if (any && w->running) {
        wal_begin_tend(w);
        if (wal_segment_bind(w, wal_tail(w))) {
            wal_pump(w);
        }
        wal_segments_tend(w);
    }
}

size_t wal_kept_count(const struct wal *w)
{
    return w->kept.count;
}

void wal_kept_get(const struct wal *w, size_t i, struct wal_kept *out)
{
    assert(i < w->kept.count);
    const struct wal_segment *s = &w->kept.at[i];
    *out = (struct wal_kept){.begin = s->base,
                             .end = s->base + s->size,
                             .live = s->live,
                             .tablets = s->row_count};
}

void wal_kept_get_tablet(const struct wal *w, size_t i, size_t k,
                         struct wal_kept_tablet *out)
{
    assert(i < w->kept.count && k < w->kept.at[i].row_count);
    const struct wal_row *r = &w->kept.at[i].rows[k];
    *out = (struct wal_kept_tablet){.tablet = r->tablet, .live = r->live};
}
