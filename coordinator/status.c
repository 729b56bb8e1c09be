/*
 * /status of the coordinator, from the published map:
 *   cluster, term, version, replicas, min_insync
 *   healthy: true if `degraded` is empty
 *   degraded: lines for people, at most DEGRADED_LINES and how many more
 *   nodes: [{node, role, name, state, primaries, replicas, services}]
 *   tablets: {count, degraded, without_primary}
 */
#include "coordinator/status.h"

#include <string.h>

#define DEGRADED_LINES 20

static void add_text(cJSON *to, const char *key, struct slice text)
{
    char copy[LIMIT_ADDRESS + 1];
    size_t len = text.len < LIMIT_ADDRESS ? text.len : LIMIT_ADDRESS;
    if (len > 0) {
        memcpy(copy, text.data, len);
    }
    copy[len] = '\0';
    (void)cJSON_AddStringToObject(to, key, copy);
}

static bool holds(const struct replica *set, uint32_t count, uint32_t node)
{
    for (uint32_t i = 0; i < count; i++) {
        if (set[i].node == node) {
            return true;
        }
    }
    return false;
}

static void add_load(const struct msg_map *m, uint32_t node, cJSON *to)
{
    unsigned primaries = 0, replicas = 0;
    for (uint32_t i = 0; i < m->tablets_count; i++) {
        const struct tablet_config *t = &m->tablets[i];
        primaries += t->primary.node == node;
        replicas += holds(t->in_sync, t->in_sync_count, node) ||
                    holds(t->learners, t->learners_count, node);
    }
    (void)cJSON_AddNumberToObject(to, "primaries", primaries);
    (void)cJSON_AddNumberToObject(to, "replicas", replicas);
}

static cJSON *node_json(const struct msg_map *m, const struct node_info *n)
{
    cJSON *node = cJSON_CreateObject();
    (void)cJSON_AddNumberToObject(node, "node", n->node);
    (void)cJSON_AddStringToObject(node, "role", role_name(n->role));
    add_text(node, "name", n->name);
    (void)cJSON_AddStringToObject(node, "state", node_state_name(n->state));
    if (n->role == ROLE_STORAGE) {
        add_load(m, n->node, node);
    }
    cJSON *services = cJSON_AddObjectToObject(node, "services");
    for (uint32_t i = 0; i < n->services_count; i++) {
        char name[LIMIT_NAME + 1] = "";
        memcpy(name, n->services[i].name.data, n->services[i].name.len);
        add_text(services, name, n->services[i].address);
    }
    return node;
}

static void add_degraded(const struct coordinator *c, cJSON *out)
{
    struct buf text = {0};
    coordinator_degraded(c, &text);
    (void)cJSON_AddBoolToObject(out, "healthy", text.len == 0);
    cJSON *lines = cJSON_AddArrayToObject(out, "degraded");
    unsigned more = 0, count = 0;
    char *rest = NULL;
    char *line = strtok_r((char *)(uintptr_t)buf_cstr(&text), "\n", &rest);
    for (; line != NULL; line = strtok_r(NULL, "\n", &rest)) {
        if (count++ < DEGRADED_LINES) {
            (void)cJSON_AddItemToArray(lines, cJSON_CreateString(line));
        } else {
            more++;
        }
    }
    if (more > 0) {
        (void)cJSON_AddNumberToObject(out, "degraded_more", more);
    }
    buf_free(&text);
}

void coordinator_status(const struct coordinator *c, cJSON *out)
{
    const struct msg_map *m = coordinator_map(c);
    struct coordinator_stats stats;
    char cluster[33];
    coordinator_get_stats(c, &stats);
    id128_format(m->cluster, cluster);
    (void)cJSON_AddStringToObject(out, "cluster", cluster);
    (void)cJSON_AddNumberToObject(out, "term", (double)m->term);
    (void)cJSON_AddNumberToObject(out, "version", (double)m->version);
    (void)cJSON_AddNumberToObject(out, "replicas", m->replicas);
    (void)cJSON_AddNumberToObject(out, "min_insync", m->min_insync);
    add_degraded(c, out);
    cJSON *nodes = cJSON_AddArrayToObject(out, "nodes");
    for (uint32_t i = 0; i < m->nodes_count; i++) {
        (void)cJSON_AddItemToArray(nodes, node_json(m, &m->nodes[i]));
    }
    cJSON *tablets = cJSON_AddObjectToObject(out, "tablets");
    (void)cJSON_AddNumberToObject(tablets, "count", stats.tablets);
    (void)cJSON_AddNumberToObject(tablets, "degraded", stats.tablets_degraded);
    (void)cJSON_AddNumberToObject(tablets, "without_primary",
                                  stats.tablets_headless);
}
