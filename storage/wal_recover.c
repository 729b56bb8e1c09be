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
 * Appending goes on at the end found. What may lie behind it, of this or
 * earlier lives, has a lower start counter than what will be written now, so
 * it never follows a record of ours. Before wal_open() returns, a mark is
 * written there and synced: all that was replayed is on disk, and from now on
 * the log says so.
 */
#include "storage/wal_private.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define READ_PIECE MIB(1)

/* A file as found. */
struct found {
    uint32_t slot;
    uint64_t file_size;
    bool has_header, cut_short;
    struct wal_header h;
};

struct recovery {
    struct wal *w;
    enum status (*replay)(void *ctx, const struct wal_record *r);
    struct wal_report *report;
    struct err *err;
    struct found *found;
    size_t found_count;
    /* The chain; has_header false: a hole, with sequence, base and size
     * filled in. */
    struct found *chain;
    size_t chain_count;
    /* Contents of chain[loaded]. */
    struct buf bytes;
    size_t loaded;
    uint64_t counter; /* of the last valid record */
    bool have_mark;
    uint64_t mark; /* M */
};

/* ---- finding files ---- */

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

static enum status open_medium(struct recovery *v, uint32_t slot,
                               struct env_file **out)
{
    char name[WAL_FILE_MAX];
    struct env *e = v->w->env;
    wal_file_name(v->w, slot, name);
    enum status s = e->ops->file_open(e, name, ENV_READONLY | ENV_MEDIUM, out);
    if (s == ST_UNSUPPORTED || s == ST_INVALID) {
        v->report->buffered = true;
        s = e->ops->file_open(e, name, ENV_READONLY, out);
    }
    return s;
}

/* Reads LEN bytes at OFFSET; what cannot be read, or is not there, is zeros:
 * the checksums will say. */
static void read_zeroed(struct recovery *v, struct env_file *f, uint64_t offset,
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
        read_zeroed(v, f, offset + at, out + at, n);
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

/* Reads F's header, or its copy. */
static enum status identify(struct recovery *v, struct found *f)
{
    char name[WAL_FILE_MAX];
    uint8_t block[WAL_BLOCK];
    struct env_file *file;
    const struct env_ops *ops = v->w->env->ops;
    wal_file_name(v->w, f->slot, name);
    enum status s = open_medium(v, f->slot, &file);
    if (s != ST_OK) {
        return err_set(v->err, s, "%s: %s", name, status_text(s));
    }
    s = ops->file_size(file, &f->file_size);
    uint64_t last = f->file_size < WAL_BLOCK ? 0 : f->file_size - WAL_BLOCK;
    const uint64_t places[] = {0, last};
    for (size_t i = 0; i < 2 && s == ST_OK && !f->has_header; i++) {
        read_zeroed(v, file, places[i], block, sizeof(block));
        enum status h =
            wal_header_decode(slice_make(block, sizeof(block)), &f->h);
        if (h == ST_VERSION) {
            s = err_set(v->err, h, "%s: made by a newer version", name);
        } else if (h == ST_OK) {
            f->has_header = true;
            s = check_identity(v, name, &f->h);
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

static enum status find_files(struct recovery *v)
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
static void chain_add_hole(struct recovery *v, uint64_t sequence, uint64_t base,
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
        chain_add_hole(v, sequence, base, f->h.base - base);
    }
}

static void spare_add(struct recovery *v, const struct found *f)
{
    struct wal_segment s = {.slot = f->slot,
                            .sequence = f->has_header ? f->h.sequence : 0,
                            .size = f->cut_short ? 0 : f->file_size};
    wal_segments_add(&v->w->spare, &s);
}

static void make_chain(struct recovery *v)
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
        if (!f->has_header || again || f->h.base + f->h.size <= begin) {
            unknown_short = unknown_short || (!f->has_header && f->cut_short);
            spare_add(v, f);
            continue;
        }
        size_t before = v->chain_count;
        chain_fill(v, f, begin);
        hole = hole || v->chain_count > before;
        chain_add(v, f);
    }
    /* A file that was cut to nothing may have been the newest: nothing else
     * cuts our files. It is if no hole waits for it. */
    if (unknown_short && !hole) {
        uint64_t base = newest == NULL ? 0 : newest->h.base + newest->h.size;
        uint64_t sequence = newest == NULL ? 1 : newest->h.sequence + 1;
        chain_add_hole(v, sequence, base, v->w->o.segment_size);
    }
}

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
    enum status s = open_medium(v, f->slot, &file);
    if (s != ST_OK) {
        return err_set(v->err, s, "log segment %u: %s", f->slot,
                       status_text(s));
    }
    for (size_t at = 0; at < v->bytes.len; at += READ_PIECE) {
        size_t n = v->bytes.len - at;
        read_zeroed(v, file, at, to + at, n < READ_PIECE ? n : READ_PIECE);
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
    if (position >= known) {
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
    if (r->kind == WAL_MARK || (int)r->kind == WAL_SEAL) {
        return ST_OK;
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

static enum status open_all(struct recovery *v, struct wal_segments *list)
{
    struct wal *w = v->w;
    for (size_t i = 0; i < list->count; i++) {
        struct wal_segment *x = &list->at[i];
        char name[WAL_FILE_MAX];
        if (x->slot == 0) {
            continue; /* a hole, or a new tail */
        }
        wal_file_name(w, x->slot, name);
        enum status s = w->env->ops->file_open(w->env, name, 0, &x->file);
        if (s == ST_OK && list == &w->live) {
            s = w->env->ops->file_sync_now(x->file);
        }
        if (s != ST_OK) {
            return err_set(v->err, s, "%s: %s", name, status_text(s));
        }
    }
    return ST_OK;
}

/* Where a log goes on of which nothing is needed: behind all that ever was, as
 * positions are never used twice. */
static void first_tail(const struct recovery *v, struct wal_segment *tail)
{
    uint64_t begin = v->w->begin_durable;
    tail->base = (begin + WAL_BLOCK - 1) / WAL_BLOCK * WAL_BLOCK;
    for (size_t i = 0; i < v->found_count; i++) {
        const struct wal_header *h = &v->found[i].h;
        if (v->found[i].has_header) {
            uint64_t end = h->base + h->size;
            tail->base = end > tail->base ? end : tail->base;
            tail->sequence = h->sequence + 1; /* they ascend */
        }
    }
}

/* What is before AT, where the log ends, is live; what is behind it was never
 * proven synced and is spare. */
static void divide(struct recovery *v, struct place at)
{
    struct wal *w = v->w;
    struct wal_segment tail = {.sequence = 1, .size = w->o.segment_size};
    if (v->chain_count == 0) {
        first_tail(v, &tail);
    }
    while (at.i < v->chain_count && v->chain[at.i].cut_short) {
        at.i++; /* nothing is ever appended there */
        at.offset = WAL_BLOCK;
    }
    for (size_t i = 0; i < v->chain_count; i++) {
        const struct found *f = &v->chain[i];
        struct wal_segment s = {.slot = f->has_header ? f->slot : 0,
                                .sequence = f->h.sequence,
                                .base = f->h.base,
                                .size = f->h.size,
                                .unfit = f->cut_short};
        if (i <= at.i) {
            wal_segments_add(&w->live, &s);
            tail.sequence = s.sequence + 1;
            tail.base = s.base + s.size;
        } else if (f->has_header) {
            spare_add(v, f);
        }
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
        chain_add_hole(v, tail.sequence, base, size);
        at->i = v->chain_count;
    }
}

static enum status recover(struct recovery *v)
{
    struct wal *w = v->w;
    struct place at;
    enum status s = find_files(v);
    if (s == ST_OK) {
        s = wal_begin_open(w, v->err);
    }
    if (s != ST_OK) {
        return s;
    }
    make_chain(v);
    s = read_chain(v, &at);
    if (s != ST_OK) {
        return s;
    }
    check_note(v, &at);
    divide(v, at);
    v->report->begin = w->live.at[0].base;
    v->report->end = w->end;
    w->synced = w->marked = w->data_end = w->end;
    s = open_all(v, &w->spare);
    if (s == ST_OK) {
        s = open_all(v, &w->live);
    }
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
