/*
 * How many connections each client address has: a hash table whose entries
 * exist while their count is above 0. IPv6 clients count by their /64, which
 * is what one customer has. Pure.
 */
#ifndef BALANCER_PEERS_H
#define BALANCER_PEERS_H

#include <sys/socket.h>

#include "common/buf.h"

struct peer_key {
    uint8_t b[16]; /* an IPv4 address as mapped IPv6 */
};

struct peer_key peer_key_of(const struct sockaddr *address);

struct peers;
/* SEED keeps strangers from choosing addresses that collide. */
struct peers *peers_new(uint64_t seed);
void peers_free(struct peers *p);
/* Counts one more and returns true, or false if KEY has LIMIT already. */
bool peers_enter(struct peers *p, struct peer_key key, uint32_t limit);
/* Counts one less; KEY must have entered. */
void peers_leave(struct peers *p, struct peer_key key);
/* Addresses with connections now. */
size_t peers_count(const struct peers *p);

#endif
