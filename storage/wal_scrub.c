/*
 * Each live segment's records one after another, from its first to its seal or
 * to what was synced when this began; read through a descriptor of its own,
 * past the page cache, which knows nothing of a medium that rots.
 *
 * The log goes on meanwhile: a segment may be given back and written anew
 * between two pieces. Sequence numbers are never used twice, so that shows,
 * and what was read of it counts for nothing.
 *
 * Behind a record that does not read another one may begin anywhere: if its
 * head is whole that says where, else the rest of the segment is passed over.
 * Nobody needs it for long: what needs the segment is checkpointed
 * (shard_scrub.c).
 */
#include "storage/wal_scrub.h"

#include <assert.h>
#include <stdlib.h>

#include "storage/wal_private.h"

#define PIECE KIB(128)

struct wal_scrub {
    struct wal *w;
    uint64_t position; /* of the record to be read next */
    uint64_t end;      /* synced when this began */
    size_t least;      /* bytes that the record there needs; 0: not known */
    struct env_file *file;
    uint64_t sequence; /* of the segment that FILE is; 0: none */
    struct buf bytes;
};

struct wal_scrub *wal_scrub_new(struct wal *w)
{
    struct wal_scrub *s = xcalloc(1, sizeof(*s));
    s->w = w;
    s->end = w->synced;
    return s;
}

static void close_file(struct wal_scrub *s)
{
    if (s->file != NULL) {
        s->w->env->ops->file_close(s->file);
        s->file = NULL;
    }
    s->sequence = 0;
}

void wal_scrub_free(struct wal_scrub *s)
{
    if (s == NULL) {
        return;
    }
    close_file(s);
    buf_free(&s->bytes);
    free(s);
}

/* The segment that has the place, or the first one behind it; NULL: none. */
static const struct wal_segment *segment_at(struct wal_scrub *s)
{
    for (size_t i = 0; i < s->w->live.count; i++) {
        const struct wal_segment *x = &s->w->live.at[i];
        if (x->file != NULL && !x->unfit &&
            s->position < x->base + x->size - WAL_BLOCK) {
            return x;
        }
    }
    return NULL;
}

static bool open_file(struct wal_scrub *s, const struct wal_segment *x)
{
    char name[WAL_FILE_MAX];
    if (s->sequence == x->sequence) {
        return true;
    }
    close_file(s);
    wal_file_name(s->w, x->slot, name);
    struct env *e = s->w->env;
    if (e->ops->file_open(e, name, ENV_READONLY | ENV_MEDIUM, &s->file) !=
        ST_OK) {
        s->file = NULL;
        return false;
    }
    s->sequence = x->sequence;
    return true;
}

static void pass_over(struct wal_scrub *s, const struct wal_segment *x)
{
    s->position = x->base + x->size;
    s->least = 0;
}

size_t wal_scrub_ask(struct wal_scrub *s, struct env_io *io)
{
    const struct wal_segment *x;
    while ((x = segment_at(s)) != NULL) {
        uint64_t first = x->base + WAL_BLOCK;
        s->position = s->position > first ? s->position : first;
        uint64_t last = x->base + x->size - WAL_BLOCK;
        last = last < s->end ? last : s->end;
        if (s->position >= last || !open_file(s, x)) {
            if (s->position >= s->end) {
                return 0;
            }
            pass_over(s, x);
            continue;
        }
        size_t want = s->least > PIECE ? s->least : PIECE;
        uint64_t left = last - s->position;
        want = left < want ? (size_t)left : want;
        buf_clear(&s->bytes);
        uint8_t *to = buf_reserve(&s->bytes, want);
        s->bytes.len = want;
        s->w->env->ops->file_fetch(s->file, s->position - x->base, to, want,
                                   io);
        return want;
    }
    return 0;
}

/* Checks what is there of the records in BYTES; false: the one at the place
 * that was reached does not read. */
static bool check_records(struct wal_scrub *s, const struct wal_segment *x)
{
    size_t at = 0;
    s->least = 0;
    while (s->bytes.len - at >= WAL_RECORD_HEAD) {
        struct slice rest = slice_make(s->bytes.data + at, s->bytes.len - at);
        struct wal_stamp stamp;
        struct wal_record r;
        uint64_t size;
        if (!wal_record_head(rest, s->w->o.key, s->position, &size)) {
            return false;
        }
        if (size > rest.len) {
            s->least = (size_t)size;
            bool room = s->position + size <= x->base + x->size - WAL_BLOCK &&
                        s->position + size <= s->end;
            return room;
        }
        if (!wal_record_decode(rest, s->w->o.key, s->position, &stamp, &r)) {
            s->least = (size_t)size;
            return false;
        }
        at += (size_t)size;
        s->position += size;
        if ((int)r.kind == WAL_SEAL) {
            pass_over(s, x);
            return true;
        }
    }
    return true;
}

enum status wal_scrub_take(struct wal_scrub *s, enum status read, uint64_t *at)
{
    const struct wal_segment *x = segment_at(s);
    if (x == NULL || x->sequence != s->sequence) {
        s->least = 0;
        return ST_OK; /* it was given back meanwhile */
    }
    if (read == ST_STOPPING) {
        return ST_OK;
    }
    bool good = read == ST_OK && check_records(s, x);
    *at = s->position;
    if (good) {
        return ST_OK;
    }
    if (read == ST_OK && s->least > 0 && s->least <= s->bytes.len) {
        s->position += s->least; /* its head says where the next one is */
        s->least = 0;
    } else {
        pass_over(s, x);
    }
    return ST_CORRUPT;
}
