/*
 * The deliberate bugs of all layers, by name, and where each is caught soonest.
 */
#ifndef TESTS_SIM_BUGS_H
#define TESTS_SIM_BUGS_H

#include "tests/sim/run.h"

struct bug {
    const char *name, *about;
    enum { BUG_OF_STORAGE, BUG_OF_COORDINATOR, BUG_OF_ENV } layer;
    unsigned bit;
};

/* All bugs; ends with a NULL name. */
extern const struct bug bugs[];
const struct bug *bug_find(const char *name);
/* Puts B into O. */
void bug_set(const struct bug *b, struct run_options *o);
/* A scenario that shows B; NULL: random faults do. */
const struct scenario *bug_scenario(const struct bug *b);

#endif
