/*
 * The note beside the log, `wal-begin`: from which position on the log is
 * needed, and a position up to which it is known synced.
 *
 * The first must be on disk before a segment before it is overwritten or
 * removed; else a crash in between would leave a gap that looks like damage.
 * The second is a mark (R16) that lies elsewhere than the log's own: it proves
 * the log's last block. It is written at each start and stop and, without a
 * sync, when the log comes to rest: so it survives the process, and what a
 * power loss takes of it is only a proof.
 *
 * The file has two blocks of 4 KiB: u64 magic, u32 format, u32 zero, store id,
 * u64 generation, begin, known, XXH3-64 of all before. The valid one of the
 * higher generation counts. The block that was synced last is never
 * overwritten before the other is. If both are lost, all that is there counts
 * as needed, and only the log's own marks prove anything.
 */
#include "storage/wal_private.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#define NOTE_FORMAT 1u
#define MAGIC UINT64_C(0x474542574e4e4550) /* "PENNWBEG" */

static void note_encode(const struct wal *w, uint64_t begin, uint64_t known,
                        struct buf *out)
{
    size_t start = out->len;
    buf_put_u64(out, MAGIC);
    buf_put_u32(out, NOTE_FORMAT);
    buf_put_u32(out, 0);
    buf_put(out, w->o.store.b, sizeof(w->o.store.b));
    buf_put_u64(out, w->note.generation);
    buf_put_u64(out, begin);
    buf_put_u64(out, known);
    buf_put_u64(out, XXH3_64bits(out->data + start, out->len - start));
    size_t used = out->len - start;
    memset(buf_reserve(out, WAL_BLOCK - used), 0, WAL_BLOCK - used);
    out->len += WAL_BLOCK - used;
}

struct note {
    uint64_t generation, begin, known;
};

static bool note_decode(const struct wal *w, struct slice block,
                        struct note *out)
{
    struct cursor c = cursor_of(block);
    bool good = cursor_u64(&c) == MAGIC && cursor_u32(&c) == NOTE_FORMAT;
    (void)cursor_u32(&c);
    struct slice store = cursor_bytes(&c, sizeof(w->o.store.b));
    out->generation = cursor_u64(&c);
    out->begin = cursor_u64(&c);
    out->known = cursor_u64(&c);
    size_t covered = block.len - cursor_left(&c);
    uint64_t check = cursor_u64(&c);
    return good && !c.bad && memcmp(store.data, w->o.store.b, store.len) == 0 &&
           XXH3_64bits(block.data, covered) == check;
}

static void file_name(const struct wal *w, char out[WAL_FILE_MAX])
{
    int n = snprintf(out, WAL_FILE_MAX, "%s%swal-begin", w->folder,
                     w->folder[0] != '\0' ? "/" : "");
    assert(n > 0 && n < WAL_FILE_MAX);
}

/* Takes the newest valid block, read from the medium. */
static enum status note_read(struct wal *w, const char *name)
{
    const struct env_ops *ops = w->env->ops;
    struct env_file *f;
    enum status s = ops->file_open(w->env, name, ENV_READONLY | ENV_MEDIUM, &f);
    if (s == ST_UNSUPPORTED || s == ST_INVALID) {
        s = ops->file_open(w->env, name, ENV_READONLY, &f);
    }
    if (s != ST_OK) {
        return s;
    }
    unsigned whole = 0;
    for (uint64_t i = 0; i < 2; i++) {
        uint8_t block[WAL_BLOCK];
        struct note note;
        size_t got = 0;
        s = ops->file_read(f, i * WAL_BLOCK, block, sizeof(block), &got);
        bool good = s == ST_OK && note_decode(w, slice_make(block, got), &note);
        whole += good;
        if (good && note.generation >= w->note.generation) {
            w->note.generation = note.generation;
            w->begin_durable = note.begin;
            w->note.known = note.known;
        }
    }
    if (whole < 2) { /* or torn, as when the power went */
        log_warn(w->env->log, "wal", "note-damaged", "file=%s whole_blocks=%u",
                 name, whole);
    }
    ops->file_close(f);
    return ST_OK;
}

enum status wal_begin_open(struct wal *w, struct err *err)
{
    char name[WAL_FILE_MAX];
    file_name(w, name);
    enum status s = note_read(w, name);
    if (s == ST_OK || s == ST_NOT_FOUND) {
        struct buf both = {0};
        w->note.generation++;
        note_encode(w, w->begin_durable, w->note.known, &both);
        note_encode(w, w->begin_durable, w->note.known, &both);
        s = w->env->ops->file_put(w->env, name, buf_slice(&both));
        buf_free(&both);
    }
    if (s == ST_OK) {
        s = w->env->ops->file_open(w->env, name, 0, &w->note.file);
    }
    return s == ST_OK ? s : err_set(err, s, "%s: %s", name, status_text(s));
}

enum status wal_begin_now(struct wal *w, struct err *err)
{
    struct buf b = {0};
    w->note.generation++;
    w->note.known = w->synced;
    note_encode(w, w->begin_durable, w->note.known, &b);
    enum status s = w->env->ops->file_write_now(
        w->note.file, (1 - w->note.safe) * WAL_BLOCK, buf_slice(&b));
    w->note.safe = 1 - w->note.safe;
    buf_free(&b);
    return s == ST_OK ? s : err_set(err, s, "wal-begin: %s", status_text(s));
}

static void on_noted(struct env_io *io, enum status s)
{
    struct wal *w = io->data;
    if (wal_io_end(w)) {
        return;
    }
    w->note.busy = false;
    if (s != ST_OK) {
        wal_fail(w, s);
    } else if (w->note.syncing) {
        w->note.safe = 1 - w->note.safe;
        w->begin_durable = w->note.begin;
        wal_pump(w);
        wal_segments_tend(w);
    }
    wal_begin_tend(w);
    wal_check_stopped(w);
}

static void note_write(struct wal *w, bool sync)
{
    struct wal_begin_note *n = &w->note;
    uint64_t needed = wal_needed(w);
    n->busy = true;
    n->syncing = sync;
    n->generation++;
    n->begin = needed < w->synced ? needed : w->synced;
    n->begin = sync ? n->begin : w->begin_durable;
    n->known = w->synced;
    buf_clear(&n->block);
    note_encode(w, n->begin, n->known, &n->block);
    wal_io_begin(w, &n->io, on_noted, w);
    w->env->ops->file_write(n->file, (1 - n->safe) * WAL_BLOCK,
                            buf_slice(&n->block), sync, &n->io);
}

void wal_begin_tend(struct wal *w)
{
    bool waited_for = w->stopping && w->note.known < w->data_end;
    waited_for = waited_for || (w->note.buried > w->begin_durable &&
                                wal_needed(w) >= w->note.buried &&
                                w->synced >= w->note.buried);
    for (size_t i = 0; i < w->spare.count; i++) {
        waited_for = waited_for || w->spare.at[i].until > w->begin_durable;
    }
    if (!w->running || w->note.busy || w->failed) {
        return;
    }
    bool at_rest = w->groups == NULL && w->marked >= w->data_end;
    if (waited_for && (at_rest || !w->stopping)) {
        note_write(w, true);
    } else if (at_rest && w->note.known < w->data_end) {
        note_write(w, false);
    }
}

void wal_bury(struct wal *w, uint64_t position)
{
    w->note.buried = position > w->note.buried ? position : w->note.buried;
    wal_begin_tend(w);
}

void wal_begin_close(struct wal *w)
{
    if (w->note.file != NULL) {
        w->env->ops->file_close(w->note.file);
    }
    buf_free(&w->note.block);
}
