/*
 * Clients' requests. A command becomes an entry and is answered when that is
 * applied. A read is answered if the lease holds (shard_reads.c), at once or
 * when its values have been fetched; without a lease, or while too much is
 * being fetched, it waits, looked at again as time goes on, until its deadline;
 * a secondary sends it on (shard_forward.c). A watch rests on the cell's hash
 * until a change of that cell, then becomes a read.
 */
#include "storage/shard_damage.h"
#include "storage/shard_impl.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define READ_WAIT_US 1000000 /* a read without a lease waits this long */
#define READ_AGAIN_US 5000
#define WATCH_MAX_MS 60000u
#define PAYLOAD_KEPT KIB(64) /* a buffer of more gives its memory back */
#define AGAIN_MAX 8 /* times that a read is begun anew for a moved value */

/* ---- lists ---- */

static void list_add(struct request **head, struct request *q)
{
    q->prev = NULL;
    q->next = *head;
    if (q->next != NULL) {
        q->next->prev = q;
    }
    *head = q;
}

static void list_remove(struct request **head, struct request *q)
{
    if (q->prev != NULL) {
        q->prev->next = q->next;
    } else {
        *head = q->next;
    }
    if (q->next != NULL) {
        q->next->prev = q->prev;
    }
    q->next = NULL;
    q->prev = NULL;
}

struct request *requests_new(struct client *c, struct tablet *t,
                             enum request_kind kind, uint64_t id)
{
    struct request *q = xcalloc(1, sizeof(*q));
    q->kind = kind;
    q->client = c;
    q->tablet = t;
    q->id = id;
    q->next_of_client = c->requests;
    if (c->requests != NULL) {
        c->requests->prev_of_client = q;
    }
    c->requests = q;
    c->request_count++;
    return q;
}

static void leave_client(struct request *q)
{
    struct client *c = q->client;
    if (c == NULL) {
        return;
    }
    if (q->prev_of_client != NULL) {
        q->prev_of_client->next_of_client = q->next_of_client;
    } else {
        c->requests = q->next_of_client;
    }
    if (q->next_of_client != NULL) {
        q->next_of_client->prev_of_client = q->prev_of_client;
    }
    c->request_count--;
    q->client = NULL;
}

void requests_free(struct request *q)
{
    leave_client(q);
    buf_free(&q->frame);
    free(q);
}

/* ---- commands ---- */

static void send_result(struct shard *s, struct client *c, uint64_t id,
                        const struct applied *a)
{
    struct msg_result m = {a->r};
    m.result.values = (struct counter_value *)a->values;
    buf_clear(&s->out);
    wire_put_result(&s->out, id, &m);
    s->env->ops->send(c->conn, buf_slice(&s->out));
}

void requests_reply(struct shard *s, struct request *q, enum status why,
                    const struct applied *result)
{
    if (q->client != NULL) {
        if (why == ST_OK) {
            send_result(s, q->client, q->id, result);
        } else {
            s->stats.replies_unknown += why == ST_UNKNOWN_OUTCOME;
            shard_send_error(q->client, q->id, why, q->tablet);
        }
    }
    requests_free(q);
}

static void on_command(struct client *c, struct tablet *t,
                       const struct wire_msg *m)
{
    struct shard *s = c->shard;
    const struct command *command = &m->u.command.command;
    struct applied stored;
    enum status st = state_check_command(command);
    if (st == ST_OK && replica_role_of(t->core) != REPLICA_PRIMARY) {
        st = ST_NOT_PRIMARY;
    }
    if (st != ST_OK) {
        shard_send_error(c, m->request, st, t);
        return;
    }
    s->stats.commands++;
    if (state_stored_result(replica_state(t->core), command, &stored)) {
        send_result(s, c, m->request, &stored);
        return;
    }
    if (shard_blobs_command(c, t, m)) {
        return;
    }
    struct buf *payload = &s->payload;
    buf_clear(payload);
    wire_encode_command(payload, command);
    if (payload->len > LIMIT_BATCH) {
        shard_send_error(c, m->request, ST_TOO_LARGE, t);
    } else {
        struct event e = {.kind = EVENT_COMMAND};
        e.u.command.payload = buf_slice(payload);
        e.u.command.need = state_need(command);
        e.u.command.cookie = requests_new(c, t, REQUEST_COMMAND, m->request);
        shard_step(s, t, &e);
    }
    if (payload->cap > PAYLOAD_KEPT) {
        buf_free(payload);
    }
}

/* ---- reads ---- */

static uint64_t watch_bucket(const struct tablet *t, struct slice p,
                             struct slice r, struct slice c)
{
    uint64_t h = t->id;
    h = XXH3_64bits_withSeed(p.data, p.len, h);
    h = XXH3_64bits_withSeed(r.data, r.len, h);
    h = XXH3_64bits_withSeed(c.data, c.len, h);
    return h % WATCH_BUCKETS;
}

static void rest_watch(struct shard *s, struct request *q,
                       const struct msg_watch *w)
{
    q->kind = REQUEST_WATCH;
    q->fired = false;
    q->bucket = watch_bucket(q->tablet, w->partition, w->row, w->column);
    list_add(&s->watches[q->bucket], q);
    s->watch_count++;
    if (s->watch_count == 1) {
        env_timer_start(s->env, &s->watch_timer, 100000);
    }
}

static void wait_read(struct shard *s, struct request *q)
{
    q->kind = REQUEST_READ;
    if (s->waiting == NULL) {
        env_timer_start(s->env, &s->read_timer, READ_AGAIN_US);
    }
    list_add(&s->waiting, q);
}

static void retry(struct shard *s, struct request *q);

/* Q's values have come, or one of them not. */
static void on_values(struct values *v)
{
    struct request *q = v->ctx;
    struct tablet *t = q->tablet;
    struct shard *s = t->shard;
    q->values = NULL;
    if (s->fatal) { /* nothing is answered any more */
        values_free(v);
        requests_free(q);
        return;
    }
    bool condemn;
    enum status st = reads_finish(q, v, &condemn);
    q->again += v->status != ST_OK;
    values_free(v);
    if (st == ST_BUSY && q->again < AGAIN_MAX) {
        retry(s, q);
        return;
    }
    if (st != ST_OK) {
        shard_send_error(q->client, q->id, st, t);
    }
    requests_free(q);
    if (condemn) {
        shard_condemn(s, t, "a value does not read as what it was");
    }
}

static void wait_values(struct request *q, enum msg_type type, struct values *v)
{
    q->kind = REQUEST_FETCH;
    q->asked = type;
    q->epoch = replica_config(q->tablet->core)->epoch;
    q->values = v;
    v->done = on_values;
    v->ctx = q;
}

/* Tries Q, which is in no list, again; it is answered or waits on. */
static void retry(struct shard *s, struct request *q)
{
    struct arena a = {0};
    struct wire_msg m;
    struct values *later;
    int64_t now = env_now_us(s->env);
    enum status st = wire_decode(buf_slice(&q->frame), &a, &m);
    assert(st == ST_OK);
    bool over = now >= q->deadline_us;
    st = reads_try(q->client, q->tablet, &m, over, &later);
    if (later != NULL) {
        wait_values(q, m.type, later);
    } else if (st == ST_OK) {
        requests_free(q);
    } else if (st == ST_MORE) {
        rest_watch(s, q, &m.u.watch);
    } else if (st == ST_BUSY && !over) {
        wait_read(s, q);
    } else if (st == ST_NOT_PRIMARY &&
               forward_begin(q->client, q->tablet, &m, q->deadline_us)) {
        requests_free(q);
    } else {
        shard_send_error(q->client, q->id, st, q->tablet);
        requests_free(q);
    }
    arena_free(&a);
}

void requests_on_read(struct client *c, struct tablet *t,
                      const struct wire_msg *m)
{
    struct shard *s = c->shard;
    struct values *later;
    int64_t wait = READ_WAIT_US, now = env_now_us(s->env);
    enum status st = reads_try(c, t, m, false, &later);
    if ((st == ST_OK && later == NULL) ||
        (st == ST_NOT_PRIMARY && forward_begin(c, t, m, now + wait))) {
        return;
    }
    if (st != ST_OK && st != ST_BUSY && st != ST_MORE) {
        shard_send_error(c, m->request, st, t);
        return;
    }
    struct request *q = requests_new(c, t, REQUEST_READ, m->request);
    if (m->type == MSG_WATCH) {
        uint32_t ms = m->u.watch.wait_ms;
        wait = (int64_t)(ms < WATCH_MAX_MS ? ms : WATCH_MAX_MS) * 1000;
        s->stats.watches++;
    }
    q->deadline_us = now + wait;
    wire_put(&q->frame, m);
    if (later != NULL) {
        wait_values(q, m->type, later);
    } else if (st == ST_MORE) {
        rest_watch(s, q, &m->u.watch);
    } else {
        wait_read(s, q);
    }
}

static void retry_waiting(struct shard *s)
{
    struct request *list = s->waiting;
    s->waiting = NULL;
    while (list != NULL) {
        struct request *q = list;
        list_remove(&list, q);
        retry(s, q);
    }
}

static void on_read_timer(struct env_timer *timer)
{
    retry_waiting(timer->data);
}

/* ---- watches ---- */

void requests_on_changed(void *ctx, struct slice partition, struct slice row,
                         struct slice column)
{
    struct tablet *t = ctx;
    struct shard *s = t->shard;
    if (s->watch_count == 0) {
        return;
    }
    uint64_t b = watch_bucket(t, partition, row, column);
    for (struct request *q = s->watches[b]; q != NULL; q = q->next) {
        if (q->tablet == t) {
            q->fired = true;
            s->watch_fired = true;
        }
    }
}

static void retry_watches(struct shard *s, int64_t now_us)
{
    for (uint32_t b = 0; b < WATCH_BUCKETS; b++) {
        struct request *q = s->watches[b];
        while (q != NULL) {
            struct request *next = q->next;
            if (q->fired || now_us >= q->deadline_us) {
                list_remove(&s->watches[b], q);
                s->watch_count--;
                retry(s, q);
            }
            q = next;
        }
    }
}

void requests_after_step(struct shard *s)
{
    if (s->watch_fired) {
        s->watch_fired = false;
        retry_watches(s, INT64_MIN);
    }
}

static void on_watch_timer(struct env_timer *timer)
{
    struct shard *s = timer->data;
    retry_watches(s, env_now_us(s->env));
    if (s->watch_count > 0) {
        env_timer_start(s->env, &s->watch_timer, 100000);
    }
}

void requests_on_role(struct shard *s, struct tablet *t)
{
    for (uint32_t b = 0; b < WATCH_BUCKETS; b++) {
        for (struct request *q = s->watches[b]; q != NULL; q = q->next) {
            if (q->tablet == t) {
                q->fired = true;
                s->watch_fired = true;
            }
        }
    }
}

/* ---- all ---- */

static void on_digest(struct client *c, struct tablet *t, uint64_t id)
{
    struct shard *s = c->shard;
    struct state_counts counts;
    const struct state *state = replica_state(t->core);
    state_count(state, &counts);
    struct msg_digest m = {
        .epoch = replica_config(t->core)->epoch,
        .applied = state_applied(state),
        .digest = state_digest(state),
        .cells = counts.cells,
        .bytes = counts.bytes,
    };
    buf_clear(&s->out);
    wire_put_digest(&s->out, id, &m);
    s->env->ops->send(c->conn, buf_slice(&s->out));
}

static uint32_t target_of(const struct wire_msg *m)
{
    switch ((int)m->type) {
    case MSG_GET:
        return m->u.get.tablet;
    case MSG_COMMAND:
        return m->u.command.tablet;
    case MSG_SCAN:
        return m->u.scan.tablet;
    case MSG_WATCH:
        return m->u.watch.tablet;
    case MSG_VALUE_ASK:
        return m->u.value_ask.tablet;
    default:
        return m->u.digest_ask.tablet;
    }
}

/* The partition that M is about; false if it is about none. */
static bool partition_of(const struct wire_msg *m, struct slice *out)
{
    switch ((int)m->type) {
    case MSG_GET:
        *out = m->u.get.partition;
        return true;
    case MSG_COMMAND:
        *out = m->u.command.command.partition;
        return m->u.command.command.kind == COMMAND_BATCH;
    case MSG_SCAN:
        *out = m->u.scan.partition;
        return true;
    case MSG_WATCH:
        *out = m->u.watch.partition;
        return true;
    default:
        return false;
    }
}

/* A client that looks in the wrong tablet would find nothing, and one that
 * writes there would lose what it wrote. */
static bool is_elsewhere(const struct tablet *t, const struct wire_msg *m)
{
    const struct tablet_config *k = replica_config(t->core);
    struct slice partition;
    if (k->epoch == 0 || !partition_of(m, &partition)) {
        return false;
    }
    uint64_t hash = partition_hash(partition);
    return hash < k->hash_first || hash > k->hash_last;
}

void requests_on_message(struct client *c, const struct wire_msg *m)
{
    struct tablet *t = shard_tablet(c->shard, target_of(m));
    if (t == NULL) {
        shard_send_error(c, m->request, ST_NOT_PRIMARY, NULL);
    } else if (is_elsewhere(t, m)) {
        shard_send_error(c, m->request, ST_INVALID, t);
    } else if (m->type == MSG_DIGEST_ASK) {
        on_digest(c, t, m->request);
    } else if (c->request_count >= LIMIT_CONN_REQUESTS) {
        shard_send_error(c, m->request, ST_BUSY, t);
    } else if (m->type == MSG_COMMAND) {
        on_command(c, t, m);
    } else {
        requests_on_read(c, t, m);
    }
}

void requests_init(struct shard *s)
{
    s->read_timer.fn = on_read_timer;
    s->read_timer.data = s;
    s->watch_timer.fn = on_watch_timer;
    s->watch_timer.data = s;
    forward_init(s);
    values_init(s);
}

/* Commands stay, owed to nobody, until their entry is applied. */
void requests_drop_client(struct client *c)
{
    struct shard *s = c->shard;
    while (c->requests != NULL) {
        struct request *q = c->requests;
        leave_client(q);
        if (q->kind == REQUEST_READ) {
            list_remove(&s->waiting, q);
            requests_free(q);
        } else if (q->kind == REQUEST_WATCH) {
            list_remove(&s->watches[q->bucket], q);
            s->watch_count--;
            requests_free(q);
        } else if (q->kind == REQUEST_FORWARD) {
            forward_drop(q);
        } else if (q->kind == REQUEST_FETCH) {
            values_free(q->values);
            requests_free(q);
        }
    }
}

void requests_free_all(struct shard *s)
{
    env_timer_stop(s->env, &s->read_timer);
    env_timer_stop(s->env, &s->watch_timer);
    env_timer_stop(s->env, &s->forward_timer);
    /* Clients are gone: reads and watches with them. What is left are
     * commands that the replicas still hold as cookies. */
    for (uint32_t i = 0; i < s->tablet_count; i++) {
        void *cookie;
        while (replica_take_cookie(s->tablets[i]->core, &cookie)) {
            requests_free(cookie);
        }
    }
}
