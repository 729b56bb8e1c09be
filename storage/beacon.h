/*
 * Beacons (R9): a loop of their own in each storage process, with connections
 * of their own, so that leases depend on no disk and no heavy work. Every 40
 * ms, and at once when kicked, a beacon goes to each node whose echo some
 * tablet's lease needs; beacons that arrive are echoed at once. What is known
 * stands in the beacon table, shared with the shard.
 */
#ifndef STORAGE_BEACON_H
#define STORAGE_BEACON_H

#include "storage/beacon_table.h"
#include "storage/links.h"

struct beacon;

/* ENV is the beacons' own; LISTEN its address. */
enum status beacon_start(struct env *env, const char *listen,
                         struct beacon_table *table, struct beacon **out,
                         struct err *err) MUST_CHECK;
void beacon_stop(struct beacon *b);
/* On the beacons' loop: sends beacons now, to the nodes set last. */
void beacon_kick(struct beacon *b);
/* From any thread: the other nodes' beacon addresses. A kick takes them up. */
void beacon_set_targets(struct beacon *b, const struct link_target *targets,
                        uint32_t count);

#endif
