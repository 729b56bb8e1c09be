/*
 * The simulated network: faults between hosts. Connections are made through
 * struct env; here a test cuts, heals, breaks and disturbs them.
 *
 * A connection behaves as TCP does: what is sent during a cut is not lost but
 * arrives late when the cut heals in time, in order, also after its sender
 * closed the connection and opened another one; a peer that died is only
 * noticed by who can hear its kernel say so.
 */
#ifndef TESTS_SIM_SIM_NET_H
#define TESTS_SIM_SIM_NET_H

#include "tests/sim/sim_world.h"

/* Nothing arrives from A at B any more; the other way goes on. */
void sim_net_cut_oneway(struct sim_host *a, struct sim_host *b);
void sim_net_cut(struct sim_host *a, struct sim_host *b);
/* Both ways. */
void sim_net_heal(struct sim_host *a, struct sim_host *b);
void sim_net_heal_all(struct world *w);
/* H against all others, both ways. */
void sim_net_isolate(struct sim_host *h);
bool sim_net_is_cut(const struct sim_host *a, const struct sim_host *b);

/* Breaks all connections between A and B (B NULL: of A): each side hears
 * ST_CLOSED after a while, and gets some of what was under way before. */
void sim_net_reset(struct sim_host *a, struct sim_host *b);

/* Latency from A to B: every frame takes BASE_US, times 0.5 to 2. */
void sim_net_latency(struct sim_host *a, struct sim_host *b, int64_t base_us);

/* What happens to frames of all connections from now on, in parts per
 * million. loss, duplicate and reorder break TCP's promise: the protocol must
 * stay safe all the same. */
struct sim_net_faults {
    uint32_t reset_ppm; /* the connection breaks at this frame */
    uint32_t spike_ppm; /* ... comes 10 to 100 ms late */
    uint32_t loss_ppm, duplicate_ppm, reorder_ppm;
    uint32_t late_close_ppm; /* a closed connection's last frames linger */
};
void sim_net_set_faults(struct world *w, const struct sim_net_faults *f);

/* Calls FN with each frame that is about to be handed to TO's process. */
void sim_net_tap(struct world *w,
                 void (*fn)(void *ctx, struct sim_host *from,
                            struct sim_host *to, const struct wire_msg *m),
                 void *ctx);

/* Frames delivered, for figures. */
uint64_t sim_net_frames(const struct world *w);
/* Frames of a type that their sender's role may not send (each broke its
 * connection, as it does in the daemons): a bug, always. */
uint64_t sim_net_denied(const struct world *w);

#endif
