/*
 * The generation register (R1, R20, R22): what a coordinator keeps on disk.
 * register.c opens with the layout and the recovery table. Not thread-safe;
 * one env, one loop; at most one write under way.
 */
#ifndef COORDINATOR_REGISTER_H
#define COORDINATOR_REGISTER_H

#include "common/env.h"

#define REGISTER_FILE "register"
#define REGISTER_FORMAT 1
#define REGISTER_BLOCK 4096u
#define REGISTER_SLOTS 4u

struct generation_register;

/* One value of the register. */
struct generation {
    uint64_t promised;  /* highest term promised */
    uint64_t accepted;  /* term under which STATE was accepted */
    uint64_t version;   /* of the map */
    struct slice state; /* encoded REC(register_state) */
};

/* Opens the register in ENV's data directory and finds its newest value.
 * ST_NOT_FOUND: there is none, register_create() makes one; ST_WRONG_NODE,
 * ST_WRONG_CLUSTER (CLUSTER zero: any), ST_VERSION, ST_CORRUPT, ST_IO, with
 * one line of text. Blocking. */
enum status register_open(struct env *env, uint32_t node, struct id128 cluster,
                          struct generation_register **out,
                          struct err *err) MUST_CHECK;

/* Makes the file, with FIRST in it, at once and durably. TABLETS bounds the
 * size of every later value. Blocking. */
struct register_identity {
    uint32_t node;
    uint32_t tablets;
    struct id128 cluster;
};
enum status register_create(struct env *env, const struct register_identity *id,
                            const struct generation *first,
                            struct generation_register **out,
                            struct err *err) MUST_CHECK;

/* Frees memory and the file, which needs the env; no write may be under way.
 * NULL is allowed. */
void register_close(struct generation_register *r);
/* Frees memory alone: the env is gone (a simulated crash). */
void register_forget(struct generation_register *r);

/* The newest value that is durable; lives until the next write is done. */
const struct generation *register_value(const struct generation_register *r);
struct id128 register_cluster(const struct generation_register *r);
/* What recovery found amiss and could mend, for the log; "" if nothing. */
const char *register_complaint(const struct generation_register *r);

/* Makes V durable. Blocking; for the start. */
enum status register_write_now(struct generation_register *r,
                               const struct generation *v,
                               struct err *err) MUST_CHECK;
/* The same beside the loop; V is copied. DONE comes on the loop; on failure
 * the register must not be written any more (R18). */
void register_write(struct generation_register *r, const struct generation *v,
                    void (*done)(void *ctx, enum status status), void *ctx);

#endif
