/*
 * Connections that came in: clients' requests and other storage nodes'
 * replication messages. Answers to the latter go over this node's own links,
 * so each direction has one connection, and a message's sender is the store
 * that the connection's HELLO named (R5).
 */
#include "storage/shard_impl.h"

#include <stdlib.h>
#include <string.h>

void shard_send_error(struct client *c, uint64_t id, enum status why,
                      const struct tablet *t)
{
    struct shard *s = c->shard;
    char address[LIMIT_ADDRESS + 1] = "";
    struct msg_error m = {.status = (uint16_t)why,
                          .text = slice_of(status_text(why))};
    if (t != NULL) {
        const struct tablet_config *config = replica_config(t->core);
        m.epoch = config->epoch;
        if (why == ST_NOT_PRIMARY) {
            cluster_address(s, config->primary.node, "rpc", address);
        }
    }
    m.address = slice_of(address);
    buf_clear(&s->out);
    wire_put_error(&s->out, id, &m);
    s->env->ops->send(c->conn, buf_slice(&s->out));
}

void shard_on_replication(struct shard *s, const struct env_peer *from,
                          const struct wire_msg *m)
{
    uint32_t id;
    switch ((int)m->type) {
#define CASE(NAME, msg)                                                        \
    case MSG_##NAME:                                                           \
        id = m->u.msg.tablet;                                                  \
        break;
        CASE(PREPARE, prepare)
        CASE(COMMITTED, committed)
        CASE(PREPARED, prepared)
        CASE(MISMATCH, mismatch)
        CASE(STALE, stale)
        CASE(TAIL_ASK, tail_ask)
        CASE(TAIL, tail)
        CASE(CUT, cut)
        CASE(CUT_DONE, cut_done)
        CASE(SNAPSHOT_NEEDED, snapshot_needed)
        CASE(DIGEST_WANT, digest_want)
        CASE(DIGEST_AT, digest_at)
        CASE(DIGEST_WRONG, digest_wrong)
#undef CASE
    default:
        return;
    }
    struct tablet *t = shard_tablet(s, id);
    if (t == NULL) {
        cluster_want_map(s); /* it makes the replica */
        return;
    }
    /* No room: the entry is not taken and not acknowledged; the primary, who
     * hears by our echoes that the disk is full, sends no new ones, and if
     * possible goes on without us until there is room. */
    if (m->type == MSG_PREPARE &&
        !wal_has_room(s->wal, m->u.prepare.payload.len + WAL_RECORD_OVERHEAD)) {
        return;
    }
    if (m->type == MSG_PREPARE &&
        shard_blobs_prepare(s, t, from, &m->u.prepare)) {
        return; /* R6: no record before its blobs */
    }
    struct event e = {.kind = EVENT_MESSAGE};
    e.u.message.from = (struct replica){from->node, from->store};
    e.u.message.incarnation = from->incarnation;
    e.u.message.m = m;
    shard_step(s, t, &e);
}

static void on_open(void *ctx, struct env_conn *conn, const struct env_peer *p)
{
    struct shard *s = ctx;
    struct client *c = xcalloc(1, sizeof(*c));
    c->shard = s;
    c->conn = conn;
    c->peer = *p;
    c->next = s->clients;
    if (c->next != NULL) {
        c->next->prev = c;
    }
    s->clients = c;
    s->client_count++;
    s->env->ops->conn_set_data(conn, c);
    if (p->role == ROLE_STORAGE) {
        links_hint(s->links, p->node);
        links_hint(s->bulk, p->node);
    }
}

static void answer_ping(struct client *c, const struct wire_msg *m)
{
    struct msg_pong pong = {m->u.ping.stamp};
    buf_clear(&c->shard->out);
    wire_put_pong(&c->shard->out, m->request, &pong);
    c->shard->env->ops->send(c->conn, buf_slice(&c->shard->out));
}

static void on_message(void *ctx, struct env_conn *conn,
                       const struct wire_msg *m)
{
    struct shard *s = ctx;
    struct client *c = s->env->ops->conn_data(conn);
    if (s->fatal) {
        return;
    }
    switch ((int)m->type) {
    case MSG_GET:
    case MSG_COMMAND:
    case MSG_SCAN:
    case MSG_WATCH:
    case MSG_DIGEST_ASK:
        requests_on_message(c, m);
        return;
    case MSG_SCAN_TABLET:
        catchup_on_scan(c, m);
        return;
    case MSG_PING:
        answer_ping(c, m);
        return;
    default:
        break;
    }
    if (c->peer.role == ROLE_STORAGE) {
        if (m->type == MSG_VALUE_ASK) {
            requests_on_message(c, m);
        } else if (!shard_blobs_on_message(s, &c->peer, m)) {
            shard_on_replication(s, &c->peer, m);
        }
    } else if (m->request != 0) {
        shard_send_error(c, m->request, ST_UNSUPPORTED, NULL);
    }
}

static void unlink_client(struct client *c)
{
    struct shard *s = c->shard;
    if (c->prev != NULL) {
        c->prev->next = c->next;
    } else {
        s->clients = c->next;
    }
    if (c->next != NULL) {
        c->next->prev = c->prev;
    }
    s->client_count--;
    requests_drop_client(c);
    catchup_drop_client(c);
    free(c);
}

static void on_close(void *ctx, struct env_conn *conn, enum status why)
{
    struct shard *s = ctx;
    (void)why;
    struct client *c = s->env->ops->conn_data(conn);
    if (c != NULL) {
        unlink_client(c);
    }
}

const struct env_conn_events shard_client_events = {on_open, on_message,
                                                    on_close};

void shard_close_clients(struct shard *s)
{
    while (s->clients != NULL) {
        struct env_conn *conn = s->clients->conn;
        unlink_client(s->clients);
        s->env->ops->close(conn);
    }
}
