/*
 * Values written to the one storage node of a rig and asked for again: a
 * client with a session, bytes that are known by their number, and damage
 * where they lie on its disk.
 */
#ifndef TESTS_UNIT_VALUE_RIG_H
#define TESTS_UNIT_VALUE_RIG_H

#include "tests/unit/node_rig.h"

struct value_rig {
    struct node_rig node;
    uint64_t session, number; /* of the client's last command */
};

/* The node serves tablet 1 already: the client connects and introduces itself.
 */
void value_rig_introduce(struct value_rig *v);
/* Publishes T, in which the node is primary, and waits until it is open. */
void value_rig_open(struct value_rig *v, const struct tablet_config *t);

/* The bytes of value WHICH, of LEN; lives until the next are asked for. */
struct slice value_bytes(uint32_t which, size_t len);
const char *value_column(uint32_t which); /* the same */

/* Writes VALUE into the cell of WHICH and waits for the answer. */
void value_put(struct value_rig *v, uint32_t which, struct slice value);
/* Asks for it; the answer is a MSG_VALUE or MSG_ERROR. */
void value_ask(struct value_rig *v, uint64_t request, uint32_t which);
/* Flips a bit within the bytes in each file that has them; how many have. */
unsigned value_damage(struct value_rig *v, struct slice bytes);

struct storage_figures value_figures(const struct value_rig *v);

#endif
