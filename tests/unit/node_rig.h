/*
 * One storage node in the simulated world, and everything around it played by
 * hand: a coordinator that publishes what the test says, another storage
 * process and a client. Each remembers the last message of each type that it
 * heard; what they say is up to the test.
 */
#ifndef TESTS_UNIT_NODE_RIG_H
#define TESTS_UNIT_NODE_RIG_H

#include "storage/node.h"
#include "tests/sim/sim_env.h"

#define RIG_TYPES 128
#define RIG_CONNS 8

/* A process played by hand. */
struct party {
    struct env *env;
    struct env_conn *conns[RIG_CONNS]; /* the open ones, oldest first */
    struct env_peer peers[RIG_CONNS];
    uint32_t conn_count;
    struct buf last[RIG_TYPES]; /* frame of the last message of each type */
    uint32_t heard[RIG_TYPES];
    struct env_conn *from[RIG_TYPES];
    /* As a peer: it answers as a log that is empty, so that the node opens. */
    bool answers_dialogue;
    /* Called before a message is remembered; may be NULL. */
    void (*on_message)(struct party *p, struct env_conn *c,
                       const struct wire_msg *m);
    struct arena arena; /* of what party_last() decoded */
};

struct node_rig {
    struct world *w;
    struct sim_host *host; /* the node's */
    struct env *env, *beacon_env;
    struct storage_node *node;      /* number 1, at "a:1" */
    struct party coordinator, peer; /* peer: number 2, at "b:1" */
    struct party client;
    struct replica self;
    struct incarnation incarnation;
    uint64_t version;             /* of the map */
    uint8_t replicas, min_insync; /* what the map says: 2 and 2 */
    bool fatal;
    bool scrubs; /* a pass every second */
};

/* The node runs and is connected to its coordinator; no map yet. */
void node_rig_start(struct node_rig *g);
/* The same, and it scrubs. */
void node_rig_start_scrubbing(struct node_rig *g);
void node_rig_stop(struct node_rig *g);

struct replica node_rig_peer(void); /* the peer's store */
struct incarnation node_rig_peer_incarnation(void);

/* Publishes a map with both storage nodes and these TABLETS. */
void node_rig_publish(struct node_rig *g, const struct tablet_config *tablets,
                      uint32_t count);
/* Tablet 1, all hashes, in sync on both nodes; PRIMARY is 1 or 2. IN_SYNC has
 * room for two and lives as long as what is returned. */
struct tablet_config node_rig_config(struct node_rig *g, uint64_t epoch,
                                     uint32_t primary, struct replica *in_sync);
/* Publishes that and waits until the node is in it. */
void node_rig_enter(struct node_rig *g, uint64_t epoch, uint32_t primary);
/* What the node says of tablet 1; role REPLICA_NONE if it has none. */
struct tablet_report node_rig_report(struct node_rig *g);

/* P's last message of TYPE; asserts that there was one. Lives until P's next
 * is asked for. */
const struct wire_msg *party_last(struct party *p, enum msg_type type);
/* Waits until P has heard COUNT messages of TYPE; false if it did not within
 * the time. */
bool party_await(struct node_rig *g, struct party *p, enum msg_type type,
                 uint32_t count, int64_t within_us);
/* Sends M on C, or if C is NULL on P's first one for requests. */
void party_send(struct party *p, struct env_conn *c, const struct wire_msg *m);
/* P connects to the node. */
void party_call(struct node_rig *g, struct party *p);

#endif
