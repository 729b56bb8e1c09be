/*
 * The env of kv_fake.h: one sorted list of events; a connection delivers in
 * order in each direction.
 */
#include "kv_fake.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum event_kind {
    EV_TIMER,
    EV_OPEN,
    EV_TO_HOST,
    EV_TO_CLIENT,
    EV_CLOSE,
    EV_FN
};

struct fake_event {
    struct fake_event *next;
    int64_t at_us;
    enum event_kind kind;
    struct env_timer *timer;
    struct fake_conn *conn;
    struct buf frame;
    enum status status;
    void (*fn)(void *arg);
    void *arg;
};

struct fake_conn {
    struct fake_conn *next;
    struct fake_host *host;
    enum lane lane;
    const struct env_conn_events *events;
    void *ctx;
    bool open, dead; /* dead: the client hears and sends no more */
    int64_t last_in_us, last_out_us;
};

static struct fake *fake_of(struct env *e)
{
    return (struct fake *)(void *)e;
}

static struct fake_event *add(struct fake *f, enum event_kind kind,
                              int64_t at_us)
{
    struct fake_event *ev = xcalloc(1, sizeof(*ev));
    ev->kind = kind;
    ev->at_us = at_us;
    struct fake_event **p = &f->events;
    while (*p != NULL && (*p)->at_us <= at_us) {
        p = &(*p)->next;
    }
    ev->next = *p;
    *p = ev;
    return ev;
}

static void event_free(struct fake_event *ev)
{
    buf_free(&ev->frame);
    free(ev);
}

uint32_t fake_random(struct fake *f, uint32_t below)
{
    f->random ^= f->random << 13;
    f->random ^= f->random >> 7;
    f->random ^= f->random << 17;
    return (uint32_t)((f->random >> 16) % below);
}

/* ---- env_ops ---- */

static int64_t op_now_us(struct env *e)
{
    return fake_of(e)->now_us;
}

static void op_random(struct env *e, void *out, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        ((uint8_t *)out)[i] = (uint8_t)fake_random(fake_of(e), 256);
    }
}

static void op_timer_stop(struct env *e, struct env_timer *t)
{
    struct fake_event **p = &fake_of(e)->events;
    if (t->impl == NULL) {
        return;
    }
    while (*p != t->impl) {
        p = &(*p)->next;
    }
    struct fake_event *ev = *p;
    *p = ev->next;
    event_free(ev);
    t->impl = NULL;
}

static void op_timer_start(struct env *e, struct env_timer *t, int64_t delay_us)
{
    assert(delay_us >= 0);
    op_timer_stop(e, t);
    struct fake_event *ev =
        add(fake_of(e), EV_TIMER, fake_of(e)->now_us + delay_us);
    ev->timer = t;
    t->impl = ev;
}

static struct fake_host *find_host(struct fake *f, const char *address)
{
    for (uint32_t i = 0; i < f->hosts_count; i++) {
        if (strcmp(f->hosts[i].address, address) == 0) {
            return &f->hosts[i];
        }
    }
    return NULL;
}

static struct env_conn *op_connect(struct env *e, const char *address,
                                   enum lane lane,
                                   const struct env_conn_events *events,
                                   void *ctx)
{
    struct fake *f = fake_of(e);
    struct fake_conn *c = xcalloc(1, sizeof(*c));
    c->host = find_host(f, address);
    assert(c->host != NULL);
    c->lane = lane;
    c->events = events;
    c->ctx = ctx;
    c->next = f->conns;
    f->conns = c;
    if (!c->host->deaf) {
        enum event_kind kind = c->host->up ? EV_OPEN : EV_CLOSE;
        struct fake_event *ev = add(f, kind, f->now_us + c->host->delay_us);
        ev->conn = c;
        ev->status = ST_UNREACHABLE;
    }
    return (struct env_conn *)(void *)c;
}

/* Later than all before on the same connection. */
static int64_t arrival(struct fake_host *h, int64_t *last_us)
{
    struct fake *f = h->fake;
    int64_t at = f->now_us + h->delay_us;
    if (h->jitter_us > 0) {
        at += fake_random(f, h->jitter_us);
    }
    if (at < *last_us) {
        at = *last_us;
    }
    *last_us = at;
    return at;
}

static void op_send(struct env_conn *ec, struct slice frames)
{
    struct fake_conn *c = (struct fake_conn *)(void *)ec;
    assert(c->open && !c->dead);
    if (c->host->deaf) {
        return;
    }
    int64_t at = arrival(c->host, &c->last_out_us);
    struct fake_event *ev = add(c->host->fake, EV_TO_HOST, at);
    ev->conn = c;
    buf_put_slice(&ev->frame, frames);
}

static void op_close(struct env_conn *ec)
{
    struct fake_conn *c = (struct fake_conn *)(void *)ec;
    assert(!c->dead);
    c->dead = true;
}

static const struct env_ops ops = {
    .now_us = op_now_us,
    .random = op_random,
    .timer_start = op_timer_start,
    .timer_stop = op_timer_stop,
    .connect = op_connect,
    .send = op_send,
    .close = op_close,
};

/* ---- running ---- */

static void deliver(struct fake_conn *c, struct slice frame, bool to_host)
{
    struct arena arena = {0};
    struct wire_msg m;
    enum status s = wire_decode(frame, &arena, &m);
    assert(s == ST_OK);
    if (to_host) {
        c->host->on_message(c->host, c, &m);
    } else {
        c->events->on_message(c->ctx, (struct env_conn *)(void *)c, &m);
    }
    arena_free(&arena);
}

static void fire_conn(struct fake_event *ev)
{
    struct fake_conn *c = ev->conn;
    static const struct env_peer peer;
    struct env_conn *ec = (struct env_conn *)(void *)c;
    if (ev->kind == EV_TO_HOST) {
        if (c->host->up && !c->host->deaf) {
            deliver(c, buf_slice(&ev->frame), true);
        }
        return;
    }
    if (c->dead) {
        return;
    }
    if (ev->kind == EV_TO_CLIENT) {
        deliver(c, buf_slice(&ev->frame), false);
    } else if (ev->kind == EV_OPEN && c->host->up) {
        c->open = true;
        c->host->opened++;
        c->events->on_open(c->ctx, ec, &peer);
        if (c->host->on_open != NULL) {
            c->host->on_open(c->host, c);
        }
    } else {
        c->dead = true;
        c->events->on_close(c->ctx, ec, ev->status);
    }
}

static void fire(struct fake_event *ev)
{
    if (ev->kind == EV_TIMER) {
        ev->timer->impl = NULL;
        ev->timer->fn(ev->timer);
    } else if (ev->kind == EV_FN) {
        ev->fn(ev->arg);
    } else {
        fire_conn(ev);
    }
}

void fake_run(struct fake *f, int64_t us)
{
    int64_t end = f->now_us + us;
    while (f->events != NULL && f->events->at_us <= end) {
        struct fake_event *ev = f->events;
        f->events = ev->next;
        assert(ev->at_us >= f->now_us);
        f->now_us = ev->at_us;
        fire(ev);
        event_free(ev);
    }
    f->now_us = end;
}

void fake_after(struct fake *f, int64_t delay_us, void (*fn)(void *arg),
                void *arg)
{
    struct fake_event *ev = add(f, EV_FN, f->now_us + delay_us);
    ev->fn = fn;
    ev->arg = arg;
}

void fake_init(struct fake *f, uint64_t seed)
{
    memset(f, 0, sizeof(*f));
    f->env.ops = &ops;
    f->env.log = &f->log;
    f->log = (struct log){.daemon = "test", .node = "test", .fd = -1};
    f->random = seed * 2654435761u + 88172645463325252ull;
    f->now_us = 1000000;
}

void fake_fini(struct fake *f)
{
    while (f->events != NULL) {
        struct fake_event *ev = f->events;
        assert(ev->kind != EV_TIMER); /* its user is gone */
        f->events = ev->next;
        event_free(ev);
    }
    while (f->conns != NULL) {
        struct fake_conn *c = f->conns;
        f->conns = c->next;
        free(c);
    }
}

struct fake_host *fake_add_host(struct fake *f, const char *address)
{
    assert(f->hosts_count < sizeof(f->hosts) / sizeof(f->hosts[0]));
    struct fake_host *h = &f->hosts[f->hosts_count++];
    h->fake = f;
    h->up = true;
    h->delay_us = 100;
    assert(strlen(address) < sizeof(h->address));
    memcpy(h->address, address, strlen(address) + 1);
    return h;
}

/* ---- the host's side ---- */

struct fake_host *fake_conn_host(struct fake_conn *c)
{
    return c->host;
}

enum lane fake_conn_lane(const struct fake_conn *c)
{
    return c->lane;
}

bool fake_conn_is_open(const struct fake_conn *c)
{
    return c->open && !c->dead;
}

void fake_answer(struct fake_conn *c, const struct buf *frame)
{
    if (c->dead || c->host->deaf) {
        return;
    }
    int64_t at = arrival(c->host, &c->last_in_us);
    struct fake_event *ev = add(c->host->fake, EV_TO_CLIENT, at);
    ev->conn = c;
    buf_put_slice(&ev->frame, buf_slice(frame));
}

void fake_cut(struct fake_host *h)
{
    for (struct fake_conn *c = h->fake->conns; c != NULL; c = c->next) {
        if (c->host == h && !c->dead && c->open) {
            struct fake_event *ev =
                add(h->fake, EV_CLOSE, arrival(h, &c->last_in_us));
            ev->conn = c;
            ev->status = ST_CLOSED;
        }
    }
}

void fake_kill(struct fake_host *h)
{
    fake_cut(h);
    h->up = false;
}
