/*
 * The real env's network and timers: two envs on one loop that talk over
 * loopback, and strangers with bare sockets.
 */
#include "common/env_send.h"
#include "common/env_uv_io.h"

#include <arpa/inet.h>
#include <check.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <xxhash.h>

#include "tests/unit/free_port.h"

#define MAX_CONNS 16
#define DEADLINE_MS 30000

/* One process of the test. */
struct side {
    struct env *env;
    struct hello_self self;
    struct cluster_key key;
    char address[64];
    /* What it heard. */
    struct env_conn *conns[MAX_CONNS];
    unsigned opened, closed, messages;
    enum status why;
    struct env_peer peer;
    uint64_t bytes, next_number;
    bool in_order, env_closed;
    bool echo;          /* answers GET with VALUE */
    bool close_on_open; /* closes at once */
    bool close_on_message;
    bool reconnect;
    bool in_call; /* set around calls: callbacks then are a fault */
    uint64_t last_request;
    enum msg_type last_type;
    uint16_t last_status;
};

static uv_loop_t loop;
static uv_timer_t watchdog;
static struct log quiet = {
    .daemon = "test", .node = "test", .level = LOG_LEVEL_PANIC, .fd = -1};

static void on_watchdog(uv_timer_t *t)
{
    ck_abort_msg("waited too long");
}

/* Runs the loop until *FLAG reaches WANT. */
static void run_until(const unsigned *flag, unsigned want)
{
    uv_timer_start(&watchdog, on_watchdog, DEADLINE_MS, 0);
    while (*flag < want) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    uv_timer_stop(&watchdog);
}

static void send_value(struct env_conn *c, const struct side *s,
                       uint64_t request, struct slice data)
{
    struct buf b = {0};
    struct msg_value v = {.found = 1, .value = data};
    wire_put_value(&b, request, &v);
    s->env->ops->send(c, buf_slice(&b));
    buf_free(&b);
}

static void give_back(void *ctx)
{
    unsigned *lent = ctx;
    ck_assert_uint_gt(*lent, 0);
    (*lent)--;
}

/* The same, taken by the env or, up to its last bytes, lent: then one more is
 * in *LENT until it is given back, and DATA stays until then. */
static void send_large(struct env_conn *c, const struct side *s, uint64_t n,
                       struct slice data, unsigned *lent)
{
    struct buf b = {0};
    struct msg_value v = {.found = 1, .value = data};
    wire_put_value(&b, n, &v);
    if (n % 3 == 1) {
        env_send_take(s->env, c, &b);
        ck_assert_uint_eq(b.len, 0);
        return;
    }
    struct env_lent rest = {data, give_back, lent};
    (*lent)++;
    env_send_lent(s->env, c, slice_make(b.data, b.len - data.len), &rest);
    buf_free(&b);
}

static void on_open(void *ctx, struct env_conn *c, const struct env_peer *p)
{
    struct side *s = ctx;
    ck_assert(!s->in_call);
    ck_assert_uint_lt(s->opened, MAX_CONNS);
    s->conns[s->opened++] = c;
    s->peer = *p;
    if (s->close_on_open) {
        s->env->ops->close(c);
    }
}

static void on_message(void *ctx, struct env_conn *c, const struct wire_msg *m)
{
    struct side *s = ctx;
    ck_assert(!s->in_call);
    s->messages++;
    s->last_type = m->type;
    s->last_request = m->request;
    if (m->request != s->next_number) {
        s->in_order = false;
    }
    s->next_number++;
    if (m->type == MSG_VALUE) {
        s->bytes += m->u.value.value.len;
        for (size_t i = 0; i < m->u.value.value.len; i += 997) {
            ck_assert_uint_eq(m->u.value.value.data[i],
                              (uint8_t)(i * 31 + m->request));
        }
    }
    if (m->type == MSG_ERROR) {
        s->last_status = m->u.error.status;
    }
    if (m->type == MSG_GET && s->echo) {
        send_value(c, s, m->request, slice_make(NULL, 0));
    }
    if (s->close_on_message) {
        s->env->ops->close(c);
    }
}

static const struct env_conn_events events;

static void on_close(void *ctx, struct env_conn *c, enum status why)
{
    struct side *s = ctx;
    ck_assert(!s->in_call);
    s->closed++;
    s->why = why;
    if (s->reconnect) {
        (void)s->env->ops->connect(s->env, s->address, LANE_REQUEST, &events,
                                   s);
    }
}

static const struct env_conn_events events = {
    .on_open = on_open, .on_message = on_message, .on_close = on_close};

static struct side storage, client;
static uint16_t port;

static void open_side(struct side *s, uint8_t role, const char *name)
{
    struct err err = {""};
    memset(s, 0, sizeof(*s));
    memset(s->key.b, 7, sizeof(s->key.b));
    s->self = (struct hello_self){
        .node = role * 10u, .role = role, .name = name, .term = 3};
    s->in_order = true;
    struct env_uv_options o = {.loop = &loop,
                               .log = &quiet,
                               .key = &s->key,
                               .self = &s->self,
                               .accept_roles = ROLES_ALL};
    ck_assert_int_eq(env_uv_open(&o, &s->env, &err), ST_OK);
}

static void on_env_closed(void *ctx)
{
    struct side *s = ctx;
    s->env_closed = true;
    s->env = NULL;
}

static void setup(void)
{
    struct err err = {""};
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    uv_timer_init(&loop, &watchdog);
    open_side(&storage, ROLE_STORAGE, "storage-1");
    open_side(&client, ROLE_CLIENT, "pennctl");
    enum status s;
    do {
        port = free_port();
        snprintf(storage.address, sizeof(storage.address), "127.0.0.1:%u",
                 port);
        s = storage.env->ops->listen(storage.env, storage.address, &events,
                                     &storage, &err);
    } while (s == ST_IN_USE);
    memcpy(client.address, storage.address, sizeof(client.address));
    ck_assert_msg(s == ST_OK, "%s", err.text);
}

/* Whatever a test did, the loop must be clean afterwards. */
static void teardown(void)
{
    struct side *sides[] = {&storage, &client};
    for (size_t i = 0; i < 2; i++) {
        if (sides[i]->env != NULL) {
            env_uv_close(sides[i]->env, on_env_closed, sides[i]);
        }
    }
    uv_close((uv_handle_t *)&watchdog, NULL);
    ck_assert_int_eq(uv_run(&loop, UV_RUN_DEFAULT), 0);
    ck_assert(storage.env_closed && client.env_closed);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
}

static struct env_conn *dial(struct side *s)
{
    s->in_call = true;
    struct env_conn *c =
        s->env->ops->connect(s->env, s->address, LANE_BULK, &events, s);
    s->in_call = false;
    return c;
}

static void dial_both(void)
{
    (void)dial(&client);
    run_until(&client.opened, 1);
    run_until(&storage.opened, 1);
}

static struct env_uv_stats stats_of(const struct side *s)
{
    struct env_uv_stats st;
    env_uv_get_stats(s->env, &st);
    return st;
}

START_TEST(hello_both_ways)
{
    memset(storage.self.store.b, 5, 16);
    storage.self.incarnation.counter = 77;
    dial_both();
    ck_assert_uint_eq(client.peer.role, ROLE_STORAGE);
    ck_assert_uint_eq(client.peer.node, 20);
    ck_assert_uint_eq(client.peer.lane, LANE_BULK);
    ck_assert_uint_eq(client.peer.store.b[3], 5);
    ck_assert_uint_eq(client.peer.incarnation.counter, 77);
    ck_assert_str_eq(client.peer.name, "storage-1");
    ck_assert_uint_eq(storage.peer.role, ROLE_CLIENT);
    ck_assert_uint_eq(storage.peer.lane, LANE_BULK);
    ck_assert_uint_eq(storage.peer.term, 3);
    ck_assert_uint_eq(stats_of(&storage).conns_open, 1);
    ck_assert_uint_eq(stats_of(&storage).conns_unproven, 0);
}
END_TEST

static void fill(uint8_t *data, size_t len, uint64_t number)
{
    for (size_t i = 0; i < len; i++) {
        data[i] = (uint8_t)(i * 31 + number);
    }
}

/* Frames of all sizes, in order; storage sends, it may send VALUE. */
START_TEST(frames_of_all_sizes)
{
    static const size_t sizes[] = {0,       1,      100,        KIB(64),
                                   KIB(65), MIB(1), LIMIT_VALUE};
    size_t total = 0, count = sizeof(sizes) / sizeof(sizes[0]);
    uint8_t *data = malloc(LIMIT_VALUE);
    dial_both();
    for (size_t i = 0; i < 3 * count; i++) {
        size_t len = sizes[i % count];
        fill(data, len, i);
        storage.in_call = true;
        send_value(storage.conns[0], &storage, i, slice_make(data, len));
        storage.in_call = false;
        total += len;
    }
    free(data);
    run_until(&client.messages, (unsigned)(3 * count));
    ck_assert(client.in_order);
    ck_assert_uint_eq(client.bytes, total);
    ck_assert_uint_eq(storage.env->ops->conn_queued(storage.conns[0]), 0);
}
END_TEST

/* The three ways of sending, mixed: still in order, and nothing is kept. */
START_TEST(frames_not_copied)
{
    static const size_t sizes[] = {0, 1, KIB(15), KIB(16), KIB(300), MIB(1)};
    uint8_t *data[36];
    unsigned lent = 0;
    size_t total = 0;
    dial_both();
    for (size_t i = 0; i < 36; i++) {
        size_t len = sizes[i % 6];
        data[i] = malloc(len + 1);
        fill(data[i], len, i);
        storage.in_call = true;
        if (i % 3 == 0) {
            send_value(storage.conns[0], &storage, i, slice_make(data[i], len));
        } else {
            send_large(storage.conns[0], &storage, i, slice_make(data[i], len),
                       &lent);
        }
        storage.in_call = false;
        total += len;
    }
    ck_assert_uint_gt(lent, 0);
    ck_assert_uint_gt(storage.env->ops->conn_queued(storage.conns[0]), total);
    run_until(&client.messages, 36);
    ck_assert(client.in_order);
    ck_assert_uint_eq(client.bytes, total);
    ck_assert_uint_eq(lent, 0);
    ck_assert_uint_eq(storage.env->ops->conn_queued(storage.conns[0]), 0);
    ck_assert_uint_gt(stats_of(&storage).sealing_us, 0);
    for (size_t i = 0; i < 36; i++) {
        free(data[i]);
    }
}
END_TEST

/* What a closed connection will not send is given back, and what is sent on
 * one that has failed. */
START_TEST(lent_and_closed)
{
    uint8_t *data = calloc(1, LIMIT_VALUE);
    unsigned lent = 0;
    dial_both();
    for (uint64_t i = 0; i < 10; i++) {
        send_large(storage.conns[0], &storage, 3 * i + 2,
                   slice_make(data, LIMIT_VALUE), &lent);
    }
    ck_assert_uint_eq(lent, 10);
    if (_i == 0) {
        storage.env->ops->close(storage.conns[0]);
    } else {
        for (uint64_t i = 0; i < 10; i++) { /* more than may be queued */
            send_large(storage.conns[0], &storage, 3 * i + 2,
                       slice_make(data, LIMIT_VALUE), &lent);
        }
    }
    ck_assert_uint_eq(lent, 0);
    run_until(&client.closed, 1);
    free(data);
}
END_TEST

/* The largest frame there is, in the other direction. */
START_TEST(largest_frame)
{
    struct mutation two[2] = {{.kind = MUTATION_PUT}, {.kind = MUTATION_PUT}};
    uint8_t *data = calloc(1, LIMIT_VALUE);
    struct buf b = {0};
    struct msg_command m = {.command = {.kind = COMMAND_BATCH,
                                        .mutations = two,
                                        .mutations_count = 2}};
    dial_both();
    two[0].value = two[1].value = slice_make(data, LIMIT_VALUE);
    wire_put_command(&b, 0, &m);
    ck_assert_uint_gt(b.len, MIB(8));
    for (int i = 0; i < 3; i++) {
        client.env->ops->send(client.conns[0], buf_slice(&b));
    }
    storage.next_number = 0;
    run_until(&storage.messages, 3);
    ck_assert_int_eq(storage.last_type, MSG_COMMAND);
    buf_free(&b);
    free(data);
}
END_TEST

START_TEST(many_small_frames)
{
    dial_both();
    storage.echo = true;
    for (unsigned i = 0; i < 10000; i++) {
        struct buf b = {0};
        struct msg_get g = {.partition = slice_of("p")};
        wire_put_get(&b, i, &g);
        client.env->ops->send(client.conns[0], buf_slice(&b));
        buf_free(&b);
    }
    run_until(&client.messages, 10000);
    ck_assert(client.in_order && storage.in_order);
    ck_assert_uint_eq(stats_of(&storage).frames_out, 10000);
    ck_assert_uint_eq(stats_of(&storage).frames_in, 10001);
}
END_TEST

/* What is sent before on_open arrives after it. */
START_TEST(send_before_open)
{
    struct buf b = {0};
    struct msg_ping p = {.stamp = 1};
    struct env_conn *c = dial(&client);
    wire_put_ping(&b, 0, &p);
    client.env->ops->send(c, buf_slice(&b));
    buf_free(&b);
    run_until(&storage.messages, 1);
    ck_assert_int_eq(storage.last_type, MSG_PING);
    ck_assert_uint_eq(storage.opened, 1);
}
END_TEST

START_TEST(peer_without_key)
{
    /* The client's env has copied its key: make another env. */
    env_uv_close(client.env, on_env_closed, &client);
    while (!client.env_closed) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    char address[64];
    memcpy(address, client.address, sizeof(address));
    open_side(&client, ROLE_CLIENT, "pennctl");
    memcpy(client.address, address, sizeof(address));
    struct cluster_key other = client.key;
    other.b[31] ^= 1;
    struct env *honest = client.env;
    struct err err;
    struct env_uv_options o = {.loop = &loop,
                               .log = &quiet,
                               .key = &other,
                               .self = &client.self,
                               .accept_roles = ROLES_ALL};
    ck_assert_int_eq(env_uv_open(&o, &client.env, &err), ST_OK);
    (void)dial(&client);
    run_until(&client.closed, 1);
    ck_assert_int_eq(client.why, ST_UNREACHABLE);
    ck_assert_uint_eq(client.opened, 0);
    ck_assert_uint_eq(storage.opened, 0);
    ck_assert_uint_eq(storage.closed, 0); /* it never heard of it */
    ck_assert_uint_eq(stats_of(&storage).handshake_failures, 1);
    ck_assert_uint_eq(stats_of(&storage).conns_unproven, 0);
    /* Not one byte of ours went out. */
    ck_assert_uint_eq(stats_of(&storage).bytes_out, 0);
    env_uv_close(honest, NULL, NULL);
}
END_TEST

/* A bare socket to storage. */
static int stranger(void)
{
    struct sockaddr_in in = {.sin_family = AF_INET,
                             .sin_port = htons(port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&in, sizeof(in)), 0);
    return fd;
}

static const char *const garbage[] = {
    "G",
    "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "PENS\x02\x01",
    "PENS\x01\x02",
    "PENS\x01\x01\x03\x01"
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
};

START_TEST(garbage_is_refused)
{
    int fd = stranger();
    size_t len = strlen(garbage[_i]);
    ck_assert_int_eq(write(fd, garbage[_i], len), (ssize_t)len);
    uv_timer_start(&watchdog, on_watchdog, DEADLINE_MS, 0);
    while (stats_of(&storage).handshake_failures == 0) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    uv_timer_stop(&watchdog);
    uint8_t byte;
    /* Closed or reset, and without a word. */
    ck_assert_int_le(read(fd, &byte, 1), 0);
    close(fd);
    ck_assert_uint_eq(storage.opened, 0);
    ck_assert_uint_eq(stats_of(&storage).conns_unproven, 0);
}
END_TEST

/* Who connects and says nothing is dropped after the deadline. */
START_TEST(silence_is_dropped)
{
    int fd = stranger();
    uv_timer_start(&watchdog, on_watchdog, DEADLINE_MS, 0);
    while (stats_of(&storage).handshake_failures == 0) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    uv_timer_stop(&watchdog);
    uint8_t byte;
    ck_assert_int_le(read(fd, &byte, 1), 0);
    close(fd);
}
END_TEST

/* Strangers beyond the cap push out the oldest, honest peers get in. */
START_TEST(strangers_are_capped)
{
    static int fds[LIMIT_CONNS_UNPROVEN_ONE + 40];
    size_t count = sizeof(fds) / sizeof(fds[0]);
    for (size_t i = 0; i < count; i++) {
        fds[i] = stranger();
        uv_run(&loop, UV_RUN_NOWAIT);
    }
    uv_timer_start(&watchdog, on_watchdog, DEADLINE_MS, 0);
    while (stats_of(&storage).accepted < count) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    ck_assert_uint_eq(stats_of(&storage).refused, 40);
    ck_assert_uint_eq(stats_of(&storage).conns_unproven,
                      LIMIT_CONNS_UNPROVEN_ONE);
    dial_both();
    for (size_t i = 0; i < count; i++) {
        close(fds[i]);
    }
}
END_TEST

START_TEST(nobody_listens)
{
    snprintf(client.address, sizeof(client.address), "127.0.0.1:%u",
             free_port());
    (void)dial(&client);
    run_until(&client.closed, 1);
    ck_assert_int_eq(client.why, ST_UNREACHABLE);
    snprintf(client.address, sizeof(client.address), "nonsense");
    (void)dial(&client);
    run_until(&client.closed, 2);
    ck_assert_int_eq(client.why, ST_INVALID);
}
END_TEST

START_TEST(names_are_resolved)
{
    snprintf(client.address, sizeof(client.address), "localhost:%u", port);
    dial_both();
    snprintf(client.address, sizeof(client.address), "no.such.invalid:%u",
             port);
    (void)dial(&client);
    run_until(&client.closed, 1);
    ck_assert_int_eq(client.why, ST_UNREACHABLE);
}
END_TEST

/* Reconnecting at once from on_close keeps timers and loop going. */
static unsigned ticks;
static void on_tick(struct env_timer *t)
{
    ticks++;
    env_timer_start(t->data, t, 1000);
}
START_TEST(reconnecting_starves_nobody)
{
    struct env_timer tick = {.fn = on_tick, .data = client.env};
    ticks = 0;
    snprintf(client.address, sizeof(client.address), "nonsense");
    client.reconnect = true;
    env_timer_start(client.env, &tick, 1000);
    (void)dial(&client);
    run_until(&ticks, 20);
    client.reconnect = false;
    env_timer_stop(client.env, &tick);
    ck_assert_uint_gt(client.closed, 20);
}
END_TEST

START_TEST(peer_closes)
{
    dial_both();
    client.env->ops->close(client.conns[0]);
    run_until(&storage.closed, 1);
    ck_assert_int_eq(storage.why, ST_CLOSED);
    ck_assert_uint_eq(client.closed, 0); /* who closes hears nothing */
    ck_assert_uint_eq(stats_of(&storage).conns_open, 0);
    ck_assert_uint_eq(stats_of(&client).conns_open, 0);
}
END_TEST

START_TEST(close_at_awkward_times)
{
    struct env_conn *c = dial(&client); /* before it connects */
    client.env->ops->close(c);
    storage.close_on_open = true;
    (void)dial(&client);
    run_until(&client.closed, 1);
    storage.close_on_open = false;
    storage.close_on_message = true;
    c = dial(&client);
    run_until(&client.opened, 2);
    struct buf b = {0};
    struct msg_ping p = {.stamp = 1};
    wire_put_ping(&b, 0, &p);
    wire_put_ping(&b, 0, &p); /* the second one must not be heard */
    client.env->ops->send(c, buf_slice(&b));
    buf_free(&b);
    run_until(&client.closed, 2);
    ck_assert_uint_eq(storage.messages, 1);
    ck_assert_uint_eq(storage.closed, 0);
}
END_TEST

/* Frames sent just before close still arrive. */
START_TEST(last_words)
{
    dial_both();
    struct buf b = {0};
    struct msg_ping p = {.stamp = 1};
    wire_put_ping(&b, 0, &p);
    client.env->ops->send(client.conns[0], buf_slice(&b));
    client.env->ops->close(client.conns[0]);
    buf_free(&b);
    run_until(&storage.closed, 1);
    ck_assert_uint_eq(storage.messages, 1);
}
END_TEST

START_TEST(queue_limit)
{
    uint8_t *data = calloc(1, LIMIT_VALUE);
    dial_both();
    struct env_conn *c = storage.conns[0];
    storage.in_call = true;
    for (unsigned i = 0; i < 20; i++) { /* 80 MiB without a turn */
        send_value(c, &storage, i, slice_make(data, LIMIT_VALUE));
        ck_assert_uint_le(storage.env->ops->conn_queued(c), LIMIT_CONN_QUEUE);
    }
    storage.in_call = false;
    free(data);
    ck_assert_uint_eq(storage.closed, 0);
    run_until(&storage.closed, 1);
    ck_assert_int_eq(storage.why, ST_BUSY);
}
END_TEST

/* The checksum of the changed frame B, as wire.h describes it. */
static void sum_again(struct buf *b)
{
    uint64_t sum = XXH3_64bits_withSeed(
        b->data + WIRE_HEADER, b->len - WIRE_HEADER, XXH3_64bits(b->data, 16));
    for (unsigned i = 0; i < 8; i++) {
        b->data[16 + i] = (uint8_t)(sum >> (8 * i));
    }
}

START_TEST(unknown_type_is_answered)
{
    dial_both();
    struct buf b = {0};
    struct msg_ping p = {.stamp = 1};
    wire_put_ping(&b, 9, &p);
    b.data[4] = 60000 & 255;
    b.data[5] = 60000 >> 8;
    sum_again(&b);
    client.env->ops->send(client.conns[0], buf_slice(&b));
    run_until(&client.messages, 1);
    ck_assert_int_eq(client.last_type, MSG_ERROR);
    ck_assert_uint_eq(client.last_status, ST_UNSUPPORTED);
    ck_assert_uint_eq(client.last_request, 9);
    /* The same with a wrong checksum ends the connection. */
    b.data[16] ^= 1;
    client.env->ops->send(client.conns[0], buf_slice(&b));
    run_until(&storage.closed, 1);
    ck_assert_int_eq(storage.why, ST_INVALID);
    ck_assert_uint_eq(stats_of(&storage).invalid, 1);
    buf_free(&b);
}
END_TEST

START_TEST(role_table_holds)
{
    dial_both();
    struct buf b = {0};
    struct msg_beacon m = {.stamp_us = 1};
    wire_put_beacon(&b, 0, &m);
    client.env->ops->send(client.conns[0], buf_slice(&b));
    buf_free(&b);
    run_until(&storage.closed, 1);
    ck_assert_int_eq(storage.why, ST_DENIED);
    ck_assert_uint_eq(storage.messages, 0);
    ck_assert_uint_eq(stats_of(&storage).denied, 1);
}
END_TEST

START_TEST(wrong_cluster)
{
    memset(storage.self.cluster.b, 1, 16);
    memset(client.self.cluster.b, 2, 16);
    (void)dial(&client);
    run_until(&client.closed, 1);
    ck_assert_int_eq(client.why, ST_WRONG_CLUSTER);
    ck_assert_uint_eq(storage.opened, 0);
    /* Known later, as with a node that registers. */
    memset(client.self.cluster.b, 1, 16);
    dial_both();
}
END_TEST

START_TEST(close_env_with_everything_open)
{
    struct env_timer t = {.fn = on_tick, .data = client.env};
    uint8_t *data = calloc(1, LIMIT_VALUE);
    dial_both();
    (void)dial(&client);
    env_timer_start(client.env, &t, 5000000);
    send_value(storage.conns[0], &storage, 0, slice_make(data, LIMIT_VALUE));
    free(data);
    env_uv_close(storage.env, on_env_closed, &storage);
    env_uv_close(client.env, on_env_closed, &client);
    while (!storage.env_closed || !client.env_closed) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    ck_assert_ptr_null(t.impl);
    ck_assert_uint_eq(storage.closed + client.closed, 0);
}
END_TEST

START_TEST(listen_twice)
{
    struct err err = {""};
    enum status s = client.env->ops->listen(client.env, storage.address,
                                            &events, &client, &err);
    ck_assert_int_eq(s, ST_IN_USE);
    ck_assert_ptr_nonnull(strstr(err.text, storage.address));
}
END_TEST

/* ---- timers ---- */

#define TIMERS 200
static struct env_timer timers[TIMERS];
/* Between these each was due: its start read the clock in between. */
static int64_t due[TIMERS], due_latest[TIMERS];
static unsigned fired;
static int64_t last_due;

static void on_one(struct env_timer *t)
{
    size_t i = (size_t)(t - timers);
    int64_t now = env_now_us(t->data);
    ck_assert_int_ge(now, due[i]);
    ck_assert_int_ge(due_latest[i], last_due);
    last_due = due[i] > last_due ? due[i] : last_due;
    fired++;
}

static void start_timer(struct env *e, size_t i, int64_t delay)
{
    due[i] = env_now_us(e) + delay;
    env_timer_start(e, &timers[i], delay);
    due_latest[i] = env_now_us(e) + delay;
}

START_TEST(timers_in_order)
{
    struct env *e = client.env;
    unsigned want = 0;
    fired = 0;
    last_due = 0;
    for (size_t i = 0; i < TIMERS; i++) {
        int64_t delay = 1 + (int64_t)randombytes_uniform(50000);
        timers[i] = (struct env_timer){.fn = on_one, .data = e};
        start_timer(e, i, delay);
    }
    for (size_t i = 0; i < TIMERS; i++) {
        if (i % 3 == 0) {
            env_timer_stop(e, &timers[i]);
            env_timer_stop(e, &timers[i]);
        } else if (i % 3 == 1) {
            start_timer(e, i, 20000);
        }
        want += i % 3 != 0;
    }
    run_until(&fired, want);
    ck_assert_uint_eq(fired, want);
}
END_TEST

static uv_async_t poke; /* the teardown closes it with the loop */

/* A timer that starts itself anew without any delay. */
static void on_restless(struct env_timer *t)
{
    fired++;
    env_timer_start(t->data, t, 0);
}

static void on_poked(uv_async_t *a)
{
    unsigned *poked = a->data;
    (*poked)++;
}

/* What comes over the network, like what another thread sends, is heard. */
START_TEST(restless_timer_starves_nobody)
{
    struct env_timer t = {.fn = on_restless, .data = client.env};
    unsigned poked = 0;
    ck_assert_int_eq(uv_async_init(&loop, &poke, on_poked), 0);
    poke.data = &poked;
    fired = 0;
    env_timer_start(client.env, &t, 0);
    run_until(&fired, 3);
    ck_assert_int_eq(uv_async_send(&poke), 0);
    run_until(&poked, 1);
    ck_assert_uint_eq(poked, 1);
    env_timer_stop(client.env, &t);
    uv_close((uv_handle_t *)&poke, NULL);
}
END_TEST

/* Those without a delay, in the order of their starting. */
static size_t soon_order[8];
static unsigned soon_count;

static void on_soon(struct env_timer *t)
{
    size_t i = (size_t)(t - timers);
    ck_assert_ptr_null(t->impl);
    soon_order[soon_count++] = i;
    if (soon_count == 1) {
        env_timer_stop(t->data, &timers[2]);
        env_timer_start(t->data, &timers[3], 0);
        env_timer_start(t->data, &timers[4], 0);
        env_timer_stop(t->data, &timers[4]);
        env_timer_start(t->data, &timers[5], 0);
    }
}

START_TEST(timers_without_delay)
{
    static const size_t want[] = {1, 0, 3, 5};
    struct env *e = client.env;
    soon_count = 0;
    for (size_t i = 0; i < 6; i++) {
        timers[i] = (struct env_timer){.fn = on_soon, .data = e};
    }
    env_timer_start(e, &timers[0], 0);
    env_timer_start(e, &timers[1], 0);
    env_timer_start(e, &timers[0], 0); /* again: behind the other */
    env_timer_start(e, &timers[2], 0);
    run_until(&soon_count, 4);
    ck_assert_uint_eq(soon_count, 4);
    for (size_t i = 0; i < 4; i++) {
        ck_assert_uint_eq(soon_order[i], want[i]);
    }
}
END_TEST

/* What was there when it was started comes before it. */
static void on_after_input(struct env_timer *t)
{
    ck_assert_uint_eq(*(unsigned *)t->data, 1);
    fired++;
}

START_TEST(timer_without_delay_sees_input)
{
    unsigned poked = 0;
    struct env_timer t = {.fn = on_after_input, .data = &poked};
    ck_assert_int_eq(uv_async_init(&loop, &poke, on_poked), 0);
    poke.data = &poked;
    fired = 0;
    env_timer_start(client.env, &t, 0);
    ck_assert_int_eq(uv_async_send(&poke), 0);
    run_until(&fired, 1);
    ck_assert_uint_eq(fired, 1);
    uv_close((uv_handle_t *)&poke, NULL);
}
END_TEST

/* A turn that holds up the loop is seen, wherever in it that is. */
static void on_busy(struct env_timer *t)
{
    int64_t began = env_now_us(t->data);
    while (env_now_us(t->data) < began + 30000) {
        env_timer_start(t->data, &timers[1], 1000000); /* sets the uv timer */
    }
    env_timer_stop(t->data, &timers[1]);
    fired++;
}

START_TEST(long_turns_are_counted)
{
    struct env_uv_figures before, after;
    struct env_timer t = {.fn = on_busy, .data = client.env};
    uint64_t longer = 0;
    timers[1] = (struct env_timer){.fn = on_busy, .data = client.env};
    fired = 0;
    env_uv_get_figures(client.env, &before);
    env_timer_start(client.env, &t, _i == 0 ? 0 : 2000);
    run_until(&fired, 1);
    uv_run(&loop, UV_RUN_NOWAIT);
    env_uv_get_figures(client.env, &after);
    for (size_t i = 9; i < METRIC_BUCKETS; i++) { /* above 25 ms */
        longer += after.turn_us.buckets[i] - before.turn_us.buckets[i];
    }
    ck_assert_uint_ge(longer, 1);
    ck_assert_uint_ge(after.turn_us.sum - before.turn_us.sum, 28000);
}
END_TEST

START_TEST(clocks)
{
    int64_t a = env_now_us(client.env), b = env_now_us(client.env);
    ck_assert_int_ge(b, a);
    ck_assert_int_gt(env_wall_ms(client.env), INT64_C(1600000000000));
    uint8_t x[32] = {0}, y[32] = {0};
    env_random(client.env, x, sizeof(x));
    env_random(client.env, y, sizeof(y));
    ck_assert_mem_ne(x, y, sizeof(x));
}
END_TEST

static TCase *net_case(void)
{
    TCase *t = tcase_create("net");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, hello_both_ways);
    tcase_add_test(t, frames_of_all_sizes);
    tcase_add_test(t, frames_not_copied);
    tcase_add_loop_test(t, lent_and_closed, 0, 2);
    tcase_add_test(t, largest_frame);
    tcase_add_test(t, many_small_frames);
    tcase_add_test(t, send_before_open);
    tcase_add_test(t, peer_without_key);
    tcase_add_loop_test(t, garbage_is_refused, 0,
                        sizeof(garbage) / sizeof(garbage[0]));
    tcase_add_test(t, silence_is_dropped);
    tcase_add_test(t, strangers_are_capped);
    tcase_add_test(t, nobody_listens);
    tcase_add_test(t, names_are_resolved);
    tcase_add_test(t, reconnecting_starves_nobody);
    tcase_add_test(t, peer_closes);
    tcase_add_test(t, close_at_awkward_times);
    tcase_add_test(t, last_words);
    tcase_add_test(t, queue_limit);
    tcase_add_test(t, unknown_type_is_answered);
    tcase_add_test(t, role_table_holds);
    tcase_add_test(t, wrong_cluster);
    tcase_add_test(t, close_env_with_everything_open);
    tcase_add_test(t, listen_twice);
    return t;
}

int main(void)
{
    Suite *s = suite_create("env_uv");
    TCase *t = tcase_create("timers");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, timers_in_order);
    tcase_add_test(t, timers_without_delay);
    tcase_add_test(t, timer_without_delay_sees_input);
    tcase_add_loop_test(t, long_turns_are_counted, 0, 2);
    tcase_add_test(t, restless_timer_starves_nobody);
    tcase_add_test(t, clocks);
    suite_add_tcase(s, t);
    suite_add_tcase(s, net_case());
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
