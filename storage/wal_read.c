/*
 * Reading a record back, for sending it to a peer (R17): from the groups that
 * are not on disk yet, or from its segment, through the page cache.
 */
#include "storage/wal_private.h"

#include <string.h>

static enum status read_queued(const struct wal *w, uint64_t position,
                               struct wal_record *r, struct wal_stamp *stamp)
{
    for (const struct wal_group *g = w->groups; g != NULL; g = g->next) {
        if (position >= g->start && position - g->start < g->data.len) {
            size_t at = (size_t)(position - g->start);
            struct slice bytes =
                slice_make(g->data.data + at, g->data.len - at);
            return wal_record_decode(bytes, w->o.key, position, stamp, r)
                       ? ST_OK
                       : ST_CORRUPT;
        }
    }
    return ST_CORRUPT;
}

/* Reads the whole record into OUT behind what is there. */
static enum status read_file(struct wal *w, const struct wal_segment *s,
                             uint64_t position, struct buf *out)
{
    const struct env_ops *ops = w->env->ops;
    uint64_t offset = position - s->base, size;
    uint8_t *to = buf_reserve(out, WAL_RECORD_HEAD);
    size_t got = 0;
    if (to == NULL) {
        return ST_TOO_LARGE;
    }
    enum status st = ops->file_read(s->file, offset, to, WAL_RECORD_HEAD, &got);
    if (st != ST_OK) {
        return st;
    }
    if (!wal_record_head(slice_make(to, got), w->o.key, position, &size) ||
        offset + size > s->size) {
        return ST_CORRUPT;
    }
    to = buf_reserve(out, (size_t)size);
    if (to == NULL) {
        return ST_TOO_LARGE;
    }
    st = ops->file_read(s->file, offset, to, (size_t)size, &got);
    if (st == ST_OK) {
        out->len += got;
    }
    return st;
}

enum status wal_read(struct wal *w, uint64_t position, struct wal_record *r,
                     struct buf *out)
{
    struct wal_stamp stamp;
    struct wal_record x;
    size_t before = out->len;
    const struct wal_segment *s = NULL;
    for (size_t i = 0; i < w->live.count; i++) {
        if (position >= w->live.at[i].base) {
            s = &w->live.at[i];
        }
    }
    if (s == NULL) {
        return ST_GONE;
    }
    if (position < w->synced && s->file == NULL) {
        return ST_CORRUPT;
    }
    if (position >= w->synced) {
        enum status st = read_queued(w, position, &x, &stamp);
        if (st != ST_OK) {
            return st;
        }
        buf_put_slice(out, x.payload);
    } else {
        enum status st = read_file(w, s, position, out);
        struct slice all = buf_slice(out);
        if (st == ST_OK &&
            !wal_record_decode(slice_make(all.data + before, all.len - before),
                               w->o.key, position, &stamp, &x)) {
            st = ST_CORRUPT;
        }
        if (st != ST_OK) {
            out->len = before;
            return st;
        }
        memmove(out->data + before, x.payload.data, x.payload.len);
        out->len = before + x.payload.len;
    }
    if (out->full) {
        return ST_TOO_LARGE;
    }
    x.payload = slice_make(out->data + before, x.payload.len);
    *r = x;
    return ST_OK;
}
