/*
 * Simulated connections.
 *
 * A pipe is one TCP connection: two ends, and for each direction a queue of
 * segments with the time of their arrival, delivered in order by one event,
 * the pump. Opening, closing and resetting travel through the same queue:
 *
 *   SYN     the caller's HELLO; makes the other end, or is refused
 *   ACCEPT  the listener's HELLO: the caller's connection is open
 *   DATA    frames of one send()
 *   FIN     the other side closed (or died, its kernel told us)
 *   RST     nobody is there; what was under way to him is void
 *
 * An end belongs to a process and goes when that closes it, dies, or hears of
 * the end; the pipe goes when neither end nor segment is left. Data for an end
 * that is gone is answered with RST, unless that host has no power. During a
 * cut the pump waits; healing starts it again after a retransmission delay;
 * if nothing heals within GIVE_UP_US, the sender hears of a timeout and the
 * queue is dropped.
 */
#include "tests/sim/sim_pipe.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONNECT_TIMEOUT_US (2 * SIM_S)
#define GIVE_UP_US (10 * SIM_S)
#define BYTES_PER_US 200u

static void pump(struct sim_event *ev);
static void on_late(struct sim_event *ev);

/* ---- ends and pipes ---- */

static struct env_conn *end_new(struct sim_env *env,
                                const struct env_conn_events *events, void *ctx)
{
    struct env_conn *c = xcalloc(1, sizeof(*c));
    c->env = env;
    c->events = events;
    c->ctx = ctx;
    c->late.fn = on_late;
    c->late.ctx = c;
    c->next = env->conns;
    if (c->next != NULL) {
        c->next->prev = c;
    }
    env->conns = c;
    return c;
}

static void end_join(struct env_conn *c, struct sim_pipe *p, unsigned side)
{
    c->pipe = p;
    c->side = side;
    p->end[side] = c;
}

/* The connection is dead for its user. */
static void end_free(struct env_conn *c)
{
    event_cancel(c->env->w, &c->late);
    if (c->prev != NULL) {
        c->prev->next = c->next;
    } else {
        c->env->conns = c->next;
    }
    if (c->next != NULL) {
        c->next->prev = c->prev;
    }
    if (c->pipe != NULL) {
        c->pipe->end[c->side] = NULL;
    }
    free(c);
}

static void drop_segments(struct sim_dir *d)
{
    while (d->head != NULL) {
        struct segment *s = d->head;
        d->head = s->next;
        free(s);
    }
    d->tail = NULL;
    d->queued = 0;
    d->waiting = false;
    event_cancel(d->pipe->w, &d->pump);
}

static struct sim_pipe *pipe_new(struct world *w, struct sim_host *from,
                                 struct sim_host *to)
{
    struct sim_pipe *p = xcalloc(1, sizeof(*p));
    p->w = w;
    p->id = ++w->pipe_ids;
    p->host[0] = from;
    p->host[1] = to;
    for (unsigned i = 0; i < 2; i++) {
        p->dir[i].pipe = p;
        p->dir[i].from = i;
        p->dir[i].pump.fn = pump;
        p->dir[i].pump.ctx = &p->dir[i];
    }
    p->next = w->pipes;
    if (p->next != NULL) {
        p->next->prev = p;
    }
    w->pipes = p;
    return p;
}

static void pipe_maybe_free(struct sim_pipe *p)
{
    if (p->end[0] != NULL || p->end[1] != NULL || p->dir[0].head != NULL ||
        p->dir[1].head != NULL || p->strays != NULL || p->held > 0) {
        return;
    }
    event_cancel(p->w, &p->dir[0].pump);
    event_cancel(p->w, &p->dir[1].pump);
    if (p->prev != NULL) {
        p->prev->next = p->next;
    } else {
        p->w->pipes = p->next;
    }
    if (p->next != NULL) {
        p->next->prev = p->prev;
    }
    free(p);
}

/* ---- the path ---- */

static struct sim_host *sender(const struct sim_dir *d)
{
    return d->pipe->host[d->from];
}

static struct sim_host *receiver(const struct sim_dir *d)
{
    return d->pipe->host[1 - d->from];
}

bool pipe_path_open(const struct sim_dir *d)
{
    struct sim_host *from = sender(d), *to = receiver(d);
    return from == NULL || to == NULL ||
           (!d->pipe->w->cut[from->index][to->index] && to->powered);
}

static int64_t travel_time(struct sim_dir *d, size_t len)
{
    struct world *w = d->pipe->w;
    struct sim_host *from = sender(d), *to = receiver(d);
    int64_t base = 100;
    if (from != NULL && to != NULL) {
        base = from == to ? 10 : w->latency_us[from->index][to->index];
    }
    int64_t t = base / 2 + sim_rng_range(&w->rng, 0, base + base / 2);
    if (sim_rng_chance(&w->rng, w->net.spike_ppm)) {
        t += sim_rng_range(&w->rng, 10 * SIM_MS, 100 * SIM_MS);
    }
    return t + (int64_t)(len / BYTES_PER_US);
}

/* Puts S behind what is under way; NOW is the sender's true time. */
static void append(struct sim_dir *d, struct segment *s, int64_t now)
{
    int64_t at = now + travel_time(d, s->len);
    s->at = at > d->last_at ? at : d->last_at;
    d->last_at = s->at;
    s->next = NULL;
    if (d->tail != NULL) {
        d->tail->next = s;
    } else {
        d->head = s;
    }
    d->tail = s;
    d->queued += s->len;
    if (d->head == s && !d->waiting) {
        event_schedule(d->pipe->w, &d->pump, s->at);
    }
}

static struct segment *segment_new(enum segment_kind kind, struct slice bytes)
{
    struct segment *s = xmalloc(sizeof(*s) + bytes.len);
    memset(s, 0, sizeof(*s));
    s->kind = kind;
    s->len = bytes.len;
    if (bytes.len > 0) {
        memcpy(s->data, bytes.data, bytes.len);
    }
    return s;
}

static void append_kind(struct sim_dir *d, enum segment_kind kind, int64_t now)
{
    append(d, segment_new(kind, slice_make(NULL, 0)), now);
}

/* Keeps a random number of the segments that are under way. */
static void truncate_dir(struct sim_dir *d)
{
    size_t count = 0;
    for (struct segment *s = d->head; s != NULL; s = s->next) {
        count++;
    }
    if (count == 0) {
        return;
    }
    size_t keep = sim_rng_below(&d->pipe->w->rng, count + 1);
    if (keep == 0) {
        drop_segments(d);
        return;
    }
    struct segment *last = d->head;
    d->queued = last->len;
    for (size_t i = 1; i < keep; i++) {
        last = last->next;
        d->queued += last->len;
    }
    for (struct segment *s = last->next; s != NULL;) {
        struct segment *next = s->next;
        free(s);
        s = next;
    }
    last->next = NULL;
    d->tail = last;
    d->last_at = last->at;
}

/* Drops what is under way but for a reset that the network made. */
static void drop_data(struct sim_dir *d)
{
    bool reset = d->tail != NULL && d->tail->kind == SEG_RST;
    drop_segments(d);
    if (reset) {
        append_kind(d, SEG_RST, d->pipe->w->now);
    }
}

/* ---- hearing ---- */

static void end_lost(struct env_conn *c, enum status why)
{
    const struct env_conn_events *events = c->events;
    void *ctx = c->ctx;
    struct world *w = c->env->w;
    TRACE(w, "%s: connection %llu ends: %s", c->env->host->name,
          (unsigned long long)c->pipe->id, status_name(why));
    world_mix(w, 10, c->pipe->id);
    drop_data(&c->pipe->dir[c->side]);
    /* The user may still ask for the connection's data: it goes after. */
    struct sim_pipe *p = c->pipe;
    p->end[c->side] = NULL;
    c->pipe = NULL;
    events->on_close(ctx, c, why);
    end_free(c);
}

/* This side breaks the connection for WHY and tells its user. */
static void refuse(struct env_conn *c, enum status why)
{
    struct sim_pipe *p = c->pipe;
    struct sim_dir *out = &p->dir[c->side];
    bool answered = c->side == 1 || c->open;
    p->held++;
    end_lost(c, why);
    if (answered) {
        append_kind(out, SEG_RST, p->w->now);
    }
    p->held--;
    pipe_maybe_free(p);
}

static struct sim_listener *listener_find(struct world *w, const char *address)
{
    struct sim_listener *l = w->listeners;
    while (l != NULL && strcmp(l->address, address) != 0) {
        l = l->next;
    }
    return l;
}

/* Who must be able to run for the first segment of D to be taken in; NULL:
 * the kernel alone. */
static struct sim_env *taker(const struct sim_dir *d)
{
    const struct sim_pipe *p = d->pipe;
    struct env_conn *c = p->end[1 - d->from];
    if (c != NULL) {
        return c->env;
    }
    if (d->head->kind == SEG_SYN) {
        struct sim_listener *l = listener_find(p->w, p->address);
        return l != NULL ? l->env : NULL;
    }
    return NULL;
}

static struct segment *hello_new(enum segment_kind kind,
                                 const struct hello_self *self)
{
    struct segment *s = segment_new(kind, slice_make(NULL, 0));
    s->self = *self;
    (void)snprintf(s->name, sizeof(s->name), "%s", self->name);
    return s;
}

static void hear_nothing(void *ctx, struct env_conn *c, enum status why)
{
    (void)ctx;
    (void)c;
    (void)why;
}

/* Both sides of a connection look at the other's HELLO as the daemons do. */
static void greet(struct env_conn *c, struct segment *s)
{
    struct msg_hello hello;
    struct env_peer peer;
    struct err err;
    s->self.name = s->name;
    hello_make(&s->self, c->pipe->lane, &hello);
    enum status status =
        hello_check(&c->env->self, &hello, ROLES_ALL, &peer, &err);
    if (status != ST_OK) {
        /* A listener never hears of those that it did not let in. */
        static const struct env_conn_events quiet = {.on_close = hear_nothing};
        c->events = c->side == 1 ? &quiet : c->events;
        TRACE(c->env->w, "%s: %s", c->env->host->name, err.text);
        refuse(c, status);
        return;
    }
    c->open = true;
    c->peer_role = peer.role;
    c->events->on_open(c->ctx, c, &peer);
}

static void take_syn(struct sim_dir *d, struct segment *s)
{
    struct sim_pipe *p = d->pipe;
    struct sim_listener *l = listener_find(p->w, p->address);
    if (l == NULL || l->env == NULL) {
        append_kind(&p->dir[1], SEG_RST, p->w->now);
        return;
    }
    p->host[1] = l->host;
    struct env_conn *c = end_new(l->env, l->events, l->ctx);
    end_join(c, p, 1);
    append(&p->dir[1], hello_new(SEG_ACCEPT, &l->env->self), p->w->now);
    TRACE(p->w, "%s: connection %llu from %s", l->host->name,
          (unsigned long long)p->id, p->host[0]->name);
    greet(c, s);
}

static void trace_frame(struct sim_dir *d, const struct wire_msg *m)
{
    struct world *w = d->pipe->w;
    const char *type = wire_type_name((uint16_t)m->type);
    uint64_t tablet = 0, epoch = 0, seq = 0;
    switch ((int)m->type) {
    case MSG_PREPARE:
        tablet = m->u.prepare.tablet;
        epoch = m->u.prepare.epoch;
        seq = m->u.prepare.entry.seq;
        break;
    case MSG_PREPARED:
        tablet = m->u.prepared.tablet;
        epoch = m->u.prepared.epoch;
        seq = m->u.prepared.name.seq;
        break;
    case MSG_COMMITTED:
        tablet = m->u.committed.tablet;
        epoch = m->u.committed.epoch;
        seq = m->u.committed.committed;
        break;
    case MSG_MAP:
        epoch = m->u.map.version;
        break;
    default:
        break;
    }
    world_trace(w, "%s -> %s #%llu %s t%llu e%llu s%llu r%llu", sender(d)->name,
                receiver(d)->name, (unsigned long long)d->pipe->id, type,
                (unsigned long long)tablet, (unsigned long long)epoch,
                (unsigned long long)seq, (unsigned long long)m->request);
}

/* Hands over the frames of S; the end may close meanwhile. */
static void take_data(struct sim_dir *d, const struct segment *s)
{
    struct sim_pipe *p = d->pipe;
    unsigned to = 1 - d->from;
    size_t at = 0;
    while (at < s->len && p->end[to] != NULL) {
        struct env_conn *c = p->end[to];
        struct wire_header h;
        struct wire_msg m;
        assert(s->len - at >= WIRE_HEADER);
        enum status status = wire_read_header(s->data + at, &h);
        assert(status == ST_OK);
        struct slice frame = slice_make(s->data + at, WIRE_HEADER + h.length);
        assert(frame.len <= s->len - at); /* whole frames are sent */
        status = wire_decode(frame, &p->w->arena, &m);
        assert(status == ST_OK); /* encoder and decoder agree */
        at += frame.len;
        p->w->frames++;
        world_mix(p->w, 11 + ((uint64_t)p->id << 8), h.checksum);
        if (p->w->trace != NULL) {
            trace_frame(d, &m);
        }
        if (p->w->tap != NULL) {
            p->w->tap(p->w->tap_ctx, sender(d), receiver(d), &m);
        }
        if (!hello_may_send(c->peer_role, c->env->self.role,
                            (uint16_t)m.type)) {
            TRACE(p->w, "%s: that role may not send this", c->env->host->name);
            p->w->denied++;
            refuse(c, ST_DENIED);
        } else {
            c->events->on_message(c->ctx, c, &m);
        }
        arena_free(&p->w->arena);
    }
}

/* True while DATA for an end that is gone makes the kernel answer RST. */
static void answer_reset(struct sim_dir *d)
{
    struct sim_pipe *p = d->pipe;
    drop_segments(d);
    if (p->end[d->from] != NULL) {
        append_kind(&p->dir[1 - d->from], SEG_RST, p->w->now);
    }
}

static void take(struct sim_dir *d, struct segment *s)
{
    struct sim_pipe *p = d->pipe;
    struct env_conn *c = p->end[1 - d->from];
    switch (s->kind) {
    case SEG_SYN:
        take_syn(d, s);
        break;
    case SEG_ACCEPT:
        if (c == NULL) {
            answer_reset(d);
            break;
        }
        event_cancel(p->w, &c->late); /* the connect timeout */
        greet(c, s);
        break;
    case SEG_DATA:
        if (c == NULL) {
            answer_reset(d);
            break;
        }
        take_data(d, s);
        break;
    case SEG_FIN:
    case SEG_RST:
        if (c != NULL) {
            end_lost(c, c->open ? ST_CLOSED : ST_UNREACHABLE);
        }
        break;
    }
}

/* The path is cut, or the host is off: wait, then give up. */
static void wait_for_path(struct sim_dir *d)
{
    struct sim_pipe *p = d->pipe;
    if (!d->waiting) {
        d->waiting = true;
        event_schedule(p->w, &d->pump, p->w->now + GIVE_UP_US);
        return;
    }
    struct env_conn *c = p->end[d->from];
    if (c != NULL && event_deferred(&d->pump, c->env)) {
        return;
    }
    drop_segments(d);
    if (c != NULL) {
        end_lost(c, ST_TIMEOUT);
    }
}

static void pump(struct sim_event *ev)
{
    struct sim_dir *d = ev->ctx;
    struct sim_pipe *p = d->pipe;
    struct segment *s = d->head;
    if (s == NULL) {
        pipe_maybe_free(p);
        return;
    }
    p->held++;
    if (!pipe_path_open(d)) {
        wait_for_path(d);
    } else {
        d->waiting = false;
        struct sim_env *e = taker(d);
        if (s->at > p->w->now) {
            event_schedule(p->w, ev, s->at);
        } else if (e == NULL || !event_deferred(ev, e)) {
            d->head = s->next;
            d->tail = d->head == NULL ? NULL : d->tail;
            d->queued -= s->len;
            take(d, s);
            free(s);
            if (d->head != NULL && !d->waiting) {
                event_schedule(p->w, ev, d->head->at);
            }
        }
    }
    p->held--;
    pipe_maybe_free(p);
}

/* ---- frames out of order ---- */

static void stray_free(struct stray *x)
{
    struct sim_pipe *p = x->dir->pipe;
    event_cancel(p->w, &x->ev);
    if (x->prev != NULL) {
        x->prev->next = x->next;
    } else {
        p->strays = x->next;
    }
    if (x->next != NULL) {
        x->next->prev = x->prev;
    }
    free(x->seg);
    free(x);
}

static void deliver_stray(struct sim_event *ev)
{
    struct stray *x = ev->ctx;
    struct sim_pipe *p = x->dir->pipe;
    struct env_conn *c = p->end[1 - x->dir->from];
    if (c != NULL && event_deferred(ev, c->env)) {
        return;
    }
    p->held++;
    if (c != NULL && c->open && pipe_path_open(x->dir)) {
        TRACE(p->w, "#%llu: a stray frame", (unsigned long long)p->id);
        take_data(x->dir, x->seg);
    }
    p->held--;
    stray_free(x);
    pipe_maybe_free(p);
}

static void send_stray(struct sim_dir *d, struct slice frame, int64_t now)
{
    struct world *w = d->pipe->w;
    struct stray *x = xcalloc(1, sizeof(*x));
    x->dir = d;
    x->seg = segment_new(SEG_DATA, frame);
    x->ev.fn = deliver_stray;
    x->ev.ctx = x;
    x->next = d->pipe->strays;
    if (x->next != NULL) {
        x->next->prev = x;
    }
    d->pipe->strays = x;
    event_schedule(w, &x->ev,
                   now + travel_time(d, frame.len) +
                       sim_rng_range(&w->rng, 0, 5 * SIM_MS));
}

/* ---- struct env's functions ---- */

static void on_late(struct sim_event *ev)
{
    struct env_conn *c = ev->ctx;
    if (!event_deferred(ev, c->env)) {
        refuse(c, c->open ? ST_BUSY : ST_UNREACHABLE);
    }
}

struct env_conn *net_connect(struct env *e, const char *address, enum lane lane,
                             const struct env_conn_events *events, void *ctx)
{
    struct sim_env *s = env_of(e);
    assert(strlen(address) <= LIMIT_ADDRESS);
    struct env_conn *c = end_new(s, events, ctx);
    if (s->process->dead) {
        return c; /* nothing ever comes of it */
    }
    struct sim_listener *l = listener_find(s->w, address);
    struct sim_pipe *p = pipe_new(s->w, s->host, l != NULL ? l->host : NULL);
    (void)snprintf(p->address, sizeof(p->address), "%s", address);
    p->lane = lane;
    end_join(c, p, 0);
    append(&p->dir[0], hello_new(SEG_SYN, &s->self), env_true_now(s));
    event_schedule(s->w, &c->late, env_true_now(s) + CONNECT_TIMEOUT_US);
    return c;
}

enum status net_listen(struct env *e, const char *address,
                       const struct env_conn_events *events, void *ctx,
                       struct err *err)
{
    struct sim_env *s = env_of(e);
    if (s->process->dead) {
        return err_set(err, ST_STOPPING, "the process is dead");
    }
    if (strlen(address) > LIMIT_ADDRESS) {
        return err_set(err, ST_INVALID, "address too long");
    }
    struct sim_listener *l = listener_find(s->w, address);
    if (l != NULL && l->env != NULL) {
        return err_set(err, ST_IN_USE, "%s: in use", address);
    }
    if (l == NULL) {
        l = xcalloc(1, sizeof(*l));
        (void)snprintf(l->address, sizeof(l->address), "%s", address);
        l->next = s->w->listeners;
        s->w->listeners = l;
    }
    l->host = s->host;
    l->env = s;
    l->events = events;
    l->ctx = ctx;
    return ST_OK;
}

/* One frame under lossy rules; true if it went (or was lost) out of order. */
static bool disturbed(struct sim_dir *d, struct slice frame, int64_t now)
{
    struct world *w = d->pipe->w;
    if (sim_rng_chance(&w->rng, w->net.loss_ppm)) {
        TRACE(w, "#%llu: a frame is lost", (unsigned long long)d->pipe->id);
        return true;
    }
    if (sim_rng_chance(&w->rng, w->net.duplicate_ppm)) {
        send_stray(d, frame, now);
    }
    if (sim_rng_chance(&w->rng, w->net.reorder_ppm)) {
        send_stray(d, frame, now);
        return true;
    }
    return false;
}

static void send_lossy(struct sim_dir *d, struct slice frames, int64_t now)
{
    while (frames.len > 0) {
        struct wire_header h;
        enum status status = wire_read_header(frames.data, &h);
        assert(status == ST_OK);
        struct slice frame = slice_make(frames.data, WIRE_HEADER + h.length);
        assert(frame.len <= frames.len);
        frames.data += frame.len;
        frames.len -= frame.len;
        if (!disturbed(d, frame, now)) {
            append(d, segment_new(SEG_DATA, frame), now);
        }
    }
}

void pipe_reset(struct sim_pipe *p)
{
    TRACE(p->w, "#%llu is reset", (unsigned long long)p->id);
    for (unsigned i = 0; i < 2; i++) {
        truncate_dir(&p->dir[i]);
        append_kind(&p->dir[i], SEG_RST, p->w->now);
    }
}

void net_send(struct env_conn *c, struct slice frames)
{
    struct sim_env *s = c->env;
    struct world *w = s->w;
    if (s->process->dead || frames.len == 0 || c->pipe == NULL) {
        return;
    }
    assert(frames.len >= WIRE_HEADER);
    struct sim_dir *d = &c->pipe->dir[c->side];
    if (w->net.loss_ppm + w->net.duplicate_ppm + w->net.reorder_ppm > 0) {
        send_lossy(d, frames, env_true_now(s));
    } else {
        append(d, segment_new(SEG_DATA, frames), env_true_now(s));
    }
    if (sim_rng_chance(&w->rng, w->net.reset_ppm)) {
        pipe_reset(c->pipe);
    }
    if (d->queued > LIMIT_CONN_QUEUE && c->late.state == EVENT_IDLE) {
        event_schedule(w, &c->late, env_true_now(s));
    }
}

/* What the kernel does with the connection of side SIDE, which is closed. */
static void kernel_close(struct sim_pipe *p, unsigned side, int64_t now)
{
    struct world *w = p->w;
    struct sim_dir *d = &p->dir[side];
    if (p->end[1 - side] == NULL &&
        (d->head == NULL || d->head->kind != SEG_SYN)) {
        drop_segments(d);
        return;
    }
    if (d->head != NULL && d->head->kind == SEG_DATA && !d->waiting &&
        sim_rng_chance(&w->rng, w->net.late_close_ppm)) {
        /* Its last frames linger somewhere. */
        int64_t late = sim_rng_range(&w->rng, 1 * SIM_MS, 2 * SIM_S);
        for (struct segment *s = d->head; s != NULL; s = s->next) {
            s->at += late;
        }
        d->last_at += late;
        event_cancel(w, &d->pump);
        event_schedule(w, &d->pump, d->head->at);
        append_kind(d, SEG_FIN, now);
    } else if (sim_rng_chance(&w->rng, 300000)) {
        truncate_dir(d);
        append_kind(d, SEG_RST, now);
    } else {
        append_kind(d, SEG_FIN, now);
    }
}

void net_close(struct env_conn *c)
{
    struct sim_pipe *p = c->pipe;
    if (p == NULL) {
        return; /* from inside on_close: it is dead already */
    }
    unsigned side = c->side;
    bool dead = c->env->process->dead;
    int64_t now = env_true_now(c->env);
    end_free(c);
    p->held++;
    if (!dead) {
        kernel_close(p, side, now);
    }
    p->held--;
    pipe_maybe_free(p);
}

size_t net_queued(const struct env_conn *c)
{
    return c->pipe != NULL ? c->pipe->dir[c->side].queued : 0;
}

void net_set_data(struct env_conn *c, void *data)
{
    c->data = data;
}

void *net_data(const struct env_conn *c)
{
    return c->data;
}

/* ---- death ---- */

/* The ends leave their pipes now (the kernel tells the peers, if it lives),
 * but stay in memory for the user to close until the env is freed. */
void net_env_died(struct sim_env *e, bool power)
{
    for (struct sim_listener *l = e->w->listeners; l != NULL; l = l->next) {
        l->env = l->env == e ? NULL : l->env;
    }
    for (struct env_conn *c = e->conns; c != NULL; c = c->next) {
        struct sim_pipe *p = c->pipe;
        event_cancel(e->w, &c->late);
        if (p == NULL) {
            continue;
        }
        p->end[c->side] = NULL;
        c->pipe = NULL;
        p->held++;
        if (power) {
            truncate_dir(&p->dir[c->side]);
        } else {
            kernel_close(p, c->side, env_true_now(e));
        }
        p->held--;
        pipe_maybe_free(p);
    }
}

void net_env_free(struct sim_env *e)
{
    while (e->conns != NULL) {
        assert(e->conns->pipe == NULL);
        end_free(e->conns);
    }
}

/* ---- the end ---- */

void net_world_free(struct world *w)
{
    while (w->listeners != NULL) {
        struct sim_listener *l = w->listeners;
        w->listeners = l->next;
        free(l);
    }
    while (w->pipes != NULL) {
        struct sim_pipe *p = w->pipes;
        assert(p->end[0] == NULL && p->end[1] == NULL);
        drop_segments(&p->dir[0]);
        drop_segments(&p->dir[1]);
        while (p->strays != NULL) {
            stray_free(p->strays);
        }
        pipe_maybe_free(p);
    }
}
