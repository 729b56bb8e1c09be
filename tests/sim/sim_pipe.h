/*
 * One simulated connection, for sim_net.c and sim_net_faults.c. See sim_net.c.
 */
#ifndef TESTS_SIM_SIM_PIPE_H
#define TESTS_SIM_SIM_PIPE_H

#include "tests/sim/sim_internal.h"

enum segment_kind { SEG_SYN, SEG_ACCEPT, SEG_DATA, SEG_FIN, SEG_RST };

struct segment {
    struct segment *next;
    enum segment_kind kind;
    int64_t at;
    struct hello_self self; /* SYN, ACCEPT: the sender's */
    char name[LIMIT_NAME + 1];
    size_t len;
    uint8_t data[];
};

struct sim_dir {
    struct sim_pipe *pipe;
    unsigned from; /* side that sends */
    struct segment *head, *tail;
    size_t queued;
    int64_t last_at;
    bool waiting; /* for a cut to heal, or power */
    struct sim_event pump;
};

struct sim_pipe {
    struct world *w;
    uint64_t id;
    struct sim_host *host[2]; /* [1] NULL: nobody ever listened there */
    struct env_conn *end[2];
    struct sim_dir dir[2];
    char address[LIMIT_ADDRESS + 1];
    enum lane lane;
    struct stray *strays; /* frames under way outside the order */
    int held;             /* > 0: do not free now */
    struct sim_pipe *prev, *next;
};

struct env_conn {
    struct sim_env *env;
    struct sim_pipe *pipe;
    unsigned side;
    bool open;
    uint8_t peer_role;
    void *data, *ctx;
    const struct env_conn_events *events;
    struct sim_event late; /* connect timeout; later: too much is queued */
    struct env_conn *prev, *next; /* among the env's */
};

/* A frame that left the order (reordered or duplicated). */
struct stray {
    struct sim_event ev;
    struct sim_dir *dir;
    struct segment *seg;
    struct stray *prev, *next;
};

/* True if a packet in D's direction arrives. */
bool pipe_path_open(const struct sim_dir *d);
/* Breaks P: both ends hear of it, after some of what was under way. */
void pipe_reset(struct sim_pipe *p);

#endif
