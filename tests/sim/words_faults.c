/*
 * The words of scenarios that do something: to processes, the network, disks,
 * clocks and the clients' work.
 */
#include "tests/sim/words.h"

#include "tests/sim/workload.h"

#include <stdio.h>
#include <string.h>

/* Calls FN for the member that argument 0 names, or all that store data. */
static bool each(struct script *s,
                 void (*fn)(struct script *s, struct member *m))
{
    bool clients = s->count > 0 && strcmp(s->args[0], "clients") == 0;
    if (s->count == 0 || (strcmp(s->args[0], "all") != 0 && !clients)) {
        struct member *m = script_who(s, 0);
        if (m != NULL) {
            fn(s, m);
        }
        return m != NULL;
    }
    for (unsigned i = 0; i < s->c->member_count; i++) {
        if ((s->c->members[i].kind == MEMBER_CLIENT) == clients) {
            fn(s, &s->c->members[i]);
        }
    }
    return true;
}

/* ---- time and names ---- */

static bool word_let(struct script *s)
{
    struct member *m = script_who(s, 1);
    if (m == NULL || s->name_count == NAMES_MAX) {
        return m == NULL ? false : script_failed(s, "too many names at");
    }
    (void)snprintf(s->names[s->name_count].name, sizeof(s->names[0].name), "%s",
                   s->args[0]);
    s->names[s->name_count++].member = m;
    world_trace(s->c->w, "%s is %s", s->args[0], m->name);
    return true;
}

static bool word_wait(struct script *s)
{
    world_run_for(s->c->w, script_number(s, 0, 0) * SIM_MS);
    return true;
}

/* ---- processes ---- */

static void do_kill(struct script *s, struct member *m)
{
    member_kill(m, script_number(s, 1, 300) * SIM_MS);
}

static bool word_kill(struct script *s)
{
    return each(s, do_kill);
}

static void do_stop(struct script *s, struct member *m)
{
    (void)s;
    member_kill(m, -1);
}

static bool word_stop(struct script *s)
{
    return each(s, do_stop);
}

static void do_start(struct script *s, struct member *m)
{
    (void)s;
    member_start(m);
}

static bool word_start(struct script *s)
{
    return each(s, do_start);
}

static void do_power_off(struct script *s, struct member *m)
{
    int64_t ms = script_number(s, 1, -1);
    member_power_off(m, ms < 0 ? -1 : ms * SIM_MS);
}

static bool word_power_off(struct script *s)
{
    return each(s, do_power_off);
}

static bool word_pause(struct script *s)
{
    struct member *m = script_who(s, 0);
    if (m != NULL) {
        sim_host_pause(m->host);
    }
    return m != NULL;
}

static bool word_resume(struct script *s)
{
    struct member *m = script_who(s, 0);
    if (m != NULL) {
        sim_host_resume(m->host);
    }
    return m != NULL;
}

static void do_preempt(struct script *s, struct member *m)
{
    sim_host_preempt(m->host, (uint32_t)script_number(s, 1, 0),
                     script_number(s, 2, 1) * SIM_MS);
}

static bool word_preempt(struct script *s)
{
    return each(s, do_preempt);
}

/* ---- network ---- */

static bool both(struct script *s, struct member **a, struct member **b)
{
    *a = script_who(s, 0);
    *b = *a != NULL ? script_who(s, 1) : NULL;
    return *b != NULL;
}

static bool word_cut(struct script *s)
{
    struct member *a, *b;
    if (!both(s, &a, &b)) {
        return false;
    }
    sim_net_cut(a->host, b->host);
    return true;
}

static bool word_oneway(struct script *s)
{
    struct member *a, *b;
    if (!both(s, &a, &b)) {
        return false;
    }
    sim_net_cut_oneway(a->host, b->host);
    return true;
}

static bool word_heal(struct script *s)
{
    struct member *a, *b;
    if (s->count == 0) {
        sim_net_heal_all(s->c->w);
        return true;
    }
    if (!both(s, &a, &b)) {
        return false;
    }
    sim_net_heal(a->host, b->host);
    return true;
}

static bool word_isolate(struct script *s)
{
    struct member *m = script_who(s, 0);
    if (m != NULL) {
        sim_net_isolate(m->host);
    }
    return m != NULL;
}

static bool word_reset(struct script *s)
{
    struct member *a = script_who(s, 0),
                  *b = s->count > 1 ? script_who(s, 1) : NULL;
    if (a != NULL) {
        sim_net_reset(a->host, b != NULL ? b->host : NULL);
    }
    return a != NULL;
}

static bool word_latency(struct script *s)
{
    struct member *a, *b;
    if (!both(s, &a, &b)) {
        return false;
    }
    sim_net_latency(a->host, b->host, script_number(s, 2, 1) * SIM_MS);
    return true;
}

static bool word_lossy(struct script *s)
{
    uint32_t ppm = (uint32_t)script_number(s, 0, 0);
    struct sim_net_faults f = {.reset_ppm = ppm / 10,
                               .spike_ppm = ppm,
                               .loss_ppm = ppm,
                               .duplicate_ppm = ppm,
                               .reorder_ppm = ppm,
                               .late_close_ppm = ppm > 0 ? 200000 : 0};
    sim_net_set_faults(s->c->w, &f);
    return true;
}

/* ---- disks ---- */

static bool word_slow_disk(struct script *s)
{
    struct member *m = script_who(s, 0);
    if (m != NULL) {
        sim_disk_slow(m->host, script_number(s, 1, 100) * SIM_MS);
    }
    return m != NULL;
}

static bool word_hang_disk(struct script *s)
{
    struct member *m = script_who(s, 0);
    if (m != NULL) {
        sim_disk_hang(m->host, true);
    }
    return m != NULL;
}

static void do_full_disk(struct script *s, struct member *m)
{
    sim_disk_limit(m->host, sim_disk_used(m->host) +
                                (uint64_t)script_number(s, 1, 0) + 1);
}

static bool word_full_disk(struct script *s)
{
    return each(s, do_full_disk);
}

static void do_free_disk(struct script *s, struct member *m)
{
    (void)s;
    sim_disk_limit(m->host, 0);
    sim_disk_slow(m->host, 0);
    sim_disk_hang(m->host, false);
}

static bool word_free_disk(struct script *s)
{
    return each(s, do_free_disk);
}

static bool word_fail_sync(struct script *s)
{
    struct member *m = script_who(s, 0);
    if (m != NULL) {
        sim_disk_fail_sync(m->host, (uint32_t)script_number(s, 1, 1));
    }
    return m != NULL;
}

static bool word_fail_write(struct script *s)
{
    struct member *m = script_who(s, 0);
    if (m != NULL) {
        sim_disk_fail_write(m->host, (uint32_t)script_number(s, 1, 1));
    }
    return m != NULL;
}

static bool word_fail_at_step(struct script *s)
{
    struct member *m = script_who(s, 0);
    if (m != NULL) {
        sim_host_fail_at_step(m->host, (uint32_t)script_number(s, 1, 1), false);
    }
    return m != NULL;
}

static bool word_lose_power_at_step(struct script *s)
{
    struct member *m = script_who(s, 0);
    if (m != NULL) {
        sim_host_fail_at_step(m->host, (uint32_t)script_number(s, 1, 1), true);
    }
    return m != NULL;
}

static bool word_wipe(struct script *s)
{
    struct member *m = script_stopped(s);
    if (m != NULL) {
        member_wipe(m);
    }
    return m != NULL;
}

static bool word_save_disk(struct script *s)
{
    struct member *m = script_who(s, 0);
    int slot = s->saved[0].image != NULL;
    if (m != NULL) {
        sim_disk_image_free(s->saved[slot].image);
        s->saved[slot].image = sim_disk_save(m->host);
        (void)snprintf(s->saved[slot].name, sizeof(s->saved[slot].name), "%s",
                       s->args[1]);
    }
    return m != NULL;
}

static bool word_restore_disk(struct script *s)
{
    struct member *m = script_stopped(s);
    for (int i = 0; i < 2 && m != NULL; i++) {
        if (strcmp(s->saved[i].name, s->args[1]) == 0) {
            sim_disk_restore(m->host, s->saved[i].image);
            checks_forget(m);
            return true;
        }
    }
    return m != NULL && script_failed(s, "no such copy of");
}

static bool word_quiet(struct script *s)
{
    workload_pause(s->c->workload, true);
    return true;
}

static bool word_busy(struct script *s)
{
    workload_pause(s->c->workload, false);
    return true;
}

static void do_step_wall(struct script *s, struct member *m)
{
    sim_host_step_wall(m->host, script_number(s, 1, 0));
}

static bool word_step_wall(struct script *s)
{
    return each(s, do_step_wall);
}

const struct word words_faults[] = {
    {"let", 2, word_let},
    {"wait", 1, word_wait},
    {"kill", 1, word_kill},
    {"stop", 1, word_stop},
    {"start", 1, word_start},
    {"power_off", 1, word_power_off},
    {"pause", 1, word_pause},
    {"resume", 1, word_resume},
    {"preempt", 3, word_preempt},
    {"cut", 2, word_cut},
    {"oneway", 2, word_oneway},
    {"heal", 0, word_heal},
    {"isolate", 1, word_isolate},
    {"reset", 1, word_reset},
    {"latency", 3, word_latency},
    {"lossy", 1, word_lossy},
    {"slow_disk", 2, word_slow_disk},
    {"hang_disk", 1, word_hang_disk},
    {"full_disk", 1, word_full_disk},
    {"free_disk", 1, word_free_disk},
    {"fail_sync", 2, word_fail_sync},
    {"fail_write", 2, word_fail_write},
    {"fail_at_step", 2, word_fail_at_step},
    {"lose_power_at_step", 2, word_lose_power_at_step},
    {"wipe", 1, word_wipe},
    {"save_disk", 2, word_save_disk},
    {"restore_disk", 2, word_restore_disk},
    {"quiet", 0, word_quiet},
    {"busy", 0, word_busy},
    {"step_wall", 2, word_step_wall},
    {NULL, 0, NULL},
};
