/*
 * Which gateway gets the next connection. Pure: told of maps, openings,
 * closings and refusals, asked for a choice.
 */
#ifndef BALANCER_CORE_H
#define BALANCER_CORE_H

#include "common/limits.h"
#include "common/wire.h"

enum balancer_service {
#define SERVICE(NAME, name, refusal) SERVICE_##NAME,
#include "balancer/services.def"
    SERVICE_COUNT
};

const char *service_name(enum balancer_service s);
const char *service_refusal(enum balancer_service s);

/* How long a gateway that refused a connection is passed over. */
#define BALANCER_SKIP_US 1000000
/* Width of the two windows over which recent choices are counted. */
#define BALANCER_WINDOW_US 10000000

#define BALANCER_GATEWAYS 64
_Static_assert(LIMIT_NODES <= BALANCER_GATEWAYS, "every node has a place");

/* A gateway: a place in the table keeps its meaning while connections to it
 * are open, also when the map has forgotten it. */
struct gateway {
    uint32_t node; /* 0: the place is free */
    bool listed;   /* in the newest map */
    uint8_t state; /* enum node_state */
    char name[LIMIT_NAME + 1];
    char address[SERVICE_COUNT][LIMIT_ADDRESS + 1]; /* "": not offered */
    uint32_t conns[SERVICE_COUNT];
    uint32_t total; /* sum of conns */
    int64_t skip_until_us[SERVICE_COUNT];
    int64_t window; /* number of the window that recent[0] counts */
    uint32_t recent[2];
    uint64_t last_turn; /* when it was last chosen, in choices */
    uint64_t chosen, refused;
};

struct balancer {
    struct gateway gateways[BALANCER_GATEWAYS];
    uint64_t turn;          /* choices made */
    uint64_t term, version; /* of the newest map */
};

/* Takes a map; false, and no change, if it is older than the newest. A
 * gateway that has changed its address or come up again is no longer
 * passed over. */
bool balancer_take_map(struct balancer *b, const struct msg_map *map);

/* Chooses a gateway for SERVICE that is not in TRIED (a bit a place) and
 * counts the connection to it; false if there is none. */
bool balancer_choose(struct balancer *b, enum balancer_service service,
                     uint64_t tried, int64_t now_us, unsigned *out);
/* The chosen one could not be reached: the connection no longer counts, and
 * others go first for a while. */
void balancer_refused(struct balancer *b, unsigned place,
                      enum balancer_service service, int64_t now_us);
/* A counted connection ended. */
void balancer_closed(struct balancer *b, unsigned place,
                     enum balancer_service service);

#endif
