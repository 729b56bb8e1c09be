/*
 * Test hooks for deliberate bugs (bugs.def). Without PENN_BUGS the check is
 * constant false and compiles to nothing.
 */
#ifndef COORDINATOR_BUGS_H
#define COORDINATOR_BUGS_H

enum coordinator_bug {
#define BUG(name, text) COORDINATOR_BUG_##name,
#include "coordinator/bugs.def"
#undef BUG
};

#ifdef PENN_BUGS
#define HAS_BUG(options, name)                                                 \
    (((options)->bugs >> COORDINATOR_BUG_##name) & 1u)
#else
#define HAS_BUG(options, name) 0
#endif

#endif
