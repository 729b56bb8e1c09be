/*
 * What the files of the state machine share; nobody else includes it.
 */
#ifndef STORAGE_STATE_PRIVATE_H
#define STORAGE_STATE_PRIVATE_H

#include "storage/client_table.h"
#include "storage/key.h"
#include "storage/place.h"
#include "storage/state.h"
#include "storage/tree.h"

_Static_assert(KEY_MAX <= TREE_KEY_MAX, "the tree takes every key");

/* A number mod 2^128. */
struct sum {
    uint64_t low, high;
};

/* A tree with a digest of its contents: the sum mod 2^128 of each pair's
 * XXH3-128, so that a change adds and subtracts, and order plays no role. */
struct cells {
    struct tree *tree;
    struct sum digest;
    uint64_t bytes;  /* of encoded keys and values */
    uint64_t placed; /* of BYTES, those of values not in memory */
    /* Told of each place that comes or goes; NULL: nobody. */
    void (*on_place)(void *ctx, const struct place *p, int delta);
    void *on_place_ctx;
    struct place_journal *journal; /* NULL, or notes what ON_PLACE was told */
};

/* What was told, so that it can be taken back. */
struct place_journal {
    struct place_told {
        struct place place;
        int delta;
    } * told;
    size_t count, cap;
};

void cells_init(struct cells *c);
void cells_fini(struct cells *c);
/* Nobody is told of the clone's places. */
struct cells cells_clone(const struct cells *c);
/* Makes C what FROM is, and empties FROM. What C's journal has, or, where it
 * has none, nothing, is told back. */
void cells_take(struct cells *c, struct cells *from);
bool cells_get(const struct cells *c, struct slice key, struct cell_value *out);
/* KEY and VALUE do not point into C's memory (tree_put()). */
void cells_put(struct cells *c, struct slice key, const struct cell_value *v);
/* As cells_put() of a KEY behind all others; false if it is not. */
bool cells_append(struct cells *c, struct slice key,
                  const struct cell_value *v);
bool cells_remove(struct cells *c, struct slice key);
/* Adds to C what FROM, of other keys, has in sums. */
void cells_note_all(struct cells *c, const struct cells *from);
/* Counts the pair of KEY and V. */
void cells_note(struct cells *c, struct slice key, const struct cell_value *v);
/* SUM with the digest of the pair of KEY and V. */
struct sum cells_sum(struct sum sum, struct slice key,
                     const struct cell_value *v);
/* What stands in the tree as TV. */
struct cell_value cells_value(const struct tree_value *tv);
/* A value in memory. */
static inline struct cell_value cell_value_inline(struct slice bytes)
{
    return (struct cell_value){.bytes = bytes};
}

#ifdef PENN_BUGS
#define FORGETS(s) ((s)->forgets)
#else
#define FORGETS(s) false
#endif

struct state {
#ifdef PENN_BUGS
    bool forgets; /* requests' results (bugs.def) */
#endif
    struct cells cells;
    struct client_table clients; /* state_clients.c */
    struct name applied;
    void (*on_change)(void *ctx, struct slice partition, struct slice row,
                      struct slice column);
    void *on_change_ctx;
};

struct state_snapshot {
    uint32_t refs;
    struct cells cells;
    struct buf clients; /* encoded */
    struct name applied;
};

/* Request numbers end here, so that adding a window never wraps. */
#define STATE_NUMBER_MAX ((uint64_t)INT64_MAX)

/* ---- state_clients.c ---- */

/* R23 at apply, before executing: true if the command is to be executed and
 * its result stored; else OUT is the answer. */
bool state_begin(struct state *s, const struct command *c, uint64_t seq,
                 struct applied *out);
/* Stores what executing gave. */
void state_keep_result(struct state *s, const struct command *c,
                       const struct applied *result);
/* Gives ID a new session, SEQ, and forgets the one it had. */
void state_introduce(struct state *s, struct id128 id, uint64_t seq);
/* Appends the table in its order, least recently heard first; layout: there. */
void state_encode_clients(const struct state *s, struct buf *out);

/* ---- state_places.c ---- */

/* Tells DELTA of each place that S has to who is told of them. */
void state_tell_all(const struct state *s, int delta);

/* ---- shared ---- */

/* Digits of a sequence number in columns and suffixes. */
#define SEQUENCE_DIGITS 16

/* Mutations whose new value is part of the result. */
static inline bool state_gives_value(const struct mutation *m)
{
    return m->kind == MUTATION_INCREMENT || m->kind == MUTATION_ADD;
}

/* An answer without values. */
void applied_set(struct applied *a, enum status status, uint16_t failed);

#endif
