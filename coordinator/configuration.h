/*
 * A tablet's configuration and the only function that makes the next one
 * (R1, R2, R8). Pure: sets of replicas in, a configuration out; who is alive
 * or fit is decided by the callers.
 */
#ifndef COORDINATOR_CONFIGURATION_H
#define COORDINATOR_CONFIGURATION_H

#include "common/wire.h"

/* A set of replicas without duplicates; order is that of adding. */
struct replica_set {
    uint32_t count;
    struct replica at[LIMIT_REPLICAS];
};

bool set_has(const struct replica_set *s, struct replica r);
/* False if it is full; true also if R was there. */
bool set_add(struct replica_set *s, struct replica r);
void set_remove(struct replica_set *s, struct replica r);
/* Same members, in whatever order. */
bool set_equal(const struct replica_set *a, const struct replica_set *b);
/* Every member of A is in B. */
bool set_within(const struct replica_set *a, const struct replica_set *b);

struct configuration {
    uint32_t tablet;
    uint64_t hash_first, hash_last; /* both included */
    uint64_t epoch;
    struct replica primary;
    struct incarnation primary_incarnation;
    struct replica_set in_sync;  /* I */
    struct replica_set eligible; /* E */
    struct replica_set learners;
};

/* By which of R2's doors replicas may enter I. */
enum door {
    DOOR_SHUT,     /* nobody enters */
    DOOR_SHADOW,   /* `added`, a shadow that the primary asked for (R10) */
    DOOR_ELIGIBLE, /* members of E, because I is lost (R8 b) */
};

/* What the next configuration shall be. */
struct draft {
    enum door door;
    struct replica added; /* DOOR_SHADOW */
    struct replica primary;
    struct incarnation primary_incarnation;
    struct replica_set in_sync;
    struct replica_set learners;
    /* Known to be damaged: never in E. */
    struct replica_set forfeit;
};

/* The first configuration of a tablet: epoch 1, everybody empty and so in
 * sync. */
void configuration_first(uint32_t tablet, uint32_t tablets,
                         const struct replica_set *in_sync,
                         struct configuration *out);

/* The configuration after OLD (R1: epoch + 1). Computes E (R8 a). Asserts R2,
 * that I is not empty and has the primary, and that learners are not in I. */
void configuration_next(const struct configuration *old, const struct draft *d,
                        unsigned min_insync, struct configuration *out);

/* True if the draft would change anything but the epoch. */
bool configuration_differs(const struct configuration *old,
                           const struct draft *d);

/* To and from the wire's record. The record's lists point into C. FROM gives
 * ST_INVALID for what configuration_next() could not have made. */
struct tablet_config configuration_record(struct configuration *c);
enum status configuration_from(const struct tablet_config *t,
                               struct configuration *out) MUST_CHECK;

#endif
