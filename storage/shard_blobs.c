/*
 * A shard's part in large values (R6, second half): design; references,
 * recovery, room, time.
 *
 * A command that brings values above LIMIT_VALUE_LOGGED to a primary becomes an
 * entry in two steps. First the values are written to the blob log here and,
 * at the same time, pushed in pieces over the bulk lane to all who stream:
 * members, shadow members and learners (shard_upload.c). Each of them writes
 * the pieces as they come and reports the blob when it is synced
 * (shard_incoming.c). When it is synced here, and there by those whom commits
 * wait for, the command with references in place of the values is given to the
 * replica like any other. A receiver that makes no progress for `stall` is
 * waited for no more: the entry goes out, and it is the entry that it then
 * owes (R11). Who lacks what an entry refers to takes neither it nor what comes
 * after it, asks the primary for the blob, and then says where its log ends, so
 * that the primary sends from there. So a record is written to a log only after
 * its blobs are synced, everywhere.
 *
 * What fails: the client goes away: nothing changes. The epoch ends: the
 * command has no seq yet and is refused, or goes on alone where this replica
 * is primary again. Messages are lost: pieces carry their offsets, states say
 * where the next one begins, and what hears nothing for a second begins again
 * from there. A retry of a request draws new names; the blobs of the try that
 * has no effect are nobody's when its entry is forgotten.
 *
 * References keep blobs: those of entries as long as the entry is in memory,
 * that is, while it may be sent or replayed; those of cells until the tablet
 * has a durable checkpoint of a state without them, and no snapshot that has
 * them is being read; those of commands under way. So whatever recovery may
 * look for is there, and what is missing is damage (R16).
 */
#include "storage/shard_blobs.h"

#include "storage/shard_repair.h"

#include <stdlib.h>
#include <string.h>

/* Dead blobs that wait for checkpoints: so many bytes, or this part of those
 * that live, are no reason to write one. */
#define HELD_BYTES MIB(256)
#define HELD_SHARE 4
/* On a full disk any are, but for the tablet's last one being so young. */
#define FULL_PACE_US 1000000

/* ---- references ---- */

static void on_entry_blob(void *ctx, uint32_t tablet,
                          const struct blob_ref *ref, int delta)
{
    struct shard *s = ctx;
    (void)tablet;
    if (delta > 0) {
        (void)blobs_refer(s->blobs->blobs, ref); /* recovery looks itself */
    } else {
        blobs_unrefer(s->blobs->blobs, ref);
    }
}

/* In the order of SEQ: one of a lower seq, as of a state that was given up for
 * another, waits as long as those before it. */
static void push_dead(struct tablet_blobs *b, struct dead_blob d)
{
    if (b->dead_count == b->dead_cap) {
        uint32_t cap = b->dead_cap == 0 ? 64 : 2 * b->dead_cap;
        struct dead_blob *ring = xcalloc(cap, sizeof(*ring));
        for (uint32_t i = 0; i < b->dead_count; i++) {
            ring[i] = b->dead[(b->dead_head + i) & (b->dead_cap - 1)];
        }
        free(b->dead);
        b->dead = ring;
        b->dead_cap = cap;
        b->dead_head = 0;
    }
    uint32_t at = (b->dead_head + b->dead_count) & (b->dead_cap - 1);
    uint64_t last =
        b->dead_count == 0 ? 0 : b->dead[(at - 1) & (b->dead_cap - 1)].seq;
    d.seq = d.seq < last ? last : d.seq;
    b->dead[at] = d;
    b->dead_count++;
    b->dead_ever++;
    b->dead_bytes += d.ref.len;
}

void shard_blobs_on_place(struct tablet *t, const struct place *p, int delta)
{
    struct shard_blobs *k = t->shard->blobs;
    struct blob_ref ref = blob_of_place(p);
    if (p->tag != VALUE_BLOB) {
        return;
    }
    if (delta > 0) {
        (void)blobs_refer(k->blobs, &ref);
        return;
    }
    if (t->blobs.dies_unnamed) {
        blobs_unrefer(k->blobs, &ref);
        return;
    }
    struct dead_blob d = {ref, state_applied(replica_state(t->core)).seq};
    d.seq = t->blobs.dies_at != 0 ? t->blobs.dies_at : d.seq;
    push_dead(&t->blobs, d);
}

/* The oldest state of T, none later than SEQ, that is still looked at. */
static uint64_t oldest_seq(const struct tablet *t, uint64_t seq)
{
    const struct shard *s = t->shard;
    for (uint32_t i = 0; i < SNAPSHOTS_MAX; i++) {
        const struct pinned *p = &s->pinned[i];
        if (p->id != 0 && p->tablet == t->id &&
            state_snapshot_name(p->snapshot).seq < seq) {
            seq = state_snapshot_name(p->snapshot).seq;
        }
    }
    return seq;
}

static void pop_dead(struct tablet *t)
{
    struct tablet_blobs *b = &t->blobs;
    struct blob_ref ref = b->dead[b->dead_head].ref;
    b->dead_head = (b->dead_head + 1) & (b->dead_cap - 1);
    b->dead_count--;
    b->dead_bytes -= ref.len;
    blobs_unrefer(t->shard->blobs->blobs, &ref);
}

void shard_blobs_release(struct tablet *t)
{
    const struct tablet_blobs *b = &t->blobs;
    if (b->dead_count == 0) {
        return;
    }
    uint64_t seq = oldest_seq(t, t->checkpoint.seq);
    while (b->dead_count > 0 && b->dead[b->dead_head].seq <= seq) {
        pop_dead(t);
    }
}

void shard_blobs_on_void(struct tablet *t)
{
    t->blobs.dead_void = t->blobs.dead_ever;
}

void shard_blobs_release_void(struct tablet *t)
{
    const struct tablet_blobs *b = &t->blobs;
    uint64_t seq = oldest_seq(t, UINT64_MAX);
    while (b->dead_count > 0 && b->dead_ever - b->dead_count < b->dead_void &&
           b->dead[b->dead_head].seq <= seq) {
        pop_dead(t);
    }
}

/* Bytes of T's that a checkpoint would set free now, or at least some. */
static uint64_t freed_by_checkpoint(const struct tablet *t, bool full)
{
    const struct tablet_blobs *b = &t->blobs;
    uint64_t applied = state_applied(replica_state(t->core)).seq;
    int64_t age = env_now_us(t->shard->env) - t->checkpoint_us;
    bool now = b->dead_count > 0 && b->dead[b->dead_head].seq <= applied &&
               (!full || age >= FULL_PACE_US);
    return now ? b->dead_bytes : 0;
}

struct tablet *shard_blobs_wants_checkpoint(struct shard *s)
{
    struct blobs_stats st;
    struct tablet *most = NULL;
    uint64_t held = 0, best = 0;
    for (uint32_t i = 0; i < s->tablet_count; i++) {
        struct tablet *t = s->tablets[i];
        uint64_t bytes = freed_by_checkpoint(t, s->host.full);
        held += t->blobs.dead_bytes;
        most = bytes > best ? t : most;
        best = bytes > best ? bytes : best;
    }
    if (s->host.full) {
        return most;
    }
    if (held <= HELD_BYTES) {
        return NULL;
    }
    blobs_get_stats(s->blobs->blobs, &st);
    return held > st.live_bytes / HELD_SHARE ? most : NULL;
}

void shard_blobs_free_tablet(struct tablet *t)
{
    free(t->blobs.dead);
}

/* ---- damage ---- */

static void on_damaged(void *ctx, const struct blob_ref *ref)
{
    repair_blob(ctx, ref, "blobs");
}

/* ---- recovery ---- */

static void tell_missing(const struct tablet *t, const struct blob_ref *ref)
{
    char id[33];
    id128_format(ref->id, id);
    log_error(t->shard->env->log, "blobs", "blob-missing",
              "tablet=%" PRIu32 " blob=%s length=%" PRIu32, t->id, id,
              ref->len);
}

/* An entry's, and no cell has it (that would be repaired). */
static void check_entry(void *ctx, const struct blob_ref *ref)
{
    struct tablet *t = ctx;
    if (t->blobs.whole && !blobs_has(t->shard->blobs->blobs, ref) &&
        !repair_has_blob(t, ref)) {
        tell_missing(t, ref);
        t->blobs.whole = false;
    }
}

static void check_cell(void *ctx, struct slice key, const struct place *p)
{
    struct tablet *t = ctx;
    struct blob_ref ref = blob_of_place(p);
    if (p->tag == VALUE_BLOB && t->blobs.whole &&
        !blobs_has(t->shard->blobs->blobs, &ref)) {
        tell_missing(t, &ref);
        t->blobs.whole = repair_cell(t, key, p, "start");
    }
}

bool shard_blobs_whole(struct shard *s, struct tablet *t)
{
    struct state_counts n;
    (void)s;
    t->blobs.whole = true;
    state_count(replica_state(t->core), &n);
    if (n.placed == 0) {
        return true; /* and most have a great many cells */
    }
    struct state_walk *w = state_walk_new(replica_state(t->core));
    (void)state_walk_on(w, SIZE_MAX, check_cell, t);
    state_walk_free(w);
    replica_each_blob(t->core, check_entry, t);
    return t->blobs.whole;
}

static void on_failed(void *ctx, enum status why)
{
    shard_fatal(ctx, why, "the blob log could not be written (R18)");
}

static void on_full(void *ctx, bool full)
{
    struct shard *s = ctx;
    s->blobs->full = full;
    shard_tell_full(s);
}

static void on_tick(struct env_timer *timer)
{
    struct shard_blobs *k = timer->data;
    int64_t now = env_now_us(k->s->env);
    k->ticking = false;
    if (k->s->fatal || k->s->bulk == NULL) {
        return;
    }
    upload_on_tick(k, now);
    incoming_on_tick(k, now);
    if (!TAILQ_EMPTY(&k->uploads) || !TAILQ_EMPTY(&k->pushes) ||
        !TAILQ_EMPTY(&k->incoming)) {
        bulk_tick(k);
    }
}

void bulk_tick(struct shard_blobs *k)
{
    if (!k->ticking && !k->s->fatal) {
        k->ticking = true;
        env_timer_start(k->s->env, &k->tick, BULK_TICK_US);
    }
}

enum status shard_blobs_open(struct shard *s, struct err *err)
{
    struct shard_blobs *k = xcalloc(1, sizeof(*k));
    struct blobs_report report;
    struct blobs_options o = {
        .store = s->store->id,
        .key = {s->store->record_key[0], s->store->record_key[1]},
        .file_size = s->o.blob_file_size,
        .spares = BLOB_SPARES_DEFAULT,
        .chunk = s->o.blob_piece / BLOB_BLOCK * BLOB_BLOCK,
        .folder = s->folder,
        .on_failed = on_failed,
        .on_full = on_full,
        .on_damaged = on_damaged,
        .ctx = s,
    };
    k->s = s;
    k->tick = (struct env_timer){.fn = on_tick, .data = k};
    TAILQ_INIT(&k->uploads);
    TAILQ_INIT(&k->pushes);
    TAILQ_INIT(&k->incoming);
    s->blobs = k;
    enum status st = blobs_open(s->env, &o, &report, &k->blobs, err);
    if (st != ST_OK) {
        return st;
    }
    s->host.on_blob = on_entry_blob;
    log_info(s->env->log, "shard", "blobs-recovered",
             "files=%" PRIu32 " blobs=%" PRIu64 " bytes=%" PRIu64
             " walked=%" PRIu64 " buffered=%d",
             report.files, report.blobs, report.bytes, report.walked,
             (int)report.buffered);
    return ST_OK;
}

void shard_blobs_settle(struct shard *s)
{
    blobs_settle(s->blobs->blobs);
}

void shard_blobs_free(struct shard *s)
{
    struct shard_blobs *k = s->blobs;
    if (k == NULL) {
        return;
    }
    env_timer_stop(s->env, &k->tick);
    upload_free_all(k);
    incoming_free_all(k);
    blobs_close(k->blobs);
    for (uint32_t i = 0; i < PIECE_STARTS; i++) {
        buf_free(&k->starts[i].frame);
    }
    free(k);
    s->blobs = NULL;
}

/* ---- the rest of the shard ---- */

bool shard_blobs_full(const struct shard *s)
{
    return s->blobs->full;
}

void shard_blobs_figures(const struct shard *s, struct storage_figures *out)
{
    struct blobs_stats st;
    blobs_get_stats(s->blobs->blobs, &st);
    out->blob_written = st.bytes + st.moved_bytes;
    out->blob_moved = st.moved_bytes;
    out->blob_orphans = st.orphans;
    out->blobs_damaged = st.damaged;
    out->blob_files_damaged = st.files_damaged;
    out->blob_files = st.files;
    out->blob_live = st.live_bytes;
    out->blob_dead = st.dead_bytes;
}

bool shard_blob_file(const struct shard *s, size_t i, struct blobs_file *out)
{
    return blobs_file_get(s->blobs->blobs, i, out);
}

int64_t shard_blobs_pending_us(const struct shard *s)
{
    return blobs_pending_age_us(s->blobs->blobs);
}

bool bulk_send(struct shard_blobs *k, struct replica to,
               const struct wire_msg *m)
{
    if (k->s->fatal || k->s->bulk == NULL) {
        return false; /* stopping: the links are gone */
    }
    buf_clear(&k->s->out);
    wire_put(&k->s->out, m);
    return links_send(k->s->bulk, to.node, to.store, buf_slice(&k->s->out));
}

/* The start of M's frame; made once for all who are sent it. */
static struct slice piece_start(struct shard_blobs *k,
                                const struct msg_blob_piece *m)
{
    for (uint32_t i = 0; i < PIECE_STARTS; i++) {
        const struct piece_start *p = &k->starts[i];
        if (p->len == m->bytes.len && p->offset == m->offset &&
            id128_equal(p->blob, m->blob) && p->epoch == m->epoch &&
            p->tablet == m->tablet) {
            return buf_slice(&p->frame);
        }
    }
    struct piece_start *p = &k->starts[k->next_start++ % PIECE_STARTS];
    p->tablet = m->tablet;
    p->epoch = m->epoch;
    p->blob = m->blob;
    p->offset = m->offset;
    p->len = (uint32_t)m->bytes.len;
    buf_clear(&p->frame);
    wire_put_piece_start(&p->frame, m);
    return buf_slice(&p->frame);
}

bool bulk_send_piece(struct shard_blobs *k, struct replica to,
                     const struct msg_blob_piece *m,
                     const struct env_lent *bytes)
{
    if (k->s->fatal || k->s->bulk == NULL) {
        return false;
    }
    return links_send_lent(k->s->bulk, to, piece_start(k, m), bytes);
}

bool shard_blobs_on_message(struct shard *s, const struct env_peer *from,
                            const struct wire_msg *m)
{
    switch ((int)m->type) {
    case MSG_BLOB_PIECE:
        incoming_on_piece(s->blobs, from, &m->u.blob_piece);
        return true;
    case MSG_BLOB_STATE:
        upload_on_state(s->blobs, from, &m->u.blob_state);
        return true;
    case MSG_BLOB_ASK:
        upload_on_ask(s->blobs, from, &m->u.blob_ask);
        return true;
    default:
        return false;
    }
}

void shard_blobs_on_link(struct shard *s, uint32_t node, bool up)
{
    if (s->blobs != NULL && !s->fatal) {
        upload_on_link(s->blobs, node, up);
    }
}

void shard_blobs_on_epoch(struct tablet *t)
{
    upload_on_epoch(t->shard->blobs, t);
    incoming_on_epoch(t->shard->blobs, t);
}
