/*
 * bench_load: load on Redis, etcd or PostgreSQL (load.h).
 *
 *   bench_load resp|grpc|pg PORT put|get|fill [--clients N] [--value-size N]
 *       [--keys N] [--seconds N] [--replicas N] [--count N]
 *
 * All connections are opened before the time begins. Each client starts its
 * next request when the last is answered; when the time is over, or COUNT
 * requests are answered, no more are started, and the last answers are waited
 * for but not counted. A fill ends when all keys are written. Prints what
 * pennctl bench kv --json prints. The first request that is answered badly
 * ends it with status 1.
 */
#include "tests/bench/load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "admin/histogram.h"

#define OPEN_US 10000000 /* for all connections to open */
#define LAST_US 60000000 /* for the last answers */
#define READ_SIZE (1 << 14)

enum phase { PHASE_OPEN, PHASE_RUN, PHASE_END };

struct load {
    struct load_options o;
    const struct load_protocol *protocol;
    uint16_t port;
    uint32_t seconds;
    uint64_t count; /* 0: no matter how many */
    int epoll;
    struct load_conn *conns;
    uint8_t *value;
    enum phase phase;
    uint32_t open, busy;
    uint64_t random, filled, good;
    int64_t began_us, ended_us;
    struct histogram latency_us;
};

static int64_t now_us(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

void load_key(uint64_t key, char out[LOAD_KEY_SIZE + 1])
{
    (void)snprintf(out, LOAD_KEY_SIZE + 1, "bench:%010llu",
                   (unsigned long long)(key % 10000000000u));
}

enum load_answer load_fail(struct load_conn *c, const char *why, size_t len)
{
    size_t n = len < sizeof(c->why) - 1 ? len : sizeof(c->why) - 1;
    memcpy(c->why, why, n);
    c->why[n] = 0;
    return LOAD_FAILED;
}

static uint64_t draw(struct load *l)
{
    l->random ^= l->random << 13;
    l->random ^= l->random >> 7;
    l->random ^= l->random << 17;
    return l->random;
}

static void give_up(const char *what, const char *why)
{
    (void)fprintf(stderr, "bench_load: %s: %s\n", what, why);
    exit(1);
}

/* ---- bytes ---- */

static void watch(struct load *l, struct load_conn *c, bool write, int how)
{
    struct epoll_event e = {.events = EPOLLIN | (write ? EPOLLOUT : 0u),
                            .data.ptr = c};
    c->wants_write = write;
    if (epoll_ctl(l->epoll, how, c->fd, &e) != 0) {
        give_up("epoll_ctl", strerror(errno));
    }
}

static void flush(struct load *l, struct load_conn *c)
{
    while (c->sent < c->out.len) {
        ssize_t n = send(c->fd, c->out.data + c->sent, c->out.len - c->sent,
                         MSG_NOSIGNAL);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            break;
        }
        if (n < 0) {
            give_up("send", strerror(errno));
        }
        c->sent += (size_t)n;
    }
    bool left = c->sent < c->out.len;
    if (!left) {
        buf_clear(&c->out);
        c->sent = 0;
    }
    if (left != c->wants_write) {
        watch(l, c, left, EPOLL_CTL_MOD);
    }
}

static void receive(struct load_conn *c)
{
    uint8_t *at = buf_reserve(&c->in, READ_SIZE);
    ssize_t n = recv(c->fd, at, READ_SIZE, 0);
    if (n == 0) {
        give_up("recv", "closed by the server");
    }
    if (n < 0 && errno != EAGAIN && errno != EINTR) {
        give_up("recv", strerror(errno));
    }
    c->in.len += n > 0 ? (size_t)n : 0;
}

/* ---- requests ---- */

static bool has_next(struct load *l)
{
    if (l->phase != PHASE_RUN) {
        return false;
    }
    if (l->o.op == LOAD_FILL) {
        return l->filled < l->o.keys;
    }
    return l->count == 0 || l->good + l->busy < l->count;
}

static void next(struct load *l, struct load_conn *c)
{
    uint32_t batch = 1;
    uint64_t key;
    if (!has_next(l)) {
        return;
    }
    if (l->o.op == LOAD_FILL) {
        key = l->filled;
        batch = LOAD_BATCH;
        if (batch > l->o.keys - l->filled) {
            batch = l->o.keys - (uint32_t)l->filled;
        }
        l->filled += batch;
    } else {
        key = draw(l) % l->o.keys;
    }
    c->busy = true;
    c->started_us = now_us();
    l->busy++;
    l->protocol->request(c, key, batch);
}

static void on_answer(struct load *l, struct load_conn *c)
{
    c->busy = false;
    l->busy--;
    if (l->phase == PHASE_RUN) {
        l->good++;
        histogram_add(&l->latency_us, (uint64_t)(now_us() - c->started_us));
    }
    next(l, c);
}

static void begin(struct load *l)
{
    l->phase = PHASE_RUN;
    l->began_us = now_us();
    for (uint32_t i = 0; i < l->o.clients; i++) {
        next(l, &l->conns[i]);
        flush(l, &l->conns[i]);
    }
}

static void on_readable(struct load *l, struct load_conn *c)
{
    enum load_answer a;
    receive(c);
    while ((a = l->protocol->answer(c)) != LOAD_MORE) {
        if (a == LOAD_READY) {
            c->open = true;
            l->open++;
        } else if (a == LOAD_FAILED) {
            give_up("refused", c->why);
        } else if (c->busy) {
            on_answer(l, c);
        }
    }
    flush(l, c);
    if (l->phase == PHASE_OPEN && l->open == l->o.clients) {
        begin(l);
    }
}

/* ---- the whole ---- */

static void connect_one(struct load *l, struct load_conn *c)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(l->port)};
    int one = 1;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->o = &l->o;
    c->value = l->value;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&a, sizeof(a)) != 0 ||
        fcntl(c->fd, F_SETFL, O_NONBLOCK) != 0 ||
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) != 0) {
        give_up("connect", strerror(errno));
    }
    watch(l, c, false, EPOLL_CTL_ADD);
    l->protocol->hello(c);
    flush(l, c);
}

static bool over(struct load *l, int64_t now)
{
    if (l->phase == PHASE_OPEN && now - l->began_us > OPEN_US) {
        give_up("open", "not all connections open in time");
    }
    if (l->phase == PHASE_RUN) {
        bool late =
            l->o.op != LOAD_FILL && now - l->began_us >= l->seconds * 1000000ll;
        if (late || (!has_next(l) && l->busy == 0)) {
            l->phase = PHASE_END;
            l->ended_us = now;
        }
    }
    if (l->phase == PHASE_END && l->busy > 0 && now - l->ended_us > LAST_US) {
        give_up("end", "the last answers do not come");
    }
    return l->phase == PHASE_END && l->busy == 0;
}

static void run(struct load *l)
{
    struct epoll_event events[256];
    l->epoll = epoll_create1(EPOLL_CLOEXEC);
    l->conns = xcalloc(l->o.clients, sizeof(*l->conns));
    l->began_us = now_us();
    for (uint32_t i = 0; i < l->o.clients; i++) {
        connect_one(l, &l->conns[i]);
    }
    while (!over(l, now_us())) {
        int n = epoll_wait(l->epoll, events, 256, 100);
        for (int i = 0; i < n; i++) {
            struct load_conn *c = events[i].data.ptr;
            if (events[i].events & EPOLLOUT) {
                flush(l, c);
            }
            if (events[i].events & ~(uint32_t)EPOLLOUT) {
                on_readable(l, c);
            }
        }
    }
    for (uint32_t i = 0; i < l->o.clients; i++) {
        (void)close(l->conns[i].fd);
        buf_free(&l->conns[i].in);
        buf_free(&l->conns[i].out);
        buf_free(&l->conns[i].body);
    }
    free(l->conns);
    (void)close(l->epoll);
}

static double quantile_ms(const struct load *l, double fraction)
{
    return (double)histogram_quantile(&l->latency_us, fraction) / 1e3;
}

static void print(const struct load *l)
{
    double seconds = (double)(l->ended_us - l->began_us) / 1e6;
    (void)printf("{\"seconds\": %.6f, \"operations\": %llu, "
                 "\"operations_per_s\": %.1f, \"latency_ms\": {\"p50\": %.3f, "
                 "\"p99\": %.3f, \"p999\": %.3f, \"max\": %.3f}}\n",
                 seconds, (unsigned long long)l->good,
                 (double)l->good / (seconds > 0 ? seconds : 1),
                 quantile_ms(l, 0.5), quantile_ms(l, 0.99),
                 quantile_ms(l, 0.999), (double)l->latency_us.max / 1e3);
}

static bool choose(struct load *l, const char *protocol, const char *op)
{
    const struct load_protocol *all[] = {&load_resp, &load_grpc, &load_pg};
    const char *const ops[] = {"put", "get", "fill"};
    bool known = false;
    for (int i = 0; i < 3; i++) {
        if (strcmp(protocol, all[i]->name) == 0) {
            l->protocol = all[i];
        }
        if (strcmp(op, ops[i]) == 0) {
            l->o.op = (enum load_op)i;
            known = true;
        }
    }
    return known && l->protocol != NULL;
}

static bool parse(struct load *l, int argc, char **argv)
{
    if (argc < 4 || argc % 2 != 0 || !choose(l, argv[1], argv[3])) {
        return false;
    }
    l->port = (uint16_t)atoi(argv[2]);
    for (int i = 4; i < argc; i += 2) {
        uint32_t v = (uint32_t)strtoul(argv[i + 1], NULL, 10);
        const struct {
            const char *name;
            uint32_t *to;
        } options[] = {
            {"--clients", &l->o.clients},   {"--value-size", &l->o.value_size},
            {"--keys", &l->o.keys},         {"--seconds", &l->seconds},
            {"--replicas", &l->o.replicas},
        };
        bool known = strcmp(argv[i], "--count") == 0;
        l->count = known ? v : l->count;
        for (size_t j = 0; j < sizeof(options) / sizeof(*options); j++) {
            if (strcmp(argv[i], options[j].name) == 0) {
                *options[j].to = v;
                known = true;
            }
        }
        if (!known) {
            return false;
        }
    }
    return l->o.clients > 0 && l->o.value_size > 0 && l->o.keys > 0;
}

int main(int argc, char **argv)
{
    struct load *l = xcalloc(1, sizeof(*l));
    l->o = (struct load_options){
        .clients = 16, .value_size = 256, .keys = 10000, .replicas = 2};
    l->seconds = 10;
    if (!parse(l, argc, argv)) {
        (void)fprintf(stderr,
                      "usage: bench_load resp|grpc|pg PORT put|get|fill "
                      "[--clients N] [--value-size N] [--keys N] "
                      "[--seconds N] [--replicas N] [--count N]\n");
        free(l);
        return 2;
    }
    if (getrandom(&l->random, sizeof(l->random), 0) != sizeof(l->random)) {
        free(l);
        return 1;
    }
    l->value = xmalloc(l->o.value_size);
    l->random |= 1;
    for (uint32_t i = 0; i < l->o.value_size; i++) {
        l->value[i] = (uint8_t)(draw(l) >> 32);
    }
    run(l);
    print(l);
    free(l->value);
    free(l);
    return 0;
}
