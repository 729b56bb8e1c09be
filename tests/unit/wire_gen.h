/*
 * Random messages of every type, expanded from messages.def: for the tests of
 * the wire format and the seeds of its fuzzer.
 */
#ifndef TESTS_UNIT_WIRE_GEN_H
#define TESTS_UNIT_WIRE_GEN_H

#include "common/wire.h"

/* The same seed, the same messages. Zeroed but for SEED; GEN owns what the
 * messages point at: arena_free(&gen.arena). */
struct wire_gen {
    uint64_t seed;
    struct arena arena;
};

uint64_t wire_gen_next(struct wire_gen *g);

/* All types there are. */
extern const uint16_t wire_gen_types[];
extern const size_t wire_gen_type_count;

/* Fills M with random contents of TYPE. */
void wire_gen_message(struct wire_gen *g, uint16_t type, struct wire_msg *m);
/* Appends M as a frame. */
void wire_gen_put(struct buf *out, const struct wire_msg *m);
/* True if all fields are equal. */
bool wire_gen_same(const struct wire_msg *a, const struct wire_msg *b);

#endif
