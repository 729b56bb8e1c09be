/*
 * The sessions that a tablet keeps (R23): per client id its session, its
 * oldest open number, when it was last heard, and the results of its numbers
 * from there on; in the order in which they were last heard. What the rules
 * do with them is state_clients.c.
 */
#ifndef STORAGE_CLIENT_TABLE_H
#define STORAGE_CLIENT_TABLE_H

#include "common/wire.h"

/* A result as it is kept; one with NUMBER 0 is none. */
struct stored {
    uint64_t number;
    uint16_t status, failed;
    uint8_t more, count;
    struct counter_value *values;
};

struct client {
    struct id128 id;
    uint64_t session, oldest_open;
    uint64_t heard;               /* seq of its last entry: unique */
    struct client *older, *newer; /* by heard */
    struct client *chain;         /* of one bucket */
    struct stored *slots;         /* number n is in slot n % cap, or nowhere */
    uint32_t cap;                 /* a power of two, or 0 */
};

struct client_table {
    struct client **buckets;
    uint32_t bucket_count; /* a power of two, or 0 */
    uint32_t count;
    uint64_t bytes;  /* of the encoded table, without its count */
    uint64_t memory; /* bytes taken */
    struct client *oldest, *newest;
};

void client_table_fini(struct client_table *t); /* a zeroed one is empty */
/* NULL if there is none. */
struct client *client_table_find(const struct client_table *t, struct id128 id);
/* A client whose id is not there, as the one heard last; HEARD is above all
 * others'. */
struct client *client_table_add(struct client_table *t, struct id128 id,
                                uint64_t session, uint64_t heard);
void client_table_remove(struct client_table *t, struct client *c);
/* C is the one heard last. */
void client_table_hear(struct client_table *t, struct client *c,
                       uint64_t heard);
/* Raises C's oldest open number, and forgets the results below it. */
void client_table_advance(struct client_table *t, struct client *c,
                          uint64_t oldest_open);
/* NULL if there is none; as long-lived as C's next change. */
const struct stored *client_result(const struct client *c, uint64_t number);
/* NUMBER is in C's window and has no result yet; R is copied. */
void client_table_store_result(struct client_table *t, struct client *c,
                               uint64_t number, const struct result *r);

#endif
