/*
 * The records of each segment that is kept or live, one after another, from its
 * first to its seal or to what was synced when this began; read through a
 * descriptor of its own, past the page cache, which knows nothing of a medium
 * that rots.
 *
 * The log goes on meanwhile: a segment may be given back and written anew
 * between two pieces. Sequence numbers are never used twice, so that shows,
 * and what was read of it counts for nothing.
 *
 * Where no record reads, the next one is looked for at every 8-byte boundary,
 * as recovery does; what lies between is damaged. What the log has behind its
 * seal, or between its end and that of a former life, is nobody's.
 *
 * A piece that the medium does not give is read again block by block: one bad
 * sector must not condemn who has a value elsewhere in the segment. A read
 * that fails for want of memory says nothing of the medium.
 */
#include "storage/wal_scrub.h"

#include <assert.h>
#include <stdlib.h>

#include "storage/wal_private.h"

#define PIECE KIB(128)

struct wal_scrub {
    struct wal *w;
    struct env *env;   /* outlives W */
    uint64_t position; /* of the record to be read next */
    uint64_t end;      /* synced when this began */
    size_t least;      /* bytes that the record there needs; 0: not known */
    uint64_t careful;  /* up to here by single blocks: some do not read */
    uint64_t lost;     /* damaged from here to POSITION at least; 0: no */
    struct env_file *file;
    uint64_t sequence; /* of the segment that FILE is; 0: none */
    struct buf bytes;
};

struct wal_scrub *wal_scrub_new(struct wal *w)
{
    struct wal_scrub *s = xcalloc(1, sizeof(*s));
    s->w = w;
    s->env = w->env;
    s->end = w->synced;
    return s;
}

static void close_file(struct wal_scrub *s)
{
    if (s->file != NULL) {
        s->env->ops->file_close(s->file);
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

static const struct wal_segment *first_in(const struct wal_segments *list,
                                          uint64_t position)
{
    for (size_t i = 0; i < list->count; i++) {
        const struct wal_segment *x = &list->at[i];
        if (x->file != NULL && !x->unfit &&
            position < x->base + x->size - WAL_BLOCK) {
            return x;
        }
    }
    return NULL;
}

/* The segment that has the place, or the first one behind it; NULL: none. */
static const struct wal_segment *segment_at(const struct wal_scrub *s)
{
    const struct wal_segment *kept = first_in(&s->w->kept, s->position);
    return kept != NULL ? kept : first_in(&s->w->live, s->position);
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
        if (s->position + WAL_RECORD_HEAD > last || !open_file(s, x)) {
            pass_over(s, x);
            continue;
        }
        size_t want = s->position < s->careful ? WAL_BLOCK : PIECE;
        want = s->least > want ? s->least : want;
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

uint64_t wal_scrub_position(const struct wal_scrub *s)
{
    return s->position;
}

/* The record at AT of the bytes, which is at the place. *SIZE: of it, or 0 if
 * more bytes are needed to say. */
static bool check_record(struct wal_scrub *s, const struct wal_segment *x,
                         size_t at, size_t *size, bool *seal)
{
    struct slice rest = slice_make(s->bytes.data + at, s->bytes.len - at);
    struct wal_stamp stamp;
    struct wal_record r;
    uint64_t all;
    *size = 0;
    if (!wal_record_head(rest, s->w->o.key, s->position, &all) ||
        s->position + all > x->base + x->size - WAL_BLOCK ||
        s->position + all > s->end) {
        return false;
    }
    if (all > rest.len) {
        s->least = (size_t)all;
        return true;
    }
    *size = (size_t)all;
    *seal = wal_record_decode(rest, s->w->o.key, s->position, &stamp, &r) &&
            (int)r.kind == WAL_SEAL;
    return *seal ||
           wal_record_decode(rest, s->w->o.key, s->position, &stamp, &r);
}

/* Goes over the records in BYTES. True: from *FROM up to *TO is damaged. */
static bool check_records(struct wal_scrub *s, const struct wal_segment *x,
                          uint64_t *from, uint64_t *to)
{
    size_t at = 0, size;
    bool seal = false;
    s->least = 0;
    while (s->bytes.len - at >= WAL_RECORD_HEAD) {
        if (!check_record(s, x, at, &size, &seal)) {
            s->lost = s->lost != 0 ? s->lost : s->position;
            s->position += 8;
            at += 8;
            continue;
        }
        if (size == 0) {
            return false; /* all of it next time */
        }
        if (s->lost != 0) {
            *from = s->lost;
            *to = s->position;
            s->lost = 0;
            return true;
        }
        at += size;
        s->position += size;
        if (seal) {
            pass_over(s, x);
            return false;
        }
    }
    return false;
}

/* True, and the range, if the segment ended in damage. */
static bool end_of_segment(struct wal_scrub *s, const struct wal_segment *x,
                           uint64_t *from, uint64_t *to)
{
    uint64_t last = x->base + x->size - WAL_BLOCK;
    last = last < s->end ? last : s->end;
    if (s->lost == 0 || s->position + WAL_RECORD_HEAD <= last) {
        return false;
    }
    *from = s->lost;
    *to = last;
    s->lost = 0;
    s->position = last;
    return true;
}

/* What was asked for does not read. False: it is asked for in smaller pieces.
 */
static bool narrow(struct wal_scrub *s)
{
    uint64_t end = s->position + s->bytes.len;
    bool record = s->least > WAL_BLOCK; /* its head reads, not all of it */
    bool block = s->bytes.len <= WAL_BLOCK;
    s->careful = end > s->careful ? end : s->careful;
    s->least = 0;
    if (record || block) {
        s->lost = s->lost != 0 ? s->lost : s->position;
        s->position += record ? 8 : (s->bytes.len + 7) / 8 * 8;
    }
    return record || block;
}

enum status wal_scrub_take(struct wal_scrub *s, enum status read,
                           uint64_t *from, uint64_t *to)
{
    const struct wal_segment *x = segment_at(s);
    if (x == NULL || x->sequence != s->sequence || read == ST_STOPPING) {
        s->least = 0; /* it was given back meanwhile */
        s->lost = 0;
        return ST_OK;
    }
    if (read == ST_IO) { /* a bad sector */
        return narrow(s) && end_of_segment(s, x, from, to) ? ST_CORRUPT : ST_OK;
    }
    if (read == ST_NO_MEMORY) {
        pass_over(s, x);
        s->lost = 0;
        return ST_OK;
    }
    if (read != ST_OK) { /* cut short: all from here on */
        *from = s->lost != 0 ? s->lost : s->position;
        *to = x->base + x->size;
        s->lost = 0;
        pass_over(s, x);
        return ST_CORRUPT;
    }
    bool damaged =
        check_records(s, x, from, to) || end_of_segment(s, x, from, to);
    return damaged ? ST_CORRUPT : ST_OK;
}
