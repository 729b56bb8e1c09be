/*
 * From where on each tablet needs the log: from its first record until it is
 * released. What no tablet needs is given back by whole segments.
 */
#include "storage/wal_private.h"

#include <string.h>

static size_t need_place(const struct wal *w, uint32_t tablet)
{
    size_t lo = 0, hi = w->needs_count;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (w->needs[mid].tablet < tablet) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

void wal_need_from(struct wal *w, uint32_t tablet, uint64_t position)
{
    size_t at = need_place(w, tablet);
    if (at < w->needs_count && w->needs[at].tablet == tablet) {
        return;
    }
    if (w->needs_count == w->needs_cap) {
        w->needs_cap = w->needs_cap == 0 ? 16 : 2 * w->needs_cap;
        w->needs = xrealloc(w->needs, w->needs_cap * sizeof(*w->needs));
    }
    memmove(&w->needs[at + 1], &w->needs[at],
            (w->needs_count - at) * sizeof(*w->needs));
    w->needs[at] = (struct wal_need){tablet, position};
    w->needs_count++;
}

bool wal_needs(const struct wal *w, uint32_t tablet, uint64_t *position)
{
    size_t at = need_place(w, tablet);
    if (at == w->needs_count || w->needs[at].tablet != tablet) {
        return false;
    }
    *position = w->needs[at].position;
    return true;
}

bool wal_oldest_tablet(const struct wal *w, uint32_t *tablet,
                       uint64_t *position)
{
    const struct wal_need *oldest = NULL;
    for (size_t i = 0; i < w->needs_count; i++) {
        if (oldest == NULL || w->needs[i].position < oldest->position) {
            oldest = &w->needs[i];
        }
    }
    if (oldest == NULL) {
        return false;
    }
    *tablet = oldest->tablet;
    *position = oldest->position;
    return true;
}

uint64_t wal_needed(const struct wal *w)
{
    uint32_t tablet;
    uint64_t position;
    if (!wal_oldest_tablet(w, &tablet, &position)) {
        return w->end;
    }
    return position < w->end ? position : w->end;
}

bool wal_is_newest(struct wal *w, uint64_t position)
{
    return position >= wal_tail(w)->base;
}

void wal_release(struct wal *w, uint32_t tablet, uint64_t position)
{
    size_t at = need_place(w, tablet);
    if (at == w->needs_count || w->needs[at].tablet != tablet) {
        return;
    }
    if (position == UINT64_MAX) {
        w->needs_count--;
        memmove(&w->needs[at], &w->needs[at + 1],
                (w->needs_count - at) * sizeof(*w->needs));
    } else if (position > w->needs[at].position) {
        w->needs[at].position = position;
    }
    wal_segments_free_old(w);
    if (w->note.buried > w->begin_durable) {
        wal_begin_tend(w);
    }
    if (wal_segment_bind(w, wal_tail(w))) {
        wal_pump(w);
    }
    wal_segments_tend(w);
}
