/*
 * Test hooks for deliberate bugs (bugs.def). Without PENN_BUGS the check is
 * constant false and compiles to nothing.
 */
#ifndef STORAGE_BUGS_H
#define STORAGE_BUGS_H

enum bug {
#define BUG(name, text) BUG_##name,
#include "storage/bugs.def"
#undef BUG
    BUG_COUNT
};

#ifdef PENN_BUGS
#define HAS_BUG(host, name) (((host)->bugs >> BUG_##name) & 1u)
#else
#define HAS_BUG(host, name) 0
#endif

#endif
