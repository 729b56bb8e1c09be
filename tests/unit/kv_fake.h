/*
 * A small env for tests of the client's core: a clock that moves only with
 * its events, timers, and connections to hosts whose side the test plays.
 * Frames to a host that is deaf, and answers to a closed connection, vanish;
 * what was sent before a close still arrives, as with TCP.
 */
#ifndef TESTS_UNIT_KV_FAKE_H
#define TESTS_UNIT_KV_FAKE_H

#include "common/env.h"

struct fake;
struct fake_conn;
struct fake_event;

struct fake_host {
    struct fake *fake;
    char address[32];
    bool up;   /* else connections are refused */
    bool deaf; /* frames and connection attempts vanish, both ways */
    int64_t delay_us;
    uint32_t jitter_us; /* added to the delay of each frame, up to */
    uint32_t opened;    /* connections that were opened */
    void (*on_message)(struct fake_host *h, struct fake_conn *c,
                       const struct wire_msg *m);
    void (*on_open)(struct fake_host *h, struct fake_conn *c);
    void *data; /* the test's */
};

struct fake {
    struct env env;
    struct log log;
    int64_t now_us;
    uint64_t random;
    uint64_t order;
    struct fake_event *events; /* sorted */
    struct fake_conn *conns;
    struct fake_host hosts[16];
    uint32_t hosts_count;
};

void fake_init(struct fake *f, uint64_t seed);
void fake_fini(struct fake *f);
uint32_t fake_random(struct fake *f, uint32_t below);
struct fake_host *fake_add_host(struct fake *f, const char *address);
/* Runs events until US from now. */
void fake_run(struct fake *f, int64_t us);
/* FN after DELAY_US; ARG is not owned. */
void fake_after(struct fake *f, int64_t delay_us, void (*fn)(void *arg),
                void *arg);

/* The host's side. */
struct fake_host *fake_conn_host(struct fake_conn *c);
enum lane fake_conn_lane(const struct fake_conn *c);
bool fake_conn_is_open(const struct fake_conn *c);
void fake_answer(struct fake_conn *c, const struct buf *frame);
/* Closes all connections to H; the client hears of it. */
void fake_cut(struct fake_host *h);
/* No connections, and none to be opened: a killed process. */
void fake_kill(struct fake_host *h);

#endif
