/*
 * Lines for what a data directory holds; see inspect.h. A position is shown
 * with the file and the offset where it stands, so that what is said can be
 * looked up with any tool.
 */
#include "storage/inspect.h"

#include "storage/key.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define SHOWN 8 /* names in a list, before it is cut */

/* ---- gathering ---- */

void inspect_add_segment(struct inspect *p, const struct wal_found *f)
{
    p->segments =
        xrealloc(p->segments, (p->segment_count + 1) * sizeof(*p->segments));
    p->segments[p->segment_count++] = (struct inspect_segment){.f = *f};
}

static struct inspect_segment *segment_of(const struct inspect *p,
                                          uint64_t position)
{
    for (size_t i = 0; i < p->segment_count; i++) {
        const struct wal_found *f = &p->segments[i].f;
        bool used = f->live || p->segments[i].kept;
        if (used && position >= f->base && position - f->base < f->size) {
            return &p->segments[i];
        }
    }
    return NULL;
}

static void add_to_segment(struct inspect *p, const struct wal_record *r)
{
    struct inspect_segment *s = segment_of(p, r->position);
    int kind = (int)r->kind;
    if (s == NULL || kind <= 0 || kind >= WAL_KINDS) {
        return;
    }
    if (s->bytes == 0) {
        s->first = r->position;
    }
    s->last = r->end;
    s->bytes += r->end - r->position;
    s->records[kind]++;
}

void inspect_add_record(struct inspect *p, const struct wal_record *r)
{
    add_to_segment(p, r);
    if (wal_kind_is_own((int)r->kind)) {
        return; /* the log's own */
    }
    if (r->tablet >= LIMIT_TABLETS) {
        p->strange_records++;
        return;
    }
    struct inspect_tablet *t = &p->tablets[r->tablet];
    t->records++;
    if (r->kind == WAL_ENTRY) {
        t->first = t->entries++ == 0 ? r->name : t->first;
        t->last = r->name;
    } else if (r->kind == WAL_COMMIT && r->seq > t->committed) {
        t->committed = r->seq;
    } else if (r->kind == WAL_EPOCH) {
        struct arena a = {0};
        struct cursor c = cursor_of(r->payload);
        struct tablet_config config;
        wire_decode_tablet_config(&c, &a, &config);
        if (!c.bad && config.epoch > t->epoch) {
            t->epoch = config.epoch;
        }
        arena_free(&a);
    }
}

void inspect_add_damage(struct inspect *p, uint64_t from, uint64_t to)
{
    p->damage = xrealloc(p->damage, (p->damage_count + 1) * sizeof(*p->damage));
    p->damage[p->damage_count++] = (struct inspect_range){from, to};
}

/* Of files that say the same of themselves the one of the latest start has
 * it. */
void inspect_add_kept(struct inspect *p, const struct wal_kept *k)
{
    struct inspect_segment *found = NULL;
    for (size_t i = 0; i < p->segment_count; i++) {
        struct inspect_segment *s = &p->segments[i];
        bool fits = (s->f.has_header || s->f.live) && s->f.base == k->begin &&
                    s->f.base + s->f.size == k->end;
        if (fits && (found == NULL || s->f.counter > found->f.counter)) {
            found = s;
        }
    }
    if (found != NULL) {
        found->kept = true;
        found->live_values = k->live;
        found->value_tablets = k->tablets;
    }
}

void inspect_add_blobs(struct inspect *p, const struct blobs_file *f)
{
    p->blob_files = xrealloc(p->blob_files,
                             (p->blob_file_count + 1) * sizeof(*p->blob_files));
    p->blob_files[p->blob_file_count++] = *f;
}

void inspect_free(struct inspect *p)
{
    free(p->blob_files);
    free(p->segments);
    free(p->damage);
    free(p->checkpoints);
    free(p->tablets);
}

/* ---- pieces ---- */

static const char *yes_no(bool b)
{
    return b ? "yes" : "no";
}

static void put_name(struct buf *out, const char *key, struct name n)
{
    buf_printf(out, " %s=%" PRIu64 ".%" PRIu64, key, n.epoch, n.seq);
}

static void put_file(const struct wal_found *f, struct buf *out)
{
    if (f->slot == 0) {
        buf_put_text(out, "(missing)");
    } else {
        buf_printf(out, "wal-%06" PRIu32 ".log", f->slot);
    }
}

/* Where POSITION stands. */
static void put_place(const struct inspect *p, uint64_t position,
                      struct buf *out)
{
    const struct inspect_segment *s = segment_of(p, position);
    if (s == NULL) {
        buf_put_text(out, " file=(none)");
        return;
    }
    buf_put_text(out, " file=");
    put_file(&s->f, out);
    buf_printf(out, " offset=%" PRIu64, position - s->f.base);
}

/* ---- whose it is ---- */

static const char *state_of(enum status s)
{
    return s == ST_OK          ? "whole"
           : s == ST_NOT_FOUND ? "missing"
           : s == ST_VERSION   ? "of-a-newer-version"
           : s == ST_CORRUPT   ? "damaged"
                               : "unreadable";
}

void inspect_print_store(const struct inspect *p, struct buf *out)
{
    const struct store *s = &p->store;
    char id[33], cluster[33];
    buf_printf(out, "directory path=%s in_use=%s", log_quote(slice_of(p->dir)),
               yes_no(p->in_use));
    if (p->in_use) {
        buf_printf(out,
                   " pid=%ld caution=\"a process is writing here: ends and "
                   "verdicts may be of no instant that ever was\"",
                   p->pid);
    }
    buf_printf(out, "\nstore store=%s store.copy=%s",
               state_of(p->copy_status[0]), state_of(p->copy_status[1]));
    if (p->store_status != ST_OK) {
        buf_printf(out, " error=%s\n", log_quote(slice_of(p->store_err.text)));
        return;
    }
    id128_format(s->id, id);
    id128_format(s->cluster, cluster);
    buf_printf(out,
               " format=%u node=%" PRIu32 " id=%s cluster=%s shards=%" PRIu32
               " starts=%" PRIu64 "\n",
               STORE_FORMAT, s->node, id,
               id128_is_zero(s->cluster) ? "(none)" : cluster, s->shards,
               s->incarnation.counter);
    if (s->shards != 1) {
        buf_put_text(out, "caution text=\"this version reads the first shard "
                          "alone\"\n");
    }
}

/* ---- the log ---- */

void inspect_print_record(const struct inspect *p, const struct wal_record *r,
                          uint64_t counter, uint64_t mark, struct buf *out)
{
    buf_printf(out, "record position=%" PRIu64, r->position);
    put_place(p, r->position, out);
    buf_printf(
        out, " bytes=%" PRIu64 " kind=%s start=%" PRIu64 " mark=%" PRIu64,
        r->end - r->position, wal_kind_name((int)r->kind), counter, mark);
    bool own = wal_kind_is_own((int)r->kind);
    if (!own) {
        buf_printf(out, " tablet=%" PRIu32, r->tablet);
    }
    if (r->kind == WAL_ENTRY || r->kind == WAL_CUT || r->kind == WAL_RESET) {
        put_name(out, "name", r->name);
    }
    if (r->kind == WAL_ENTRY) {
        put_name(out, "previous", r->previous);
    }
    if (r->kind == WAL_COMMIT || r->kind == WAL_MARK) {
        buf_printf(out, " seq=%" PRIu64, r->seq);
    }
    buf_printf(out, " payload=%zu\n", r->payload.len);
}

/* The tablets that keep S from being reused. */
static void put_pins(const struct inspect *p, const struct inspect_segment *s,
                     struct buf *out)
{
    uint32_t pins = 0;
    if (p->recovery_status != ST_OK) {
        buf_put_text(out, " pinned_by=(unknown)\n");
        return;
    }
    buf_put_text(out, " pinned_by=");
    for (uint32_t i = 0; i < LIMIT_TABLETS; i++) {
        const struct inspect_tablet *t = &p->tablets[i];
        if (!t->recovered || t->log_from >= s->f.base + s->f.size ||
            t->log_from >= p->log.end) {
            continue;
        }
        if (pins < SHOWN) {
            buf_printf(out, "%s%" PRIu32, pins > 0 ? "," : "", i);
        }
        pins++;
    }
    if (pins > SHOWN) {
        buf_put_text(out, ",...");
    }
    buf_printf(out, "%s tablets=%" PRIu32 "\n", pins == 0 ? "(none)" : "",
               pins);
}

static void put_values(const struct inspect_segment *s, struct buf *out)
{
    if (s->kept) {
        buf_printf(out, " live_values=%" PRIu64 " value_tablets=%zu",
                   s->live_values, s->value_tablets);
    }
}

static void print_segment(const struct inspect *p,
                          const struct inspect_segment *s, struct buf *out)
{
    const struct wal_found *f = &s->f;
    buf_put_text(out, "segment file=");
    put_file(f, out);
    buf_printf(out, " state=%s header=%s file_bytes=%" PRIu64,
               f->live   ? "live"
               : s->kept ? "kept"
                         : "spare",
               f->has_header  ? "whole"
               : f->slot == 0 ? "missing"
                              : "none",
               f->file_size);
    if (f->cut_short && f->slot != 0) {
        buf_put_text(out, " short=yes");
    }
    if (f->has_header || f->live) {
        buf_printf(out,
                   " sequence=%" PRIu64 " base=%" PRIu64 " size=%" PRIu64
                   " begin=%" PRIu64 " start=%" PRIu64,
                   f->sequence, f->base, f->size, f->begin, f->counter);
    }
    if (!f->live) {
        put_values(s, out);
        buf_put_text(out, "\n");
        return;
    }
    for (int kind = 1; kind < WAL_KINDS; kind++) {
        if (s->records[kind] > 0) {
            buf_printf(out, " %s=%" PRIu64, wal_kind_name(kind),
                       s->records[kind]);
        }
    }
    buf_printf(out, " record_bytes=%" PRIu64, s->bytes);
    if (s->bytes > 0) {
        buf_printf(out, " first=%" PRIu64 " last=%" PRIu64, s->first, s->last);
    }
    put_values(s, out);
    put_pins(p, s, out);
}

static void print_end(const struct inspect *p, struct buf *out)
{
    const struct wal_report *r = &p->log;
    buf_printf(out, "end position=%" PRIu64, r->end);
    put_place(p, r->end, out);
    buf_printf(out, " records=%" PRIu64 " torn=%s", r->records,
               yes_no(r->torn));
    if (r->torn) {
        buf_printf(out,
                   " cut_at=%" PRIu64 " text=\"the last write did not end; "
                   "nothing acknowledged was in it\"",
                   r->torn_at);
    }
    buf_put_text(out, "\n");
}

void inspect_print_log(const struct inspect *p, struct buf *out)
{
    buf_printf(out, "log folder=%s segments=%zu", p->folder, p->segment_count);
    if (p->noted) {
        buf_printf(out, " note=whole begin=%" PRIu64 " known=%" PRIu64 "\n",
                   p->note_begin, p->note_known);
    } else {
        buf_put_text(out, " note=missing-or-damaged\n");
    }
    for (size_t i = 0; i < p->segment_count; i++) {
        print_segment(p, &p->segments[i], out);
    }
    for (size_t i = 0; i < p->damage_count; i++) {
        const struct inspect_range *d = &p->damage[i];
        buf_printf(out, "damage from=%" PRIu64 " to=%" PRIu64, d->from, d->to);
        put_place(p, d->from, out);
        buf_printf(out, " bytes=%" PRIu64 "\n", d->to - d->from);
    }
    if (p->log_status != ST_OK) {
        buf_printf(out, "log-unreadable status=%s error=%s\n",
                   status_name(p->log_status),
                   log_quote(slice_of(p->log_err.text)));
        return;
    }
    print_end(p, out);
}

/* ---- checkpoints ---- */

void inspect_print_checkpoint(const struct inspect_checkpoint *c,
                              struct buf *out)
{
    char digest[33];
    buf_printf(out,
               "checkpoint tablet=%" PRIu32 " file=%s bytes=%" PRIu64
               " seq=%" PRIu64,
               c->tablet, c->info.file, c->bytes, c->info.newest_seq);
    if (c->status != ST_OK) {
        buf_printf(out, " whole=no error=%s\n",
                   log_quote(slice_of(c->err.text)));
        return;
    }
    id128_format(c->info.digest, digest);
    put_name(out, "name", c->info.applied);
    buf_printf(out,
               " config_epoch=%" PRIu64 " cells=%" PRIu64 " digest=%s "
               "whole=yes\n",
               c->config_epoch, c->info.cells, digest);
}

/* ---- tablets ---- */

static void print_tablet(uint32_t id, const struct inspect_tablet *t,
                         struct buf *out)
{
    const struct tablet_report *r = &t->report;
    buf_printf(out, "tablet id=%" PRIu32, id);
    if (t->has_checkpoint) {
        put_name(out, "checkpoint", t->checkpoint);
    } else {
        buf_put_text(out, " checkpoint=(none)");
    }
    buf_printf(out, " log_records=%" PRIu64 " log_entries=%" PRIu64, t->records,
               t->entries);
    if (t->entries > 0) {
        put_name(out, "log_first", t->first);
        put_name(out, "log_last", t->last);
    }
    if (!t->recovered) {
        buf_put_text(out, " recovers=(unknown)\n");
        return;
    }
    buf_printf(out, " epoch=%" PRIu64, r->epoch);
    put_name(out, "last", r->last);
    put_name(out, "committed", r->committed);
    uint64_t base = t->has_checkpoint ? t->checkpoint.seq : 0;
    buf_printf(out,
               " replayed=%" PRIu64 " uncommitted=%" PRIu64 " cells=%" PRIu64
               " cell_bytes=%" PRIu64 " values=%" PRIu64 " value_bytes=%" PRIu64
               " damaged_values=%" PRIu64 " recovers=%s\n",
               r->last.seq > base ? r->last.seq - base : 0,
               r->last.seq > r->committed.seq ? r->last.seq - r->committed.seq
                                              : 0,
               r->cells, r->bytes, t->values, t->value_bytes, t->damaged_values,
               (r->flags & REPORT_DAMAGED) != 0 ? "condemned" : "whole");
}

void inspect_print_value(const struct inspect *p,
                         const struct verified_value *v, struct buf *out)
{
    const struct place *at = v->place;
    struct arena a = {0};
    struct key_parts k;
    buf_printf(out, "value tablet=%" PRIu32 " bytes=%" PRIu32 " status=%s",
               v->tablet, at->len, status_name(v->why));
    if (at->tag == VALUE_LOG) {
        buf_printf(out, " position=%" PRIu64, at->position);
        put_place(p, at->position, out);
    } else {
        char id[33];
        id128_format(at->blob, id);
        buf_printf(out, " blob=%s", id);
        if (v->file == 0) {
            buf_put_text(out, " file=(none)");
        } else {
            buf_printf(out, " file=blobs-%06" PRIu64 ".log offset=%" PRIu64,
                       v->file, v->offset);
        }
    }
    if (key_decode(v->key, &a, &k)) {
        buf_printf(out, " partition=%s row=%s column=%s\n",
                   log_quote(k.partition), log_quote(k.row),
                   log_quote(k.column));
    }
    arena_free(&a);
}

/* A file whose header is damaged is one if there is something in it. */
static bool is_damaged(const struct blobs_file *f)
{
    return f->live > 0 && (!f->header_whole || f->bad_heads > 0);
}

void inspect_print_blobs(const struct inspect *p, struct buf *out)
{
    for (size_t i = 0; i < p->blob_file_count; i++) {
        const struct blobs_file *f = &p->blob_files[i];
        buf_printf(out,
                   "blobs file=blobs-%06" PRIu64
                   ".log header=%s index=%s bytes=%" PRIu64 " blobs=%" PRIu64
                   " live=%" PRIu64 " live_bytes=%" PRIu64 " garbage=%" PRIu64
                   " damaged_heads=%" PRIu64 "\n",
                   f->number, f->header_whole ? "whole" : "damaged",
                   f->indexed ? "whole" : "none", f->bytes, f->blobs, f->live,
                   f->live_bytes, f->blobs > f->live ? f->blobs - f->live : 0,
                   f->bad_heads);
    }
}

void inspect_print_tablets(const struct inspect *p, struct buf *out)
{
    for (uint32_t i = 0; i < LIMIT_TABLETS; i++) {
        const struct inspect_tablet *t = &p->tablets[i];
        if (t->recovered || t->records > 0 || t->has_checkpoint) {
            print_tablet(i, t, out);
        }
    }
    if (p->strange_records > 0) {
        buf_printf(out,
                   "strange records=%" PRIu64 " text=\"of tablets that "
                   "there cannot be\"\n",
                   p->strange_records);
    }
    if (p->recovery_status != ST_OK && p->store_status == ST_OK) {
        buf_printf(out, "recovery-refuses status=%s error=%s\n",
                   status_name(p->recovery_status),
                   log_quote(slice_of(p->recovery_err.text)));
    }
}

void inspect_print_line(struct slice line, struct buf *out)
{
    static const char mark[] = "module=";
    size_t len = sizeof(mark) - 1;
    for (size_t i = 0; i + len < line.len; i++) {
        if (memcmp(line.data + i, mark, len) == 0) {
            line = slice_make(line.data + i, line.len - i);
            break;
        }
    }
    buf_put_text(out, "start-would-log ");
    buf_put_slice(out, line);
    buf_put_text(out, "\n");
}

/* ---- in the end ---- */

bool inspect_print_verdict(const struct inspect *p, struct buf *out)
{
    if (p->no_folder) {
        buf_printf(out,
                   "missing folder=%s text=\"log and checkpoints are gone; a "
                   "start would be refused\"\n",
                   p->folder);
    }
    size_t condemned = 0, damaged = 0, files = 0;
    uint64_t values = 0;
    for (uint32_t i = 0; p->tablets != NULL && i < LIMIT_TABLETS; i++) {
        const struct inspect_tablet *t = &p->tablets[i];
        condemned += t->recovered && (t->report.flags & REPORT_DAMAGED) != 0;
        values += t->damaged_values;
    }
    for (size_t i = 0; i < p->checkpoint_count; i++) {
        damaged += p->checkpoints[i].status != ST_OK;
    }
    for (size_t i = 0; i < p->blob_file_count; i++) {
        files += is_damaged(&p->blob_files[i]);
    }
    bool store = p->copy_status[0] == ST_OK && p->copy_status[1] == ST_OK;
    bool starts = p->store_status == ST_OK && !p->no_folder &&
                  p->log_status == ST_OK && p->recovery_status == ST_OK;
    bool whole = store && starts && p->damage_count == 0 && damaged == 0 &&
                 condemned == 0 && values == 0 && files == 0;
    buf_printf(out,
               "verdict whole=%s starts=%s damaged_ranges=%zu "
               "damaged_checkpoints=%zu condemned_tablets=%zu "
               "damaged_values=%" PRIu64 " damaged_blob_files=%zu torn=%s\n",
               yes_no(whole), yes_no(starts), p->damage_count, damaged,
               condemned, values, files, yes_no(p->log.torn));
    return whole;
}
