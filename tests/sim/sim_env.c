/*
 * Hosts, processes, and the env's clock, random numbers and timers.
 *
 * True time is the world's. A host's clock runs offset + true + drift, so two
 * hosts disagree on durations by up to 2 %. A process that is stopped in the
 * middle of an event (sim_host_preempt) reads the later time from then on, and
 * all that it still does in that event takes effect at that later time: its
 * env is busy until then and handles nothing else.
 */
#include "tests/sim/sim_internal.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/env_work.h"

#define DRIFT_MAX 10000

/* ---- clock and random ---- */

int64_t host_clock(const struct sim_host *h, int64_t true_us)
{
    return h->clock_offset_us + true_us + true_us / 1000000 * h->drift_ppm +
           true_us % 1000000 * h->drift_ppm / 1000000;
}

static int64_t sim_now_us(struct env *e)
{
    struct sim_env *s = env_of(e);
    struct sim_host *h = s->host;
    if (h->preempt_ppm > 0 && !s->process->dead && !s->w->observing &&
        sim_rng_chance(&s->w->rng, h->preempt_ppm)) {
        int64_t stop = sim_rng_range(&s->w->rng, 1, h->preempt_us);
        s->busy_until = env_true_now(s) + stop;
        TRACE(s->w, "%s stopped for %lld us", h->name, (long long)stop);
    }
    /* A checker asks for the instant, whatever the process is doing. */
    return host_clock(h, s->w->observing ? s->w->now : env_true_now(s));
}

static int64_t sim_wall_ms(struct env *e)
{
    struct sim_env *s = env_of(e);
    return INT64_C(1700000000000) + env_true_now(s) / 1000 +
           s->host->wall_offset_ms;
}

static int64_t log_now(void *ctx)
{
    struct sim_env *s = ctx;
    return env_true_now(s);
}

static void sim_random(struct env *e, void *out, size_t len)
{
    sim_rng_fill(&env_of(e)->rng, out, len);
}

/* ---- timers ---- */

static void unlink_timer(struct sim_timer *t)
{
    if (t->prev != NULL) {
        t->prev->next = t->next;
    } else {
        t->env->timers = t->next;
    }
    if (t->next != NULL) {
        t->next->prev = t->prev;
    }
}

static void fire_timer(struct sim_event *ev)
{
    struct sim_timer *t = ev->ctx;
    if (event_deferred(ev, t->env)) {
        return;
    }
    struct env_timer *user = t->user;
    unlink_timer(t);
    free(t);
    user->impl = NULL;
    user->fn(user);
}

/* First true time at which the host's clock has gone on by DELAY. */
static int64_t true_deadline(struct sim_env *s, int64_t delay_us)
{
    int64_t start = env_true_now(s);
    int64_t goal = host_clock(s->host, start) + delay_us;
    int64_t at = start + delay_us - delay_us / 1000000 * s->host->drift_ppm -
                 delay_us / 100 - 1;
    at = at < start ? start : at;
    while (host_clock(s->host, at) < goal) {
        int64_t miss = goal - host_clock(s->host, at);
        at += miss > 100 ? miss * 98 / 100 : 1;
    }
    return at;
}

static void sim_timer_stop(struct env *e, struct env_timer *user)
{
    struct sim_timer *t = user->impl;
    if (t == NULL) {
        return;
    }
    assert(t->env == env_of(e));
    event_cancel(t->env->w, &t->ev);
    unlink_timer(t);
    free(t);
    user->impl = NULL;
}

static void sim_timer_start(struct env *e, struct env_timer *user,
                            int64_t delay_us)
{
    struct sim_env *s = env_of(e);
    sim_timer_stop(e, user);
    if (s->process->dead) {
        return;
    }
    assert(user->fn != NULL && delay_us >= 0);
    struct sim_timer *t = xcalloc(1, sizeof(*t));
    t->env = s;
    t->user = user;
    t->ev.fn = fire_timer;
    t->ev.ctx = t;
    t->next = s->timers;
    if (t->next != NULL) {
        t->next->prev = t;
    }
    s->timers = t;
    user->impl = t;
    /* A loop is never quite on time. */
    int64_t late = sim_rng_range(&s->w->rng, 0, 60);
    event_schedule(s->w, &t->ev, true_deadline(s, delay_us) + late);
}

/* ---- posts between the threads of a process ---- */

struct sim_post {
    struct sim_event ev;
    struct sim_env *env;
    void (*fn)(void *ctx);
    void *ctx;
    struct sim_post *prev, *next;
};

static void unlink_post(struct sim_post *p)
{
    if (p->prev != NULL) {
        p->prev->next = p->next;
    } else {
        p->env->posts = p->next;
    }
    if (p->next != NULL) {
        p->next->prev = p->prev;
    }
}

static void run_post(struct sim_event *ev)
{
    struct sim_post *p = ev->ctx;
    if (event_deferred(ev, p->env)) {
        return;
    }
    void (*fn)(void *ctx) = p->fn;
    void *ctx = p->ctx;
    unlink_post(p);
    free(p);
    fn(ctx);
}

void sim_env_post(struct env *to, void (*fn)(void *ctx), void *ctx)
{
    struct sim_env *s = env_of(to);
    if (s->process->dead) {
        return;
    }
    struct sim_post *p = xcalloc(1, sizeof(*p));
    p->env = s;
    p->fn = fn;
    p->ctx = ctx;
    p->ev.fn = run_post;
    p->ev.ctx = p;
    p->next = s->posts;
    if (p->next != NULL) {
        p->next->prev = p;
    }
    s->posts = p;
    /* The poster may be another, busier thread: its time counts too. */
    int64_t at = env_true_now(s);
    for (struct sim_env *o = s->process->envs; o != NULL; o = o->next) {
        int64_t now = env_true_now(o);
        at = now > at ? now : at;
    }
    at += sim_rng_range(&s->w->rng, 1, 40);
    s->last_post = at > s->last_post ? at : s->last_post;
    event_schedule(s->w, &p->ev, s->last_post);
}

/* ---- envs ---- */

static const struct env_ops sim_ops = {
    .now_us = sim_now_us,
    .wall_ms = sim_wall_ms,
    .random = sim_random,
    .timer_start = sim_timer_start,
    .timer_stop = sim_timer_stop,
    .connect = net_connect,
    .listen = net_listen,
    .send = net_send,
    .close = net_close,
    .conn_queued = net_queued,
    .conn_set_data = net_set_data,
    .conn_data = net_data,
    .file_open = disk_file_open,
    .file_close = disk_file_close,
    .file_size = disk_file_size,
    .file_read = disk_file_read,
    .dir_list = disk_dir_list,
    .dir_make = disk_dir_make,
    .file_put = disk_file_put,
    .file_allocate = disk_file_allocate,
    .file_write_now = disk_file_write_now,
    .file_sync_now = disk_file_sync_now,
    .file_write = disk_file_write,
    .file_fetch = disk_file_fetch,
    .file_publish = disk_file_publish,
    .file_remove = disk_file_remove,
    .disk_free = disk_space_free,
    .work = env_work_now,
    .work_wait = env_work_done,
};

static struct sim_process *process_new(struct sim_host *h,
                                       const struct sim_program *program)
{
    assert(h->process == NULL);
    struct sim_process *p = xcalloc(1, sizeof(*p));
    p->host = h;
    p->program = program;
    h->process = p;
    sim_host_power_on(h);
    return p;
}

struct env *sim_env_new(struct sim_host *h, const struct env_peer *self)
{
    if (h->process == NULL) {
        (void)process_new(h, NULL);
    }
    struct sim_env *s = xcalloc(1, sizeof(*s));
    s->w = h->w;
    s->host = h;
    s->process = h->process;
    s->env.ops = &sim_ops;
    s->env.log = &s->log;
    s->log = (struct log){.daemon = "sim",
                          .node = h->name,
                          .level = LOG_LEVEL_ERROR,
                          .fd = -1,
                          .now_us = log_now,
                          .ctx = s};
    sim_rng_init(&s->rng, sim_rng_next(&h->w->rng));
    struct env_peer peer = {.role = ROLE_CLIENT};
    (void)snprintf(peer.name, sizeof(peer.name), "%s", h->name);
    peer = self != NULL ? *self : peer;
    (void)snprintf(s->name, sizeof(s->name), "%s", peer.name);
    s->self = (struct hello_self){.store = peer.store,
                                  .incarnation = peer.incarnation,
                                  .term = peer.term,
                                  .node = peer.node,
                                  .role = peer.role,
                                  .name = s->name};
    s->next = s->process->envs;
    s->process->envs = s;
    return &s->env;
}

struct hello_self *sim_env_self(struct env *e)
{
    return &env_of(e)->self;
}

struct sim_host *sim_env_host(struct env *e)
{
    return env_of(e)->host;
}

bool sim_env_alive(const struct env *e)
{
    const struct sim_env *s = (const struct sim_env *)(const void *)e;
    return !s->process->dead;
}

bool sim_host_busy(const struct sim_host *h)
{
    const struct sim_env *s = h->process != NULL ? h->process->envs : NULL;
    while (s != NULL && s->busy_until <= h->w->now) {
        s = s->next;
    }
    return s != NULL;
}

/* Takes away what would still call the dead process. */
static void env_silence(struct sim_env *s)
{
    for (struct sim_timer *t = s->timers; t != NULL; t = t->next) {
        event_cancel(s->w, &t->ev);
    }
    for (struct sim_post *p = s->posts; p != NULL; p = p->next) {
        event_cancel(s->w, &p->ev);
    }
}

static void env_free(struct sim_env *s)
{
    while (s->timers != NULL) {
        struct sim_timer *t = s->timers;
        unlink_timer(t);
        free(t);
    }
    while (s->posts != NULL) {
        struct sim_post *p = s->posts;
        unlink_post(p);
        free(p);
    }
    net_env_free(s);
    disk_env_free(s);
    free(s);
}

/* ---- hosts ---- */

struct sim_host *sim_host_new(struct world *w, const char *name)
{
    assert(w->host_count < SIM_HOSTS && strlen(name) <= LIMIT_NAME);
    struct sim_host *h = xcalloc(1, sizeof(*h));
    h->w = w;
    h->index = w->host_count;
    (void)snprintf(h->name, sizeof(h->name), "%s", name);
    h->powered = true;
    h->drift_ppm = (int32_t)sim_rng_range(&w->rng, -DRIFT_MAX, DRIFT_MAX);
    h->clock_offset_us = sim_rng_range(&w->rng, 0, 1000 * SIM_S);
    disk_new(h);
    w->hosts[w->host_count++] = h;
    for (size_t i = 0; i < w->host_count; i++) {
        w->latency_us[h->index][i] = sim_rng_range(&w->rng, 10, 300);
        w->latency_us[i][h->index] = sim_rng_range(&w->rng, 10, 300);
    }
    return h;
}

const char *sim_host_name(const struct sim_host *h)
{
    return h->name;
}

struct world *sim_host_world(struct sim_host *h)
{
    return h->w;
}

struct sim_host *sim_host_find(struct world *w, const char *name)
{
    for (size_t i = 0; i < w->host_count; i++) {
        if (strcmp(w->hosts[i]->name, name) == 0) {
            return w->hosts[i];
        }
    }
    return NULL;
}

bool sim_host_start(struct sim_host *h, const struct sim_program *p, void *ctx)
{
    struct world *w = h->w;
    struct sim_process *process = process_new(h, p);
    TRACE(w, "%s starts", h->name);
    world_mix(w, 2, h->index);
    w->depth++;
    void *object = p->start(h, ctx);
    w->depth--;
    process->object = object;
    if (object == NULL && !process->dead) {
        TRACE(w, "%s could not start", h->name);
        host_die(h, false);
    }
    bool started = !process->dead;
    world_reap(w);
    return started;
}

void *sim_host_object(const struct sim_host *h)
{
    return h->process != NULL ? h->process->object : NULL;
}

bool sim_host_running(const struct sim_host *h)
{
    return h->process != NULL;
}

void host_die(struct sim_host *h, bool power)
{
    struct sim_process *p = h->process;
    if (p != NULL) {
        p->dead = true;
        h->process = NULL;
        p->next = h->w->dying;
        h->w->dying = p;
        for (struct sim_env *s = p->envs; s != NULL; s = s->next) {
            env_silence(s);
            disk_env_died(s);
            net_env_died(s, power);
        }
    }
    if (power) {
        disk_power_lost(h);
        h->powered = false;
    }
    h->paused = false;
    world_release_parked(h);
    world_reap(h->w);
}

static void process_free(struct sim_process *p)
{
    while (p->envs != NULL) {
        struct sim_env *s = p->envs;
        p->envs = s->next;
        env_free(s);
    }
    free(p);
}

void world_reap(struct world *w)
{
    while (w->depth == 0 && w->dying != NULL) {
        struct sim_process *p = w->dying;
        w->dying = p->next;
        if (p->program == NULL) {
            /* The test frees its objects when it likes: keep the env. */
            p->next = w->buried;
            w->buried = p;
            continue;
        }
        if (p->object != NULL) {
            p->program->free(p->object);
        }
        process_free(p);
    }
}

void world_free_buried(struct world *w)
{
    while (w->buried != NULL) {
        struct sim_process *p = w->buried;
        w->buried = p->next;
        process_free(p);
    }
}

void sim_host_kill(struct sim_host *h)
{
    if (h->process != NULL) {
        TRACE(h->w, "%s is killed", h->name);
        world_mix(h->w, 3, h->index);
        host_die(h, false);
    }
}

void sim_host_power_off(struct sim_host *h)
{
    if (h->powered) {
        TRACE(h->w, "%s loses power", h->name);
        world_mix(h->w, 4, h->index);
        host_die(h, true);
    }
}

void sim_host_power_on(struct sim_host *h)
{
    if (!h->powered) {
        h->powered = true;
        net_host_on(h);
    }
}

bool sim_host_powered(const struct sim_host *h)
{
    return h->powered;
}

void sim_host_fail_at_step(struct sim_host *h, uint32_t n, bool power)
{
    h->fail_at_step = n == 0 ? 0 : h->steps + n;
    h->fail_power = power;
}

uint64_t sim_host_steps(const struct sim_host *h)
{
    return h->steps;
}

bool host_step(struct sim_host *h)
{
    h->steps++;
    if (h->steps != h->fail_at_step) {
        return false;
    }
    TRACE(h->w, "%s dies before its step %llu on disk", h->name,
          (unsigned long long)h->steps);
    host_die(h, h->fail_power);
    return true;
}

void sim_host_pause(struct sim_host *h)
{
    if (h->powered && !h->paused) {
        TRACE(h->w, "%s is paused", h->name);
        world_mix(h->w, 5, h->index);
        h->paused = true;
    }
}

void sim_host_resume(struct sim_host *h)
{
    if (h->paused) {
        TRACE(h->w, "%s goes on", h->name);
        world_mix(h->w, 6, h->index);
        h->paused = false;
        world_release_parked(h);
    }
}

bool sim_host_paused(const struct sim_host *h)
{
    return h->paused;
}

void sim_host_preempt(struct sim_host *h, uint32_t chance_ppm,
                      int64_t longest_us)
{
    h->preempt_ppm = chance_ppm;
    h->preempt_us = longest_us > 0 ? longest_us : 1;
}

void sim_host_set_drift(struct sim_host *h, int32_t ppm)
{
    assert(ppm >= -DRIFT_MAX && ppm <= DRIFT_MAX);
    /* The reading stays, the speed changes. */
    int64_t reading = host_clock(h, h->w->now);
    h->drift_ppm = ppm;
    h->clock_offset_us += reading - host_clock(h, h->w->now);
}

void sim_host_step_wall(struct sim_host *h, int64_t by_ms)
{
    h->wall_offset_ms += by_ms;
}
