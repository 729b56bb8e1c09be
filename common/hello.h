/*
 * The first frame of both sides and what follows from it: whether two
 * processes may talk (versions, cluster, role), and which messages one role
 * may send to another (common/roles.def). Pure.
 */
#ifndef COMMON_HELLO_H
#define COMMON_HELLO_H

#include "common/env.h"

/* What this process says of itself. */
struct hello_self {
    struct id128 cluster; /* zero while not known */
    struct id128 store;   /* zero where a process has none */
    struct incarnation incarnation;
    uint64_t term; /* highest seen */
    uint32_t node; /* 0 where a process has none */
    uint8_t role;  /* enum role */
    /* At most LIMIT_NAME bytes, printable, owned by the caller. */
    const char *name;
};

#define ROLE_BIT(role) (1u << (role))
#define ROLES_ALL                                                              \
    (ROLE_BIT(ROLE_COORDINATOR) | ROLE_BIT(ROLE_STORAGE) |                     \
     ROLE_BIT(ROLE_GATEWAY) | ROLE_BIT(ROLE_BALANCER) | ROLE_BIT(ROLE_ADMIN) | \
     ROLE_BIT(ROLE_CLIENT))

/* Fills OUT; its name points at SELF's. */
void hello_make(const struct hello_self *self, enum lane lane,
                struct msg_hello *out);

/* May we talk to who sent H? ACCEPT: ROLE_BITs of roles welcome. On ST_OK
 * fills PEER. ST_INVALID: not a hello; ST_VERSION: ERR names both ranges;
 * ST_WRONG_CLUSTER (a zero id on either side is "not known yet"); ST_DENIED:
 * a role that may not connect here. */
enum status hello_check(const struct hello_self *self,
                        const struct msg_hello *h, uint32_t accept,
                        struct env_peer *peer, struct err *err) MUST_CHECK;

/* May a process of role FROM send messages of TYPE to one of role TO? False
 * for roles and types that do not exist. */
bool hello_may_send(uint8_t from, uint8_t to, uint16_t type);

#endif
