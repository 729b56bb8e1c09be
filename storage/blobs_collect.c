/*
 * Collection: sealed files that are dead for more than half, or damaged beside
 * their blobs, give their living blobs to the newest file, one blob at a time,
 * and go. Only the index changes, so nobody waits and nobody need be told. It
 * takes of the reserve that others leave alone, and rests while even that is
 * short.
 */
#include "storage/blobs_private.h"

#include <assert.h>

static bool worth_it(const struct blob_file *f)
{
    return f->sealed && !f->removing && !f->stuck && f->live > 0 &&
           (f->worn || 2 * f->live < f->end);
}

static bool is_better(const struct blob_file *f, const struct blob_file *best)
{
    return f->worn != best->worn ? f->worn
                                 : f->end - f->live > best->end - best->live;
}

/* A worn one, or the one with the most to gain. */
static struct blob_file *choose(const struct blobs *b)
{
    struct blob_file *f, *best = NULL;
    TAILQ_FOREACH(f, &b->files, link)
    {
        if (worth_it(f) && (best == NULL || is_better(f, best))) {
            best = f;
        }
    }
    return best;
}

void blobs_collect_forget(struct blobs *b, const struct blob *blob)
{
    if (b->moving == blob) {
        b->moving = NULL; /* what is under way comes to nothing */
    }
}

/* The copy is synced, or there was no room for it. */
static void on_moved(void *ctx, enum status s)
{
    struct blobs *b = ctx;
    struct blob_in *in = b->moving_in;
    struct blob *blob = b->moving;
    b->moving_in = NULL;
    b->moving = NULL;
    blob_bytes_unref(b->moving_bytes);
    b->moving_bytes = NULL;
    if (s != ST_OK) {
        b->victim = NULL; /* tried again when there is room */
        return;
    }
    if (blob != NULL) {
        blob_unplace(b, blob);
        blob_place(b, blob, in->file, in->offset);
        b->stats.moved++;
        b->stats.moved_bytes += in->ref.len;
    }
    blobs_collect(b);
}

static void write_copy(struct blobs *b)
{
    struct blob_sink sink = {.on_done = on_moved, .ctx = b};
    struct blob *blob = b->moving;
    uint64_t size = blob_blocks((uint64_t)BLOB_HEAD + blob->ref.len);
    enum status s = blobs_room_beside(b, size, b->o.reserve / 2);
    if (s == ST_OK) {
        s = blob_in_new(b, &blob->ref, &sink, &b->moving_in);
    }
    if (s != ST_OK) {
        b->moving = NULL;
        b->victim = NULL;
        blob_bytes_unref(b->moving_bytes);
        b->moving_bytes = NULL;
        return;
    }
    b->moving_in->moving = true;
    blobs_put(b->moving_in, b->moving_bytes);
}

static void on_read(void *ctx, enum status s, struct blob_bytes *bytes)
{
    struct blobs *b = ctx;
    b->move_reads = false;
    b->moving_bytes = bytes;
    if (s == ST_OK && b->moving != NULL) {
        write_copy(b);
        return;
    }
    blob_bytes_unref(bytes);
    b->moving_bytes = NULL;
    if (s == ST_NO_MEMORY) { /* or descriptors: tried again in a while */
        b->moving = NULL;
        b->victim = NULL;
        return;
    }
    if (b->moving != NULL && b->victim != NULL) {
        b->victim->stuck = true; /* damaged: it stays as evidence */
        b->victim = NULL;
    }
    b->moving = NULL;
    blobs_collect(b);
}

/* Moves the next blob of the victim; false if there is none. */
static bool move_next(struct blobs *b)
{
    struct blob *blob = TAILQ_FIRST(&b->victim->blobs);
    if (blob == NULL) {
        return false;
    }
    b->moving = blob;
    b->move_reads = true;
    if (blobs_read(b, &blob->ref, on_read, b) != ST_OK) {
        b->moving = NULL;
        b->move_reads = false;
        b->victim->stuck = true;
        return false;
    }
    return true;
}

void blobs_collect(struct blobs *b)
{
    if (!b->settled || b->failed || b->closed || b->move_reads ||
        b->moving_in != NULL) {
        return;
    }
    for (;;) {
        struct blob_file *f = b->victim;
        if (f != NULL && !b->failed && move_next(b)) {
            return;
        }
        b->victim = NULL;
        if (f != NULL) {
            blob_file_tend(f);
        }
        b->victim = choose(b);
        if (b->victim == NULL) {
            return;
        }
    }
}
