/*
 * The table of leases and echoes (R9, R12 c): the one thing that a process's
 * beacon thread and its shard share. A monitor: its mutex is held for a few
 * memory accesses and never across a system call, so neither side can hold
 * the other up.
 *
 * As a replica, the table says for which (tablet, epoch) this process echoes
 * which primary's beacons, and when it last did so. As a primary it keeps,
 * for each (tablet, epoch, peer), the end of the lease which that peer's
 * echoes gave. What echoes say of a peer's disk stands here, too, for it must
 * be known as fast as a lease. Times are CLOCK_BOOTTIME microseconds of this
 * host.
 */
#ifndef STORAGE_BEACON_TABLE_H
#define STORAGE_BEACON_TABLE_H

#include "common/wire.h"

#define LEASE_US 200000
/* The lease stretched by 2.5 % for both clocks (R12 c). */
#define LEASE_STRETCHED_US 205000
#define BEACON_INTERVAL_US 40000

struct beacon_table;

/* START_US: a process counts its start as its last echo (R12 c). */
struct beacon_table *beacon_table_new(int64_t start_us, unsigned bugs);
void beacon_table_free(struct beacon_table *t);

/* No echo for TABLET leaves from now on. Returns when the last one left, to
 * any primary but SELF in any epoch (R3, R12 c). */
int64_t beacon_table_leave(struct beacon_table *t, uint32_t tablet);

/* From now on beacons of PRIMARY in that incarnation are echoed for (TABLET,
 * EPOCH). PRIMARY may be this process itself: then leases are kept. */
struct beacon_primary {
    struct replica replica;
    struct incarnation incarnation;
    bool self;
};
void beacon_table_enter(struct beacon_table *t, uint32_t tablet, uint64_t epoch,
                        const struct beacon_primary *primary);

/* As primary of (TABLET, EPOCH): whose echoes are leases. Only those of the
 * very process that the epoch accepted are (R5): a clone's say nothing of what
 * the original does. Learners, who are not NEEDED, are sent beacons, too, and
 * their leases kept. The caller then kicks the beacon thread, so that a beacon
 * goes out at once. */
struct beacon_peer {
    struct replica replica;
    struct incarnation incarnation;
    bool needed;
};
void beacon_table_track(struct beacon_table *t, uint32_t tablet, uint64_t epoch,
                        const struct beacon_peer *peers, uint32_t count);

/* End of the lease of (TABLET, EPOCH): the earliest of its needed peers';
 * INT64_MAX if it needs none; 0 if this is not the epoch in force. */
int64_t beacon_table_lease_end(struct beacon_table *t, uint32_t tablet,
                               uint64_t epoch);
/* How much this process's disk still takes: its echoes say so. */
enum disk_room {
    DISK_HAS_ROOM,
    DISK_FULL,  /* nothing but what frees room, ... */
    DISK_SPENT, /* ... not even that */
};
void beacon_table_set_full(struct beacon_table *t, enum disk_room room);
/* PEER's disk is full, by its newest echo. */
bool beacon_table_peer_full(struct beacon_table *t, uint32_t tablet,
                            uint64_t epoch, struct replica peer);
/* A needed one has no more than LEAST, DISK_FULL or DISK_SPENT: what is
 * prepared there would find no room. */
bool beacon_table_lacks_room(struct beacon_table *t, uint32_t tablet,
                             uint64_t epoch, enum disk_room least);
/* End of the lease from one tracked peer. */
int64_t beacon_table_peer_end(struct beacon_table *t, uint32_t tablet,
                              uint64_t epoch, struct replica peer);

/* ---- the beacon thread's side ---- */

/* Replicas to which beacons must go; returns the count, at most MAX. */
uint32_t beacon_table_targets(struct beacon_table *t, struct replica *out,
                              uint32_t max);

/* A beacon of PEER came: the echo's list, written into OUT (room for
 * LIMIT_TABLETS), and its being sent noted at NOW_US, in one step. */
uint32_t beacon_table_on_beacon(struct beacon_table *t, struct replica peer,
                                struct incarnation incarnation, int64_t now_us,
                                struct tablet_epoch *out);

/* What an echo says of this process's disk. */
enum disk_room beacon_table_full(struct beacon_table *t);
/* An echo of our beacon of STAMP_US came from that process of PEER. */
void beacon_table_on_echo(struct beacon_table *t, struct replica peer,
                          struct incarnation incarnation,
                          const struct msg_echo *echo, int64_t now_us);

#endif
