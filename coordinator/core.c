/*
 * The core's step, its map, and how it is loaded and saved.
 *
 * A step lets the event's handler note facts and flag the tablets whose
 * configuration may no longer be right; then every flagged tablet is reviewed
 * once (core_review.c). So all that one event causes is in one version of the
 * map, and is made durable with one sync (R1), and it does not matter in which
 * order facts arrive: the review looks at what is, not at what happened.
 */
#include "coordinator/core_parts.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- effects ---- */

void core_effects_clear(struct core_effects *e)
{
    e->map = e->durable = false;
    buf_clear(&e->frames);
    e->answer_count = e->probe_count = e->note_count = 0;
    e->fatal = ST_OK;
}

void core_effects_free(struct core_effects *e)
{
    buf_free(&e->frames);
    free(e->answers);
}

void core_touch(struct core *c, struct core_effects *fx, bool durably)
{
    if (!fx->map) {
        fx->map = true;
        c->version++;
        c->map = NULL;
    }
    fx->durable = fx->durable || durably;
}

void core_note(struct core_effects *fx, enum log_level level, const char *event,
               const char *format, ...)
{
    size_t most = level == LOG_LEVEL_DEBUG ? CORE_NOTES_DEBUG : CORE_NOTES;
    if (fx->note_count < most) {
        struct core_note *n = &fx->notes[fx->note_count++];
        va_list args;
        va_start(args, format);
        n->level = level;
        n->event = event;
        (void)vsnprintf(n->text, sizeof(n->text), format, args);
        va_end(args);
    }
}

void core_answer(struct core_effects *fx, const struct core_event *ev,
                 uint64_t after, size_t at)
{
    if (fx->answer_count == fx->answer_room) {
        fx->answer_room = fx->answer_room * 2 + 4;
        fx->answers =
            xrealloc(fx->answers, fx->answer_room * sizeof(fx->answers[0]));
    }
    fx->answers[fx->answer_count++] = (struct core_answer){
        .conn = ev->conn, .after = after, .at = at, .len = fx->frames.len - at};
}

void core_fatal(struct core_effects *fx, enum status why, const char *format,
                ...)
{
    if (fx->fatal == ST_OK) {
        va_list args;
        va_start(args, format);
        fx->fatal = why;
        (void)vsnprintf(fx->fatal_text.text, sizeof(fx->fatal_text.text),
                        format, args);
        va_end(args);
    }
}

/* ---- finding ---- */

struct node *core_find(struct core *c, uint8_t role, uint32_t id)
{
    for (size_t i = 0; id != 0 && i < LIMIT_NODES; i++) {
        if (c->nodes[i].id == id && c->nodes[i].role == role) {
            return &c->nodes[i];
        }
    }
    return NULL;
}

struct node *core_node(struct core *c, uint32_t id)
{
    return core_find(c, ROLE_STORAGE, id);
}

const struct node *core_node_const(const struct core *c, uint32_t id)
{
    for (size_t i = 0; id != 0 && i < LIMIT_NODES; i++) {
        if (c->nodes[i].id == id && c->nodes[i].role == ROLE_STORAGE) {
            return &c->nodes[i];
        }
    }
    return NULL;
}

struct tablet *core_tablet(struct core *c, uint32_t id)
{
    return id >= 1 && id <= c->tablet_count ? &c->tablets[id - 1] : NULL;
}

struct replica node_replica(const struct node *n)
{
    return (struct replica){.node = n->id, .store = n->store};
}

void core_review_all(struct core *c)
{
    for (uint32_t i = 0; i < c->tablet_count; i++) {
        c->tablets[i].review = true;
    }
}

/* ---- making and stepping ---- */

struct core *core_new(const struct core_options *o)
{
    assert(o->replicas >= 1 && o->replicas < LIMIT_REPLICAS);
    assert(o->tablets >= 1 && o->tablets <= LIMIT_TABLETS);
    assert(o->initial_nodes >= o->replicas && o->initial_nodes <= LIMIT_NODES);
    struct core *c = xcalloc(1, sizeof(*c));
    c->o = *o;
    c->times = o->times;
    c->cluster = o->cluster;
    c->term = o->term;
    c->version = c->published = o->version;
    c->now_us = c->start_us = c->last_tick_us = c->last_sweep_us = o->now_us;
    c->disturbed_us = o->now_us;
    return c;
}

void core_free(struct core *c)
{
    if (c != NULL) {
        for (size_t i = 0; i < LIMIT_NODES; i++) {
            free(c->nodes[i].slots);
        }
        arena_free(&c->map_arena);
        free(c->tablets);
        free(c);
    }
}

void core_step(struct core *c, const struct core_event *ev,
               struct core_effects *fx)
{
    c->now_us = ev->now_us;
    switch (ev->kind) {
    case CORE_HEARTBEAT:
        core_on_heartbeat(c, ev, fx);
        break;
    case CORE_CHANGE:
        core_on_change(c, ev, fx);
        break;
    case CORE_NODE_SET:
        core_on_node_set(c, ev, fx);
        break;
    case CORE_REPORTS_ASK:
        core_on_reports_ask(c, ev, fx);
        break;
    case CORE_RESET:
        core_on_reset(c, ev, fx);
        break;
    case CORE_SUSPECT:
        core_on_suspect(c, ev, fx);
        break;
    case CORE_GONE:
        core_on_gone(c, ev, fx);
        break;
    case CORE_PUBLISHED:
        assert(ev->u.version >= c->published && ev->u.version <= c->version);
        c->published = ev->u.version;
        break;
    case CORE_TICK:
        core_on_tick(c, fx);
        break;
    }
    core_place(c, fx);
    core_review_flagged(c, fx);
    c->restarted = (struct replica){0};
    if (ev->kind == CORE_HEARTBEAT) {
        core_ack_heartbeat(c, ev, fx);
    }
}

uint64_t core_version(const struct core *c)
{
    return c->version;
}

/* ---- the map ---- */

enum node_state core_node_state(const struct node *n)
{
    if (n->live == LIVE_DOWN) {
        return NODE_DOWN;
    }
    if (n->admin != NODE_UP) {
        return n->admin;
    }
    return n->said == NODE_STARTING ? NODE_STARTING : NODE_UP;
}

static struct node_info node_record(struct arena *a, const struct node *n,
                                    uint8_t state)
{
    struct node_info info = {
        .node = n->id,
        .role = n->role,
        .state = state,
        .store = n->store,
        .incarnation = n->incarnation,
        .name = slice_of(n->name),
        .services_count = n->service_count,
    };
    info.services = arena_alloc(a, LIMIT_SERVICES * sizeof(*info.services));
    for (uint32_t i = 0; i < n->service_count; i++) {
        info.services[i].name = slice_of(n->services[i].name);
        info.services[i].address = slice_of(n->services[i].address);
    }
    return info;
}

static struct tablet_config *tablet_records(struct core *c, struct arena *a)
{
    if (c->tablet_count == 0) {
        return NULL;
    }
    struct tablet_config *t = arena_alloc(a, c->tablet_count * sizeof(*t));
    for (uint32_t i = 0; i < c->tablet_count; i++) {
        t[i] = configuration_record(&c->tablets[i].config);
    }
    return t;
}

const struct msg_map *core_map(struct core *c)
{
    if (c->map != NULL) {
        return c->map;
    }
    arena_free(&c->map_arena);
    c->map_arena = (struct arena){0};
    struct msg_map *m = arena_alloc(&c->map_arena, sizeof(*m));
    m->term = c->term;
    m->version = c->version;
    m->cluster = c->cluster;
    m->replicas = (uint8_t)c->replicas;
    m->min_insync = (uint8_t)c->min_insync;
    m->nodes = arena_alloc(&c->map_arena, LIMIT_NODES * sizeof(*m->nodes));
    for (size_t i = 0; i < LIMIT_NODES; i++) {
        const struct node *n = &c->nodes[i];
        if (n->id != 0) {
            m->nodes[m->nodes_count++] =
                node_record(&c->map_arena, n, (uint8_t)core_node_state(n));
        }
    }
    m->tablets = tablet_records(c, &c->map_arena);
    m->tablets_count = c->tablet_count;
    c->map = m;
    return m;
}

bool core_placed(const struct core *c)
{
    return c->tablet_count > 0;
}

/* ---- saving and loading ---- */

void core_save(struct core *c, struct buf *out)
{
    struct arena a = {0};
    struct register_state s = {
        .cluster = c->cluster,
        .replicas = (uint8_t)c->replicas,
        .min_insync = (uint8_t)c->min_insync,
        .nodes = arena_alloc(&a, LIMIT_NODES * sizeof(*s.nodes)),
        .stores = c->stores,
        .stores_count = c->store_count,
        .tablets = tablet_records(c, &a),
        .tablets_count = c->tablet_count,
    };
    for (size_t i = 0; i < LIMIT_NODES; i++) {
        const struct node *n = &c->nodes[i];
        /* Others than storage nodes come back by themselves. */
        if (n->id != 0 && n->role == ROLE_STORAGE) {
            s.nodes[s.nodes_count++] = node_record(&a, n, n->admin);
        }
    }
    wire_encode_register_state(out, &s);
    arena_free(&a);
}

static void copy_text(char *to, size_t most, struct slice from)
{
    size_t len = from.len < most ? from.len : most;
    if (len > 0) {
        memcpy(to, from.data, len);
    }
    to[len] = '\0';
}

static void load_node(struct node *n, const struct node_info *info)
{
    n->id = info->node;
    n->role = info->role;
    n->admin = info->state == NODE_DISABLED ? NODE_DISABLED : NODE_UP;
    n->store = info->store;
    n->incarnation = info->incarnation;
    copy_text(n->name, LIMIT_NAME, info->name);
    n->service_count = info->services_count;
    for (uint32_t i = 0; i < info->services_count; i++) {
        copy_text(n->services[i].name, LIMIT_NAME, info->services[i].name);
        copy_text(n->services[i].address, LIMIT_ADDRESS,
                  info->services[i].address);
    }
    n->live = LIVE_UNHEARD;
    n->said = NODE_UP;
}

static bool load_tablets(struct core *c, const struct register_state *s)
{
    if (s->tablets_count == 0) {
        return s->replicas == 0;
    }
    if (s->replicas == 0 || s->replicas >= LIMIT_REPLICAS ||
        s->min_insync != s->replicas / 2 + 1) {
        return false;
    }
    c->replicas = s->replicas;
    c->min_insync = s->min_insync;
    c->tablet_count = s->tablets_count;
    c->tablets = xcalloc(c->tablet_count, sizeof(*c->tablets));
    uint64_t next = 0;
    for (uint32_t i = 0; i < s->tablets_count; i++) {
        struct tablet *t = &c->tablets[i];
        if (configuration_from(&s->tablets[i], &t->config) != ST_OK ||
            t->config.tablet != i + 1 || t->config.hash_first != next) {
            return false;
        }
        next = t->config.hash_last + 1;
        t->lease_us = c->start_us; /* R8 (b): newly active */
        t->changed_us = c->start_us;
        t->changed = c->version;
        t->review = true;
        core_count_load(c, &t->config, 1);
    }
    return next == 0;
}

static bool load_state(struct core *c, const struct register_state *s)
{
    for (uint32_t i = 0; i < s->nodes_count; i++) {
        if (s->nodes[i].node == 0 || s->nodes[i].role != ROLE_STORAGE ||
            core_node(c, s->nodes[i].node) != NULL) {
            return false;
        }
        load_node(&c->nodes[i], &s->nodes[i]);
        c->nodes[i].heard_us = c->start_us;
    }
    c->store_count = s->stores_count;
    for (uint32_t i = 0; i < s->stores_count; i++) {
        c->stores[i] = s->stores[i];
    }
    return id128_equal(s->cluster, c->cluster) && load_tablets(c, s);
}

enum status core_load(struct core *c, struct slice state, struct err *err)
{
    struct arena a = {0};
    struct register_state s;
    struct cursor cursor = cursor_of(state);
    wire_decode_register_state(&cursor, &a, &s);
    bool good = !cursor.bad && cursor_left(&cursor) == 0 && load_state(c, &s);
    arena_free(&a);
    if (!good) {
        return err_set(err, ST_CORRUPT,
                       "register: its checksum is right, its contents are "
                       "not: written by another version or a bug");
    }
    c->map = NULL;
    return ST_OK;
}
