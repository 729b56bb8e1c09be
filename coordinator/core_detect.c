/*
 * Who is gone. Three signs, one conclusion (mark_down), and none of them is
 * needed for safety: a wrong one costs an epoch, never a byte.
 *
 * - Silence: no heartbeat that counts for detect_us. After our own start, and
 *   after our own loop stood still, everybody gets a full period (R20). While
 *   another storage node is overdue as well it is waited for, half a period at
 *   most: when the power fails everywhere their heartbeats end at different
 *   moments, and judged one by one the first would leave I though it has all;
 *   judged together, none does (R21).
 * - A reset: the connection that carried its heartbeats has ended, or a peer
 *   says so (SUSPECT). That is only a hint; the shell connects to the node,
 *   and if that is refused or finds another incarnation, it is gone at once.
 *   Storeless processes are shown as down by the reset alone.
 * - A new incarnation: see core_nodes.c.
 */
#include "coordinator/core_parts.h"

#include <stdio.h>
#include <string.h>

/* Ticks may be this much late before it counts as standing still. */
#define LATE_TICKS 4

bool core_in_grace(const struct core *c)
{
    return c->now_us < c->start_us + c->times.detect_us;
}

void core_mark_up(struct core *c, struct node *n, struct core_effects *fx)
{
    if (n->live == LIVE_UP) {
        return;
    }
    n->live = LIVE_UP;
    core_touch(c, fx, false);
    core_review_all(c);
    core_note(fx, LOG_LEVEL_INFO, "node-up", "node=%u name=%s", n->id, n->name);
}

void core_mark_down(struct core *c, struct node *n, const char *why,
                    struct core_effects *fx)
{
    if (n->live == LIVE_DOWN) {
        return;
    }
    n->live = LIVE_DOWN;
    n->down_us = c->now_us;
    core_touch(c, fx, false);
    core_review_all(c);
    if (n->role == ROLE_STORAGE) {
        c->stats.deaths++;
    }
    core_note(fx, LOG_LEVEL_WARN, "node-down", "node=%u name=%s why=%s", n->id,
              n->name, why);
}

static bool same_process(const struct node *n, struct incarnation i)
{
    return n != NULL && n->live != LIVE_DOWN &&
           incarnation_equal(n->incarnation, i);
}

static const char *rpc_address(const struct node *n)
{
    for (uint32_t i = 0; i < n->service_count; i++) {
        if (strcmp(n->services[i].name, "rpc") == 0) {
            return n->services[i].address;
        }
    }
    return NULL;
}

static void ask_probe(struct core *c, const struct node *n,
                      struct core_effects *fx)
{
    const char *address = rpc_address(n);
    if (address == NULL || fx->probe_count == LIMIT_NODES) {
        return; /* silence will tell */
    }
    struct core_probe *p = &fx->probes[fx->probe_count++];
    p->node = n->id;
    p->incarnation = n->incarnation;
    (void)snprintf(p->address, sizeof(p->address), "%s", address);
    c->stats.probes++;
}

void core_on_reset(struct core *c, const struct core_event *ev,
                   struct core_effects *fx)
{
    for (size_t i = 0; i < LIMIT_NODES; i++) {
        struct node *n = &c->nodes[i];
        if (n->id == 0 || n->conn != ev->conn || n->live == LIVE_DOWN) {
            continue;
        }
        if (n->role != ROLE_STORAGE) {
            core_mark_down(c, n, "reset", fx);
        } else if (!core_in_grace(c)) {
            ask_probe(c, n, fx);
        }
    }
}

void core_on_suspect(struct core *c, const struct core_event *ev,
                     struct core_effects *fx)
{
    const struct node *n = core_node(c, ev->u.node.node);
    if (same_process(n, ev->u.node.incarnation) && n->role == ROLE_STORAGE &&
        !core_in_grace(c)) {
        ask_probe(c, n, fx);
    }
}

void core_on_gone(struct core *c, const struct core_event *ev,
                  struct core_effects *fx)
{
    struct node *n = core_node(c, ev->u.node.node);
    /* Heard since we began to look: only its port is closed to us. */
    if (same_process(n, ev->u.node.incarnation) && !core_in_grace(c) &&
        n->heard_us <= ev->u.node.since_us) {
        n->gone_conn = n->conn;
        core_mark_down(c, n, "gone", fx);
    }
}

/* Our own standing still is nobody else's silence. */
static void forgive_lateness(struct core *c)
{
    int64_t late_us = c->now_us - c->last_tick_us - c->times.tick_us;
    if (late_us > LATE_TICKS * c->times.tick_us) {
        for (size_t i = 0; i < LIMIT_NODES; i++) {
            c->nodes[i].heard_us += late_us;
        }
    }
    c->last_tick_us = c->now_us;
}

/* Silent for longer than US. */
static bool silent_for(const struct core *c, const struct node *n, int64_t us)
{
    return n->id != 0 && n->live != LIVE_DOWN && c->now_us - n->heard_us > us;
}

/* Some storage node is overdue and may be going the same way. */
static bool more_to_come(const struct core *c)
{
    for (size_t i = 0; i < LIMIT_NODES; i++) {
        const struct node *n = &c->nodes[i];
        if (n->role == ROLE_STORAGE &&
            silent_for(c, n, c->times.detect_us / 2) &&
            !silent_for(c, n, c->times.detect_us)) {
            return true;
        }
    }
    return false;
}

static void declare_silent(struct core *c, struct core_effects *fx)
{
    for (size_t i = 0; i < LIMIT_NODES; i++) {
        struct node *n = &c->nodes[i];
        if (silent_for(c, n, c->times.detect_us)) {
            core_mark_down(c, n, n->stalled ? "stalled" : "silent", fx);
        }
    }
}

void core_on_tick(struct core *c, struct core_effects *fx)
{
    forgive_lateness(c);
    if (!core_in_grace(c) && !more_to_come(c)) {
        declare_silent(c, fx);
    }
    /* Waits that end (R11, R21, R25, R8 b) are seen by looking again. */
    bool sweep = c->now_us - c->last_sweep_us >= 1000000;
    if (sweep) {
        c->last_sweep_us = c->now_us;
        core_balance(c, fx);
        core_review_all(c);
    }
    for (uint32_t i = 0; i < c->tablet_count; i++) {
        struct tablet *t = &c->tablets[i];
        t->review = t->review || t->watch;
    }
}
