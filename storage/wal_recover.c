/*
 * Opening the log (R16).
 *
 * The chain. Each file's header (or its copy) says which segment it holds.
 * The chain is all from the oldest position needed (wal_begin.c, or the newest
 * header) to the segment with the highest sequence. Files before it, and files
 * that never held anything, are spare.
 *
 * Records are read one after another, from the medium, and given to the
 * caller. X is the first place where no valid record stands: its checksums do
 * not fit its position, or its start counter is below its predecessor's. Then,
 * by the greatest mark M that any valid record behind X carries (every 8-byte
 * boundary up to the end of the newest segment is tried; records before X
 * cannot carry one beyond it, as a mark is never beyond its own record) or the
 * note beside the log (wal_begin.c) has:
 *
 *   M beyond X?  next valid record Y     then
 *   no           -                       torn tail (or simply the end): the
 *                                        log ends at X
 *   yes          Y at or before M        damage X..Y, reading goes on at Y
 *   yes          Y beyond M, or none     damage X..M, the log ends at M: what
 *                                        is beyond was never proven synced
 *
 * A file that is too short was cut by nobody of ours, nor is a hole in the
 * chain: both count as damage up to the segment's end, whatever M says.
 *
 * Files before the chain may hold values that places name (wal_kept.c): until
 * the caller has told of all these, none of them is spare. They are not read
 * here, and what has happened to them is no damage of the log.
 *
 * Appending goes on at the end found. What may lie behind it, of this or
 * earlier lives, has a lower start counter than what will be written now, so
 * it never follows a record of ours. Before wal_open() returns, a mark is
 * written there and synced: all that was replayed is on disk, and from now on
 * the log says so.
 */
#include "storage/wal_recover.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "storage/bugs.h"
#include "storage/wal_witness.h"

#define READ_PIECE MIB(1)

/* ---- reading ---- */

static enum status load(struct recovery *v, size_t i)
{
    const struct found *f = &v->chain[i];
    if (v->loaded == i && v->bytes.len > 0) {
        return ST_OK;
    }
    buf_clear(&v->bytes);
    v->loaded = i;
    if (!f->has_header) {
        return ST_OK;
    }
    uint8_t *to = buf_reserve(&v->bytes, (size_t)f->h.size);
    v->bytes.len = (size_t)f->h.size;
    struct env_file *file;
    enum status s = wal_find_open(v, f->slot, &file);
    if (s != ST_OK) {
        return err_set(v->err, s, "log segment %u: %s", f->slot,
                       status_text(s));
    }
    for (size_t at = 0; at < v->bytes.len; at += READ_PIECE) {
        size_t n = v->bytes.len - at;
        wal_find_read(v, file, at, to + at, n < READ_PIECE ? n : READ_PIECE);
    }
    v->w->env->ops->file_close(file);
    return ST_OK;
}

/* The record at OFFSET of the loaded segment. */
static bool record_at(const struct recovery *v, uint64_t offset,
                      struct wal_stamp *stamp, struct wal_record *r)
{
    const struct wal_header *h = &v->chain[v->loaded].h;
    if (offset + WAL_RECORD_HEAD + WAL_BLOCK > v->bytes.len) {
        return false;
    }
    struct slice bytes =
        slice_make(v->bytes.data + offset, v->bytes.len - WAL_BLOCK - offset);
    return wal_record_decode(bytes, v->w->o.key, h->base + offset, stamp, r);
}

/* A place in the chain. */
struct place {
    size_t i;
    uint64_t offset;
};

static uint64_t place_position(const struct recovery *v, struct place p)
{
    return v->chain[p.i].h.base + p.offset;
}

/* Walks every 8-byte boundary from FROM to the end of the chain. *NEXT: first
 * valid record that may follow (i == chain_count if none). With ALL it does
 * not stop there, and v->mark becomes the greatest mark. */
static enum status look_behind(struct recovery *v, struct place from, bool all,
                               struct place *next)
{
    struct wal_stamp stamp;
    struct wal_record r;
    next->i = v->chain_count;
    next->offset = 0;
    for (struct place p = from; p.i < v->chain_count;
         p.i++, p.offset = WAL_BLOCK) {
        enum status s = load(v, p.i);
        if (s != ST_OK) {
            return s;
        }
        for (; p.offset < v->bytes.len; p.offset += 8) {
            if (!record_at(v, p.offset, &stamp, &r)) {
                continue;
            }
            if (stamp.mark > v->mark) {
                v->mark = stamp.mark;
            }
            if (next->i == v->chain_count && stamp.counter >= v->counter) {
                *next = p;
            }
            if (!all && next->i < v->chain_count) {
                return ST_OK;
            }
        }
    }
    return ST_OK;
}

static void report_damage(struct recovery *v, uint64_t from, uint64_t to)
{
    struct wal_report *p = v->report;
    const struct wal_witness *witness = v->w->o.witness;
    if (to <= v->w->begin_durable) {
        /* Behind the note's begin: who needed it has a checkpoint since. A
         * value there is found by who reads it, and by the scrub. */
        log_warn(v->w->env->log, "wal", "damage-not-needed",
                 "from=%llu to=%llu", (unsigned long long)from,
                 (unsigned long long)to);
        return;
    }
    if (witness != NULL) {
        witness->damage(witness->ctx, from, to);
    }
    log_error(v->w->env->log, "wal", "damage", "from=%llu to=%llu",
              (unsigned long long)from, (unsigned long long)to);
    if (p->damage_count == WAL_DAMAGE_MAX) {
        p->damage[WAL_DAMAGE_MAX - 1].to = to;
        return;
    }
    p->damage[p->damage_count].from = from;
    p->damage[p->damage_count++].to = to;
}

/* Turns a position into a place; i == chain_count if it is behind. */
static struct place place_of(const struct recovery *v, uint64_t position)
{
    struct place p = {0, WAL_BLOCK};
    for (; p.i < v->chain_count; p.i++) {
        const struct wal_header *h = &v->chain[p.i].h;
        if (position < h->base + h->size) {
            if (position > h->base + WAL_BLOCK) {
                p.offset = position - h->base;
            }
            break;
        }
    }
    return p;
}

/* Where the next segment's records begin, if X's own file was cut short: all
 * up to there counts as having been on disk. */
static uint64_t known_by_file(const struct recovery *v, struct place x)
{
    const struct found *f = &v->chain[x.i];
    return f->cut_short ? f->h.base + f->h.size + WAL_BLOCK : 0;
}

static uint64_t greatest(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* The log ends at X; was there more, that did not make it? */
static enum status note_end(struct recovery *v, struct place x, bool more)
{
    uint64_t size, position = place_position(v, x);
    enum status s = load(v, x.i);
    if (s == ST_OK && x.offset < v->bytes.len) {
        struct slice rest =
            slice_make(v->bytes.data + x.offset, v->bytes.len - x.offset);
        more = more || wal_record_head(rest, v->w->o.key, position, &size);
    }
    v->report->torn = more;
    v->report->torn_at = position;
    return s;
}

/* At *AT is no valid record: goes by the table above. *AT becomes where to
 * read on, or where the log ends (*END). */
static enum status judge(struct recovery *v, struct place *at, bool *end)
{
    struct place next, behind = {at->i, at->offset + 8};
    uint64_t position = place_position(v, *at);
    enum status s = look_behind(v, behind, !v->have_mark, &next);
    if (s != ST_OK) {
        return s;
    }
    v->have_mark = true;
    uint64_t known = greatest(v->mark, v->w->note.known);
    known = greatest(known, known_by_file(v, *at));
    if (position >= known || HAS_BUG(&v->w->o, cut_at_damage)) {
        *end = true;
        return note_end(v, *at, next.i < v->chain_count);
    }
    bool more = next.i < v->chain_count && place_position(v, next) <= known;
    report_damage(v, position, more ? place_position(v, next) : known);
    *at = more ? next : place_of(v, known);
    *end = !more;
    return ST_OK;
}

static enum status take_record(struct recovery *v, const struct wal_record *r,
                               const struct wal_stamp *stamp)
{
    v->counter = stamp->counter;
    v->report->records++;
    const struct wal_witness *witness = v->w->o.witness;
    if (witness != NULL) {
        witness->record(witness->ctx, r, stamp->counter, stamp->mark);
    }
    if (wal_kind_is_own((int)r->kind) || r->kind == WAL_VALUE) {
        return ST_OK; /* R16: only places name a value */
    }
    wal_need_from(v->w, r->tablet, r->position);
    return v->replay == NULL ? ST_OK : v->replay(v->w->o.ctx, r);
}

/* Reads the chain; *AT is where the log ends: in chain[at.i], or, if that is
 * chain_count, in a segment behind it. */
static enum status read_chain(struct recovery *v, struct place *at)
{
    bool end = v->chain_count == 0;
    at->i = 0;
    at->offset = WAL_BLOCK;
    while (!end && at->i < v->chain_count) {
        struct wal_stamp stamp;
        struct wal_record r;
        enum status s = load(v, at->i);
        if (s != ST_OK) {
            return s;
        }
        if (!record_at(v, at->offset, &stamp, &r) ||
            stamp.counter < v->counter) {
            s = judge(v, at, &end);
        } else {
            s = take_record(v, &r, &stamp);
            at->offset += r.end - r.position;
            if ((int)r.kind == WAL_SEAL) {
                at->i++;
                at->offset = WAL_BLOCK;
            }
        }
        if (s != ST_OK) {
            return s;
        }
    }
    return ST_OK;
}

/* ---- ready to append ---- */

static enum status open_one(struct recovery *v, struct wal_segment *x,
                            unsigned flags, bool sync)
{
    char name[WAL_FILE_MAX];
    struct wal *w = v->w;
    if (x->slot == 0) {
        return ST_OK; /* a hole, or a new tail */
    }
    wal_file_name(w, x->slot, name);
    enum status s = w->env->ops->file_open(w->env, name, flags, &x->file);
    x->seldom = flags == ENV_SELDOM;
    if (s == ST_OK && sync) {
        s = w->env->ops->file_sync_now(x->file);
    }
    return s == ST_OK ? s : err_set(v->err, s, "%s: %s", name, status_text(s));
}

/* Of the spare ones as many as there may be: tending removes the rest. */
static enum status open_all(struct recovery *v)
{
    struct wal *w = v->w;
    enum status s = ST_OK;
    uint32_t spares = 0;
    for (size_t i = 0; i < w->spare.count && s == ST_OK; i++) {
        if (w->spare.at[i].size == w->o.segment_size &&
            spares++ < WAL_SPARE_MAX) {
            s = open_one(v, &w->spare.at[i], 0, false);
        }
    }
    for (size_t i = 0; i < w->kept.count && s == ST_OK; i++) {
        s = open_one(v, &w->kept.at[i], ENV_SELDOM, false);
    }
    for (size_t i = 0; i < w->live.count && s == ST_OK; i++) {
        s = open_one(v, &w->live.at[i], 0, true);
        if (s == ST_OK && i + 1 < w->live.count && w->live.at[i].slot != 0) {
            wal_segment_rest(w, &w->live.at[i]);
        }
    }
    return s;
}

/* Where a log goes on of which nothing is needed: behind all that ever was, as
 * positions are never used twice. What is needed next may be the first record
 * of a segment that never came to the disk: then this is that segment, with
 * the same base, or its place would look like a hole later on. */
static void first_tail(const struct recovery *v, struct wal_segment *tail)
{
    uint64_t begin = v->w->begin_durable;
    tail->base = begin == 0 ? 0 : (begin - 1) / WAL_BLOCK * WAL_BLOCK;
    for (size_t i = 0; i < v->found_count; i++) {
        const struct wal_header *h = &v->found[i].h;
        if (v->found[i].has_header) {
            uint64_t end = h->base + h->size;
            tail->base = end > tail->base ? end : tail->base;
            tail->sequence = h->sequence + 1; /* they ascend */
        }
    }
}

/* Before it is read all of the chain counts as live. */
static void add_live(struct recovery *v, size_t from)
{
    for (size_t i = from; i < v->chain_count; i++) {
        const struct found *f = &v->chain[i];
        struct wal_segment s = {.slot = f->has_header ? f->slot : 0,
                                .sequence = f->h.sequence,
                                .base = f->h.base,
                                .size = f->h.size,
                                .unfit = f->cut_short};
        wal_segments_add(&v->w->live, &s);
    }
}

/* What is before AT, where the log ends, is live; what is behind it was never
 * proven synced and is spare. */
static void divide(struct recovery *v, struct place at)
{
    struct wal *w = v->w;
    struct wal_segment tail = {.sequence = 1, .size = w->o.segment_size};
    add_live(v, w->live.count); /* what was found since */
    while (at.i < v->chain_count && v->chain[at.i].cut_short) {
        at.i++; /* nothing is ever appended there */
        at.offset = WAL_BLOCK;
    }
    while (w->live.count > at.i + 1) {
        wal_segment_clear(w, wal_tail(w));
        wal_segments_erase(&w->live, w->live.count - 1);
        if (v->chain[w->live.count].has_header) {
            wal_find_spare(v, &v->chain[w->live.count]);
        }
    }
    if (v->chain_count == 0) {
        first_tail(v, &tail);
    } else {
        tail.sequence = wal_tail(w)->sequence + 1;
        tail.base = wal_tail(w)->base + wal_tail(w)->size;
    }
    if (at.i == v->chain_count) {
        wal_segments_add(&w->live, &tail);
    }
    w->end = wal_tail(w)->base + at.offset;
}

/* The chain was read to its end, AT: does the note know of more? Then that
 * segment is lost as a whole. */
static void check_note(struct recovery *v, struct place *at)
{
    uint64_t known = v->w->note.known, base;
    if (at->i < v->chain_count) {
        return;
    }
    struct wal_segment tail = {.sequence = 1};
    if (v->chain_count == 0) {
        first_tail(v, &tail);
        base = tail.base;
    } else {
        const struct wal_header *last = &v->chain[v->chain_count - 1].h;
        base = last->base + last->size;
        tail.sequence = last->sequence + 1;
    }
    if (known > base + WAL_BLOCK) {
        uint64_t size = (known - base) / WAL_BLOCK * WAL_BLOCK + WAL_BLOCK;
        report_damage(v, base + WAL_BLOCK, known);
        wal_find_hole(v, tail.sequence, base, size);
        at->i = v->chain_count;
    }
}

static void tell_segment(struct recovery *v, const struct found *f, bool live)
{
    const struct wal_witness *witness = v->w->o.witness;
    struct wal_found x = {.slot = f->slot,
                          .has_header = f->has_header,
                          .cut_short = f->cut_short,
                          .live = live,
                          .file_size = f->file_size,
                          .sequence = f->h.sequence,
                          .base = f->h.base,
                          .size = f->h.size,
                          .begin = f->h.begin,
                          .counter = f->h.counter};
    witness->segment(witness->ctx, &x);
}

/* The chain in its order, then the rest. */
static void tell_segments(struct recovery *v)
{
    const struct wal_witness *witness = v->w->o.witness;
    if (witness == NULL) {
        return;
    }
    /* Opening has counted it up. */
    bool noted = v->w->note.generation > 1;
    witness->note(witness->ctx, noted, v->w->begin_durable, v->w->note.known);
    for (size_t i = 0; i < v->chain_count; i++) {
        tell_segment(v, &v->chain[i], true);
    }
    for (size_t i = 0; i < v->found_count; i++) {
        bool live = false;
        for (size_t k = 0; k < v->chain_count; k++) {
            live = live || v->chain[k].slot == v->found[i].slot;
        }
        if (!live) {
            tell_segment(v, &v->found[i], false);
        }
    }
}

static enum status recover(struct recovery *v)
{
    struct wal *w = v->w;
    struct place at;
    enum status s = wal_find_files(v);
    if (s == ST_OK) {
        s = wal_begin_open(w, v->err);
    }
    if (s != ST_OK) {
        return s;
    }
    wal_find_chain(v);
    tell_segments(v);
    add_live(v, 0);
    if (w->o.on_found != NULL) {
        w->o.on_found(w->o.ctx, w);
    }
    s = read_chain(v, &at);
    if (s != ST_OK) {
        return s;
    }
    check_note(v, &at);
    divide(v, at);
    wal_kept_settle(w);
    v->report->begin = w->live.at[0].base;
    v->report->end = w->end;
    w->synced = w->marked = w->data_end = w->end;
    s = open_all(v);
    if (s == ST_OK) {
        s = wal_mark_now(w, v->err);
    }
    return s == ST_OK ? wal_begin_now(w, v->err) : s;
}

enum status
wal_open(struct env *env, const struct wal_options *options,
         enum status (*replay)(void *ctx, const struct wal_record *r),
         struct wal_report *report, struct wal **out, struct err *err)
{
    struct wal *w = xcalloc(1, sizeof(*w));
    struct recovery v = {
        .w = w, .replay = replay, .report = report, .err = err};
    memset(report, 0, sizeof(*report));
    w->env = env;
    w->o = *options;
    if (w->o.segment_size == 0) {
        w->o.segment_size = WAL_SEGMENT_DEFAULT;
    }
    assert(w->o.segment_size % WAL_BLOCK == 0 &&
           w->o.segment_size >= 4 * WAL_BLOCK);
    int n = snprintf(w->folder, sizeof(w->folder), "%s", options->folder);
    assert(n >= 0 && (size_t)n < sizeof(w->folder));
    w->o.folder = w->folder;
    w->next_slot = 1;
    wal_reads_init(w);
    enum status s = recover(&v);
    free(v.found);
    free(v.chain);
    buf_free(&v.bytes);
    if (s != ST_OK) {
        wal_close(w);
        return s;
    }
    wal_begin_running(w);
    *out = w;
    return ST_OK;
}
