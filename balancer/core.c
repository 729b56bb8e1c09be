/*
 * Least connections, and what goes before that.
 *
 * The map says which gateways there are and how they are; it comes from the
 * coordinator, and while that is away the last one goes on. A gateway is
 * ranked by how much speaks for it:
 *
 *   rank 3  up
 *   rank 2  up, but refused a connection within the last second
 *   rank 1  down or unknown: the coordinator does not hear it, perhaps we do
 *   rank 0  never: disabled, draining, starting, no longer in the map,
 *           without this service, or tried for this connection before
 *
 * The best rank wins; within it fewest connections over all services, then
 * fewest recent choices (a gateway that has just come back is not flooded by
 * being the emptiest: connections that end at once leave no count), then who
 * has waited longest for its turn.
 */
#include "balancer/core.h"

#include <assert.h>
#include <string.h>

static const struct {
    const char *name, *refusal;
} services[] = {
#define SERVICE(NAME, name, refusal) {name, refusal},
#include "balancer/services.def"
};

const char *service_name(enum balancer_service s)
{
    return services[s].name;
}

const char *service_refusal(enum balancer_service s)
{
    return services[s].refusal;
}

/* ---- maps ---- */

static struct gateway *find(struct balancer *b, uint32_t node)
{
    for (unsigned i = 0; i < BALANCER_GATEWAYS; i++) {
        if (b->gateways[i].node == node) {
            return &b->gateways[i];
        }
    }
    return NULL;
}

/* A place for a new gateway: one never used, or one that the map has
 * forgotten and nobody is connected to. */
static struct gateway *add(struct balancer *b, uint32_t node)
{
    for (unsigned i = 0; i < BALANCER_GATEWAYS; i++) {
        struct gateway *g = &b->gateways[i];
        if (g->node == 0 || (!g->listed && g->total == 0)) {
            *g = (struct gateway){.node = node};
            return g;
        }
    }
    return NULL;
}

static void copy_text(char *to, size_t size, struct slice from)
{
    size_t len = from.len < size ? from.len : size - 1;
    if (len > 0) {
        memcpy(to, from.data, len);
    }
    to[len] = '\0';
}

static struct slice find_service(const struct node_info *n, const char *name)
{
    for (uint32_t i = 0; i < n->services_count; i++) {
        if (slice_equal(n->services[i].name, slice_of(name))) {
            return n->services[i].address;
        }
    }
    return slice_make(NULL, 0);
}

static void take_node(struct gateway *g, const struct node_info *n)
{
    bool came_up = n->state == NODE_UP && g->state != NODE_UP;
    g->listed = true;
    g->state = n->state;
    copy_text(g->name, sizeof(g->name), n->name);
    for (unsigned s = 0; s < SERVICE_COUNT; s++) {
        struct slice address = find_service(n, services[s].name);
        if (came_up || !slice_equal(address, slice_of(g->address[s]))) {
            g->skip_until_us[s] = 0;
        }
        copy_text(g->address[s], sizeof(g->address[s]), address);
    }
}

bool balancer_take_map(struct balancer *b, const struct msg_map *map)
{
    if (map->term < b->term ||
        (map->term == b->term && map->version < b->version)) {
        return false;
    }
    b->term = map->term;
    b->version = map->version;
    for (unsigned i = 0; i < BALANCER_GATEWAYS; i++) {
        b->gateways[i].listed = false;
    }
    /* Known ones first, so that none loses its place to a new one. */
    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t i = 0; i < map->nodes_count; i++) {
            const struct node_info *n = &map->nodes[i];
            if (n->role != ROLE_GATEWAY || n->node == 0) {
                continue;
            }
            struct gateway *g = find(b, n->node);
            if (g == NULL && pass == 1) {
                g = add(b, n->node);
            }
            if (g != NULL && !g->listed) {
                take_node(g, n);
            }
        }
    }
    return true;
}

/* ---- choices ---- */

static void roll_window(struct gateway *g, int64_t now_us)
{
    int64_t window = now_us / BALANCER_WINDOW_US;
    if (window == g->window) {
        return;
    }
    g->recent[1] = window == g->window + 1 ? g->recent[0] : 0;
    g->recent[0] = 0;
    g->window = window;
}

static int rank_of(const struct gateway *g, enum balancer_service service,
                   int64_t now_us)
{
    if (g->node == 0 || !g->listed || g->address[service][0] == '\0') {
        return 0;
    }
    switch (g->state) {
    case NODE_UP:
        return now_us < g->skip_until_us[service] ? 2 : 3;
    case NODE_DOWN:
    case NODE_UNKNOWN:
        return 1;
    default: /* told to stay away; or a state of a later version */
        return 0;
    }
}

/* Of two of one rank: does A go first? */
static bool goes_first(const struct gateway *a, const struct gateway *b)
{
    uint32_t recent_a = a->recent[0] + a->recent[1];
    uint32_t recent_b = b->recent[0] + b->recent[1];
    if (a->total != b->total) {
        return a->total < b->total;
    }
    if (recent_a != recent_b) {
        return recent_a < recent_b;
    }
    return a->last_turn < b->last_turn;
}

bool balancer_choose(struct balancer *b, enum balancer_service service,
                     uint64_t tried, int64_t now_us, unsigned *out)
{
    struct gateway *best = NULL;
    int best_rank = 0;
    for (unsigned i = 0; i < BALANCER_GATEWAYS; i++) {
        struct gateway *g = &b->gateways[i];
        int rank = (tried >> i & 1) != 0 ? 0 : rank_of(g, service, now_us);
        if (rank == 0) {
            continue;
        }
        roll_window(g, now_us);
        if (rank > best_rank || (rank == best_rank && goes_first(g, best))) {
            best = g;
            best_rank = rank;
        }
    }
    if (best == NULL) {
        return false;
    }
    best->conns[service]++;
    best->total++;
    best->recent[0]++;
    best->chosen++;
    best->last_turn = ++b->turn;
    *out = (unsigned)(best - b->gateways);
    return true;
}

void balancer_closed(struct balancer *b, unsigned place,
                     enum balancer_service service)
{
    assert(place < BALANCER_GATEWAYS);
    struct gateway *g = &b->gateways[place];
    assert(g->conns[service] > 0 && g->total > 0);
    g->conns[service]--;
    g->total--;
}

void balancer_refused(struct balancer *b, unsigned place,
                      enum balancer_service service, int64_t now_us)
{
    balancer_closed(b, place, service);
    struct gateway *g = &b->gateways[place];
    g->refused++;
    g->skip_until_us[service] = now_us + BALANCER_SKIP_US;
}
