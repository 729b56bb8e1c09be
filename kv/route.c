/*
 * The map as the client has it, and the way from an operation to a
 * connection: partition -> hash -> tablet -> primary's node -> its address.
 *
 * The newest (term, version) wins; an older map is ignored, whoever sends it.
 * Tablets keep their place for ever (R25), so a new map only changes where
 * their primaries are; what is under way moves with them at once (R24). A
 * NOT_PRIMARY may know better than our map: its word counts until a map of a
 * newer epoch comes or nobody answers there.
 */
#include "kv/core_impl.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* ---- addresses in the map ---- */

static struct slice rpc_address(const struct node_info *n)
{
    for (uint32_t i = 0; i < n->services_count; i++) {
        if (slice_equal(n->services[i].name, slice_of("rpc"))) {
            return n->services[i].address;
        }
    }
    return slice_make(NULL, 0);
}

/* Node ids are told apart by role. */
static struct slice node_address(const struct kv_core *c, uint32_t node)
{
    for (uint32_t i = 0; c->map != NULL && i < c->map->nodes_count; i++) {
        const struct node_info *n = &c->map->nodes[i];
        if (n->node == node && n->role == ROLE_STORAGE) {
            return rpc_address(n);
        }
    }
    return slice_make(NULL, 0);
}

bool kv_route_known(const struct kv_core *c, const char *address)
{
    for (uint32_t i = 0; c->map != NULL && i < c->map->nodes_count; i++) {
        struct slice a = rpc_address(&c->map->nodes[i]);
        if (slice_equal(a, slice_of(address))) {
            return true;
        }
    }
    return false;
}

/* ---- tablets ---- */

/* Index of the first tablet that begins beyond HASH. */
static uint32_t upper_bound(const struct kv_core *c, uint64_t hash)
{
    uint32_t low = 0, high = c->tablets_count;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (c->tablets[mid]->hash_first <= hash) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

struct kv_tablet *kv_tablet_of_hash(struct kv_core *c, uint64_t hash)
{
    uint32_t i = upper_bound(c, hash);
    if (i == 0 || c->tablets[i - 1]->hash_last < hash) {
        return NULL;
    }
    return c->tablets[i - 1];
}

struct kv_tablet *kv_tablet_of_id(struct kv_core *c, uint32_t id)
{
    for (uint32_t i = 0; i < c->tablets_count; i++) {
        if (c->tablets[i]->id == id) {
            return c->tablets[i];
        }
    }
    return NULL;
}

static struct kv_tablet *add_tablet(struct kv_core *c,
                                    const struct tablet_config *config)
{
    struct kv_tablet *t = xcalloc(1, sizeof(*t));
    t->core = c;
    t->id = config->tablet;
    t->hash_first = config->hash_first;
    t->hash_last = config->hash_last;
    kv_session_init(t);
    uint32_t at = upper_bound(c, t->hash_first);
    size_t size = (c->tablets_count + 1) * sizeof(*c->tablets);
    c->tablets = xrealloc(c->tablets, size);
    memmove(&c->tablets[at + 1], &c->tablets[at],
            (c->tablets_count - at) * sizeof(*c->tablets));
    c->tablets[at] = t;
    c->tablets_count++;
    return t;
}

static void take_tablet(struct kv_core *c, const struct tablet_config *config)
{
    struct kv_tablet *t = kv_tablet_of_hash(c, config->hash_first);
    if (t == NULL || t->id != config->tablet) {
        t = kv_tablet_of_id(c, config->tablet);
    }
    if (t == NULL) {
        /* Ids are never used again, so only a broken map has more. */
        if (c->tablets_count >= LIMIT_TABLETS) {
            return;
        }
        t = add_tablet(c, config);
    }
    t->changed = t->epoch != config->epoch;
    t->epoch = config->epoch;
    t->address = config->primary.node != 0
                     ? node_address(c, config->primary.node)
                     : slice_make(NULL, 0);
    if (t->hint_epoch <= t->epoch) {
        t->hint[0] = '\0';
    }
}

/* ---- a newer map ---- */

static bool is_newer(const struct kv_core *c, const struct msg_map *m)
{
    if (c->map == NULL) {
        return true;
    }
    if (m->term != c->map->term) {
        return m->term > c->map->term;
    }
    return m->version > c->map->version;
}

/* Moves what is under way to where it now belongs. What was sent stays where
 * the primary is still the same: it answers when it commits in its new epoch
 * (R12). */
static void reroute(struct kv_op *op)
{
    struct kv_tablet *t = op->p.tablet;
    switch ((enum op_state)op->p.state) {
    case OP_PARKED:
        kv_op_advance(op);
        break;
    case OP_BACKOFF:
        if (t == NULL || t->changed) {
            op->p.tries = op->p.quiet = 0;
            kv_op_advance(op);
        }
        break;
    case OP_WAITING:
    case OP_SENT:
        if (kv_route_conn(op) != op->p.conn) {
            op->p.tries = op->p.quiet = 0;
            kv_op_advance(op);
        }
        break;
    case OP_NEW:
    case OP_QUEUED:
    case OP_ENDING:
        break;
    }
}

void kv_map_take(struct kv_core *c, const struct msg_map *m)
{
    if (!is_newer(c, m)) {
        return;
    }
    struct arena arena = {0};
    c->map = wire_copy_map(&arena, m);
    arena_free(&c->map_arena);
    c->map_arena = arena;
    c->stats.map_changes++;
    for (uint32_t i = 0; i < c->tablets_count; i++) {
        c->tablets[i]->address = slice_make(NULL, 0);
        c->tablets[i]->changed = false;
    }
    for (uint32_t i = 0; i < c->map->tablets_count; i++) {
        take_tablet(c, &c->map->tablets[i]);
    }
    log_debug(c->env->log, "kv", "map", "term=%llu version=%llu",
              (unsigned long long)m->term, (unsigned long long)m->version);
    kv_link_on_map(c);
    for (struct kv_ring *r = c->ops.next; r != &c->ops; r = r->next) {
        reroute(RING_OF(r, struct kv_op, p.all));
    }
    kv_conn_sweep(c);
    if (c->on_map != NULL) {
        c->on_map(c->on_map_ctx);
    }
}

void kv_map_free(struct kv_core *c)
{
    for (uint32_t i = 0; i < c->tablets_count; i++) {
        free(c->tablets[i]);
    }
    free(c->tablets);
    arena_free(&c->map_arena);
}

/* ---- operations ---- */

static struct slice partition_of(const struct kv_op *op)
{
    switch (op->kind) {
    case KV_OP_GET:
        return op->in.get.partition;
    case KV_OP_SCAN:
        return op->in.scan.partition;
    case KV_OP_WATCH:
        return op->in.watch.partition;
    case KV_OP_COMMAND:
        return op->in.command->partition;
    case KV_OP_SETTLE:
    case KV_OP_CALL:
    case KV_OP_INTRODUCE:
        break;
    }
    return slice_make(NULL, 0);
}

bool kv_route_tablet(struct kv_op *op)
{
    struct kv_core *c = op->p.core;
    if (op->kind == KV_OP_CALL || op->p.tablet != NULL) {
        return true;
    }
    if (op->kind == KV_OP_SETTLE) {
        op->p.tablet = kv_tablet_of_id(c, op->in.settle.tablet);
    } else if (op->kind == KV_OP_INTRODUCE) {
        op->p.tablet = op->data;
    } else {
        uint64_t hash = partition_hash(partition_of(op));
        op->p.tablet = kv_tablet_of_hash(c, hash);
    }
    return op->p.tablet != NULL;
}

struct kv_conn *kv_route_conn(struct kv_op *op)
{
    struct kv_core *c = op->p.core;
    enum lane lane = op->bulk ? LANE_BULK : LANE_REQUEST;
    struct slice address;
    if (op->kind == KV_OP_CALL && op->in.call.node == 0) {
        return c->link.conn;
    }
    if (op->kind == KV_OP_CALL) {
        address = node_address(c, op->in.call.node);
    } else if (op->p.tablet->hint[0] != '\0') {
        address = slice_of(op->p.tablet->hint);
    } else {
        address = op->p.tablet->address;
    }
    if (address.len == 0) {
        return NULL;
    }
    return kv_conn_get(c, address, lane);
}

/* ---- hints ---- */

bool kv_route_hint(struct kv_tablet *t, const struct msg_error *e)
{
    if (e->address.len == 0 || e->epoch < t->epoch ||
        e->epoch < t->hint_epoch) {
        return false;
    }
    if (slice_equal(e->address, slice_of(t->hint)) ||
        (t->hint[0] == '\0' && slice_equal(e->address, t->address))) {
        return false;
    }
    /* Within one epoch there is one primary for ever: a second word about it
     * that differs from the map's or an earlier hint's is no news. */
    if (e->epoch == t->epoch && t->address.len > 0) {
        return false;
    }
    if (e->epoch == t->hint_epoch) {
        return false;
    }
    assert(e->address.len <= LIMIT_ADDRESS);
    memcpy(t->hint, e->address.data, e->address.len);
    t->hint[e->address.len] = '\0';
    t->hint_epoch = e->epoch;
    return true;
}

void kv_route_forget(struct kv_core *c, const char *address)
{
    for (uint32_t i = 0; i < c->tablets_count; i++) {
        if (strcmp(c->tablets[i]->hint, address) == 0) {
            c->tablets[i]->hint[0] = '\0';
        }
    }
}
