/*
 * The balancer's front door over real sockets: it runs on a thread with its
 * loop, the test plays clients and gateways with blocking calls.
 */
#include <check.h>
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/proxy2.h"
#include "balancer/metrics.h"
#include "balancer/server_io.h"

#define GATEWAYS 3
#define WAIT_S 30

struct fixture {
    uv_loop_t loop;
    uv_async_t stop, drain;
    struct balancer_config config;
    struct metrics *metrics;
    struct server server;
    pthread_t thread;
    uv_sem_t drained;
    int gateways[GATEWAYS]; /* listening sockets; -1: closed */
    uint16_t ports[GATEWAYS];
};

/* ---- sockets of the test ---- */

static void set_deadline(int fd)
{
    struct timeval tv = {WAIT_S, 0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
}

static int listen_any(uint16_t *port, int backlog)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    ck_assert_int_eq(listen(fd, backlog), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&a, &len), 0);
    set_deadline(fd);
    *port = ntohs(a.sin_port);
    return fd;
}

static int dial_from(const char *from, uint16_t port)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons(port),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in own = {.sin_family = AF_INET};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    set_deadline(fd);
    inet_pton(AF_INET, from, &own.sin_addr);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&own, sizeof(own)), 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    return fd;
}

static int dial(struct fixture *f, enum balancer_service service)
{
    return dial_from("127.0.0.1", server_port(&f->server, service));
}

static void send_all(int fd, const void *data, size_t len)
{
    for (size_t done = 0; done < len;) {
        ssize_t n =
            send(fd, (const char *)data + done, len - done, MSG_NOSIGNAL);
        ck_assert_msg(n > 0, "send: %s", strerror(errno));
        done += (size_t)n;
    }
}

static void say(int fd, const char *text)
{
    send_all(fd, text, strlen(text));
}

static void expect(int fd, const char *text)
{
    char got[1024];
    size_t len = strlen(text), done = 0;
    while (done < len) {
        ssize_t n = recv(fd, got + done, len - done, 0);
        ck_assert_msg(n > 0, "wanted %s: %s", text,
                      n == 0 ? "end" : strerror(errno));
        done += (size_t)n;
    }
    ck_assert_mem_eq(got, text, len);
}

static void expect_end(int fd)
{
    char c;
    ck_assert_int_eq((int)recv(fd, &c, 1, 0), 0);
}

/* Ended or reset, by its own deadline. */
static void expect_closed(int fd)
{
    char c;
    ssize_t n = recv(fd, &c, 1, 0);
    ck_assert_msg(n == 0 || (n < 0 && errno == ECONNRESET), "%s",
                  n > 0 ? "data" : strerror(errno));
}

/* Accepts at gateway I and reads the PROXY header. */
static int accept_at(struct fixture *f, int i, struct proxy2 *head)
{
    uint8_t bytes[LIMIT_PROXY2];
    struct proxy2 unused;
    size_t len = 0;
    int fd = accept(f->gateways[i], NULL, NULL);
    ck_assert_msg(fd >= 0, "accept: %s", strerror(errno));
    set_deadline(fd);
    enum status s = ST_MORE;
    while (s == ST_MORE) {
        ck_assert_int_eq((int)recv(fd, bytes + len, 1, 0), 1);
        len++;
        s = proxy2_decode(slice_make(bytes, len), head ? head : &unused);
    }
    ck_assert_int_eq(s, ST_OK);
    return fd;
}

/* Which gateway has been connected to. */
static int wait_any(struct fixture *f)
{
    struct pollfd p[GATEWAYS];
    for (int i = 0; i < GATEWAYS; i++) {
        p[i] = (struct pollfd){f->gateways[i], POLLIN, 0};
    }
    ck_assert_int_gt(poll(p, GATEWAYS, WAIT_S * 1000), 0);
    for (int i = 0; i < GATEWAYS; i++) {
        if ((p[i].revents & POLLIN) != 0) {
            return i;
        }
    }
    ck_abort_msg("nobody");
    return -1;
}

/* ---- the server under test ---- */

static void on_stop(uv_async_t *a)
{
    struct fixture *f = a->data;
    server_stop(&f->server);
    uv_close((uv_handle_t *)&f->stop, NULL);
    uv_close((uv_handle_t *)&f->drain, NULL);
}

static void on_drained(void *ctx)
{
    struct fixture *f = ctx;
    uv_sem_post(&f->drained);
}

static void on_drain(uv_async_t *a)
{
    struct fixture *f = a->data;
    server_drain(&f->server, on_drained, f);
}

static void *run(void *arg)
{
    struct fixture *f = arg;
    uv_run(&f->loop, UV_RUN_DEFAULT);
    return NULL;
}

static void give_map(struct fixture *f, uint32_t gateways)
{
    char addresses[GATEWAYS][32];
    struct service services[GATEWAYS][2];
    struct node_info nodes[GATEWAYS];
    memset(nodes, 0, sizeof(nodes));
    for (uint32_t i = 0; i < gateways; i++) {
        snprintf(addresses[i], sizeof(addresses[i]), "127.0.0.1:%u",
                 f->ports[i]);
        services[i][0] =
            (struct service){slice_of("http"), slice_of(addresses[i])};
        services[i][1] =
            (struct service){slice_of("smtp"), slice_of(addresses[i])};
        nodes[i].node = i + 1;
        nodes[i].role = ROLE_GATEWAY;
        nodes[i].state = NODE_UP;
        nodes[i].services = services[i];
        nodes[i].services_count = 2;
    }
    struct msg_map map = {
        .term = 1, .version = 1, .nodes = nodes, .nodes_count = gateways};
    server_take_map(&f->server, &map);
}

static void prepare(struct fixture *f)
{
    memset(f, 0, sizeof(*f));
    f->config = (struct balancer_config){.http_listen = "127.0.0.1:0",
                                         .smtp_listen = "*:0",
                                         .submission_listen = "",
                                         .submissions_listen = "127.0.0.1:0",
                                         .https_listen = "",
                                         .proxy_protocol = true,
                                         .max_connections = 100,
                                         .max_per_address = 50,
                                         .connect_timeout = 5000,
                                         .idle_timeout = 60000,
                                         .drain_timeout = 60000};
    for (int i = 0; i < GATEWAYS; i++) {
        f->gateways[i] = listen_any(&f->ports[i], 16);
    }
}

static void launch(struct fixture *f, uint32_t gateways)
{
    struct err err;
    ck_assert_int_eq(uv_loop_init(&f->loop), 0);
    ck_assert_int_eq(uv_sem_init(&f->drained, 0), 0);
    ck_assert_int_eq(uv_async_init(&f->loop, &f->stop, on_stop), 0);
    ck_assert_int_eq(uv_async_init(&f->loop, &f->drain, on_drain), 0);
    f->stop.data = f->drain.data = f;
    f->metrics = metrics_new(balancer_metrics, M_COUNT);
    f->server = (struct server){
        .loop = &f->loop, .metrics = f->metrics, .config = &f->config};
    ck_assert_int_eq(server_start(&f->server, 1, &err), ST_OK);
    give_map(f, gateways);
    ck_assert_int_eq(pthread_create(&f->thread, NULL, run, f), 0);
}

static void finish(struct fixture *f)
{
    uv_async_send(&f->stop);
    pthread_join(f->thread, NULL);
    ck_assert_int_eq(uv_loop_close(&f->loop), 0);
    ck_assert_uint_eq(f->server.relay_count, 0);
    for (unsigned i = 0; i < BALANCER_GATEWAYS; i++) {
        ck_assert_uint_eq(f->server.balancer.gateways[i].total, 0);
    }
    server_fini(&f->server);
    metrics_free(f->metrics);
    uv_sem_destroy(&f->drained);
    for (int i = 0; i < GATEWAYS; i++) {
        if (f->gateways[i] >= 0) {
            close(f->gateways[i]);
        }
    }
}

/* Waits for a metric to reach a value. */
static void wait_metric(struct fixture *f, size_t id, int64_t value)
{
    for (int i = 0; metrics_get(f->metrics, id) != value; i++) {
        ck_assert_msg(i < WAIT_S * 100, "metric %zu is %lld", id,
                      (long long)metrics_get(f->metrics, id));
        poll(NULL, 0, 10);
    }
}

/* ---- tests ---- */

START_TEST(passes_both_ways)
{
    struct fixture f;
    struct proxy2 head;
    char ip[INET_ADDRSTRLEN];
    struct sockaddr_in from;
    prepare(&f);
    launch(&f, 1);
    int c = dial_from("127.0.0.9", server_port(&f.server, SERVICE_SMTP));
    int g = accept_at(&f, 0, &head);
    memcpy(&from, &head.from, sizeof(from));
    ck_assert_int_eq(from.sin_family, AF_INET);
    ck_assert_str_eq(inet_ntop(AF_INET, &from.sin_addr, ip, sizeof(ip)),
                     "127.0.0.9");
    say(g, "220 hello\r\n"); /* the server speaks first */
    expect(c, "220 hello\r\n");
    say(c, "EHLO x\r\n");
    expect(g, "EHLO x\r\n");
    say(g, "250 ok\r\n");
    expect(c, "250 ok\r\n");
    close(c);
    expect_end(g);
    close(g);
    wait_metric(&f, M_OPEN, 0);
    ck_assert_int_eq((int)metrics_get(f.metrics, M_BYTES_IN), 8);
    ck_assert_int_eq((int)metrics_get(f.metrics, M_BYTES_OUT), 19);
    finish(&f);
}
END_TEST

START_TEST(without_proxy_header)
{
    struct fixture f;
    prepare(&f);
    f.config.proxy_protocol = false;
    launch(&f, 1);
    int c = dial(&f, SERVICE_HTTP);
    int g = accept(f.gateways[0], NULL, NULL);
    say(c, "GET /");
    expect(g, "GET /");
    close(c);
    close(g);
    finish(&f);
}
END_TEST

START_TEST(half_closed_each_way)
{
    struct fixture f;
    prepare(&f);
    launch(&f, 1);
    int c = dial(&f, SERVICE_HTTP), g = accept_at(&f, 0, NULL);
    int first = _i == 0 ? c : g, second = _i == 0 ? g : c;
    say(first, "all I have");
    shutdown(first, SHUT_WR);
    expect(second, "all I have");
    expect_end(second);
    say(second, "and here is more");
    expect(first, "and here is more");
    say(second, " and more");
    expect(first, " and more");
    close(second);
    expect_end(first);
    close(first);
    wait_metric(&f, M_OPEN, 0);
    finish(&f);
}
END_TEST

/* A gateway is gone: the client notices nothing, and the next is not even
 * tried there. */
START_TEST(refused_then_next)
{
    struct fixture f;
    prepare(&f);
    close(f.gateways[0]);
    close(f.gateways[1]);
    f.gateways[0] = f.gateways[1] = -1;
    launch(&f, 3);
    for (int i = 0; i < 5; i++) {
        int c = dial(&f, SERVICE_HTTP), g = accept_at(&f, 2, NULL);
        say(c, "hello");
        expect(g, "hello");
        close(c);
        expect_end(g);
        close(g);
    }
    ck_assert_int_eq((int)metrics_get(f.metrics, M_GATEWAY_REFUSED), 2);
    finish(&f);
}
END_TEST

/* A dying gateway: its kernel has accepted, but nobody will. As long as
 * nothing was said, the client is served by another. */
START_TEST(reset_before_a_word)
{
    struct fixture f;
    prepare(&f);
    launch(&f, 2);
    int c = dial(&f, SERVICE_SMTP);
    int first = wait_any(&f);
    close(f.gateways[first]); /* with the connection in its queue */
    f.gateways[first] = -1;
    int g = accept_at(&f, 1 - first, NULL);
    say(g, "220 hello\r\n");
    expect(c, "220 hello\r\n");
    say(c, "QUIT\r\n");
    expect(g, "QUIT\r\n");
    ck_assert_int_eq((int)metrics_get(f.metrics, M_GATEWAY_REFUSED), 1);
    close(c);
    close(g);
    finish(&f);
}
END_TEST

/* Once something was said it cannot be said again elsewhere. */
START_TEST(reset_after_a_word)
{
    struct fixture f;
    prepare(&f);
    launch(&f, 2);
    int c = dial(&f, SERVICE_HTTP);
    int first = wait_any(&f);
    say(c, "POST /");
    wait_metric(&f, M_BYTES_IN, 6);
    close(f.gateways[first]);
    f.gateways[first] = -1;
    expect_closed(c);
    struct pollfd p = {f.gateways[1 - first], POLLIN, 0};
    ck_assert_int_eq(poll(&p, 1, 0), 0);
    close(c);
    finish(&f);
}
END_TEST

/* A gateway that does not answer: its listening queue is full. */
START_TEST(silent_then_next)
{
    struct fixture f;
    prepare(&f);
    f.config.connect_timeout = 1000;
    close(f.gateways[0]);
    f.gateways[0] = listen_any(&f.ports[0], 0);
    int stuffing = dial_from("127.0.0.1", f.ports[0]);
    launch(&f, 2);
    int c = dial(&f, SERVICE_HTTP), g = accept_at(&f, 1, NULL);
    ck_assert_int_eq((int)metrics_get(f.metrics, M_GATEWAY_REFUSED), 1);
    close(c);
    close(g);
    close(stuffing);
    finish(&f);
}
END_TEST

static const struct {
    enum balancer_service service;
    const char *text;
} unserved[] = {
    {SERVICE_HTTP, "HTTP/1.1 503 "},
    {SERVICE_SMTP, "421 4.3.2 no gateway can be reached now\r\n"},
    {SERVICE_SUBMISSIONS, ""},
};

START_TEST(nobody_there)
{
    struct fixture f;
    char got[512];
    size_t len = 0;
    ssize_t n;
    prepare(&f);
    close(f.gateways[0]);
    f.gateways[0] = -1;
    launch(&f, 1);
    int c = dial(&f, unserved[_i].service);
    if (unserved[_i].text[0] != '\0') {
        say(c, "GET / HTTP/1.1\r\n\r\n"); /* unread data must not reset it */
    }
    while ((n = recv(c, got + len, sizeof(got) - len - 1, 0)) > 0) {
        len += (size_t)n;
    }
    got[len] = '\0';
    ck_assert_msg(n == 0, "%s", strerror(errno));
    const char *text = unserved[_i].text;
    ck_assert_msg(strncmp(got, text, strlen(text)) == 0, "%s", got);
    close(c);
    wait_metric(&f, M_OPEN, 0);
    finish(&f);
}
END_TEST

/* ---- much data ---- */

#define BULK (24u << 20)

struct bulk {
    int fd;
    uint32_t seed;
};

static uint32_t step(uint32_t *x)
{
    *x ^= *x << 13;
    *x ^= *x >> 17;
    return *x ^= *x << 5;
}

static void *send_bulk(void *arg)
{
    struct bulk *b = arg;
    uint32_t block[4096];
    for (size_t done = 0; done < BULK; done += sizeof(block)) {
        for (size_t i = 0; i < 4096; i++) {
            block[i] = step(&b->seed);
        }
        send_all(b->fd, block, sizeof(block));
    }
    shutdown(b->fd, SHUT_WR);
    return NULL;
}

static void *read_bulk(void *arg)
{
    struct bulk *b = arg;
    uint32_t block[4096], want[4096];
    for (size_t done = 0; done < BULK; done += sizeof(block)) {
        ssize_t n = recv(b->fd, block, sizeof(block), MSG_WAITALL);
        ck_assert_int_eq((int)n, (int)sizeof(block));
        for (size_t i = 0; i < 4096; i++) {
            want[i] = step(&b->seed);
        }
        ck_assert_mem_eq(block, want, sizeof(block));
    }
    expect_end(b->fd);
    return NULL;
}

START_TEST(bulk_both_ways)
{
    struct fixture f;
    pthread_t t[4];
    prepare(&f);
    launch(&f, 1);
    int c = dial(&f, SERVICE_HTTP), g = accept_at(&f, 0, NULL);
    struct bulk b[4] = {{c, 1}, {g, 1}, {g, 2}, {c, 2}};
    for (int i = 0; i < 4; i++) {
        void *(*fn)(void *) = i % 2 == 0 ? send_bulk : read_bulk;
        ck_assert_int_eq(pthread_create(&t[i], NULL, fn, &b[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(t[i], NULL);
    }
    close(c);
    close(g);
    wait_metric(&f, M_OPEN, 0);
    ck_assert_int_eq((int)metrics_get(f.metrics, M_BYTES_IN), (int)BULK);
    ck_assert_int_eq((int)metrics_get(f.metrics, M_BYTES_OUT), (int)BULK);
    finish(&f);
}
END_TEST

/* Nobody reads at one end: the other can soon send no more, and when the
 * reading starts, all arrives. */
START_TEST(back_pressure)
{
    struct fixture f;
    static char block[65536];
    size_t sent = 0, got = 0;
    int small = 65536;
    prepare(&f);
    setsockopt(f.gateways[0], SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    launch(&f, 1);
    int c = dial(&f, SERVICE_HTTP), g = accept_at(&f, 0, NULL);
    for (;;) {
        struct pollfd p = {c, POLLOUT, 0};
        if (poll(&p, 1, 500) == 0) {
            break;
        }
        ssize_t n = send(c, block, sizeof(block), MSG_DONTWAIT);
        sent += n > 0 ? (size_t)n : 0;
        ck_assert_msg(sent < 64u << 20, "no end of room");
    }
    int64_t passed = metrics_get(f.metrics, M_BYTES_IN);
    ck_assert_int_lt(passed, (int64_t)(16 << 20));
    shutdown(c, SHUT_WR);
    for (ssize_t n; (n = recv(g, block, sizeof(block), 0)) != 0;) {
        ck_assert_int_gt((int)n, 0);
        got += (size_t)n;
    }
    ck_assert_uint_eq(got, sent);
    close(c);
    close(g);
    finish(&f);
}
END_TEST

/* A server answers early and closes with our data unread: its words arrive
 * although the connection is reset behind them. */
START_TEST(last_words)
{
    struct fixture f;
    static char block[1 << 16];
    prepare(&f);
    launch(&f, 1);
    int c = dial(&f, SERVICE_HTTP), g = accept_at(&f, 0, NULL);
    send_all(c, block, sizeof(block));
    char byte;
    ck_assert_int_eq((int)recv(g, &byte, 1, 0), 1);
    say(g, "413 too large");
    expect(c, "413 too large");
    close(g);
    send(c, block, sizeof(block), MSG_NOSIGNAL);
    close(c);
    wait_metric(&f, M_OPEN, 0);
    finish(&f);
}
END_TEST

/* What a client sent before its connection broke is delivered. */
START_TEST(sent_before_reset)
{
    struct fixture f;
    struct linger now = {1, 0};
    prepare(&f);
    launch(&f, 1);
    int c = dial(&f, SERVICE_SMTP), g = accept_at(&f, 0, NULL);
    say(c, "QUIT\r\n");
    wait_metric(&f, M_BYTES_IN, 6);
    setsockopt(c, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    close(c); /* resets */
    expect(g, "QUIT\r\n");
    expect_end(g);
    close(g);
    wait_metric(&f, M_OPEN, 0);
    finish(&f);
}
END_TEST

START_TEST(limits)
{
    struct fixture f;
    prepare(&f);
    f.config.max_per_address = 2;
    f.config.max_connections = 3;
    launch(&f, 1);
    uint16_t port = server_port(&f.server, SERVICE_SMTP);
    int a = dial_from("127.0.0.2", port), b = dial_from("127.0.0.2", port);
    wait_metric(&f, M_OPEN, 2);
    int over = dial_from("127.0.0.2", port);
    expect_closed(over);
    int other = dial_from("127.0.0.3", port);
    wait_metric(&f, M_OPEN, 3);
    int full = dial_from("127.0.0.4", port);
    expect_closed(full);
    wait_metric(&f, M_OVER_ADDRESS_LIMIT, 1);
    wait_metric(&f, M_OVER_LIMIT, 1);
    close(a);
    int ga = accept_at(&f, 0, NULL);
    expect_end(ga);
    close(ga);
    wait_metric(&f, M_OPEN, 2);
    int again = dial_from("127.0.0.2", port);
    wait_metric(&f, M_OPEN, 3);
    close(b);
    close(over);
    close(other);
    close(full);
    close(again);
    finish(&f);
}
END_TEST

/* Many addresses hold all they can: there is still room for another. */
START_TEST(room_for_others)
{
    struct fixture f;
    int fds[400], count = 0;
    char from[32];
    prepare(&f);
    f.config.max_connections = 200;
    f.config.connect_timeout = 60000; /* the gateway's queue is short */
    launch(&f, 1);
    uint16_t port = server_port(&f.server, SERVICE_SMTP);
    for (int i = 0; i < 400; i++) {
        snprintf(from, sizeof(from), "127.0.1.%d", 1 + i % 10);
        fds[count++] = dial_from(from, port);
    }
    for (;;) {
        int64_t seen = metrics_get(f.metrics, M_OPEN) +
                       metrics_get(f.metrics, M_OVER_ADDRESS_LIMIT);
        if (seen == count) {
            break;
        }
        poll(NULL, 0, 10);
    }
    ck_assert_int_eq((int)metrics_get(f.metrics, M_OVER_LIMIT), 0);
    int64_t held = metrics_get(f.metrics, M_OPEN);
    ck_assert_int_eq(held, 190);
    int c = dial(&f, SERVICE_SMTP);
    wait_metric(&f, M_OPEN, held + 1);
    close(c);
    for (int i = 0; i < count; i++) {
        close(fds[i]);
    }
    finish(&f);
}
END_TEST

START_TEST(idle_ends)
{
    struct fixture f;
    prepare(&f);
    f.config.idle_timeout = 200;
    launch(&f, 1);
    int c = dial(&f, SERVICE_HTTP), g = accept_at(&f, 0, NULL);
    expect_closed(c);
    expect_closed(g);
    wait_metric(&f, M_IDLE_CLOSED, 1);
    close(c);
    close(g);
    finish(&f);
}
END_TEST

START_TEST(drains)
{
    struct fixture f;
    prepare(&f);
    launch(&f, 1);
    uint16_t port = server_port(&f.server, SERVICE_HTTP);
    int c = dial(&f, SERVICE_HTTP), g = accept_at(&f, 0, NULL);
    uv_async_send(&f.drain);
    for (;;) { /* until nobody listens any more */
        struct sockaddr_in a = {.sin_family = AF_INET,
                                .sin_port = htons(port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        int result = connect(fd, (struct sockaddr *)&a, sizeof(a));
        close(fd);
        if (result != 0) {
            break;
        }
    }
    ck_assert_int_ne(uv_sem_trywait(&f.drained), 0);
    say(c, "still");
    expect(g, "still");
    say(g, "here");
    expect(c, "here");
    close(c);
    expect_end(g);
    close(g);
    uv_sem_wait(&f.drained);
    finish(&f);
}
END_TEST

START_TEST(drain_has_a_limit)
{
    struct fixture f;
    prepare(&f);
    f.config.drain_timeout = 100;
    launch(&f, 1);
    int c = dial(&f, SERVICE_HTTP), g = accept_at(&f, 0, NULL);
    uv_async_send(&f.drain);
    uv_sem_wait(&f.drained);
    finish(&f); /* closes those who stayed */
    expect_closed(c);
    expect_closed(g);
    close(c);
    close(g);
}
END_TEST

START_TEST(spreads)
{
    struct fixture f;
    int count[GATEWAYS] = {0}, c[9], g[9];
    prepare(&f);
    launch(&f, GATEWAYS);
    for (int i = 0; i < 9; i++) {
        c[i] = dial(&f, SERVICE_HTTP);
        int at = wait_any(&f);
        g[i] = accept_at(&f, at, NULL);
        count[at]++;
    }
    for (int i = 0; i < GATEWAYS; i++) {
        ck_assert_int_eq(count[i], 3);
    }
    for (int i = 0; i < 9; i++) {
        close(c[i]);
        close(g[i]);
    }
    finish(&f);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("relay");
    TCase *tc = tcase_create("relay");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, passes_both_ways);
    tcase_add_test(tc, without_proxy_header);
    tcase_add_loop_test(tc, half_closed_each_way, 0, 2);
    tcase_add_test(tc, refused_then_next);
    tcase_add_loop_test(tc, reset_before_a_word, 0, 20); /* a race */
    tcase_add_test(tc, reset_after_a_word);
    tcase_add_test(tc, silent_then_next);
    tcase_add_loop_test(tc, nobody_there, 0, 3);
    tcase_add_test(tc, bulk_both_ways);
    tcase_add_test(tc, back_pressure);
    tcase_add_test(tc, last_words);
    tcase_add_test(tc, sent_before_reset);
    tcase_add_test(tc, limits);
    tcase_add_test(tc, room_for_others);
    tcase_add_test(tc, idle_ends);
    tcase_add_test(tc, drains);
    tcase_add_test(tc, drain_has_a_limit);
    tcase_add_test(tc, spreads);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
