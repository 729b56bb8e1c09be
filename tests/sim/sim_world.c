/*
 * Time, the queue of events, random numbers, trace.
 *
 * The queue is a binary heap by (time, seq): events of one time come in the
 * order in which they were asked for. An event is embedded in what it belongs
 * to and knows its place, so that cancelling is cheap. An event of a paused
 * host is parked there when it is due and comes back, in the same order, when
 * the host goes on.
 */
#include "tests/sim/sim_internal.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- random ---- */

static uint64_t splitmix(uint64_t *x)
{
    *x += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t z = *x;
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

void sim_rng_init(struct sim_rng *r, uint64_t seed)
{
    for (size_t i = 0; i < 4; i++) {
        r->s[i] = splitmix(&seed);
    }
}

static uint64_t rotate(uint64_t x, unsigned k)
{
    return (x << k) | (x >> (64 - k));
}

uint64_t sim_rng_next(struct sim_rng *r)
{
    uint64_t *s = r->s;
    uint64_t result = rotate(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 45);
    return result;
}

uint64_t sim_rng_below(struct sim_rng *r, uint64_t n)
{
    assert(n > 0);
    return sim_rng_next(r) % n;
}

int64_t sim_rng_range(struct sim_rng *r, int64_t first, int64_t last)
{
    assert(first <= last);
    return first + (int64_t)sim_rng_below(r, (uint64_t)(last - first) + 1);
}

bool sim_rng_chance(struct sim_rng *r, uint32_t ppm)
{
    return ppm > 0 && sim_rng_below(r, 1000000) < ppm;
}

void sim_rng_fill(struct sim_rng *r, void *out, size_t len)
{
    uint8_t *at = out;
    while (len > 0) {
        uint64_t v = sim_rng_next(r);
        size_t n = len < sizeof(v) ? len : sizeof(v);
        memcpy(at, &v, n);
        at += n;
        len -= n;
    }
}

/* ---- the heap ---- */

static bool before(const struct sim_event *a, const struct sim_event *b)
{
    return a->time != b->time ? a->time < b->time : a->seq < b->seq;
}

static void place(struct world *w, size_t i, struct sim_event *ev)
{
    w->heap[i] = ev;
    ev->index = i;
}

static void sift_up(struct world *w, size_t i, struct sim_event *ev)
{
    while (i > 0 && before(ev, w->heap[(i - 1) / 2])) {
        place(w, i, w->heap[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    place(w, i, ev);
}

static void sift_down(struct world *w, size_t i, struct sim_event *ev)
{
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= w->heap_len) {
            break;
        }
        if (child + 1 < w->heap_len &&
            before(w->heap[child + 1], w->heap[child])) {
            child++;
        }
        if (!before(w->heap[child], ev)) {
            break;
        }
        place(w, i, w->heap[child]);
        i = child;
    }
    place(w, i, ev);
}

void event_schedule(struct world *w, struct sim_event *ev, int64_t time)
{
    event_cancel(w, ev);
    assert(ev->fn != NULL);
    ev->time = time > w->now ? time : w->now;
    ev->seq = ++w->seq;
    ev->state = EVENT_QUEUED;
    if (w->heap_len == w->heap_cap) {
        w->heap_cap = w->heap_cap == 0 ? 256 : 2 * w->heap_cap;
        w->heap = xrealloc(w->heap, w->heap_cap * sizeof(*w->heap));
    }
    sift_up(w, w->heap_len++, ev);
}

static void heap_remove(struct world *w, struct sim_event *ev)
{
    struct sim_event *last = w->heap[--w->heap_len];
    size_t i = ev->index;
    if (last != ev) {
        if (i > 0 && before(last, w->heap[(i - 1) / 2])) {
            sift_up(w, i, last);
        } else {
            sift_down(w, i, last);
        }
    }
}

static void park(struct sim_event *ev, struct sim_host *h)
{
    ev->state = EVENT_PARKED;
    ev->parked_at = h;
    ev->next = NULL;
    ev->prev = h->parked_tail;
    if (h->parked_tail != NULL) {
        h->parked_tail->next = ev;
    } else {
        h->parked_head = ev;
    }
    h->parked_tail = ev;
}

static void unpark(struct sim_event *ev)
{
    struct sim_host *h = ev->parked_at;
    if (ev->prev != NULL) {
        ev->prev->next = ev->next;
    } else {
        h->parked_head = ev->next;
    }
    if (ev->next != NULL) {
        ev->next->prev = ev->prev;
    } else {
        h->parked_tail = ev->prev;
    }
    ev->state = EVENT_IDLE;
}

void event_cancel(struct world *w, struct sim_event *ev)
{
    switch (ev->state) {
    case EVENT_IDLE:
        return;
    case EVENT_QUEUED:
        heap_remove(w, ev);
        break;
    case EVENT_PARKED:
        unpark(ev);
        break;
    }
    ev->state = EVENT_IDLE;
}

bool event_deferred(struct sim_event *ev, struct sim_env *e)
{
    if (e->host->paused) {
        park(ev, e->host);
        return true;
    }
    if (e->busy_until > e->w->now) {
        event_schedule(e->w, ev, e->busy_until);
        return true;
    }
    e->w->ran = e->host;
    return false;
}

void world_release_parked(struct sim_host *h)
{
    while (h->parked_head != NULL) {
        struct sim_event *ev = h->parked_head;
        unpark(ev);
        event_schedule(h->w, ev, h->w->now);
    }
}

/* ---- running ---- */

struct world *world_new(uint64_t seed)
{
    struct world *w = xcalloc(1, sizeof(*w));
    sim_rng_init(&w->rng, seed);
    sim_rng_init(&w->test_rng, seed ^ UINT64_C(0x7465737473656564));
    w->hash = seed;
    return w;
}

void world_set_bugs(struct world *w, unsigned bugs)
{
    w->bugs = bugs;
}

bool world_has_bug(const struct world *w, enum sim_bug bug)
{
    return (w->bugs >> bug) & 1u;
}

int64_t world_now(const struct world *w)
{
    return w->now;
}

uint64_t world_events(const struct world *w)
{
    return w->events;
}

uint64_t world_hash(const struct world *w)
{
    return w->hash;
}

struct sim_rng *world_rng(struct world *w)
{
    return &w->test_rng;
}

void world_mix(struct world *w, uint64_t kind, uint64_t value)
{
    uint64_t x = w->hash ^ kind;
    x = splitmix(&x) ^ value;
    w->hash = splitmix(&x);
}

void world_note(struct world *w, uint64_t value)
{
    world_mix(w, 1, value);
}

bool world_step(struct world *w)
{
    assert(w->depth == 0); /* an event never runs the world */
    if (w->heap_len == 0) {
        return false;
    }
    struct sim_event *ev = w->heap[0];
    heap_remove(w, ev);
    ev->state = EVENT_IDLE;
    w->now = ev->time;
    w->events++;
    world_mix(w, (uint64_t)ev->time, ev->seq);
    w->ran = NULL;
    w->depth++;
    ev->fn(ev);
    w->depth--;
    world_reap(w);
    if (w->ran != NULL && w->observe != NULL) {
        w->observing = true;
        w->observe(w->observe_ctx, w->ran);
        w->observing = false;
    }
    return true;
}

void world_run_until(struct world *w, int64_t time_us)
{
    w->stop = false;
    while (!w->stop && w->heap_len > 0 && w->heap[0]->time <= time_us) {
        (void)world_step(w);
    }
    if (!w->stop && w->now < time_us) {
        w->now = time_us;
    }
}

void world_run_for(struct world *w, int64_t duration_us)
{
    world_run_until(w, w->now + duration_us);
}

bool world_run_while(struct world *w, bool (*going_on)(void *ctx), void *ctx,
                     int64_t duration_us)
{
    int64_t end = w->now + duration_us;
    w->stop = false;
    while (going_on(ctx)) {
        if (w->stop || w->heap_len == 0 || w->heap[0]->time > end) {
            return false;
        }
        (void)world_step(w);
    }
    return true;
}

void world_stop(struct world *w)
{
    w->stop = true;
}

/* ---- the test's own events ---- */

struct world_call {
    struct sim_event ev;
    struct world *w;
    void (*fn)(void *ctx);
    void *ctx;
    struct world_call *prev, *next;
};

static void unlink_call(struct world_call *c)
{
    if (c->prev != NULL) {
        c->prev->next = c->next;
    } else {
        c->w->calls = c->next;
    }
    if (c->next != NULL) {
        c->next->prev = c->prev;
    }
}

static void run_call(struct sim_event *ev)
{
    struct world_call *c = ev->ctx;
    void (*fn)(void *ctx) = c->fn;
    void *ctx = c->ctx;
    unlink_call(c);
    free(c);
    fn(ctx);
}

void world_at(struct world *w, int64_t delay_us, void (*fn)(void *ctx),
              void *ctx)
{
    struct world_call *c = xcalloc(1, sizeof(*c));
    c->w = w;
    c->fn = fn;
    c->ctx = ctx;
    c->ev.fn = run_call;
    c->ev.ctx = c;
    c->next = w->calls;
    if (c->next != NULL) {
        c->next->prev = c;
    }
    w->calls = c;
    event_schedule(w, &c->ev, w->now + (delay_us > 0 ? delay_us : 0));
}

void world_observe(struct world *w, void (*fn)(void *ctx, struct sim_host *h),
                   void *ctx)
{
    w->observe = fn;
    w->observe_ctx = ctx;
}

/* ---- trace ---- */

void world_trace_to(struct world *w,
                    void (*fn)(void *ctx, int64_t time_us, const char *line),
                    void *ctx)
{
    w->trace = fn;
    w->trace_ctx = ctx;
}

bool world_traced(const struct world *w)
{
    return w->trace != NULL;
}

void world_trace(struct world *w, const char *format, ...)
{
    if (w->trace == NULL) {
        return;
    }
    char line[512];
    va_list ap;
    va_start(ap, format);
    (void)vsnprintf(line, sizeof(line), format, ap);
    va_end(ap);
    w->trace(w->trace_ctx, w->now, line);
}

/* ---- the end ---- */

void world_free(struct world *w)
{
    if (w == NULL) {
        return;
    }
    w->observe = NULL;
    for (size_t i = 0; i < w->host_count; i++) {
        sim_host_kill(w->hosts[i]);
    }
    while (w->calls != NULL) {
        struct world_call *c = w->calls;
        event_cancel(w, &c->ev);
        unlink_call(c);
        free(c);
    }
    world_free_buried(w);
    net_world_free(w);
    for (size_t i = 0; i < w->host_count; i++) {
        disk_free_all(w->hosts[i]);
        free(w->hosts[i]);
    }
    assert(w->heap_len == 0);
    free(w->heap);
    arena_free(&w->arena);
    free(w);
}
