/*
 * The blob log: design, life, room, references.
 *
 * Files `blobs-000001.log`, ... stand beside the log's segments. A blob gets
 * its place behind all others when it begins; its bytes are written there as
 * they come, whole or in parts of a mebibyte, and several blobs may be on their
 * way at once. The block with the head is written last. Places and writes are
 * of whole blocks, 4 KiB, which go past the page cache where the file system
 * lets them; earlier versions had records at multiples of 512 bytes. A
 * file that has no room for the next blob is sealed: it gets an index at its
 * end and is never written again. A process never goes on in a file of an
 * earlier one. A file that nobody needs any more is renamed to the next number
 * and written again from its beginning (blobs_spare.c).
 *
 *   file      header (512), records, index once it is sealed
 *   header    0 "PENNBLOB", 8 u32 format, 12 u32 shard, 16 store (16),
 *             32 u64 sequence, 40 u64 check, zeros
 *   record    0 u64 check of the head, 8 u32 magic, 12 u32 length, 16 name
 *             (16), 32 digest (16), 48 u64 seed, 56 u64 zero, 64 the bytes
 *   index     for each blob: name (16), digest (16), u64 seed, u32 length,
 *             u64 offset; then zeros; in the file's last 512 bytes at their
 *             end: u64 from, u32 count, u32 magic, u64 check of the index,
 *             u64 check of these 24 bytes
 *
 * All checks but the header's are XXH3-64, seeded by the store's random key,
 * the file's number and the place in it: nothing inside a user's value, of
 * another store or of another place is taken for one of them.
 *
 * Syncs: one fdatasync a file is under way at a time; all blobs that were
 * completed meanwhile wait for the next. A failure is final (R18). A write
 * that finds the disk full costs only its blob; before that happens
 * blobs_room() refuses, and a reserve stays for the log and the checkpoints.
 *
 * Recovery: the index of each sealed file, else the heads from one record to
 * the next; where a record was never completed, or a head is damaged, at each
 * 512 bytes up to the next one. Contents are not read. They need not be: an
 * entry or a cell refers to a blob only after that was synced (R6), so what is
 * referred to was whole, and damage since then is found by its digest when it
 * is read. What nobody refers to goes: at a restart at once, else ten minutes
 * after it came. Of two records of one name, which a crash may leave, the one
 * whose bytes are right is taken.
 *
 * Collection: of a sealed file that is dead for more than half, what lives is
 * read, checked and written anew; as others know blobs by name, only the index
 * changes. A file without a living blob is removed, or kept as a spare one,
 * once no read of it is under way. What is damaged stays where it is, and so
 * does its file.
 */
#include "storage/blobs_private.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define ASK_AGAIN_US 200000 /* how much is free, or after ... */
#define ASK_AGAIN_BYTES MIB(16)
#define FULL_SHARE 8 /* of the reserve: free besides it, it is full no more */
/* What the disk says is free was not: a quota, say. Not tried again before. */
#define REFUSED_US (5 * 1000 * 1000)

/* ---- bytes ---- */

struct blob_bytes *blob_bytes_new(uint32_t len)
{
    assert(len <= LIMIT_VALUE);
    size_t used = (size_t)BLOB_HEAD + len;
    size_t size = (size_t)blob_blocks(used);
    struct blob_bytes *b = xmalloc(sizeof(*b));
    b->refs = 1;
    b->len = len;
    b->room = aligned_alloc(BLOB_BLOCK, size);
    if (b->room == NULL) {
        abort();
    }
    memset(b->room + used, 0, size - used);
    return b;
}

struct blob_bytes *blob_bytes_ref(struct blob_bytes *b)
{
    b->refs++;
    return b;
}

void blob_bytes_unref(struct blob_bytes *b)
{
    if (b != NULL && --b->refs == 0) {
        free(b->room);
        free(b);
    }
}

uint8_t *blob_bytes_data(struct blob_bytes *b)
{
    return b->room + BLOB_HEAD;
}

static struct id128 digest_of(XXH128_hash_t h)
{
    struct id128 d;
    for (int i = 0; i < 8; i++) {
        d.b[i] = (uint8_t)(h.low64 >> (8 * i));
        d.b[8 + i] = (uint8_t)(h.high64 >> (8 * i));
    }
    return d;
}

struct id128 blob_digest(uint64_t seed, struct slice bytes)
{
    return digest_of(XXH3_128bits_withSeed(bytes.data, bytes.len, seed));
}

struct id128 blob_digest_end(const XXH3_state_t *hash)
{
    return digest_of(XXH3_128bits_digest(hash));
}

bool blob_ref_equal(const struct blob_ref *a, const struct blob_ref *b)
{
    return id128_equal(a->id, b->id) && a->len == b->len &&
           id128_equal(a->digest, b->digest);
}

/* ---- operations ---- */

struct blob_op *blob_op_new(struct blobs *b,
                            void (*done)(struct env_io *io, enum status s))
{
    struct blob_op *op = xcalloc(1, sizeof(*op));
    op->b = b;
    op->io.done = done;
    op->io.data = op;
    TAILQ_INSERT_TAIL(&b->ops, op, link);
    return op;
}

void blob_op_free(struct blob_op *op)
{
    TAILQ_REMOVE(&op->b->ops, op, link);
    env_timer_stop(op->b->env, &op->refusal);
    blob_bytes_unref(op->bytes);
    buf_free(&op->data);
    free(op);
}

static void free_all(struct blobs *b)
{
    while (!TAILQ_EMPTY(&b->ops)) {
        blob_op_free(TAILQ_FIRST(&b->ops));
    }
    blob_ins_free(b);
    blob_index_free(b);
    TAILQ_CONCAT(&b->files, &b->spares, link);
    while (!TAILQ_EMPTY(&b->files)) {
        blob_file_free(TAILQ_FIRST(&b->files));
    }
    free(b);
}

bool blob_op_goes_on(struct blob_op *op)
{
    struct blobs *b = op->b;
    if (!b->closed) {
        return true;
    }
    blob_op_free(op);
    if (TAILQ_EMPTY(&b->ops)) {
        free_all(b);
    }
    return false;
}

void blobs_close(struct blobs *b)
{
    if (b == NULL) {
        return;
    }
    env_timer_stop(b->env, &b->tend);
    b->closed = true;
    struct blob_op *op, *next;
    for (op = TAILQ_FIRST(&b->ops); op != NULL; op = next) {
        next = TAILQ_NEXT(op, link);
        if (op->why != ST_OK) { /* not on its way to the disk */
            blob_op_free(op);
        }
    }
    blob_bytes_unref(b->moving_bytes);
    b->moving_bytes = NULL;
    if (TAILQ_EMPTY(&b->ops) || !env_disk_alive(b->env)) {
        free_all(b);
    }
}

void blobs_fail(struct blobs *b, enum status why)
{
    if (b->failed) {
        return;
    }
    b->failed = true;
    env_timer_stop(b->env, &b->tend);
    log_error(b->env->log, "blobs", "failed", "status=%s", status_name(why));
    b->o.on_failed(b->o.ctx, why);
}

/* ---- room ---- */

static void note_full(struct blobs *b, bool full)
{
    if (full == b->full) {
        return;
    }
    b->full = full;
    if (full) {
        log_error(b->env->log, "blobs", "disk-full", "free=%llu reserve=%llu",
                  (unsigned long long)b->free_bytes,
                  (unsigned long long)b->o.reserve);
    } else {
        log_info(b->env->log, "blobs", "disk-has-room", "free=%llu",
                 (unsigned long long)b->free_bytes);
    }
    if (b->o.on_full != NULL) {
        b->o.on_full(b->o.ctx, full);
    }
}

static void ask_free(struct blobs *b)
{
    int64_t now = env_now_us(b->env);
    if (b->asked && now - b->asked_us < ASK_AGAIN_US &&
        b->spent < ASK_AGAIN_BYTES) {
        return;
    }
    uint64_t bytes;
    if (b->env->ops->disk_free(b->env, &bytes) == ST_OK) {
        b->free_bytes = bytes;
    }
    /* What has its place but is not written yet is not counted by the disk. */
    b->spent = 0;
    struct blob_in *in;
    TAILQ_FOREACH(in, &b->ins, of_all)
    {
        b->spent += in->ref.len - blobs_settled_bytes(in);
    }
    b->asked = true;
    b->asked_us = now;
}

enum status blobs_room_beside(struct blobs *b, uint64_t bytes, uint64_t reserve)
{
    if (b->failed || b->closed) {
        return ST_STOPPING;
    }
    ask_free(b);
    if (b->refused_us != 0 && env_now_us(b->env) - b->refused_us < REFUSED_US) {
        return ST_NO_SPACE;
    }
    if (b->free_bytes < b->spent + bytes + reserve) {
        b->asked = false; /* the next one asks again */
        return ST_NO_SPACE;
    }
    return ST_OK;
}

void blobs_refused(struct blobs *b)
{
    b->asked = false;
    b->refused_us = env_now_us(b->env);
    note_full(b, true);
}

/* Once full it is so for all, until there is some more room: a value that is
 * refused for its size must not wait for smaller ones to fill the rest, and
 * who is told to be full not be told otherwise at once. */
enum status blobs_room(struct blobs *b, uint64_t bytes)
{
    uint64_t more = b->full ? b->o.reserve / FULL_SHARE : 0;
    enum status s = blobs_room_beside(b, bytes, b->o.reserve + more);
    if (s != ST_STOPPING) {
        note_full(b, s == ST_NO_SPACE);
    }
    return s;
}

/* ---- references ---- */

void blob_die(struct blobs *b, struct blob *blob)
{
    struct blob_file *f = blob->file;
    blobs_collect_forget(b, blob);
    blob_unplace(b, blob);
    blob_remove(b, blob);
    if (b->settled) {
        blob_file_tend(f);
        blobs_collect(b);
    }
}

static void stop_being_loose(struct blobs *b, struct blob *blob)
{
    if (blob->loose) {
        blob->loose = false;
        TAILQ_REMOVE(&b->loose, blob, of_loose);
    }
}

bool blobs_has(const struct blobs *b, const struct blob_ref *ref)
{
    const struct blob *blob = blob_find(b, &ref->id);
    return blob != NULL && blob->file != NULL && !blob->damaged &&
           blob_ref_equal(&blob->ref, ref);
}

uint64_t blobs_seed(const struct blobs *b, const struct blob_ref *ref)
{
    return blobs_has(b, ref) ? blob_find(b, &ref->id)->ref.seed : 0;
}

bool blobs_refer(struct blobs *b, const struct blob_ref *ref)
{
    struct blob *blob = blob_find(b, &ref->id);
    if (blob == NULL) {
        blob = blob_add(b, ref);
    }
    stop_being_loose(b, blob);
    blob->refs++;
    return blobs_has(b, ref);
}

void blobs_unrefer(struct blobs *b, const struct blob_ref *ref)
{
    struct blob *blob = blob_find(b, &ref->id);
    assert(blob != NULL && blob->refs > 0);
    if (--blob->refs > 0) {
        return;
    }
    if (blob->file == NULL) {
        blob_remove(b, blob);
    } else {
        blob_die(b, blob);
    }
}

static void drop_orphans(struct blobs *b, int64_t born_before_us)
{
    struct blob *blob;
    uint64_t count = 0;
    while ((blob = TAILQ_FIRST(&b->loose)) != NULL &&
           blob->born_us < born_before_us) {
        stop_being_loose(b, blob);
        blob_die(b, blob);
        count++;
    }
    b->stats.orphans += count;
    if (count > 0) {
        log_info(b->env->log, "blobs", "orphans-dropped", "count=%llu",
                 (unsigned long long)count);
    }
}

/* ---- time ---- */

static void on_tend(struct env_timer *t)
{
    struct blobs *b = t->data;
    drop_orphans(b, env_now_us(b->env) - BLOB_ORPHAN_US);
    if (b->full) {
        blob_file_end(b);
        b->asked = false;
        enum status s = blobs_room(b, 0); /* tells when it is over */
        assert(s != ST_OK || !b->full);
    }
    blob_spares_tend(b);
    blobs_collect(b);
    if (!b->failed) {
        env_timer_start(b->env, &b->tend, BLOB_TEND_US);
    }
}

void blobs_settle(struct blobs *b)
{
    assert(!b->settled);
    b->settled = true;
    drop_orphans(b, INT64_MAX);
    struct blob_file *f, *next;
    for (f = TAILQ_FIRST(&b->files); f != NULL; f = next) {
        next = TAILQ_NEXT(f, link);
        blob_file_tend(f);
    }
    b->tend = (struct env_timer){.fn = on_tend, .data = b};
    env_timer_start(b->env, &b->tend, BLOB_TEND_US);
    blobs_collect(b);
}

/* ---- figures ---- */

void blobs_get_stats(const struct blobs *b, struct blobs_stats *out)
{
    const struct blob_file *f;
    *out = b->stats;
    out->open = b->open;
    TAILQ_FOREACH(f, &b->files, link)
    {
        out->files++;
        out->live_bytes += f->live;
        out->dead_bytes += f->end > f->live ? f->end - f->live : 0;
    }
}

int64_t blobs_pending_age_us(const struct blobs *b)
{
    const struct blob_in *in;
    int64_t oldest = INT64_MAX;
    TAILQ_FOREACH(in, &b->ins, of_all)
    {
        if (in->ops > 0 || in->complete) {
            oldest = in->since_us < oldest ? in->since_us : oldest;
        }
    }
    return oldest == INT64_MAX ? 0 : env_now_us(b->env) - oldest;
}
