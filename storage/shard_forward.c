/*
 * Reads that come to a secondary (R9). It sends them on to the primary, with a
 * flag, under a number of its own, and gives the answer to the client under
 * the client's. Who gets a flagged one and is not primary says so and never
 * sends it on again, so a read makes one such step at most.
 *
 * What is said is the primary's word alone: it checked its lease after it
 * had fetched the value, between the client's asking and its hearing, and
 * that is what makes the answer true. This replica's epoch, and whether it
 * changes meanwhile, does not enter.
 *
 * They go over the bulk lane: an answer may be as large as a value, and must
 * delay no acknowledgement; nor may one who reads much have the connection
 * closed on which the others' entries come.
 *
 * No answer comes when the connection ends, the tablet has another primary or
 * the deadline passes: then the client is told where the primary is, and asks
 * there. Watches are never sent on: they last, and would be two for one.
 */
#include "storage/shard_impl.h"

#define CHECK_US 50000

/* ---- the table ---- */

static struct request **slot_of(struct shard *s, uint64_t number)
{
    return &s->forwards[number % LIMIT_FORWARDS];
}

static void leave(struct request *q)
{
    struct shard *s = q->tablet->shard;
    *slot_of(s, q->number) = NULL;
    s->forward_count--;
}

void forward_drop(struct request *q)
{
    leave(q);
    requests_free(q);
}

/* Ends Q without an answer; nothing was done, so the client may try again. */
static void give_back(struct request *q)
{
    shard_send_error(q->client, q->id, ST_NOT_PRIMARY, q->tablet);
    forward_drop(q);
}

/* A number whose place in the table is free; false if none is. */
static bool next_number(struct shard *s, uint64_t *out)
{
    if (s->forward_count == LIMIT_FORWARDS) {
        return false;
    }
    do {
        s->last_forward++;
    } while (*slot_of(s, s->last_forward) != NULL);
    *out = s->last_forward | FORWARD_BIT;
    return true;
}

/* ---- asking ---- */

/* M with the flag; false if it is none to be sent on. */
static bool flag(struct wire_msg *m)
{
    uint8_t *forwarded;
    if (m->type == MSG_GET) {
        forwarded = &m->u.get.forwarded;
    } else if (m->type == MSG_SCAN) {
        forwarded = &m->u.scan.forwarded;
    } else {
        return false;
    }
    bool before = *forwarded != 0;
    *forwarded = 1;
    return !before;
}

bool forward_begin(struct client *c, struct tablet *t, const struct wire_msg *m,
                   int64_t deadline_us)
{
    struct shard *s = c->shard;
    struct wire_msg ask = *m;
    struct replica to = replica_config(t->core)->primary;
    enum replica_role role = replica_role_of(t->core);
    if ((role != REPLICA_SECONDARY && role != REPLICA_LEARNER) || !flag(&ask) ||
        !next_number(s, &ask.request)) {
        return false;
    }
    buf_clear(&s->out);
    wire_put(&s->out, &ask);
    if (!links_send(s->bulk, to.node, to.store, buf_slice(&s->out))) {
        return false;
    }
    struct request *q = requests_new(c, t, REQUEST_FORWARD, m->request);
    q->number = ask.request;
    q->asked = m->type;
    q->to = to;
    q->deadline_us = deadline_us;
    *slot_of(s, q->number) = q;
    if (s->forward_count++ == 0) {
        env_timer_start(s->env, &s->forward_timer, CHECK_US);
    }
    s->stats.forwarded++;
    return true;
}

/* ---- what comes of it ---- */

/* False for what is no answer to Q. */
static bool answers(const struct request *q, const struct wire_msg *m)
{
    enum status st;
    switch ((int)m->type) {
    case MSG_VALUE:
        return q->asked == MSG_GET;
    case MSG_CELLS:
        return q->asked == MSG_SCAN;
    case MSG_ERROR:
        return status_from_wire(m->u.error.status, &st) && st != ST_OK;
    default:
        return false;
    }
}

void forward_on_answer(struct shard *s, const struct env_peer *p,
                       const struct wire_msg *m)
{
    struct request *q = *slot_of(s, m->request);
    if (q == NULL || q->number != m->request || q->to.node != p->node) {
        return; /* late */
    }
    if (!answers(q, m)) {
        give_back(q);
        return;
    }
    struct wire_msg answer = *m;
    answer.request = q->id;
    buf_clear(&s->out);
    wire_put(&s->out, &answer);
    s->env->ops->send(q->client->conn, buf_slice(&s->out));
    forward_drop(q);
}

void forward_on_link(struct shard *s, uint32_t node)
{
    for (size_t i = 0; s->forward_count > 0 && i < LIMIT_FORWARDS; i++) {
        if (s->forwards[i] != NULL && s->forwards[i]->to.node == node) {
            give_back(s->forwards[i]);
        }
    }
}

void forward_on_epoch(struct shard *s, const struct tablet *t)
{
    struct replica primary = replica_config(t->core)->primary;
    for (size_t i = 0; s->forward_count > 0 && i < LIMIT_FORWARDS; i++) {
        struct request *q = s->forwards[i];
        if (q != NULL && q->tablet == t && !replica_equal(q->to, primary)) {
            give_back(q);
        }
    }
}

static void on_timer(struct env_timer *timer)
{
    struct shard *s = timer->data;
    int64_t now = env_now_us(s->env);
    for (size_t i = 0; i < LIMIT_FORWARDS; i++) {
        if (s->forwards[i] != NULL && now >= s->forwards[i]->deadline_us) {
            give_back(s->forwards[i]);
        }
    }
    if (s->forward_count > 0) {
        env_timer_start(s->env, timer, CHECK_US);
    }
}

void forward_init(struct shard *s)
{
    s->forward_timer.fn = on_timer;
    s->forward_timer.data = s;
}
