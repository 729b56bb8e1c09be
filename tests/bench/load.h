/*
 * Load on other stores, made alike for all: N connections with one request in
 * flight each, on one loop of one thread. load.c is the loop; a store's
 * protocol is a table of three functions that move bytes between buffers
 * (resp_load.c, grpc_load.c, pg_load.c). What pennctl bench kv does
 * for our own store: its output has the same form.
 */
#ifndef TESTS_BENCH_LOAD_H
#define TESTS_BENCH_LOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"

enum load_op { LOAD_PUT, LOAD_GET, LOAD_FILL };

/* A fill writes keys in order, so many a request. */
#define LOAD_BATCH 1000
#define LOAD_KEY_SIZE 16

struct load_options {
    enum load_op op;
    uint32_t clients;
    uint32_t value_size;
    uint32_t keys;
    uint32_t replicas; /* acknowledgements that a put to Redis waits for */
};

/* What a look at the bytes that came gave. */
enum load_answer {
    LOAD_MORE,   /* nothing whole yet */
    LOAD_READY,  /* the connection is open, or the fill's piece is done */
    LOAD_GOOD,   /* the request is answered well */
    LOAD_FAILED, /* refused, missing, or not understood: load_conn.why */
};

struct load_conn {
    const struct load_options *o;
    int fd;
    bool open, busy, wants_write;
    struct buf in, out; /* come and not yet consumed; not yet sent */
    size_t sent;        /* of out */
    int64_t started_us;
    const uint8_t *value; /* o->value_size bytes, incompressible */
    char why[160];
    /* The protocol's own. */
    unsigned step;
    uint32_t stream;
    int64_t window, stream_window, stream_start;
    uint32_t frame_max;
    struct buf body; /* of the request, as far as windows let it go */
    size_t body_at;
    uint64_t received;
};

struct load_protocol {
    const char *name;
    /* Appends to c->out what opens the connection. */
    void (*hello)(struct load_conn *c);
    /* Appends the request for KEY; a fill's covers COUNT keys from KEY. */
    void (*request)(struct load_conn *c, uint64_t key, uint32_t count);
    /* Consumes from c->in; called until it gives LOAD_MORE. */
    enum load_answer (*answer)(struct load_conn *c);
};

extern const struct load_protocol load_resp, load_grpc, load_pg;

/* The name of KEY, LOAD_KEY_SIZE bytes and a zero. */
void load_key(uint64_t key, char out[LOAD_KEY_SIZE + 1]);
/* LOAD_FAILED, with the reason kept. */
enum load_answer load_fail(struct load_conn *c, const char *why, size_t len);

#endif
