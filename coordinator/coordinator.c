/*
 * The coordinator's shell: connections in and out, the register, and the one
 * rule that orders them: nobody hears of a map before it is durable (R1).
 *
 * The course of a change:
 *   1. A message, a closed connection or a tick becomes an event; core_step()
 *      changes the core's map and says what is to be done.
 *   2. If what changed must survive us, the register is written, with one
 *      sync; the map as it is at that moment is encoded beside it. While the
 *      sync is under way further events change the core's map further; they
 *      go together into the next write. What need not survive (who is up, a
 *      gateway's address) is published without a write, but never past one.
 *   3. The write is done: that map is published: it is pushed to all watchers,
 *      the core is told, and the answers that waited for it go out.
 *   4. If nothing follows for a while, the same value is written once more
 *      (register.c says why).
 *
 * What can fail: the register. A failed write or sync is never tried again
 * (R18): the object stops, says so, and the daemon ends; another start reads
 * what the disk really has. Until then everything goes on without us (R20).
 */
#include "coordinator/coordinator.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/bugs.h"
#include "coordinator/core.h"
#include "coordinator/register.h"
#include "coordinator/shell.h"

/* ---- what must be said to whom ---- */

static void send_now(struct coordinator *c, uint64_t conn, struct slice frames)
{
    struct client *to = clients_find(&c->clients, conn);
    if (to != NULL) {
        c->env->ops->send(to->conn, frames);
    }
}

/* Answers wait here for their map. They are few: a node that waits repeats
 * itself ten times a second. */
static void hold(struct coordinator *c, const struct core_answer *a)
{
    if (c->held_count == LIMIT_HELD_ANSWERS) {
        return; /* as good as lost on the way: it will be asked again */
    }
    struct held *h = xcalloc(1, sizeof(*h));
    h->conn = a->conn;
    h->after = a->after;
    buf_put(&h->frame, c->fx.frames.data + a->at, a->len);
    *c->held_end = h;
    c->held_end = &h->next;
    c->held_count++;
}

static void release_held(struct coordinator *c)
{
    struct held **at = &c->held;
    while (*at != NULL) {
        struct held *h = *at;
        if (h->after > c->published) {
            at = &h->next;
            continue;
        }
        send_now(c, h->conn, buf_slice(&h->frame));
        *at = h->next;
        buf_free(&h->frame);
        free(h);
        c->held_count--;
    }
    c->held_end = at;
}

static void give_up(struct coordinator *c, enum status why, const char *text)
{
    if (!c->dead) {
        c->dead = true;
        log_error(c->env->log, "coordinator", "giving-up",
                  "status=%s reason=%s", status_name(why),
                  log_quote(slice_of(text)));
        if (c->o.on_fatal != NULL) {
            c->o.on_fatal(c->o.ctx, why, text);
        }
    }
}

static void perform(struct coordinator *c)
{
    struct core_effects *fx = &c->fx;
    for (size_t i = 0; i < fx->note_count; i++) {
        log_write(c->env->log, fx->notes[i].level, "core", fx->notes[i].event,
                  "%s", fx->notes[i].text);
    }
    if (fx->fatal != ST_OK) {
        give_up(c, fx->fatal, fx->fatal_text.text);
        return;
    }
    c->unsaved = c->unsaved || fx->durable;
    for (size_t i = 0; i < fx->answer_count; i++) {
        const struct core_answer *a = &fx->answers[i];
        if (a->after > c->published) {
            hold(c, a);
        } else {
            send_now(c, a->conn, slice_make(fx->frames.data + a->at, a->len));
        }
    }
    for (size_t i = 0; i < fx->probe_count; i++) {
        probes_start(c->probes, &fx->probes[i]);
    }
}

static void advance(struct coordinator *c);

void shell_step(struct coordinator *c, struct core_event *ev)
{
    if (c->dead || c->stopping) {
        return;
    }
    ev->now_us = env_now_us(c->env);
    core_effects_clear(&c->fx);
    core_step(c->core, ev, &c->fx);
    perform(c);
    advance(c);
}

/* ---- publishing ---- */

/* Watchers that read slowly get the newest map later, not all of them. */
static void push_map(struct coordinator *c)
{
    for (struct client *to = c->clients.first; to != NULL; to = to->next) {
        if (to->watching && to->sent_version < c->published &&
            c->env->ops->conn_queued(to->conn) < LIMIT_WATCH_QUEUE) {
            to->sent_version = c->published;
            c->env->ops->send(to->conn, buf_slice(&c->map_frame));
            c->maps_pushed++;
        }
    }
}

static void set_map(struct coordinator *c, struct buf *frame)
{
    struct arena fresh = {0};
    struct buf old = c->map_frame;
    c->map_frame = *frame;
    *frame = old;
    enum status s = wire_decode(buf_slice(&c->map_frame), &fresh, &c->map);
    assert(s == ST_OK);
    arena_free(&c->map_arena);
    c->map_arena = fresh;
    c->published = c->map.u.map.version;
}

static void publish(struct coordinator *c, struct buf *frame)
{
    set_map(c, frame);
    struct core_event ev = {.kind = CORE_PUBLISHED,
                            .now_us = env_now_us(c->env),
                            .u.version = c->published};
    core_effects_clear(&c->fx);
    core_step(c->core, &ev, &c->fx);
    push_map(c);
    release_held(c);
    perform(c);
}

static void encode_map(struct coordinator *c, struct buf *out)
{
    buf_clear(out);
    wire_put_map(out, 0, core_map(c->core));
}

static void encode_generation(struct coordinator *c, struct generation *out)
{
    buf_clear(&c->state);
    core_save(c->core, &c->state);
    *out = (struct generation){.promised = c->term,
                               .accepted = c->term, /* R22 */
                               .version = core_version(c->core),
                               .state = buf_slice(&c->state)};
}

static void on_written(void *ctx, enum status status)
{
    struct coordinator *c = ctx;
    bool copy = c->writing == WRITING_COPY;
    c->writing = WRITING_NOTHING;
    if (c->stopping) {
        shell_finish_stop(c);
        return;
    }
    if (status != ST_OK) {
        char text[160];
        (void)snprintf(text, sizeof(text), "the register cannot be written: %s",
                       status_text(status));
        give_up(c, status, text);
        return;
    }
    c->copied = copy;
    if (!copy) {
        publish(c, &c->next_frame);
        env_timer_start(c->env, &c->mark_timer, c->o.times.mark_us);
    }
    advance(c);
}

static void begin_write(struct coordinator *c, enum writing what)
{
    struct generation g;
    if (what == WRITING_MAP) {
        encode_generation(c, &g);
        encode_map(c, &c->next_frame);
        c->unsaved = false;
    } else {
        g = *register_value(c->reg);
    }
    c->writing = what;
    c->register_writes++;
    register_write(c->reg, &g, on_written, c);
    if (HAS_BUG(&c->o, announce_before_durable) && what == WRITING_MAP) {
        struct buf early = {0};
        encode_map(c, &early);
        publish(c, &early);
        buf_free(&early);
    }
}

/* Whatever is possible next. */
static void advance(struct coordinator *c)
{
    while (!c->dead && !c->stopping && c->writing == WRITING_NOTHING) {
        if (c->unsaved) {
            begin_write(c, WRITING_MAP);
        } else if (core_version(c->core) > c->published) {
            encode_map(c, &c->next_frame);
            publish(c, &c->next_frame);
        } else {
            return;
        }
    }
}

static void on_mark(struct env_timer *t)
{
    struct coordinator *c = t->data;
    if (!c->dead && !c->copied && c->writing == WRITING_NOTHING) {
        begin_write(c, WRITING_COPY);
    }
}

static void on_tick(struct env_timer *t)
{
    struct coordinator *c = t->data;
    struct core_event ev = {.kind = CORE_TICK};
    env_timer_start(c->env, t, c->o.times.tick_us);
    shell_step(c, &ev);
    push_map(c);
}

static void on_gone(void *ctx, uint32_t node, struct incarnation incarnation,
                    int64_t since_us)
{
    struct core_event ev = {
        .kind = CORE_GONE,
        .u.node = {.node = node,
                   .incarnation = incarnation,
                   .since_us = since_us},
    };
    shell_step(ctx, &ev);
}

/* ---- life ---- */

struct coordinator_options coordinator_defaults(void)
{
    return (struct coordinator_options){
        .replicas = 3,
        .tablets = 64,
        .times = {.detect_us = 800000,
                  .stall_us = 1000000,
                  .lease_us = 205000,
                  .settle_us = 5000000,
                  .damp_us = 10000000,
                  .damp_max_us = 600000000,
                  .rereplicate_us = 60000000,
                  .tick_us = 20000,
                  .mark_us = 20000},
    };
}

static enum status check_options(const struct coordinator_options *o,
                                 struct err *err)
{
    if (o->replicas < 1 || o->replicas >= LIMIT_REPLICAS || o->tablets < 1 ||
        o->tablets > LIMIT_TABLETS) {
        return err_set(err, ST_CONFIG, "replicas or tablets out of range");
    }
    if (o->initial_nodes != 0 &&
        (o->initial_nodes < o->replicas || o->initial_nodes > LIMIT_NODES)) {
        return err_set(err, ST_CONFIG,
                       "%u storage nodes cannot hold %u replicas",
                       o->initial_nodes, o->replicas);
    }
    if (o->node == 0) {
        return err_set(err, ST_CONFIG, "the coordinator's node id is 0");
    }
    return ST_OK;
}

static void make_core(struct coordinator *c, struct id128 cluster,
                      uint64_t version)
{
    struct core_options o = {
        .replicas = c->o.replicas,
        .tablets = c->o.tablets,
        .initial_nodes =
            c->o.initial_nodes != 0 ? c->o.initial_nodes : c->o.replicas,
        .bugs = c->o.bugs,
        .times = c->o.times,
        .cluster = cluster,
        .term = c->term,
        .version = version,
        .now_us = env_now_us(c->env),
        .node = c->o.node,
        .name = c->o.name,
        .status_address = c->o.status_address,
    };
    c->core = core_new(&o);
}

static enum status make_cluster(struct coordinator *c, struct err *err)
{
    struct register_identity id = {
        .node = c->o.node, .tablets = c->o.tablets, .cluster = c->o.cluster};
    if (id128_is_zero(id.cluster)) {
        env_random(c->env, &id.cluster, sizeof(id.cluster));
    }
    c->term = 1;
    make_core(c, id.cluster, 1);
    struct generation first;
    encode_generation(c, &first);
    enum status s = register_create(c->env, &id, &first, &c->reg, err);
    if (s == ST_OK) {
        char text[33];
        id128_format(id.cluster, text);
        log_info(c->env->log, "coordinator", "cluster-made", "cluster=%s",
                 text);
    }
    return s;
}

static enum status recover(struct coordinator *c, struct err *err)
{
    enum status s =
        register_open(c->env, c->o.node, c->o.cluster, &c->reg, err);
    if (s == ST_NOT_FOUND) {
        return make_cluster(c, err);
    }
    if (s != ST_OK) {
        return s;
    }
    const struct generation *old = register_value(c->reg);
    c->term =
        1 + (old->promised > old->accepted ? old->promised : old->accepted);
    make_core(c, register_cluster(c->reg), old->version);
    s = core_load(c->core, old->state, err);
    if (s != ST_OK) {
        return s;
    }
    if (register_complaint(c->reg)[0] != '\0') {
        log_warn(c->env->log, "coordinator", "register-mended", "what=%s",
                 log_quote(slice_of(register_complaint(c->reg))));
    }
    /* R22: the map under our own term, before any node hears of it. */
    struct generation g;
    encode_generation(c, &g);
    return register_write_now(c->reg, &g, err);
}

static void fill_self(struct coordinator *c)
{
    struct hello_self *self = c->o.self;
    if (self != NULL) {
        uint64_t random;
        env_random(c->env, &random, sizeof(random));
        *self = (struct hello_self){
            .cluster = register_cluster(c->reg),
            .incarnation = {.counter = c->term, .random = random},
            .term = c->term,
            .node = c->o.node,
            .role = ROLE_COORDINATOR,
            .name = c->o.name,
        };
    }
}

enum status coordinator_new(struct env *env,
                            const struct coordinator_options *o,
                            struct coordinator **out, struct err *err)
{
    enum status s = check_options(o, err);
    if (s != ST_OK) {
        return s;
    }
    struct coordinator *c = xcalloc(1, sizeof(*c));
    c->env = env;
    c->o = *o;
    c->held_end = &c->held;
    s = recover(c, err);
    if (s != ST_OK) {
        register_close(c->reg);
        c->reg = NULL;
        coordinator_free(c);
        return s;
    }
    c->tick_timer = (struct env_timer){.fn = on_tick, .data = c};
    c->mark_timer = (struct env_timer){.fn = on_mark, .data = c};
    c->probes = probes_new(env, on_gone, c);
    encode_map(c, &c->next_frame);
    set_map(c, &c->next_frame);
    fill_self(c);
    *out = c;
    return ST_OK;
}

enum status coordinator_start(struct coordinator *c, struct err *err)
{
    enum status s =
        c->env->ops->listen(c->env, c->o.listen, &shell_events, c, err);
    if (s != ST_OK) {
        return s;
    }
    log_info(c->env->log, "coordinator", "active",
             "term=%llu version=%llu tablets=%u", (unsigned long long)c->term,
             (unsigned long long)c->published, c->map.u.map.tablets_count);
    env_timer_start(c->env, &c->tick_timer, c->o.times.tick_us);
    env_timer_start(c->env, &c->mark_timer, c->o.times.mark_us);
    return ST_OK;
}

void shell_finish_stop(struct coordinator *c)
{
    register_close(c->reg);
    c->reg = NULL;
    c->stopped(c->stopped_ctx);
}

void coordinator_stop(struct coordinator *c, void (*stopped)(void *ctx),
                      void *ctx)
{
    assert(!c->stopping);
    c->stopping = true;
    c->stopped = stopped;
    c->stopped_ctx = ctx;
    env_timer_stop(c->env, &c->tick_timer);
    env_timer_stop(c->env, &c->mark_timer);
    probes_stop(c->probes);
    clients_close_all(&c->clients, c->env);
    if (c->writing == WRITING_NOTHING) {
        shell_finish_stop(c);
    }
}

void coordinator_free(struct coordinator *c)
{
    if (c == NULL) {
        return;
    }
    clients_free(&c->clients);
    while (c->held != NULL) {
        struct held *h = c->held;
        c->held = h->next;
        buf_free(&h->frame);
        free(h);
    }
    register_forget(c->reg);
    probes_free(c->probes);
    core_effects_free(&c->fx);
    core_free(c->core);
    arena_free(&c->map_arena);
    buf_free(&c->map_frame);
    buf_free(&c->next_frame);
    buf_free(&c->state);
    free(c);
}

/* ---- looking in ---- */

const struct msg_map *coordinator_map(const struct coordinator *c)
{
    return &c->map.u.map;
}

bool coordinator_ready(const struct coordinator *c)
{
    return c->map.u.map.tablets_count > 0;
}

void coordinator_degraded(const struct coordinator *c, struct buf *out)
{
    core_degraded(c->core, out);
}

void coordinator_get_stats(const struct coordinator *c,
                           struct coordinator_stats *out)
{
    core_get_stats(c->core, out);
    out->maps_pushed = c->maps_pushed;
    out->register_writes = c->register_writes;
}
