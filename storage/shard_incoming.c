/*
 * Receiving blobs, and asking for those that an entry refers to and that are
 * not here (design: shard_blobs.c).
 *
 * Only the primary of the tablet's epoch is listened to. A piece goes to the
 * disk as it comes; what is in memory of it is bounded by the sender's window,
 * which goes on when the disk has taken the bytes, and the number of blobs
 * under way has a limit. A blob whose pieces stop coming is given up after a
 * while; what was written of it is dead.
 */
#include "storage/shard_blobs.h"

#include <stdlib.h>

#define ASK_AGAIN_US 1000000

/* ---- answers ---- */

static void send_state(struct shard_blobs *k, struct replica to,
                       const struct msg_blob_state *m)
{
    struct wire_msg out = {.type = MSG_BLOB_STATE, .u.blob_state = *m};
    (void)bulk_send(k, to, &out); /* if it is lost: asked again by a piece */
}

static void say(struct incoming *x, enum status s, uint32_t taken, bool synced)
{
    struct msg_blob_state m = {.tablet = x->tablet,
                               .epoch = x->epoch,
                               .blob = x->ref.id,
                               .status = (uint16_t)s,
                               .taken = taken,
                               .synced = synced};
    send_state(x->k, x->from, &m);
}

static void answer(struct shard_blobs *k, const struct env_peer *from,
                   const struct msg_blob_piece *p, enum status s,
                   uint32_t taken)
{
    struct msg_blob_state m = {.tablet = p->tablet,
                               .epoch = p->epoch,
                               .blob = p->blob,
                               .status = (uint16_t)s,
                               .taken = taken,
                               .synced = s == ST_OK && taken == p->length};
    send_state(k, (struct replica){from->node, from->store}, &m);
}

/* ---- what is wanted ---- */

static void ask(struct shard_blobs *k, struct tablet *t, int64_t now_us)
{
    const struct tablet_config *c = replica_config(t->core);
    uint32_t asked = 0;
    for (uint32_t i = 0; i < t->blobs.wanted_count && asked < ASKS_MAX; i++) {
        struct wanted_blob *w = &t->blobs.wanted[i];
        asked++;
        if (w->asked_us != 0 && now_us - w->asked_us < ASK_AGAIN_US) {
            continue;
        }
        uint32_t taken = 0;
        const struct incoming *x;
        TAILQ_FOREACH(x, &k->incoming, link)
        {
            if (id128_equal(x->ref.id, w->ref.id)) {
                taken = blobs_taken(x->in);
            }
        }
        struct wire_msg m = {.type = MSG_BLOB_ASK};
        m.u.blob_ask = (struct msg_blob_ask){
            t->id, c->epoch, w->ref.id, w->ref.len, w->ref.digest, taken};
        w->asked_us = now_us;
        (void)bulk_send(k, c->primary, &m);
    }
}

static void look_again(struct shard_blobs *k, struct tablet *t)
{
    struct tablet_blobs *b = &t->blobs;
    uint32_t left = 0;
    if (b->wanted_count == 0) {
        return;
    }
    for (uint32_t i = 0; i < b->wanted_count; i++) {
        if (!blobs_has(k->blobs, &b->wanted[i].ref)) {
            b->wanted[left++] = b->wanted[i];
        }
    }
    bool come = left < b->wanted_count;
    b->wanted_count = left;
    if (left == 0) {
        struct event e = {.kind = EVENT_BLOBS_HERE};
        shard_step(k->s, t, &e);
    } else if (come) {
        ask(k, t, env_now_us(k->s->env));
    }
}

static void want(struct shard_blobs *k, struct tablet *t,
                 const struct blob_ref *ref)
{
    struct tablet_blobs *b = &t->blobs;
    for (uint32_t i = 0; i < b->wanted_count; i++) {
        if (id128_equal(b->wanted[i].ref.id, ref->id)) {
            return;
        }
    }
    if (b->wanted_count < WANTED_MAX) {
        b->wanted[b->wanted_count++] = (struct wanted_blob){.ref = *ref};
    }
    bulk_tick(k);
}

/* The epoch's one primary speaks, of the epoch that this replica is in. */
static bool is_from_primary(const struct tablet *t, const struct env_peer *from,
                            uint64_t epoch)
{
    const struct tablet_config *c = replica_config(t->core);
    enum replica_role role = replica_role_of(t->core);
    return (role == REPLICA_SECONDARY || role == REPLICA_LEARNER) &&
           epoch == c->epoch && from->node == c->primary.node &&
           id128_equal(from->store, c->primary.store) &&
           incarnation_equal(from->incarnation, c->primary_incarnation);
}

bool shard_blobs_prepare(struct shard *s, struct tablet *t,
                         const struct env_peer *from,
                         const struct msg_prepare *m)
{
    struct shard_blobs *k = s->blobs;
    bool refers = blob_command_refers(m->payload);
    if (m->only_match || (t->blobs.wanted_count == 0 && !refers) ||
        !is_from_primary(t, from, m->epoch) ||
        replica_has_entry(t->core, m->entry)) {
        return false;
    }
    struct arena a = {0};
    struct blob_ref *refs = NULL;
    uint32_t count = blob_command_refs(m->payload, &a, &refs);
    for (uint32_t i = 0; i < count; i++) {
        if (!blobs_has(k->blobs, &refs[i])) {
            want(k, t, &refs[i]);
        }
    }
    arena_free(&a);
    if (t->blobs.wanted_count > 0) {
        ask(k, t, env_now_us(s->env));
    }
    return t->blobs.wanted_count > 0;
}

/* The primary has forgotten the entry: says where this log ends, so that it
 * finds out that a snapshot is needed (R17). */
void incoming_on_gone(struct shard_blobs *k, const struct env_peer *from,
                      const struct msg_blob_state *m)
{
    struct tablet *t = shard_tablet(k->s, m->tablet);
    int64_t now = env_now_us(k->s->env);
    if (t == NULL || !is_from_primary(t, from, m->epoch) ||
        t->blobs.wanted_count == 0 ||
        (t->blobs.gone_us != 0 && now - t->blobs.gone_us < ASK_AGAIN_US)) {
        return;
    }
    struct event e = {.kind = EVENT_BLOBS_HERE};
    t->blobs.gone_us = now;
    t->blobs.wanted_count = 0;
    shard_step(k->s, t, &e);
}

void incoming_on_epoch(struct shard_blobs *k, struct tablet *t)
{
    (void)k; /* what is under way may be gone on with by the next primary */
    t->blobs.wanted_count = 0;
}

/* ---- receiving ---- */

static void incoming_free(struct incoming *x)
{
    struct shard_blobs *k = x->k;
    TAILQ_REMOVE(&k->incoming, x, link);
    k->incoming_count--;
    blobs_drop(x->in);
    free(x);
}

void incoming_free_all(struct shard_blobs *k)
{
    while (!TAILQ_EMPTY(&k->incoming)) {
        incoming_free(TAILQ_FIRST(&k->incoming));
    }
}

static void on_written(void *ctx, uint32_t bytes)
{
    struct incoming *x = ctx;
    if (bytes < x->ref.len) {
        say(x, ST_OK, bytes, false);
    }
}

static void on_done(void *ctx, enum status s)
{
    struct incoming *x = ctx;
    struct shard_blobs *k = x->k;
    x->in = NULL;
    if (s == ST_OK) {
        say(x, ST_OK, x->ref.len, true);
    } else {
        say(x, s, 0, false);
    }
    incoming_free(x);
    for (uint32_t i = 0; s == ST_OK && i < k->s->tablet_count; i++) {
        look_again(k, k->s->tablets[i]);
    }
}

static void refuse(struct shard_blobs *k, const struct env_peer *from,
                   const struct msg_blob_piece *p, enum status s)
{
    char id[33];
    id128_format(p->blob, id);
    log_warn(k->s->env->log, "blobs", "piece-refused",
             "tablet=%" PRIu32 " from=%" PRIu32 " blob=%s offset=%" PRIu32
             " status=%s",
             p->tablet, from->node, id, p->offset, status_name(s));
    answer(k, from, p, s, 0);
}

static struct incoming *find(const struct shard_blobs *k, struct id128 id)
{
    struct incoming *x;
    TAILQ_FOREACH(x, &k->incoming, link)
    {
        if (id128_equal(x->ref.id, id)) {
            return x;
        }
    }
    return NULL;
}

static struct blob_ref ref_of(const struct msg_blob_piece *p)
{
    return (struct blob_ref){
        .id = p->blob, .len = p->length, .digest = p->digest, .seed = p->seed};
}

/* Begins the blob of P, its first piece; NULL: it has been answered. */
static struct incoming *begin(struct shard_blobs *k,
                              const struct env_peer *from,
                              const struct msg_blob_piece *p)
{
    struct blob_ref ref = ref_of(p);
    if (p->offset != 0) {
        answer(k, from, p, ST_MORE, 0); /* from the beginning, please */
        return NULL;
    }
    if (k->incoming_count >= INCOMING_MAX) {
        refuse(k, from, p, ST_BUSY);
        return NULL;
    }
    struct incoming *x = xcalloc(1, sizeof(*x));
    struct blob_sink sink = {on_written, on_done, x};
    enum status s = blobs_begin(k->blobs, &ref, &sink, &x->in);
    if (s != ST_OK) {
        free(x);
        refuse(k, from, p, s);
        return NULL;
    }
    x->k = k;
    x->ref = ref;
    TAILQ_INSERT_TAIL(&k->incoming, x, link);
    k->incoming_count++;
    bulk_tick(k);
    return x;
}

/* The part of P that is new; false: it is answered, for there is none. */
static bool new_part(struct shard_blobs *k, const struct env_peer *from,
                     const struct msg_blob_piece *p, const struct incoming *x,
                     struct slice *out)
{
    uint32_t taken = blobs_taken(x->in);
    uint64_t end = (uint64_t)p->offset + p->bytes.len;
    if (p->offset > taken) {
        answer(k, from, p, ST_MORE, taken); /* something was lost */
        return false;
    }
    if (end <= taken) {
        /* Sent again: where it can go on. All of it is waited for. */
        if (taken < p->length) {
            answer(k, from, p, ST_MORE, taken);
        }
        return false;
    }
    size_t skip = taken - p->offset;
    *out = slice_make(p->bytes.data + skip, p->bytes.len - skip);
    return true;
}

static void take(struct shard_blobs *k, const struct env_peer *from,
                 const struct msg_blob_piece *p)
{
    struct incoming *x = find(k, p->blob);
    struct blob_ref ref = ref_of(p);
    struct slice part;
    if (x != NULL &&
        (!blob_ref_equal(&x->ref, &ref) || x->ref.seed != ref.seed)) {
        refuse(k, from, p, ST_INVALID);
        return;
    }
    if (x == NULL) {
        x = begin(k, from, p);
    }
    if (x == NULL) {
        return;
    }
    x->tablet = p->tablet;
    x->epoch = p->epoch;
    x->from = (struct replica){from->node, from->store};
    x->last_us = env_now_us(k->s->env);
    if (!new_part(k, from, p, x, &part)) {
        return;
    }
    enum status s = blobs_add(x->in, part);
    if (s != ST_OK) {
        incoming_free(x);
        refuse(k, from, p, s);
    } else if (blobs_settled_bytes(x->in) == blobs_taken(x->in)) {
        say(x, ST_OK, blobs_taken(x->in), false); /* no write will tell */
    }
}

void incoming_on_piece(struct shard_blobs *k, const struct env_peer *from,
                       const struct msg_blob_piece *p)
{
    struct tablet *t = shard_tablet(k->s, p->tablet);
    struct blob_ref ref = ref_of(p);
    if (t == NULL || p->epoch > replica_config(t->core)->epoch) {
        cluster_want_map(k->s);
        return;
    }
    if (!is_from_primary(t, from, p->epoch)) {
        return; /* R3, R4; an honest sender hears of the epoch elsewhere */
    }
    if (p->length <= LIMIT_VALUE_LOGGED || p->length > LIMIT_VALUE ||
        p->bytes.len == 0 || (uint64_t)p->offset + p->bytes.len > p->length) {
        refuse(k, from, p, ST_INVALID);
    } else if (blobs_has(k->blobs, &ref)) {
        answer(k, from, p, ST_OK, p->length);
    } else {
        take(k, from, p);
    }
}

/* ---- time ---- */

void incoming_on_tick(struct shard_blobs *k, int64_t now_us)
{
    struct incoming *x, *next;
    for (x = TAILQ_FIRST(&k->incoming); x != NULL; x = next) {
        next = TAILQ_NEXT(x, link);
        if (blobs_taken(x->in) < x->ref.len &&
            now_us - x->last_us >= INCOMING_IDLE_US) {
            incoming_free(x);
        }
    }
    for (uint32_t i = 0; i < k->s->tablet_count; i++) {
        struct tablet *t = k->s->tablets[i];
        if (t->blobs.wanted_count > 0) {
            ask(k, t, now_us);
            bulk_tick(k);
        }
    }
}
