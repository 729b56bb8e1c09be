/*
 * What a scenario's words are made of. A word is a function that gets the
 * script with its arguments; false: it failed and said so.
 */
#ifndef TESTS_SIM_WORDS_H
#define TESTS_SIM_WORDS_H

#include "tests/sim/scenario.h"

#define ARGS_MAX 4
#define NAMES_MAX 8

struct script {
    struct cluster *c;
    const char *args[ARGS_MAX];
    int count;
    struct {
        char name[16];
        struct member *member;
    } names[NAMES_MAX];
    int name_count;
    uint64_t marked_epoch;
    uint64_t marked_starts[CLUSTER_MEMBERS];
    struct {
        char name[16];
        struct sim_disk_image *image;
    } saved[2];
};

struct word {
    const char *name;
    int args_min;
    bool (*fn)(struct script *s);
};

/* Each ends with a NULL name: what is done to processes, network and disks;
 * what rots, and is found and mended; what is waited for and expected. */
extern const struct word words_faults[], words_rot[], words_expect[];

/* Notes that the scenario failed: WHAT, and the first argument. */
bool script_failed(struct script *s, const char *what);
/* Argument I as a member; NULL and the failure noted if it is nobody. */
struct member *script_who(struct script *s, int i);
/* The same of argument 0, which must not run. */
struct member *script_stopped(struct script *s);
/* Argument I as a number, OTHERWISE if there is none. */
int64_t script_number(const struct script *s, int i, int64_t otherwise);

#endif
