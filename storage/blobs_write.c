/*
 * Writing and receiving blobs (design: blobs.c).
 *
 * All operations on one file are done in the order in which they were asked
 * for. So a sync covers each blob whose last write was asked for before it,
 * and the last write of a blob carries the sync itself if none is under way.
 *
 * What comes in pieces is collected in chunks that are written whole; so all
 * writes are of whole blocks, and a blob that is being received takes a chunk
 * of memory, and what the disk has not yet taken.
 */
#include "storage/blobs_private.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static void start_sync(struct blob_file *f);

/* ---- a blob under way ---- */

static void in_free(struct blob_in *in)
{
    struct blobs *b = in->b;
    TAILQ_REMOVE(&b->ins, in, of_all);
    if (in->complete) {
        TAILQ_REMOVE(&in->file->complete, in, of_complete);
    }
    b->open--;
    in->file->open--;
    if (in->hash != NULL) {
        (void)XXH3_freeState(in->hash);
    }
    blob_bytes_unref(in->chunk);
    blob_bytes_unref(in->first);
    free(in);
}

void blob_ins_free(struct blobs *b)
{
    while (!TAILQ_EMPTY(&b->ins)) {
        in_free(TAILQ_FIRST(&b->ins));
    }
}

void blobs_drop(struct blob_in *in)
{
    if (in == NULL) {
        return;
    }
    struct blob_op *op;
    struct blob_file *f = in->file;
    TAILQ_FOREACH(op, &in->b->ops, link)
    {
        if (op->in == in) {
            op->in = NULL;
        }
    }
    in_free(in);
    blob_file_tend(f);
}

enum status blob_in_new(struct blobs *b, const struct blob_ref *ref,
                        const struct blob_sink *sink, struct blob_in **out)
{
    struct blob_file *f;
    uint64_t size = blob_blocks((uint64_t)BLOB_HEAD + ref->len);
    enum status s = blob_file_for(b, size, &f);
    if (s != ST_OK) {
        return s;
    }
    struct blob_in *in = xcalloc(1, sizeof(*in));
    in->b = b;
    in->ref = *ref;
    in->file = f;
    in->offset = blob_blocks(f->end);
    in->sink = *sink;
    f->end = in->offset + size;
    f->open++;
    b->open++;
    b->spent += size;
    TAILQ_INSERT_TAIL(&b->ins, in, of_all);
    *out = in;
    return ST_OK;
}

static enum status may_begin(const struct blobs *b, const struct blob_ref *ref)
{
    if (ref->len == 0 || ref->len > LIMIT_VALUE || id128_is_zero(ref->id)) {
        return ST_INVALID;
    }
    const struct blob *blob = blob_find(b, &ref->id);
    if (blob != NULL && !blob_ref_equal(&blob->ref, ref)) {
        return ST_INVALID;
    }
    if (blob != NULL && blob->file != NULL && !blob->damaged) {
        return ST_EXISTS;
    }
    const struct blob_in *in;
    TAILQ_FOREACH(in, &b->ins, of_all)
    {
        if (id128_equal(in->ref.id, ref->id)) {
            return ST_BUSY;
        }
    }
    return b->open >= BLOB_OPEN_MAX ? ST_BUSY : ST_OK;
}

enum status blobs_begin(struct blobs *b, const struct blob_ref *ref,
                        const struct blob_sink *sink, struct blob_in **out)
{
    enum status s = may_begin(b, ref);
    if (s == ST_OK) {
        s = blobs_room(b, blob_blocks((uint64_t)BLOB_HEAD + ref->len));
    }
    return s == ST_OK ? blob_in_new(b, ref, sink, out) : s;
}

uint32_t blobs_taken(const struct blob_in *in)
{
    return in->taken;
}

uint32_t blobs_settled_bytes(const struct blob_in *in)
{
    return in->taken - in->unwritten;
}

/* ---- on disk ---- */

/* IN's blob is synced. */
static void enter(struct blob_in *in)
{
    struct blobs *b = in->b;
    struct blob *blob = blob_find(b, &in->ref.id);
    if (blob == NULL) {
        blob = blob_add(b, &in->ref);
    }
    if (blob->file != NULL) { /* it was damaged */
        struct blob_file *old = blob->file;
        blobs_collect_forget(b, blob);
        blob_unplace(b, blob);
        old->stuck = false;
        blob_file_tend(old);
    }
    blob->damaged = false;
    blob->ref.seed = in->ref.seed;
    blob->born_us = env_now_us(b->env);
    blob_place(b, blob, in->file, in->offset);
    if (blob->refs == 0 && !blob->loose) {
        blob->loose = true;
        TAILQ_INSERT_TAIL(&b->loose, blob, of_loose);
    }
    b->stats.written++;
    b->stats.bytes += in->ref.len;
}

/* Tells how IN ended, and frees it. */
static void end(struct blob_in *in, enum status s)
{
    struct blob_sink sink = in->sink;
    struct blob_file *f = in->file;
    if (s == ST_OK && !in->moving) {
        enter(in);
    }
    if (in->moving) { /* its owner asks where it stands */
        sink.on_done(sink.ctx, s);
        in_free(in);
    } else {
        in_free(in);
        sink.on_done(sink.ctx, s);
    }
    blob_file_tend(f);
}

/* Everything up to operation NUMBER of F is on disk. */
static void synced(struct blob_file *f, uint64_t number)
{
    struct blob_in *in;
    struct blobs *b = f->b;
    b->stats.syncs++;
    f->open++; /* it stays while they are told */
    while ((in = TAILQ_FIRST(&f->complete)) != NULL && !b->failed &&
           in->last_op <= number) {
        end(in, ST_OK);
    }
    f->open--;
    blob_file_tend(f);
}

/* A write of OP's was not done for want of space. */
static void write_refused(struct blob_op *op)
{
    struct blob_in *in = op->in;
    struct blobs *b = op->b;
    blobs_refused(b);
    if (in == NULL) {
        return;
    }
    struct blob_op *other;
    TAILQ_FOREACH(other, &b->ops, link)
    {
        if (other->in == in) {
            other->in = NULL;
        }
    }
    end(in, ST_NO_SPACE);
}

static void on_written(struct env_io *io, enum status s)
{
    struct blob_op *op = io->data;
    if (!blob_op_goes_on(op)) {
        return;
    }
    struct blobs *b = op->b;
    struct blob_file *f = op->file;
    f->syncing = f->syncing && !op->sync;
    if (s != ST_OK && s != ST_NO_SPACE) {
        blobs_fail(b, s);
    }
    if (b->failed) {
        blob_op_free(op);
        return; /* R18: nothing of it is told any more */
    }
    f->open++;
    if (s == ST_NO_SPACE) {
        write_refused(op);
    } else if (op->in != NULL) {
        struct blob_in *in = op->in;
        in->ops--;
        in->unwritten -= op->len;
        if (in->sink.on_written != NULL && op->len > 0) {
            in->sink.on_written(in->sink.ctx, blobs_settled_bytes(in));
        }
    }
    if (s == ST_OK && op->sync) {
        synced(f, op->number);
    }
    blob_op_free(op);
    start_sync(f);
    f->open--;
    blob_file_tend(f);
}

static struct blob_op *write_new(struct blob_file *f, bool sync)
{
    struct blob_op *op = blob_op_new(f->b, on_written);
    op->file = f;
    op->number = ++f->issued;
    op->sync = sync;
    f->syncing = f->syncing || sync;
    return op;
}

static void start_sync(struct blob_file *f)
{
    if (f->syncing || f->b->failed || TAILQ_EMPTY(&f->complete)) {
        return;
    }
    struct blob_op *op = write_new(f, true);
    f->b->env->ops->file_write(f->file, 0, slice_make(NULL, 0), true, &op->io);
}

/* [AT, END) of a record, whole blocks, in MEMORY, which is that from START on.
 * LAST: the record is complete then. */
struct part {
    struct blob_bytes *memory;
    uint64_t start, at, end;
    uint32_t len; /* of the blob's bytes, that become written by it */
    bool last;
};

static void write_part(struct blob_in *in, const struct part *p)
{
    struct blob_file *f = in->file;
    struct blob_op *op = write_new(f, p->last && !f->syncing);
    op->in = in;
    op->bytes = blob_bytes_ref(p->memory);
    op->len = p->len;
    in->unwritten += p->len;
    if (in->ops++ == 0) {
        in->since_us = env_now_us(in->b->env);
    }
    in->last_op = op->number;
    if (p->last) {
        in->complete = true;
        TAILQ_INSERT_TAIL(&f->complete, in, of_complete);
    }
    f->b->env->ops->file_write(
        f->file, in->offset + p->at,
        slice_make(p->memory->room + (p->at - p->start), p->end - p->at),
        op->sync, &op->io);
}

/* BYTES is all of the record but its head. */
static void write_whole(struct blob_in *in, struct blob_bytes *bytes)
{
    struct part p = {.memory = bytes,
                     .end = blob_blocks((uint64_t)BLOB_HEAD + bytes->len),
                     .len = in->ref.len,
                     .last = true};
    blob_head_encode(in->b, in->file->sequence, in->offset, &in->ref,
                     bytes->room);
    in->taken = in->ref.len;
    write_part(in, &p);
}

void blobs_put(struct blob_in *in, struct blob_bytes *bytes)
{
    assert(in->taken == 0 && bytes->len == in->ref.len);
    write_whole(in, bytes);
}

static bool digest_is_right(struct blob_in *in)
{
    struct id128 d = blob_digest_end(in->hash);
    return id128_equal(d, in->ref.digest);
}

/* ---- in pieces ---- */

/* Room for the chunk from START on. */
static struct blob_bytes *chunk_new(const struct blob_in *in, uint64_t start)
{
    uint64_t left = (uint64_t)BLOB_HEAD + in->ref.len - start;
    left = left < in->b->o.chunk ? left : in->b->o.chunk;
    left = left < BLOB_BLOCK ? BLOB_BLOCK : left;
    struct blob_bytes *x = blob_bytes_new((uint32_t)left - BLOB_HEAD);
    if (left == BLOB_BLOCK) {
        memset(x->room, 0, BLOB_BLOCK);
    }
    return x;
}

static void write_first(struct blob_in *in)
{
    struct part p = {.memory = in->first, .end = BLOB_BLOCK, .last = true};
    blob_head_encode(in->b, in->file->sequence, in->offset, &in->ref,
                     in->first->room);
    write_part(in, &p);
}

/* Writes the chunk that begins at START and is full, or the last one. */
static void write_chunk(struct blob_in *in, uint64_t start)
{
    uint64_t end = (uint64_t)BLOB_HEAD + in->taken;
    bool last = in->taken == in->ref.len;
    struct blob_bytes *chunk = in->chunk;
    in->chunk = NULL;
    if (start == 0 && last) {
        write_whole(in, chunk);
    } else {
        struct part p = {.memory = chunk,
                         .start = start,
                         .at = start == 0 ? BLOB_BLOCK : start,
                         .end = blob_blocks(end),
                         .len = (uint32_t)(end - start)};
        if (start == 0) { /* its first block waits for the others */
            p.len -= BLOB_HEAD;
            in->first = blob_bytes_new(BLOB_BLOCK - BLOB_HEAD);
            memcpy(in->first->room, chunk->room, BLOB_BLOCK);
        }
        write_part(in, &p);
        if (last) {
            write_first(in);
        }
    }
    blob_bytes_unref(chunk);
}

/* Takes of PIECE what belongs to the chunk at hand, and writes that if it is
 * full; ST_CORRUPT. */
static enum status take_part(struct blob_in *in, struct slice *piece)
{
    uint64_t at = (uint64_t)BLOB_HEAD + in->taken;
    uint64_t start = at / in->b->o.chunk * in->b->o.chunk;
    uint64_t left = start + in->b->o.chunk - at;
    size_t n = piece->len < left ? piece->len : (size_t)left;
    if (in->chunk == NULL) {
        in->chunk = chunk_new(in, start);
    }
    memcpy(in->chunk->room + (at - start), piece->data, n);
    (void)XXH3_128bits_update(in->hash, piece->data, n);
    *piece = slice_make(piece->data + n, piece->len - n);
    in->taken += (uint32_t)n;
    bool last = in->taken == in->ref.len;
    if (last && !digest_is_right(in)) {
        return ST_CORRUPT;
    }
    if (last || n == left) {
        write_chunk(in, start);
    }
    return ST_OK;
}

enum status blobs_add(struct blob_in *in, struct slice piece)
{
    enum status s = ST_OK;
    if (in->complete || piece.len == 0 || piece.len > in->ref.len - in->taken) {
        return ST_INVALID;
    }
    if (in->hash == NULL) {
        in->hash = XXH3_createState();
        assert(in->hash != NULL);
        (void)XXH3_128bits_reset_withSeed(in->hash, in->ref.seed);
    }
    while (piece.len > 0 && s == ST_OK) {
        s = take_part(in, &piece);
    }
    return s;
}
