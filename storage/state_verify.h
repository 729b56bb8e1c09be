/*
 * Looking a state through: is what the tree in memory holds what its running
 * digest says? Memory that rots and mistakes in keeping the digest show here,
 * and nowhere else before a value is read. In slices, on a snapshot.
 */
#ifndef STORAGE_STATE_VERIFY_H
#define STORAGE_STATE_VERIFY_H

#include "storage/state.h"

struct state_verify;

/* The snapshot is the walk's from here on. */
struct state_verify *state_verify_new_take(struct state_snapshot *p);
void state_verify_free(struct state_verify *v);

/* Goes on by about BYTES of keys and values; false when it is over, or what it
 * met cannot be right. FN (may be NULL) is given the (encoded) key and the
 * place of each value that is not in memory. */
bool state_verify_on(struct state_verify *v, uint64_t bytes,
                     void (*fn)(void *ctx, struct slice key,
                                const struct place *p),
                     void *ctx);
/* KEY's value in S is still at that place. */
bool state_has_place(const struct state *s, struct slice key,
                     const struct place *p);
/* After it is over: digest, number and sums are what the state has. */
bool state_verify_sound(const struct state_verify *v);

#endif
