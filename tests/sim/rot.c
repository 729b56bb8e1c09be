/*
 * Rot while a process runs: it bends what is not to be written, which only
 * memory and media that fail do.
 */
#define PENN_BUGS /* so is the storage that the simulation runs */
#include "tests/sim/rot.h"

#include <stdlib.h>
#include <string.h>

#include "storage/state_private.h"
#include "tests/sim/sim_disk.h"

static bool leads(const struct member *m, const struct tablet_config *t)
{
    return t->primary.node == m->node;
}

/* The N-th cell that has its value in memory. */
static bool find_value(const struct state *s, uint64_t n, struct slice *out)
{
    struct tree_iter *it = xcalloc(1, sizeof(*it));
    bool found = false;
    for (tree_first(s->cells.tree, it); tree_valid(it) && !found;
         tree_next(it)) {
        struct tree_value v = tree_iter_value(it);
        if (v.tag == VALUE_INLINE && v.bytes.len > 0 && n-- == 0) {
            *out = v.bytes;
            found = true;
        }
    }
    free(it);
    return found;
}

/* Casts away what says that the bytes are not to be written. */
static void flip(const void *bytes, size_t len, struct sim_rng *r)
{
    uint8_t *at;
    memcpy(&at, &bytes, sizeof(at));
    at[sim_rng_below(r, len)] ^= (uint8_t)(1u << sim_rng_below(r, 8));
}

static bool rot_one(struct member *m, const struct tablet_config *t,
                    bool digest)
{
    struct sim_rng *r = world_rng(m->c->w);
    const struct state *s = storage_node_state(member_object(m), t->tablet);
    uint64_t cells = s == NULL ? 0 : tree_count(s->cells.tree);
    struct slice value;
    if (cells == 0) {
        return false;
    }
    if (digest) {
        for (int i = 0; i < 16; i++) { /* no two alike */
            flip(&s->cells.digest, sizeof(s->cells.digest), r);
        }
    } else if (find_value(s, sim_rng_below(r, cells), &value) ||
               find_value(s, 0, &value)) {
        flip(value.data, value.len, r);
    } else {
        return false;
    }
    m->rotten = true;
    world_trace(m->c->w, "%s: the %s of tablet %u rots", m->name,
                digest ? "digest" : "memory", t->tablet);
    return true;
}

static bool rot_some(struct member *m, bool anywhere, bool digest)
{
    const struct msg_map *map = sim_cluster_map(m->c);
    uint32_t count = map == NULL ? 0 : map->tablets_count;
    uint64_t first = count == 0 ? 0 : sim_rng_below(world_rng(m->c->w), count);
    for (uint32_t i = 0; i < count; i++) {
        const struct tablet_config *t = &map->tablets[(first + i) % count];
        if ((anywhere || !leads(m, t)) && rot_one(m, t, digest)) {
            return true;
        }
    }
    return false;
}

bool rot_value(struct member *m)
{
    /* Where all values are on disk, the sum of what there is. */
    return rot_some(m, false, false) || rot_some(m, true, true);
}

bool rot_digest(struct member *m)
{
    return rot_some(m, true, true);
}

static void rot_file(void *ctx, const char *name, uint64_t size)
{
    struct member *m = ctx;
    struct sim_rng *r = world_rng(m->c->w);
    struct buf b = {0};
    bool log =
        strstr(name, "/wal-0") != NULL || strstr(name, "/blobs-") != NULL;
    if ((!log && strstr(name, ".ckpt") == NULL) ||
        !sim_disk_read(m->host, name, &b)) {
        return;
    }
    (void)size;
    uint64_t used = b.len;
    while (used > 0 && b.data[used - 1] == 0) {
        used--;
    }
    for (int i = 0; i < (log ? 2 : 1) && used > 0; i++) {
        uint64_t at = sim_rng_below(r, used);
        (void)sim_disk_flip_bit(m->host, name, at, (unsigned)at % 8);
        world_trace(m->c->w, "a bit of %s of %s flips at %llu", name, m->name,
                    (unsigned long long)at);
    }
    buf_free(&b);
}

void rot_files(struct member *m)
{
    sim_disk_each(m->host, rot_file, m);
    checks_forget(m);
}

void rot_found(struct member *m, struct storage_stats *out)
{
    *out = (struct storage_stats){0};
    if (sim_host_running(m->host)) {
        storage_node_stats(member_object(m), out);
    }
}
