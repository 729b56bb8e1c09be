#include "tests/sim/bugs.h"

#include <string.h>

enum storage_bit {
#define BUG(name, text) STORAGE_##name,
#include "storage/bugs.def"
#undef BUG
};

enum coordinator_bit {
#define BUG(name, text) COORDINATOR_##name,
#include "coordinator/bugs.def"
#undef BUG
};

const struct bug bugs[] = {
#define BUG(name, text) {#name, text, BUG_OF_STORAGE, 1u << STORAGE_##name},
#include "storage/bugs.def"
#undef BUG
#define BUG(name, text)                                                        \
    {#name, text, BUG_OF_COORDINATOR, 1u << COORDINATOR_##name},
#include "coordinator/bugs.def"
#undef BUG
#define BUG(name, text) {#name, text, BUG_OF_ENV, 1u << SIM_BUG_##name},
#include "tests/sim/sim_bugs.def"
#undef BUG
    {NULL, NULL, BUG_OF_ENV, 0},
};

static const struct {
    const char *bug, *scenario;
} shown_by[] = {
    {"ack_before_sync", "slow-first-back"},
    {"lease_from_receipt", "late-echo"},
    {"no_epoch_check", "old-primarys-late-frames"},
    {"forget_failed_sync", "all-syncs-fail"},
    {"identity_by_node", "wiped-first-back"},
    {"cut_at_damage", "rotten-first-back"},
    {"write_now_without_sync", "dark-at-the-start"},
    {"promote_outsider", "left-behind-forgotten"},
    {"short_write", "disk-full"},
    {"announce_before_durable", "coordinator-dies-changing"},
};

const struct bug *bug_find(const char *name)
{
    const struct bug *b = bugs;
    while (b->name != NULL && strcmp(b->name, name) != 0) {
        b++;
    }
    return b->name != NULL ? b : NULL;
}

void bug_set(const struct bug *b, struct run_options *o)
{
    o->bugs |= b->layer == BUG_OF_STORAGE ? b->bit : 0;
    o->coordinator_bugs |= b->layer == BUG_OF_COORDINATOR ? b->bit : 0;
    o->sim_bugs |= b->layer == BUG_OF_ENV ? b->bit : 0;
}

const struct scenario *bug_scenario(const struct bug *b)
{
    for (size_t i = 0; i < sizeof(shown_by) / sizeof(shown_by[0]); i++) {
        if (strcmp(shown_by[i].bug, b->name) == 0) {
            return scenario_find(shown_by[i].scenario);
        }
    }
    return NULL;
}
