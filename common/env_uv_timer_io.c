/*
 * Timers of the libuv env: a binary heap by (time, order of starting) in
 * microseconds of CLOCK_BOOTTIME over one uv timer, which counts milliseconds
 * of another clock: when it fires too early, it is only set anew. A timer's
 * impl is its place in the heap plus one.
 *
 * Timers without a delay are in a list instead, and fire after the loop has
 * looked for input once more without waiting: so who collects work to the end
 * of the turn (the log's groups) collects what has come meanwhile, too. Their
 * impl is minus their place in the list, minus one.
 */
#include <assert.h>
#include <stdlib.h>

#include "common/env_uv_impl.h"

static bool before(const struct timer_slot *a, const struct timer_slot *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->turn < b->turn;
}

static void place(struct timers *h, size_t i, struct timer_slot slot)
{
    h->heap[i] = slot;
    slot.t->impl = (void *)(uintptr_t)(i + 1);
}

/* Puts SLOT where place I is free, upwards or downwards from there. */
static void settle(struct timers *h, size_t i, struct timer_slot slot)
{
    while (i > 0 && before(&slot, &h->heap[(i - 1) / 2])) {
        place(h, i, h->heap[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    for (;;) {
        size_t child = 2 * i + 1;
        if (child + 1 < h->count &&
            before(&h->heap[child + 1], &h->heap[child])) {
            child++;
        }
        if (child >= h->count || !before(&h->heap[child], &slot)) {
            break;
        }
        place(h, i, h->heap[child]);
        i = child;
    }
    place(h, i, slot);
}

static void take_out(struct timers *h, struct env_timer *t)
{
    intptr_t place = (intptr_t)t->impl;
    if (place < 0) {
        assert(h->soon[-place - 1] == t);
        h->soon[-place - 1] = NULL;
        t->impl = NULL;
        return;
    }
    size_t i = (size_t)place - 1;
    assert(i < h->count && h->heap[i].t == t);
    t->impl = NULL;
    h->count--;
    if (i < h->count) {
        settle(h, i, h->heap[h->count]);
    }
}

static void on_timer(uv_timer_t *handle);

/* Fires in LEAST_MS at the earliest. */
static void arm(struct env_uv *u, uint64_t least_ms)
{
    struct timers *h = &u->timers;
    if (h->firing || u->closing) {
        return;
    }
    if (h->count == 0) {
        (void)uv_timer_stop(&h->handle);
        return;
    }
    int64_t left = h->heap[0].at_us - env_now_us(&u->env);
    uint64_t ms = left <= 0 ? 0 : ((uint64_t)left + 999) / 1000;
    ms = ms < least_ms ? least_ms : ms;
    /* The timer counts from the loop's time, which stays as it was when the
     * turn began. */
    uint64_t now_ms = uv_hrtime() / 1000000, then_ms = uv_now(u->loop);
    ms += now_ms > then_ms ? now_ms - then_ms : 0;
    (void)uv_timer_start(&h->handle, on_timer, ms, 0);
}

/* Fires what was due when it began: timers that callbacks start anew wait
 * for the loop's next turn, so that they cannot starve the network. libuv
 * runs a timer that its own callback started with no delay in the same turn,
 * again and again: hence a millisecond. */
static void on_timer(uv_timer_t *handle)
{
    struct env_uv *u = handle->data;
    struct timers *h = &u->timers;
    int64_t now = env_now_us(&u->env);
    uint64_t turns = h->turns;
    h->firing = true;
    while (h->count > 0 && h->heap[0].at_us <= now && h->heap[0].turn < turns) {
        struct env_timer *t = h->heap[0].t;
        take_out(h, t);
        t->fn(t);
    }
    h->firing = false;
    arm(u, 1);
}

/* ---- without a delay ---- */

static void start_soon(struct timers *h, struct env_timer *t)
{
    if (h->soon_count == h->soon_cap) {
        h->soon_cap = h->soon_cap == 0 ? 64 : 2 * h->soon_cap;
        h->soon = xrealloc(h->soon, h->soon_cap * sizeof(*h->soon));
    }
    h->soon[h->soon_count++] = t;
    t->impl = (void *)-(intptr_t)h->soon_count;
}

bool env_uv_timers_before_wait(struct env_uv *u)
{
    u->timers.soon_due = u->timers.soon_count;
    return u->timers.soon_due > 0;
}

bool env_uv_timers_after_wait(struct env_uv *u)
{
    struct timers *h = &u->timers;
    size_t due = h->soon_due;
    for (size_t i = 0; i < due; i++) {
        struct env_timer *t = h->soon[i];
        if (t != NULL) {
            take_out(h, t);
            t->fn(t);
        }
    }
    /* What was started meanwhile. */
    for (size_t i = due; due > 0 && i < h->soon_count; i++) {
        struct env_timer *t = h->soon[i];
        h->soon[i - due] = t;
        if (t != NULL) {
            t->impl = (void *)-(intptr_t)(i - due + 1);
        }
    }
    h->soon_count -= due;
    h->soon_due = 0;
    return due > 0;
}

/* ---- users ---- */

void env_uv_timer_start(struct env *e, struct env_timer *t, int64_t delay_us)
{
    struct env_uv *u = env_uv_of(e);
    struct timers *h = &u->timers;
    assert(delay_us >= 0);
    if (t->impl != NULL) {
        take_out(h, t);
    }
    if (u->closing) {
        return;
    }
    if (delay_us == 0) {
        start_soon(h, t);
        return;
    }
    if (h->count == h->cap) {
        h->cap = h->cap == 0 ? 64 : 2 * h->cap;
        h->heap = xrealloc(h->heap, h->cap * sizeof(*h->heap));
    }
    struct timer_slot slot = {
        .at_us = env_now_us(e) + delay_us, .turn = h->turns++, .t = t};
    h->count++;
    settle(h, h->count - 1, slot);
    if (h->heap[0].t == t) {
        arm(u, 0);
    }
}

void env_uv_timer_stop(struct env *e, struct env_timer *t)
{
    if (t->impl != NULL) {
        take_out(&env_uv_of(e)->timers, t);
    }
}

void env_uv_timers_init(struct env_uv *u)
{
    (void)uv_timer_init(u->loop, &u->timers.handle);
    u->timers.handle.data = u;
    env_uv_hold(u);
}

static void on_closed(uv_handle_t *h)
{
    env_uv_release(h->data);
}

void env_uv_timers_fini(struct env_uv *u)
{
    while (u->timers.count > 0) {
        take_out(&u->timers, u->timers.heap[u->timers.count - 1].t);
    }
    for (size_t i = 0; i < u->timers.soon_count; i++) {
        if (u->timers.soon[i] != NULL) {
            take_out(&u->timers, u->timers.soon[i]);
        }
    }
    uv_close((uv_handle_t *)&u->timers.handle, on_closed);
}
