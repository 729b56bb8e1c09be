/*
 * The words of scenarios about rot: what bends, and that it is found and
 * mended.
 */
#include "tests/sim/words.h"

#include "tests/sim/rot.h"

#include <string.h>

struct rot {
    struct script *s;
    struct sim_host *host;
    uint64_t left; /* bytes before the place */
    bool done;
};

static void rot_file(void *ctx, const char *name, uint64_t size)
{
    struct rot *r = ctx;
    if (!r->done && r->left < size) {
        r->done =
            sim_disk_flip_bit(r->host, name, r->left, (unsigned)r->left % 8);
        world_trace(r->s->c->w, "a bit of %s flips at %llu", name,
                    (unsigned long long)r->left);
    }
    r->left -= r->done ? 0 : size;
}

static bool word_rot(struct script *s)
{
    struct member *m = script_stopped(s);
    uint64_t used = m != NULL ? sim_disk_used(m->host) : 0;
    if (used > 0) {
        struct rot r = {s, m->host, sim_rng_below(world_rng(s->c->w), used),
                        false};
        sim_disk_each(m->host, rot_file, &r);
    }
    return m != NULL;
}

/* Flips a bit of each of some bytes that are not zero, in log files. */
static void rot_log_file(void *ctx, const char *name, uint64_t size)
{
    struct rot *r = ctx;
    struct buf b = {0};
    if (strstr(name, "/wal-") == NULL || !sim_disk_read(r->host, name, &b)) {
        return;
    }
    uint64_t used = b.len;
    while (used > 0 && b.data[used - 1] == 0) {
        used--;
    }
    for (int i = 0; i < 3 && used > 0; i++) {
        uint64_t at = sim_rng_below(world_rng(r->s->c->w), used);
        if (b.data[at] != 0) {
            (void)sim_disk_flip_bit(r->host, name, at, (unsigned)at % 8);
            world_trace(r->s->c->w, "a bit of %s flips at %llu", name,
                        (unsigned long long)at);
        }
    }
    buf_free(&b);
}

static bool word_rot_log(struct script *s)
{
    struct member *m = script_stopped(s);
    if (m != NULL) {
        struct rot r = {s, m->host, 0, false};
        sim_disk_each(m->host, rot_log_file, &r);
        checks_forget(m);
    }
    return m != NULL;
}

/* Between two writes a state may be empty: ROT does nothing then. */
struct rotting {
    struct member *m;
    bool (*rot)(struct member *m);
};

static bool nothing_rots(void *ctx)
{
    struct rotting *r = ctx;
    return !r->rot(r->m);
}

static bool rot_soon(struct script *s, bool (*rot)(struct member *m))
{
    struct rotting r = {script_who(s, 0), rot};
    return r.m != NULL &&
           (world_run_while(s->c->w, nothing_rots, &r, 5 * SIM_S) ||
            script_failed(s, "nothing to rot:"));
}

static bool word_rot_value(struct script *s)
{
    return rot_soon(s, rot_value);
}

static bool word_rot_digest(struct script *s)
{
    return rot_soon(s, rot_digest);
}

static bool word_rot_files(struct script *s)
{
    struct member *m = script_who(s, 0);
    if (m != NULL) {
        rot_files(m);
    }
    return m != NULL;
}

struct finding {
    struct script *s;
    struct member *m;
    uint64_t passes, condemned;
};

static bool not_condemned(void *ctx)
{
    struct finding *f = ctx;
    struct storage_stats st;
    rot_found(f->m, &st);
    return !sim_cluster_failed(f->s->c) && st.condemned < f->condemned;
}

static bool not_scrubbed(void *ctx)
{
    struct finding *f = ctx;
    struct storage_stats st;
    rot_found(f->m, &st);
    return !sim_cluster_failed(f->s->c) &&
           (st.scrub_passes < f->passes ||
            storage_node_bad_values(member_object(f->m)) > 0);
}

static bool word_await_condemned(struct script *s)
{
    struct finding f = {s, script_who(s, 0), 0, 1};
    return f.m != NULL &&
           (world_run_while(s->c->w, not_condemned, &f,
                            script_number(s, 1, 20000) * SIM_MS) ||
            sim_cluster_failed(s->c) ||
            script_failed(s, "its damage was not found:"));
}

static bool not_mended(void *ctx)
{
    struct finding *f = ctx;
    struct storage_stats st;
    rot_found(f->m, &st);
    return not_condemned(f) || st.damaged > 0;
}

/* Condemned, and filled by the others: it is as they are. */
static bool word_await_mended(struct script *s)
{
    struct finding f = {s, script_who(s, 0), 0, 1};
    if (f.m == NULL || (!world_run_while(s->c->w, not_mended, &f,
                                         script_number(s, 1, 60000) * SIM_MS) &&
                        !sim_cluster_failed(s->c))) {
        return script_failed(s, "its damage was not mended:");
    }
    f.m->rotten = false;
    return true;
}

/* Two passes: what is there now was looked at as a whole. */
static bool word_await_scrubbed(struct script *s)
{
    struct finding f = {.s = s, .m = script_who(s, 0)};
    struct storage_stats st;
    if (f.m == NULL) {
        return false;
    }
    rot_found(f.m, &st);
    f.passes = st.scrub_passes + 2;
    return world_run_while(s->c->w, not_scrubbed, &f,
                           script_number(s, 1, 60000) * SIM_MS) ||
           sim_cluster_failed(s->c) ||
           script_failed(s, "its scrub does not end:");
}

const struct word words_rot[] = {
    {"rot", 1, word_rot},
    {"rot_log", 1, word_rot_log},
    {"rot_value", 1, word_rot_value},
    {"rot_digest", 1, word_rot_digest},
    {"rot_files", 1, word_rot_files},
    {"await_condemned", 2, word_await_condemned},
    {"await_mended", 2, word_await_mended},
    {"await_scrubbed", 2, word_await_scrubbed},
    {NULL, 0, NULL},
};
