/*
 * A primary's part: commands with large values on their way to the blob logs,
 * and blobs on their way to others, pushed or asked for (design:
 * shard_blobs.c).
 *
 * The bytes of a command's values are copied once from its message, and from
 * there go to the disk and to all receivers. What is in memory of uploads, of
 * pushes that nobody waits for any more, and of what is read for who asked, has
 * limits; beyond them a command is refused (BUSY), the oldest push is given up,
 * an asking is not heard: it comes again.
 */
#include "storage/shard_blobs.h"

#include <stdlib.h>
#include <string.h>

/* ---- pushes ---- */

static void push_free(struct push *p)
{
    TAILQ_REMOVE(&p->k->pushes, p, link);
    blob_bytes_unref(p->bytes);
    free(p);
}

static struct push *push_new(struct shard_blobs *k, const struct tablet *t,
                             struct replica to, const struct blob_ref *ref)
{
    struct push *p = xcalloc(1, sizeof(*p));
    p->k = k;
    p->tablet = t->id;
    p->epoch = replica_config(t->core)->epoch;
    p->to = to;
    p->ref = *ref;
    p->progress_us = env_now_us(k->s->env);
    TAILQ_INSERT_TAIL(&k->pushes, p, link);
    bulk_tick(k);
    return p;
}

static struct push *push_find(const struct shard_blobs *k, uint32_t node,
                              struct id128 store, struct id128 blob)
{
    struct push *p;
    TAILQ_FOREACH(p, &k->pushes, link)
    {
        if (p->to.node == node && id128_equal(p->to.store, store) &&
            id128_equal(p->ref.id, blob)) {
            return p;
        }
    }
    return NULL;
}

static void give_back(void *ctx)
{
    blob_bytes_unref(ctx);
}

static bool send_piece(struct push *p)
{
    uint32_t left = p->ref.len - p->sent;
    uint32_t most = p->k->s->o.blob_piece;
    most = most == 0 ? LIMIT_BLOB_PIECE : most;
    uint32_t n = left < most ? left : most;
    struct msg_blob_piece m = {
        .tablet = p->tablet,
        .epoch = p->epoch,
        .blob = p->ref.id,
        .length = p->ref.len,
        .digest = p->ref.digest,
        .seed = p->ref.seed,
        .offset = p->sent,
        .bytes = slice_make(blob_bytes_data(p->bytes) + p->sent, n),
    };
    struct env_lent bytes = {m.bytes, give_back, blob_bytes_ref(p->bytes)};
    if (!bulk_send_piece(p->k, p->to, &m, &bytes)) {
        blob_bytes_unref(p->bytes);
        return false;
    }
    p->sent += n;
    return true;
}

/* Sends to NODE what its windows allow, the oldest blobs first. */
static void pump(struct shard_blobs *k, uint32_t node)
{
    struct push *p;
    uint64_t flight = 0;
    TAILQ_FOREACH(p, &k->pushes, link)
    {
        flight += p->to.node == node ? p->sent - p->taken : 0;
    }
    TAILQ_FOREACH(p, &k->pushes, link)
    {
        if (p->to.node != node || p->bytes == NULL) {
            continue;
        }
        uint32_t before = p->sent;
        while (p->sent < p->ref.len && p->sent - p->taken < PUSH_WINDOW &&
               flight < PUSH_FLIGHT && send_piece(p)) {
            flight += p->sent - before;
            before = p->sent;
        }
    }
}

/* ---- uploads ---- */

static void upload_free(struct upload *u)
{
    struct shard_blobs *k = u->k;
    struct push *p;
    TAILQ_FOREACH(p, &k->pushes, link)
    {
        p->u = p->u == u ? NULL : p->u; /* goes on by itself */
    }
    for (uint32_t i = 0; i < u->count; i++) {
        struct upload_part *x = &u->parts[i];
        if (x->in != NULL) {
            blobs_drop(x->in);
        } else if (x->bytes != NULL) {
            blobs_unrefer(k->blobs, &x->ref);
        }
        blob_bytes_unref(x->bytes);
    }
    k->upload_bytes -= u->bytes;
    TAILQ_REMOVE(&k->uploads, u, link);
    buf_free(&u->payload);
    free(u->parts);
    free(u);
}

static void drop_pushes_of(struct upload *u)
{
    struct push *p, *next;
    for (p = TAILQ_FIRST(&u->k->pushes); p != NULL; p = next) {
        next = TAILQ_NEXT(p, link);
        if (p->u == u) {
            push_free(p);
        }
    }
    u->waited = 0;
}

static void upload_fail(struct upload *u, enum status why)
{
    struct shard *s = u->k->s;
    struct request *q = u->request;
    drop_pushes_of(u);
    upload_free(u);
    requests_reply(s, q, why, NULL);
}

/* All is where it must be: the command becomes an entry, which then refers to
 * the blobs itself. */
static void consider(struct upload *u)
{
    struct shard *s = u->k->s;
    if (u->missing > 0 || u->waited > 0 || s->fatal) {
        return;
    }
    struct event e = {.kind = EVENT_COMMAND};
    struct tablet *t = u->t;
    e.u.command.payload = buf_slice(&u->payload);
    e.u.command.cookie = u->request;
    u->request = NULL;
    shard_step(s, t, &e);
    upload_free(u);
}

static void on_part_done(void *ctx, enum status st)
{
    struct upload_part *x = ctx;
    struct upload *u = x->u;
    x->in = NULL;
    if (st != ST_OK) {
        blob_bytes_unref(x->bytes);
        x->bytes = NULL;
        upload_fail(u, st);
        return;
    }
    bool here = blobs_refer(u->k->blobs, &x->ref);
    assert(here); /* R6: an entry's blobs are synced before it is */
    u->missing--;
    consider(u);
}

static void push_part(struct upload *u, const struct upload_part *x)
{
    struct replica to[REPLICA_PEERS_MAX];
    uint32_t waited;
    uint32_t count = replica_streams(u->t->core, to, &waited);
    for (uint32_t i = 0; i < count; i++) {
        if (links_peer(u->k->s->bulk, to[i].node) == NULL) {
            continue; /* it will ask */
        }
        struct push *p = push_new(u->k, u->t, to[i], &x->ref);
        p->bytes = blob_bytes_ref(x->bytes);
        if (i < waited) {
            p->u = u;
            u->waited++;
        }
        pump(u->k, to[i].node);
    }
}

static enum status begin_part(struct upload *u, const struct blob_part *from)
{
    struct upload_part *x = &u->parts[u->count];
    struct blob_sink sink = {.on_done = on_part_done, .ctx = x};
    x->u = u;
    x->ref = from->ref;
    enum status s = blobs_begin(u->k->blobs, &x->ref, &sink, &x->in);
    if (s != ST_OK) {
        return s;
    }
    x->bytes = blob_bytes_new(x->ref.len);
    memcpy(blob_bytes_data(x->bytes), from->value.data, x->ref.len);
    u->count++;
    u->missing++;
    blobs_put(x->in, x->bytes);
    return ST_OK;
}

/* Begins what C, split into ENTRY and PARTS, needs. */
static enum status begin(struct upload *u, const struct command *entry,
                         const struct blob_part *parts, uint32_t count)
{
    u->parts = xcalloc(count, sizeof(*u->parts));
    wire_encode_command(&u->payload, entry);
    enum status s = ST_OK;
    for (uint32_t i = 0; i < count && s == ST_OK; i++) {
        s = begin_part(u, &parts[i]);
    }
    for (uint32_t i = 0; i < u->count && s == ST_OK; i++) {
        push_part(u, &u->parts[i]);
    }
    return s;
}

static enum status room_for(struct shard *s, const struct tablet *t,
                            uint64_t bytes)
{
    if (s->blobs->upload_bytes + bytes > UPLOADS_BYTES) {
        return ST_BUSY;
    }
    if (beacon_table_lacks_room(s->host.beacons, t->id,
                                replica_config(t->core)->epoch, DISK_FULL)) {
        return ST_NO_SPACE;
    }
    return blobs_room(s->blobs->blobs, bytes);
}

static enum status upload_begin(struct client *c, struct tablet *t,
                                const struct wire_msg *m)
{
    struct shard *s = c->shard;
    struct shard_blobs *k = s->blobs;
    const struct command *command = &m->u.command.command;
    struct arena a = {0};
    struct command entry;
    struct blob_part *parts;
    uint32_t count = blob_command_count(command);
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < command->mutations_count; i++) {
        bytes += command->mutations[i].value.len;
    }
    enum status st = room_for(s, t, bytes);
    if (st != ST_OK) {
        return st;
    }
    blob_command_split(command, s->env, &a, &entry, &parts);
    struct upload *u = xcalloc(1, sizeof(*u));
    u->k = k;
    u->t = t;
    u->epoch = replica_config(t->core)->epoch;
    u->bytes = bytes;
    k->upload_bytes += bytes;
    TAILQ_INSERT_TAIL(&k->uploads, u, link);
    st = begin(u, &entry, parts, count);
    arena_free(&a);
    if (st == ST_OK) {
        u->request = requests_new(c, t, REQUEST_COMMAND, m->request);
        bulk_tick(k);
    } else {
        drop_pushes_of(u);
        upload_free(u);
    }
    return st;
}

/* Where the tablet is not open the replica knows what to do: it refuses, or
 * holds the command, values and all, until it is. */
bool shard_blobs_command(struct client *c, struct tablet *t,
                         const struct wire_msg *m)
{
    if (blob_command_count(&m->u.command.command) == 0 ||
        !replica_is_open(t->core)) {
        return false;
    }
    enum status st = upload_begin(c, t, m);
    if (st != ST_OK) {
        shard_send_error(c, m->request, st, t);
    }
    return true;
}

/* ---- what receivers say ---- */

/* P, which ends here, is waited for no more. */
static void push_end(struct push *p)
{
    struct upload *u = p->u;
    push_free(p);
    if (u != NULL) {
        assert(u->waited > 0);
        u->waited--;
        consider(u);
    }
}

/* P goes on, or not, but nobody waits for it. */
static void stop_waiting(struct push *p)
{
    struct upload *u = p->u;
    p->u = NULL;
    if (u != NULL) {
        u->waited--;
        consider(u);
    }
}

static void on_refused(struct push *p, enum status why)
{
    struct upload *u = p->u;
    log_warn(p->k->s->env->log, "blobs", "push-refused",
             "tablet=%" PRIu32 " to=%" PRIu32 " status=%s", p->tablet,
             p->to.node, status_name(why));
    if (why == ST_NO_SPACE && u != NULL) {
        upload_fail(u, ST_NO_SPACE); /* with P */
    } else {
        push_end(p);
    }
}

/* R11: bulk bytes are progress. */
static void tell_progress(struct shard_blobs *k, const struct push *p)
{
    struct tablet *t = shard_tablet(k->s, p->tablet);
    if (t != NULL && p->u == NULL) {
        struct event e = {.kind = EVENT_BLOB, .u.peer = p->to};
        shard_step(k->s, t, &e);
    }
}

static void on_taken(struct push *p, const struct msg_blob_state *m)
{
    struct shard_blobs *k = p->k;
    uint32_t node = p->to.node;
    int64_t now = env_now_us(k->s->env);
    if (m->status == ST_MORE) {
        p->sent = m->taken;
        p->taken = m->taken;
        p->progress_us = now;
    } else if (m->taken > p->taken) {
        p->taken = m->taken;
        p->progress_us = now;
        tell_progress(k, p);
    }
    pump(k, node);
}

void upload_on_state(struct shard_blobs *k, const struct env_peer *from,
                     const struct msg_blob_state *m)
{
    struct push *p = push_find(k, from->node, from->store, m->blob);
    if (p == NULL && m->status == ST_GONE) {
        incoming_on_gone(k, from, m);
        return;
    }
    if (p == NULL || p->tablet != m->tablet || p->epoch != m->epoch ||
        p->bytes == NULL) {
        return; /* late */
    }
    if (m->taken > p->ref.len ||
        (m->status == ST_OK && m->taken > p->sent && !m->synced)) {
        on_refused(p, ST_INVALID); /* it speaks of what it was not sent */
    } else if (m->status == ST_BUSY) {
        return; /* sent again after a while */
    } else if (m->status != ST_OK && m->status != ST_MORE) {
        on_refused(p, (enum status)m->status);
    } else if (m->status == ST_OK && m->synced) {
        uint32_t node = p->to.node;
        tell_progress(k, p);
        push_end(p);
        pump(k, node);
    } else {
        on_taken(p, m);
    }
}

/* ---- who asks ---- */

static void on_read(void *ctx, enum status s, struct blob_bytes *bytes)
{
    struct push *p = ctx;
    struct shard_blobs *k = p->k;
    uint32_t node = p->to.node;
    if (s != ST_OK || p->abandoned) {
        blob_bytes_unref(bytes);
        push_free(p);
        return;
    }
    p->bytes = bytes;
    p->progress_us = env_now_us(k->s->env);
    pump(k, node);
}

static uint32_t pulls_of(const struct shard_blobs *k, uint32_t node)
{
    const struct push *p;
    uint32_t count = 0;
    TAILQ_FOREACH(p, &k->pushes, link)
    {
        count += p->to.node == node && p->u == NULL;
    }
    return count;
}

/* It is on its way already, but perhaps not from where the asker stands. */
static void go_on(struct push *p, uint32_t offset)
{
    if (p->bytes != NULL &&
        env_now_us(p->k->s->env) - p->progress_us >= PUSH_AGAIN_US / 2) {
        p->sent = p->taken = offset < p->ref.len ? offset : 0;
        pump(p->k, p->to.node);
    }
}

/* The entry was forgotten here meanwhile, and its blob with it. */
static void say_gone(struct shard_blobs *k, const struct env_peer *from,
                     const struct msg_blob_ask *m)
{
    struct wire_msg out = {.type = MSG_BLOB_STATE};
    out.u.blob_state = (struct msg_blob_state){.tablet = m->tablet,
                                               .epoch = m->epoch,
                                               .blob = m->blob,
                                               .status = ST_GONE};
    (void)bulk_send(k, (struct replica){from->node, from->store}, &out);
}

void upload_on_ask(struct shard_blobs *k, const struct env_peer *from,
                   const struct msg_blob_ask *m)
{
    struct tablet *t = shard_tablet(k->s, m->tablet);
    struct blob_ref ref = {
        .id = m->blob, .len = m->length, .digest = m->digest};
    struct push *p = push_find(k, from->node, from->store, m->blob);
    if (t == NULL || replica_role_of(t->core) != REPLICA_PRIMARY ||
        m->epoch != replica_config(t->core)->epoch) {
        return; /* it will hear of the epoch */
    }
    if (p != NULL && p->epoch == m->epoch && p->tablet == m->tablet) {
        go_on(p, m->offset);
        return;
    }
    if (p != NULL || pulls_of(k, from->node) >= PULLS_MAX) {
        return;
    }
    ref.seed = blobs_seed(k->blobs, &ref);
    p = push_new(k, t, (struct replica){from->node, from->store}, &ref);
    p->sent = p->taken = m->offset < m->length ? m->offset : 0;
    enum status s = blobs_read(k->blobs, &ref, on_read, p);
    if (s == ST_CORRUPT) {
        push_free(p); /* it asks again; by then it may have been repaired */
    } else if (s != ST_OK) {
        char id[33];
        id128_format(ref.id, id);
        log_info(k->s->env->log, "blobs", "asked-for-unknown",
                 "tablet=%" PRIu32 " from=%" PRIu32 " blob=%s status=%s", t->id,
                 from->node, id, status_name(s));
        push_free(p);
        say_gone(k, from, m);
    }
}

/* ---- time, links, epochs ---- */

/* Without a word for so long, pieces or words were lost. */
static void tick_push(struct push *p, int64_t now_us)
{
    struct shard_blobs *k = p->k;
    uint32_t node = p->to.node;
    int64_t silent = now_us - p->progress_us;
    if (p->u != NULL && silent >= k->s->host.stall_us) {
        stop_waiting(p); /* R6: or after `stall` */
        return;
    }
    if (p->u == NULL && silent >= INCOMING_IDLE_US) {
        push_free(p);
    } else if (silent >= PUSH_AGAIN_US && p->sent > p->taken &&
               silent % PUSH_AGAIN_US < BULK_TICK_US) {
        p->sent = p->taken;
        pump(k, node);
    }
}

/* Bytes that are only pushed. */
static void bound_pushes(struct shard_blobs *k)
{
    struct push *p, *next;
    uint64_t bytes = 0;
    TAILQ_FOREACH(p, &k->pushes, link)
    {
        bytes += p->u == NULL ? p->ref.len : 0;
    }
    for (p = TAILQ_FIRST(&k->pushes); p != NULL && bytes > PUSHES_BYTES;
         p = next) {
        next = TAILQ_NEXT(p, link);
        if (p->u == NULL && p->bytes != NULL) {
            bytes -= p->ref.len;
            push_free(p); /* who needs it will ask */
        }
    }
}

void upload_on_tick(struct shard_blobs *k, int64_t now_us)
{
    struct push *p, *next;
    for (p = TAILQ_FIRST(&k->pushes); p != NULL; p = next) {
        next = TAILQ_NEXT(p, link);
        if (p->bytes != NULL) {
            tick_push(p, now_us);
        }
    }
    bound_pushes(k);
}

void upload_on_link(struct shard_blobs *k, uint32_t node, bool up)
{
    struct push *p, *next;
    for (p = TAILQ_FIRST(&k->pushes); p != NULL; p = next) {
        next = TAILQ_NEXT(p, link);
        if (p->to.node != node || p->bytes == NULL) {
            continue;
        }
        p->sent = p->taken;
        if (!up) {
            push_end(p);
            next = TAILQ_FIRST(&k->pushes); /* others may have gone with it */
        }
    }
    if (up) {
        pump(k, node);
    }
}

/* What is pushed speaks of an epoch that is over: the commands go on with what
 * is here, if this is the primary still, and who lacks it asks. */
void upload_on_epoch(struct shard_blobs *k, const struct tablet *t)
{
    struct push *p, *next;
    struct upload *u, *after;
    for (p = TAILQ_FIRST(&k->pushes); p != NULL; p = next) {
        next = TAILQ_NEXT(p, link);
        if (p->tablet != t->id) {
            continue;
        }
        if (p->u != NULL) {
            p->u->waited--;
            p->u = NULL;
        }
        if (p->bytes == NULL) {
            p->abandoned = true;
        } else {
            push_free(p);
        }
    }
    for (u = TAILQ_FIRST(&k->uploads); u != NULL; u = after) {
        after = TAILQ_NEXT(u, link);
        if (u->t == t && replica_role_of(t->core) != REPLICA_PRIMARY) {
            upload_fail(u, ST_NOT_PRIMARY); /* no entry: surely no effect */
        }
    }
    for (u = TAILQ_FIRST(&k->uploads); u != NULL; u = after) {
        after = TAILQ_NEXT(u, link);
        if (u->t == t) {
            consider(u);
        }
    }
}

void upload_free_all(struct shard_blobs *k)
{
    while (!TAILQ_EMPTY(&k->pushes)) {
        push_free(TAILQ_FIRST(&k->pushes));
    }
    while (!TAILQ_EMPTY(&k->uploads)) {
        struct upload *u = TAILQ_FIRST(&k->uploads);
        struct request *q = u->request;
        upload_free(u);
        if (q != NULL) {
            requests_free(q);
        }
    }
}
