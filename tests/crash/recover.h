/*
 * Starts what a crash left, with the product's own recovery on a simulated
 * host, and holds it against the ledger.
 */
#ifndef TESTS_CRASH_RECOVER_H
#define TESTS_CRASH_RECOVER_H

#include "tests/crash/disk.h"
#include "tests/crash/ledger.h"

struct crash_point {
    const struct crash_disk *disk;
    const struct ledger *ledger;
    struct choice choice;
    bool storage;  /* else a coordinator */
    unsigned bugs; /* of the recovery: storage/bugs.def */
    bool goes_on;  /* also: life goes on, and another crash */
    bool again;    /* also: the recovery itself crashes */
    int log_fd;    /* -1: its lines are not wanted */
};

struct crash_figures {
    uint64_t recoveries, values, unknown_states, steps;
};

/* True if all holds; else WHY says what does not. */
bool crash_check(const struct crash_point *p, struct crash_figures *figures,
                 struct err *why);

#endif
