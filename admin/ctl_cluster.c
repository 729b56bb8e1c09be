/*
 * pennctl's view of the cluster: what the coordinator's map says should be
 * and what the processes last reported to be, joined. Changing commands ask
 * the coordinator and tell its answer.
 */
#include "admin/ctl.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Map and reports, of one moment each; nodes by role and number. */
struct view {
    struct arena arena;
    const struct msg_map *map;
    struct msg_reports reports;
};

static int node_order(const void *a, const void *b)
{
    const struct node_info *x = &((const struct node_report *)a)->node;
    const struct node_info *y = &((const struct node_report *)b)->node;
    return x->role != y->role ? (x->role < y->role ? -1 : 1)
                              : (x->node > y->node) - (x->node < y->node);
}

static void view_free(struct view *v)
{
    arena_free(&v->arena);
}

static enum status view_get(struct ctl *c, struct view *v)
{
    struct buf request = {0};
    struct msg_reports_ask ask = {.node = 0};
    struct wire_msg answer;
    memset(v, 0, sizeof(*v));
    wire_put_reports_ask(&request, 0, &ask);
    enum status s = ctl_ask(c, 0, &request, MSG_REPORTS, &v->arena, &answer);
    if (s == ST_OK) {
        v->reports = answer.u.reports;
        if (v->reports.nodes_count > 1) {
            qsort(v->reports.nodes, v->reports.nodes_count,
                  sizeof(*v->reports.nodes), node_order);
        }
        v->map = kv_map(c->kv, &v->arena);
    }
    if (s != ST_OK) {
        view_free(v);
    }
    return s;
}

static const struct tablet_report *report_of(const struct node_report *n,
                                             uint32_t tablet)
{
    for (uint32_t i = 0; i < n->tablets_count; i++) {
        if (n->tablets[i].tablet == tablet) {
            return &n->tablets[i];
        }
    }
    return NULL;
}

/* What TABLET's primary reported; NULL: nothing. */
static const struct tablet_report *primary_report(const struct view *v,
                                                  const struct tablet_config *t)
{
    for (uint32_t i = 0; i < v->reports.nodes_count; i++) {
        const struct node_report *n = &v->reports.nodes[i];
        if (n->node.role == ROLE_STORAGE && n->node.node == t->primary.node) {
            return report_of(n, t->tablet);
        }
    }
    return NULL;
}

static const struct node_info *storage_node(const struct view *v, uint32_t id)
{
    for (uint32_t i = 0; i < v->map->nodes_count; i++) {
        const struct node_info *n = &v->map->nodes[i];
        if (n->role == ROLE_STORAGE && n->node == id) {
            return n;
        }
    }
    return NULL;
}

/* ---- disks ---- */

/* All replicas of a node are on one disk. */
static bool disk_full(const struct node_report *n)
{
    return n->node.role == ROLE_STORAGE && n->tablets_count > 0 &&
           (n->tablets[0].flags & REPORT_FULL) != 0;
}

/* A member of I without which nothing is written and whose disk is full. */
static const struct node_info *full_member(const struct view *v,
                                           const struct tablet_config *t)
{
    for (uint32_t i = 0; i < v->reports.nodes_count; i++) {
        const struct node_report *n = &v->reports.nodes[i];
        for (uint32_t k = 0; k < t->in_sync_count && disk_full(n); k++) {
            if (t->in_sync[k].node == n->node.node) {
                return &n->node;
            }
        }
    }
    return NULL;
}

/* ---- a tablet's health ---- */

enum health { HEALTH_WHOLE, HEALTH_THIN, HEALTH_READONLY, HEALTH_DOWN };

static const char *const health_names[] = {"ok", "thin", "readonly", "down"};

static enum health health_of(const struct view *v,
                             const struct tablet_config *t)
{
    const struct tablet_report *r = primary_report(v, t);
    if (t->primary.node == 0 || r == NULL || r->epoch != t->epoch ||
        (r->flags & (REPORT_OPEN | REPORT_READONLY)) == 0) {
        return HEALTH_DOWN;
    }
    if ((r->flags & REPORT_READONLY) != 0 ||
        t->in_sync_count < v->map->min_insync || full_member(v, t) != NULL) {
        return HEALTH_READONLY;
    }
    return t->in_sync_count < v->map->replicas ? HEALTH_THIN : HEALTH_WHOLE;
}

static void count_health(const struct view *v, uint32_t counts[4])
{
    memset(counts, 0, 4 * sizeof(*counts));
    for (uint32_t i = 0; i < v->map->tablets_count; i++) {
        counts[health_of(v, &v->map->tablets[i])]++;
    }
}

/* ---- nodes ---- */

static struct slice service_of(const struct node_info *n, const char *name)
{
    for (uint32_t i = 0; i < n->services_count; i++) {
        if (slice_equal(n->services[i].name, slice_of(name))) {
            return n->services[i].address;
        }
    }
    return slice_make(NULL, 0);
}

static uint32_t count_primaries(const struct view *v, const struct node_info *n)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < v->map->tablets_count; i++) {
        count += n->role == ROLE_STORAGE &&
                 v->map->tablets[i].primary.node == n->node;
    }
    return count;
}

static void add_services(cJSON *o, const struct node_info *n)
{
    cJSON *services = cJSON_AddObjectToObject(o, "services");
    for (uint32_t i = 0; i < n->services_count; i++) {
        struct buf name = {0};
        buf_put_slice(&name, n->services[i].name);
        ctl_json_bytes(services, buf_cstr(&name), n->services[i].address);
        buf_free(&name);
    }
}

static cJSON *node_json(const struct view *v, const struct node_report *r)
{
    const struct node_info *n = &r->node;
    cJSON *o = cJSON_CreateObject();
    cJSON_AddNumberToObject(o, "node", n->node);
    ctl_json_bytes(o, "name", n->name);
    cJSON_AddStringToObject(o, "role", role_name(n->role));
    cJSON_AddStringToObject(o, "state", node_state_name(n->state));
    if (n->role != ROLE_COORDINATOR) {
        cJSON_AddNumberToObject(o, "heartbeat_age_ms", r->heartbeat_age_ms);
        cJSON_AddNumberToObject(o, "incarnation",
                                (double)n->incarnation.counter);
    }
    if (n->role == ROLE_STORAGE) {
        cJSON_AddNumberToObject(o, "replicas", r->tablets_count);
        cJSON_AddNumberToObject(o, "primaries", count_primaries(v, n));
        cJSON_AddBoolToObject(o, "disk_full", disk_full(r));
    } else if (n->role != ROLE_COORDINATOR) {
        cJSON_AddNumberToObject(o, "connections", r->connections);
    }
    add_services(o, n);
    return o;
}

static void print_node_head(void)
{
    (void)printf("%5s %-16s %-11s %-9s %8s %8s %9s %6s  %s\n", "NODE", "NAME",
                 "ROLE", "STATE", "HEARD", "REPLICAS", "PRIMARIES", "CONNS",
                 "STATUS AT");
}

/* A coordinator has none of what is counted, and sends itself no heartbeat. */
static void put_counts(const struct view *v, const struct node_report *r,
                       struct buf *out)
{
    if (r->node.role == ROLE_COORDINATOR) {
        buf_printf(out, "%8s %8s %9s %6s", "-", "-", "-", "-");
    } else {
        buf_printf(out, "%6.1f s %8u %9u %6u", r->heartbeat_age_ms / 1000.0,
                   (unsigned)r->tablets_count,
                   (unsigned)count_primaries(v, &r->node),
                   (unsigned)r->connections);
    }
}

static void print_node(const struct view *v, const struct node_report *r)
{
    const struct node_info *n = &r->node;
    struct buf name = {0}, address = {0}, counts = {0};
    put_counts(v, r, &counts);
    (void)printf("%5u %-16s %-11s %-9s %s  %s\n", (unsigned)n->node,
                 ctl_escape(n->name, &name), role_name(n->role),
                 node_state_name(n->state), buf_cstr(&counts),
                 ctl_escape(service_of(n, "status"), &address));
    buf_free(&name);
    buf_free(&address);
    buf_free(&counts);
}

/* Nodes of ROLE; ROLE_NONE: all. */
static int list_nodes(struct ctl *c, uint8_t role, const char *member)
{
    struct view v;
    enum status s = view_get(c, &v);
    if (s != ST_OK) {
        return ctl_fail(c, s, "asking the coordinator");
    }
    cJSON *root = c->json ? cJSON_CreateObject() : NULL;
    cJSON *list = c->json ? cJSON_AddArrayToObject(root, member) : NULL;
    if (!c->json) {
        print_node_head();
    }
    for (uint32_t i = 0; i < v.reports.nodes_count; i++) {
        const struct node_report *r = &v.reports.nodes[i];
        if (role != ROLE_NONE && r->node.role != role) {
            continue;
        }
        if (c->json) {
            cJSON_AddItemToArray(list, node_json(&v, r));
        } else {
            print_node(&v, r);
        }
    }
    if (c->json) {
        ctl_print_take(root);
    }
    view_free(&v);
    return CTL_DONE;
}

static int show_nodes(struct ctl *c)
{
    return list_nodes(c, ROLE_NONE, "nodes");
}

int ctl_cmd_node_list(struct ctl *c, int argc, char **argv)
{
    if (!ctl_end_options(&argc, argv) || argc != 0) {
        return ctl_misuse("node list");
    }
    return ctl_repeat(c, show_nodes);
}

static int show_gateways(struct ctl *c)
{
    return list_nodes(c, ROLE_GATEWAY, "gateways");
}

int ctl_cmd_gateway_list(struct ctl *c, int argc, char **argv)
{
    if (!ctl_end_options(&argc, argv) || argc != 0) {
        return ctl_misuse("gateway list");
    }
    return ctl_repeat(c, show_gateways);
}

/* ---- tablets ---- */

static void add_replicas(cJSON *o, const char *name, const struct replica *r,
                         uint32_t count)
{
    cJSON *list = cJSON_AddArrayToObject(o, name);
    for (uint32_t i = 0; i < count; i++) {
        cJSON_AddItemToArray(list, cJSON_CreateNumber(r[i].node));
    }
}

static cJSON *tablet_json(const struct view *v, const struct tablet_config *t)
{
    char hash[20];
    const struct tablet_report *r = primary_report(v, t);
    cJSON *o = cJSON_CreateObject();
    cJSON_AddNumberToObject(o, "tablet", t->tablet);
    (void)snprintf(hash, sizeof(hash), "%016" PRIx64, t->hash_first);
    cJSON_AddStringToObject(o, "hash_first", hash);
    (void)snprintf(hash, sizeof(hash), "%016" PRIx64, t->hash_last);
    cJSON_AddStringToObject(o, "hash_last", hash);
    cJSON_AddNumberToObject(o, "epoch", (double)t->epoch);
    cJSON_AddNumberToObject(o, "primary", t->primary.node);
    add_replicas(o, "in_sync", t->in_sync, t->in_sync_count);
    add_replicas(o, "eligible", t->eligible, t->eligible_count);
    add_replicas(o, "learners", t->learners, t->learners_count);
    cJSON_AddStringToObject(o, "health", health_names[health_of(v, t)]);
    if (r != NULL) {
        cJSON_AddNumberToObject(o, "last_seq", (double)r->last.seq);
        cJSON_AddNumberToObject(o, "committed_seq", (double)r->committed.seq);
        cJSON_AddNumberToObject(o, "cells", (double)r->cells);
        cJSON_AddNumberToObject(o, "bytes", (double)r->bytes);
    }
    return o;
}

static void print_replicas(const struct replica *r, uint32_t count, int width)
{
    char text[LIMIT_REPLICAS * 12 + 2] = "-";
    size_t at = 0;
    for (uint32_t i = 0; i < count && i < LIMIT_REPLICAS; i++) {
        at += (size_t)snprintf(text + at, sizeof(text) - at, "%s%u",
                               i == 0 ? "" : ",", (unsigned)r[i].node);
    }
    (void)printf("%-*s ", width, text);
}

static void print_tablet(const struct view *v, const struct tablet_config *t)
{
    const struct tablet_report *r = primary_report(v, t);
    (void)printf("%6u %-8s %6" PRIu64 " %7u ", (unsigned)t->tablet,
                 health_names[health_of(v, t)], t->epoch,
                 (unsigned)t->primary.node);
    print_replicas(t->in_sync, t->in_sync_count, 12);
    print_replicas(t->learners, t->learners_count, 8);
    if (r != NULL) {
        (void)printf("%12" PRIu64 " %12" PRIu64 " %10" PRIu64 " %14" PRIu64,
                     r->last.seq, r->committed.seq, r->cells, r->bytes);
    }
    (void)printf("\n");
}

static int show_tablets(struct ctl *c)
{
    struct view v;
    enum status s = view_get(c, &v);
    if (s != ST_OK) {
        return ctl_fail(c, s, "asking the coordinator");
    }
    cJSON *root = c->json ? cJSON_CreateObject() : NULL;
    cJSON *list = c->json ? cJSON_AddArrayToObject(root, "tablets") : NULL;
    if (!c->json) {
        (void)printf("%6s %-8s %6s %7s %-12s %-8s %12s %12s %10s %14s\n",
                     "TABLET", "HEALTH", "EPOCH", "PRIMARY", "IN SYNC",
                     "LEARNERS", "LAST", "COMMITTED", "CELLS", "BYTES");
    }
    for (uint32_t i = 0; i < v.map->tablets_count; i++) {
        if (c->json) {
            cJSON_AddItemToArray(list, tablet_json(&v, &v.map->tablets[i]));
        } else {
            print_tablet(&v, &v.map->tablets[i]);
        }
    }
    if (c->json) {
        ctl_print_take(root);
    }
    view_free(&v);
    return CTL_DONE;
}

int ctl_cmd_tablet_list(struct ctl *c, int argc, char **argv)
{
    if (!ctl_end_options(&argc, argv) || argc != 0) {
        return ctl_misuse("tablet list");
    }
    return ctl_repeat(c, show_tablets);
}

/* ---- status ---- */

static void status_json(const struct view *v, const uint32_t counts[4])
{
    char cluster[33];
    cJSON *root = cJSON_CreateObject();
    id128_format(v->map->cluster, cluster);
    cJSON_AddStringToObject(root, "cluster", cluster);
    cJSON_AddNumberToObject(root, "term", (double)v->reports.term);
    cJSON_AddNumberToObject(root, "version", (double)v->reports.version);
    cJSON_AddNumberToObject(root, "replicas", v->map->replicas);
    cJSON_AddNumberToObject(root, "min_insync", v->map->min_insync);
    cJSON_AddBoolToObject(root, "healthy",
                          v->map->tablets_count > 0 &&
                              counts[HEALTH_WHOLE] == v->map->tablets_count);
    cJSON *tablets = cJSON_AddObjectToObject(root, "tablets");
    cJSON_AddNumberToObject(tablets, "all", v->map->tablets_count);
    for (int i = 0; i < 4; i++) {
        cJSON_AddNumberToObject(tablets, health_names[i], counts[i]);
    }
    cJSON *nodes = cJSON_AddArrayToObject(root, "nodes");
    for (uint32_t i = 0; i < v->reports.nodes_count; i++) {
        cJSON_AddItemToArray(nodes, node_json(v, &v->reports.nodes[i]));
    }
    ctl_print_take(root);
}

static void put_readonly(const struct view *v, const struct tablet_config *t,
                         struct buf *out)
{
    struct buf name = {0};
    const struct node_info *full = full_member(v, t);
    if (full != NULL) {
        buf_printf(out, "writes are refused: disk full on %s",
                   ctl_escape(full->name, &name));
    } else {
        buf_printf(out, "writes are refused: %u in sync, %u needed",
                   (unsigned)t->in_sync_count, (unsigned)v->map->min_insync);
    }
    buf_free(&name);
}

static void print_full_disks(const struct view *v)
{
    for (uint32_t i = 0; i < v->reports.nodes_count; i++) {
        const struct node_report *n = &v->reports.nodes[i];
        struct buf name = {0};
        if (disk_full(n)) {
            (void)printf("%s: disk full; it takes no writes\n",
                         ctl_escape(n->node.name, &name));
        }
        buf_free(&name);
    }
}

/* Why a tablet is not whole, for a person; nothing if it is. */
static void put_reason(const struct view *v, const struct tablet_config *t,
                       struct buf *out)
{
    struct buf name = {0};
    const struct node_info *n = storage_node(v, t->primary.node);
    buf_clear(out);
    switch (health_of(v, t)) {
    case HEALTH_WHOLE:
        break;
    case HEALTH_THIN:
        buf_printf(out, "%u of %u replicas in sync", (unsigned)t->in_sync_count,
                   (unsigned)v->map->replicas);
        break;
    case HEALTH_READONLY:
        put_readonly(v, t, out);
        break;
    case HEALTH_DOWN:
        buf_printf(out, "not served; its primary is %s",
                   n != NULL ? ctl_escape(n->name, &name) : "nobody");
        break;
    }
    buf_free(&name);
}

/* Adds those of V's first COUNT tablets whose reason is WHY to LIST, in runs;
 * they are DONE then. Answers how many there are. */
static uint32_t list_alike(const struct view *v, uint32_t count,
                           const char *why, bool *done, struct buf *list)
{
    struct buf other = {0};
    uint32_t found = 0, run = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t number = v->map->tablets[i].tablet;
        put_reason(v, &v->map->tablets[i], &other);
        bool alike = strcmp(buf_cstr(&other), why) == 0;
        if (alike && run == 0) {
            buf_printf(list, "%s%u", found == 0 ? "" : ",", (unsigned)number);
        }
        if (!alike && run > 1) {
            buf_printf(list, "-%u", (unsigned)v->map->tablets[i - 1].tablet);
        }
        run = alike ? run + 1 : 0;
        found += alike;
        done[i] = done[i] || alike;
    }
    if (run > 1) {
        buf_printf(list, "-%u", (unsigned)v->map->tablets[count - 1].tablet);
    }
    buf_free(&other);
    return found;
}

/* A death concerns many tablets alike: one line a reason. */
static void print_reasons(const struct view *v)
{
    bool done[LIMIT_TABLETS] = {false};
    uint32_t count = v->map->tablets_count;
    count = count < LIMIT_TABLETS ? count : LIMIT_TABLETS;
    struct buf why = {0}, list = {0};
    for (uint32_t i = 0; i < count; i++) {
        put_reason(v, &v->map->tablets[i], &why);
        if (!done[i] && why.len > 0) {
            buf_clear(&list);
            uint32_t n = list_alike(v, count, buf_cstr(&why), done, &list);
            (void)printf("tablet%s %s: %s\n", n == 1 ? "" : "s",
                         buf_cstr(&list), buf_cstr(&why));
        }
    }
    buf_free(&why);
    buf_free(&list);
}

static int show_status(struct ctl *c)
{
    struct view v;
    uint32_t counts[4];
    enum status s = view_get(c, &v);
    if (s != ST_OK) {
        return ctl_fail(c, s, "asking the coordinator");
    }
    count_health(&v, counts);
    if (c->json) {
        status_json(&v, counts);
        view_free(&v);
        return CTL_DONE;
    }
    (void)printf("term %" PRIu64 ", map version %" PRIu64
                 ", %u replicas, writes need %u in sync\n"
                 "%u tablets: %u ok, %u thin, %u read-only, %u down\n\n",
                 v.reports.term, v.reports.version, v.map->replicas,
                 v.map->min_insync, v.map->tablets_count, counts[HEALTH_WHOLE],
                 counts[HEALTH_THIN], counts[HEALTH_READONLY],
                 counts[HEALTH_DOWN]);
    print_node_head();
    for (uint32_t i = 0; i < v.reports.nodes_count; i++) {
        print_node(&v, &v.reports.nodes[i]);
    }
    (void)printf("\n");
    print_reasons(&v);
    print_full_disks(&v);
    view_free(&v);
    return CTL_DONE;
}

int ctl_cmd_status(struct ctl *c, int argc, char **argv)
{
    if (!ctl_end_options(&argc, argv) || argc != 0) {
        return ctl_misuse("status");
    }
    return ctl_repeat(c, show_status);
}
