/*
 * What the shell's files share: coordinator.c (the register and publishing)
 * and clients.c (connections and their messages).
 */
#ifndef COORDINATOR_SHELL_H
#define COORDINATOR_SHELL_H

#include "coordinator/core.h"
#include "coordinator/probe.h"
#include "coordinator/register.h"

/* Who is connected. */
struct client {
    struct client *next, *prev;
    struct coordinator *owner;
    uint64_t id; /* never used again */
    struct env_conn *conn;
    struct env_peer peer;
    bool watching;
    uint64_t sent_version; /* of the map */
};

struct clients {
    struct client *first;
    uint64_t last_id;
};

struct client *clients_find(const struct clients *all, uint64_t id);
void clients_close_all(struct clients *all, struct env *env);
/* Frees memory only. */
void clients_free(struct clients *all);

/* An answer that waits until the map AFTER is published. */
struct held {
    struct held *next;
    uint64_t conn, after;
    struct buf frame;
};

enum writing { WRITING_NOTHING, WRITING_MAP, WRITING_COPY };

struct coordinator {
    struct env *env;
    struct coordinator_options o;
    struct core *core;
    struct core_effects fx;
    struct generation_register *reg;
    struct probes *probes;
    struct clients clients;
    uint64_t term;
    bool dead;     /* on_fatal was called; nothing is done any more */
    bool stopping; /* coordinator_stop() was called */
    void (*stopped)(void *ctx);
    void *stopped_ctx;
    struct env_timer tick_timer, mark_timer;
    /* The register. */
    enum writing writing;
    bool unsaved; /* the core has what is not in the write under way */
    bool copied;  /* the newest value stands in two places */
    struct buf state, next_frame;
    /* What all may know. */
    uint64_t published;
    struct buf map_frame;
    struct wire_msg map;
    struct arena map_arena;
    /* Answers, oldest first. */
    struct held *held, **held_end;
    size_t held_count;
    uint64_t maps_pushed, register_writes;
};

/* Runs EV (its time is filled in) and does what follows from it. */
void shell_step(struct coordinator *c, struct core_event *ev);
void shell_finish_stop(struct coordinator *c);
/* For incoming connections; ctx is the coordinator. */
extern const struct env_conn_events shell_events;

#endif
