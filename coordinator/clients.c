/*
 * Connections that others made to us, and what their messages become. Which
 * role may send which message is checked below us (common/roles.def); here it
 * is checked that a node speaks for itself.
 */
#include "coordinator/shell.h"

#include <stdlib.h>

/* ---- the list ---- */

struct client *clients_find(const struct clients *all, uint64_t id)
{
    struct client *c = all->first;
    while (c != NULL && c->id != id) {
        c = c->next;
    }
    return c;
}

static void unlink_client(struct clients *all, struct client *c)
{
    if (c->prev != NULL) {
        c->prev->next = c->next;
    } else {
        all->first = c->next;
    }
    if (c->next != NULL) {
        c->next->prev = c->prev;
    }
    free(c);
}

void clients_close_all(struct clients *all, struct env *env)
{
    while (all->first != NULL) {
        env->ops->close(all->first->conn);
        unlink_client(all, all->first);
    }
}

void clients_free(struct clients *all)
{
    while (all->first != NULL) {
        unlink_client(all, all->first);
    }
}

/* ---- answers that need no core ---- */

static void refuse(struct client *c, const struct wire_msg *m,
                   enum status status, const char *text)
{
    struct buf out = {0};
    struct msg_error e = {.status = (uint16_t)status, .text = slice_of(text)};
    wire_put_error(&out, m->request, &e);
    c->owner->env->ops->send(c->conn, buf_slice(&out));
    buf_free(&out);
}

static void send_ack(struct client *c, const struct wire_msg *m,
                     enum status status, const char *text)
{
    struct buf out = {0};
    struct msg_ack ack = {.status = (uint16_t)status, .text = slice_of(text)};
    wire_put_ack(&out, m->request, &ack);
    c->owner->env->ops->send(c->conn, buf_slice(&out));
    buf_free(&out);
}

static void send_pong(struct client *c, const struct wire_msg *m)
{
    struct buf out = {0};
    struct msg_pong pong = {.stamp = m->u.ping.stamp};
    wire_put_pong(&out, m->request, &pong);
    c->owner->env->ops->send(c->conn, buf_slice(&out));
    buf_free(&out);
}

/* Maps are pushed without a request id: they answer nobody in particular. */
static void watch(struct client *c, const struct msg_map_watch *m)
{
    struct coordinator *o = c->owner;
    c->watching = true;
    if (m->term == o->term && m->version >= o->published) {
        c->sent_version = o->published;
        return;
    }
    c->sent_version = o->published;
    o->env->ops->send(c->conn, buf_slice(&o->map_frame));
    o->maps_pushed++;
}

/* A heartbeat is of the process that made the connection. */
static bool own_heartbeat(const struct client *c, const struct node_info *n)
{
    const struct env_peer *p = &c->peer;
    return n->node == p->node && n->role == p->role &&
           (n->role != ROLE_STORAGE ||
            (id128_equal(n->store, p->store) &&
             incarnation_equal(n->incarnation, p->incarnation)));
}

/* ---- events ---- */

static void on_open(void *ctx, struct env_conn *conn, const struct env_peer *p)
{
    struct coordinator *o = ctx;
    if (o->stopping || o->dead) {
        o->env->ops->close(conn);
        return;
    }
    struct client *c = xcalloc(1, sizeof(*c));
    c->owner = o;
    c->id = ++o->clients.last_id;
    c->conn = conn;
    c->peer = *p;
    c->next = o->clients.first;
    if (c->next != NULL) {
        c->next->prev = c;
    }
    o->clients.first = c;
    o->env->ops->conn_set_data(conn, c);
}

static void on_close(void *ctx, struct env_conn *conn, enum status why)
{
    struct coordinator *o = ctx;
    struct client *c = o->env->ops->conn_data(conn);
    if (c == NULL) {
        return; /* never opened */
    }
    struct core_event ev = {.kind = CORE_RESET, .conn = c->id};
    unlink_client(&o->clients, c);
    shell_step(o, &ev);
}

static void on_heartbeat(struct client *c, const struct wire_msg *m,
                         struct core_event *ev)
{
    if (!own_heartbeat(c, &m->u.heartbeat.node)) {
        refuse(c, m, ST_DENIED, "a heartbeat for another process");
        return;
    }
    ev->kind = CORE_HEARTBEAT;
    ev->u.heartbeat = &m->u.heartbeat;
    shell_step(c->owner, ev);
}

static void on_message(void *ctx, struct env_conn *conn,
                       const struct wire_msg *m)
{
    struct coordinator *o = ctx;
    struct client *c = o->env->ops->conn_data(conn);
    struct core_event ev = {
        .conn = c->id, .request = m->request, .peer = &c->peer};
    switch ((int)m->type) {
    case MSG_HEARTBEAT:
        on_heartbeat(c, m, &ev);
        return;
    case MSG_CHANGE:
        ev.kind = CORE_CHANGE;
        ev.u.change = &m->u.change;
        break;
    case MSG_SUSPECT:
        ev.kind = CORE_SUSPECT;
        ev.u.node.node = m->u.suspect.node;
        ev.u.node.incarnation = m->u.suspect.incarnation;
        break;
    case MSG_NODE_SET:
        ev.kind = CORE_NODE_SET;
        ev.u.node_set = &m->u.node_set;
        break;
    case MSG_REPORTS_ASK:
        ev.kind = CORE_REPORTS_ASK;
        ev.u.reports_of = m->u.reports_ask.node;
        break;
    case MSG_MAP_WATCH:
        watch(c, &m->u.map_watch);
        return;
    case MSG_TABLET_MOVE:
        send_ack(c, m, ST_UNSUPPORTED,
                 "moving a tablet is not supported by this version");
        return;
    case MSG_PING:
        send_pong(c, m);
        return;
    default:
        refuse(c, m, ST_UNSUPPORTED, "not a coordinator's message");
        return;
    }
    shell_step(o, &ev);
}

const struct env_conn_events shell_events = {on_open, on_message, on_close};
