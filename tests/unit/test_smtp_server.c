/*
 * The SMTP server over real sockets: a message from connection to mailbox,
 * the bounds on connections, deadlines, PROXY v2, stopping.
 */
#include <arpa/inet.h>
#include <check.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "cloud/mailbox.h"
#include "common/proxy2.h"
#include "gateway/smtp/server_io.h"
#include "tests/unit/cloud_fixture.h"
#include "tests/unit/free_port.h"

#define WAIT_MS 20000
#define HELLO "EHLO c.test\r\n"
#define ENVELOPE "MAIL FROM:<a@b.test>\r\nRCPT TO:<demo@penncloud.test>\r\n"

struct world {
    struct fixture f;
    struct smtp_server *server;
    uint16_t port;
};

static struct sockaddr_in loopback(const char *host, uint16_t port)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(port)};
    ck_assert_int_eq(inet_pton(AF_INET, host, &sa.sin_addr), 1);
    return sa;
}

static void start(struct world *w, struct smtp_server_options o)
{
    char address[64];
    struct err err = {""};
    enum status st;
    fixture_init(&w->f);
    fixture_account(&w->f, "demo");
    do {
        w->port = free_port();
        snprintf(address, sizeof address, "127.0.0.1:%u", w->port);
        o.cloud = w->f.cloud;
        o.log = &w->f.log;
        o.hostname = "mx.penncloud.test";
        o.listen = address;
        if (o.unknown_delay_ms == 0)
            o.unknown_delay_ms = 1;
        st = smtp_server_start(&o, &w->server, &err);
    } while (st == ST_IN_USE);
    ck_assert_msg(st == ST_OK, "%s", err.text);
    ck_assert_uint_eq(smtp_server_port(w->server), w->port);
}

static void stop(struct world *w)
{
    smtp_server_stop(w->server);
    fixture_fini(&w->f);
}

static int dial_from(struct world *w, const char *host)
{
    struct sockaddr_in from = loopback(host, 0);
    struct sockaddr_in to = loopback("127.0.0.1", w->port);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&from, sizeof from), 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

static int dial(struct world *w)
{
    return dial_from(w, "127.0.0.1");
}

static void say(int fd, const char *text)
{
    ck_assert_int_eq(send(fd, text, strlen(text), MSG_NOSIGNAL),
                     (ssize_t)strlen(text));
}

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* The next reply line that ends a reply; "" at the end of the connection. */
static const char *hear(int fd)
{
    static char line[600];
    size_t n = 0;
    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        ck_assert_int_eq(poll(&p, 1, WAIT_MS), 1);
        ssize_t got = recv(fd, line + n, 1, 0);
        if (got <= 0) {
            line[0] = '\0';
            return line;
        }
        if (line[n++] != '\n')
            continue;
        line[n] = '\0';
        if (line[3] == ' ')
            return line;
        n = 0;
    }
}

static void expect(int fd, const char *reply)
{
    const char *line = hear(fd);
    ck_assert_msg(strncmp(line, reply, strlen(reply)) == 0 &&
                      (*reply != '\0') == (*line != '\0'),
                  "wanted %s, got %s", reply, line);
}

static void greet(int fd)
{
    expect(fd, "220 mx.penncloud.test");
    say(fd, HELLO);
    expect(fd, "250");
}

static void read_only_message(struct world *w, struct buf *out)
{
    struct cloud_op op = fixture_op(&w->f);
    struct arena arena = {0};
    struct mailbox_page page;
    struct mailbox_query q = {
        .username = "demo", .folder = "inbox", .limit = 10};
    ck_assert_int_eq(mailbox_list(&op, &q, &arena, &page), ST_OK);
    ck_assert_uint_eq(page.count, 1);
    ck_assert_int_eq(mailbox_read_raw(&op, "demo", page.entries[0].uid, out),
                     ST_OK);
    arena_free(&arena);
}

START_TEST(stores_a_message)
{
    struct world w;
    start(&w, (struct smtp_server_options){0});
    int fd = dial(&w);
    greet(fd);
    /* Pipelined in one segment, as PIPELINING lets clients do. */
    say(fd, ENVELOPE "DATA\r\n");
    expect(fd, "250 2.1.0");
    expect(fd, "250 2.1.5");
    expect(fd, "354");
    say(fd, "Subject: hi\r\n\r\n..dot\r\nend\r\n.\r\nQUIT\r\n");
    expect(fd, "250 2.0.0 Ok: stored as ");
    expect(fd, "221 2.0.0");
    expect(fd, "");
    struct buf raw = {0};
    read_only_message(&w, &raw);
    const char *text = buf_cstr(&raw);
    ck_assert_int_eq(strncmp(text,
                             "Return-Path: <a@b.test>\r\nReceived: from "
                             "c.test ([127.0.0.1])\r\n",
                             62),
                     0);
    const char *own = strstr(text, "+0000\r\n");
    ck_assert_ptr_nonnull(own);
    ck_assert_str_eq(own + 7, "Subject: hi\r\n\r\n.dot\r\nend\r\n");
    struct smtp_server_stats stats;
    smtp_server_get_stats(w.server, &stats);
    ck_assert_uint_eq(stats.messages, 1);
    ck_assert_uint_eq(stats.accepted, 1);
    ck_assert_uint_eq(stats.spool_bytes, 0);
    buf_free(&raw);
    close(fd);
    stop(&w);
}
END_TEST

START_TEST(bounds_connections)
{
    struct world w;
    start(&w, (struct smtp_server_options){.max_sessions = 4,
                                           .max_per_address = 2});
    int a = dial(&w), b = dial(&w);
    greet(a);
    greet(b);
    int c = dial(&w);
    expect(c, "421 4.7.0 too many connections from you");
    expect(c, "");
    close(c);
    int d = dial_from(&w, "127.0.0.2"), e = dial_from(&w, "127.0.0.2");
    greet(d);
    greet(e);
    int f = dial_from(&w, "127.0.0.3");
    expect(f, "421 4.7.0 too many connections, try later");
    expect(f, "");
    close(f);
    /* A place that is left can be taken. */
    say(a, "QUIT\r\n");
    expect(a, "221");
    expect(a, "");
    int g;
    const char *line;
    do {
        g = dial(&w);
        line = hear(g);
        if (*line == '4')
            close(g);
    } while (*line == '4');
    ck_assert_int_eq(*line, '2');
    close(a);
    close(b);
    close(d);
    close(e);
    close(g);
    stop(&w);
}
END_TEST

START_TEST(deadlines)
{
    struct world w;
    start(&w, (struct smtp_server_options){.greeting_timeout_ms = 100,
                                           .command_timeout_ms = 300,
                                           .data_timeout_ms = 100});
    int silent = dial(&w);
    expect(silent, "220");
    expect(silent, "421 4.4.2");
    expect(silent, "");
    close(silent);
    /* Dripping gains nothing: the command must be whole. */
    int drip = dial(&w);
    greet(drip);
    struct pollfd p = {.fd = drip, .events = POLLIN};
    int64_t began_ms = now_ms();
    while (poll(&p, 1, 20) == 0 && now_ms() - began_ms < WAIT_MS)
        say(drip, "N");
    expect(drip, "421 4.4.2");
    close(drip);
    int data = dial(&w);
    greet(data);
    say(data, ENVELOPE "DATA\r\n");
    expect(data, "250");
    expect(data, "250");
    expect(data, "354");
    say(data, "Subject: half\r\n");
    expect(data, "421 4.4.2");
    expect(data, "");
    close(data);
    stop(&w);
}
END_TEST

START_TEST(wants_a_proxy_header)
{
    struct world w;
    start(&w,
          (struct smtp_server_options){.proxy = true, .max_per_address = 1});
    int without = dial(&w);
    say(without, HELLO HELLO);
    expect(without, "");
    close(without);
    struct sockaddr_in from = loopback("192.0.2.9", 4000);
    struct sockaddr_in to = loopback("192.0.2.1", 25);
    struct buf header = {0};
    proxy2_encode(&header, (struct sockaddr *)&from, (struct sockaddr *)&to);
    int fd = dial(&w);
    for (size_t i = 0; i < header.len; i++)
        ck_assert_int_eq(send(fd, header.data + i, 1, 0), 1);
    greet(fd);
    say(fd, ENVELOPE "DATA\r\n");
    expect(fd, "250");
    expect(fd, "250");
    expect(fd, "354");
    say(fd, "x\r\n.\r\n");
    expect(fd, "250 2.0.0");
    struct buf raw = {0};
    read_only_message(&w, &raw);
    ck_assert_ptr_nonnull(strstr(buf_cstr(&raw), "c.test ([192.0.2.9])"));
    /* The bound is on the client, not on the balancer. */
    int again = dial(&w);
    ck_assert_int_eq(send(again, header.data, header.len, 0),
                     (ssize_t)header.len);
    expect(again, "421 4.7.0");
    from = loopback("192.0.2.10", 4000);
    buf_clear(&header);
    proxy2_encode(&header, (struct sockaddr *)&from, (struct sockaddr *)&to);
    int other = dial(&w);
    ck_assert_int_eq(send(other, header.data, header.len, 0),
                     (ssize_t)header.len);
    greet(other);
    close(fd);
    close(again);
    close(other);
    buf_free(&header);
    buf_free(&raw);
    stop(&w);
}
END_TEST

START_TEST(bounds_memory)
{
    struct world w;
    start(&w, (struct smtp_server_options){.spool_max = 100000});
    int fd = dial(&w);
    greet(fd);
    for (int round = 0; round < 2; round++) {
        int lines = round == 0 ? 3000 : 30;
        say(fd, ENVELOPE "DATA\r\n");
        expect(fd, "250");
        expect(fd, "250");
        expect(fd, "354");
        for (int i = 0; i < lines; i++)
            say(fd, "0123456789012345678901234567890123456789012345\r\n");
        say(fd, ".\r\n");
        expect(fd, round == 0 ? "452 4.3.1" : "250 2.0.0");
    }
    struct smtp_server_stats stats;
    smtp_server_get_stats(w.server, &stats);
    ck_assert_uint_eq(stats.spool_bytes, 0);
    close(fd);
    stop(&w);
}
END_TEST

/* A client that breaks off before its message's turn gets no copy stored, as
 * it will send it again. */
START_TEST(stores_nothing_for_who_has_gone)
{
    struct world w;
    start(&w, (struct smtp_server_options){.unknown_delay_ms = 60000});
    int fd = dial(&w);
    greet(fd);
    /* One segment: once the first reply is heard, the server has all. It
     * dwells on the unknown recipient until the connection breaks. */
    say(fd, "MAIL FROM:<a@b.test>\r\nRCPT TO:<nobody@penncloud.test>\r\n"
            "RCPT TO:<demo@penncloud.test>\r\nDATA\r\nx\r\n.\r\n");
    expect(fd, "250 2.1.0");
    struct linger reset = {1, 0};
    ck_assert_int_eq(
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset), 0);
    close(fd);
    struct smtp_server_stats stats;
    do {
        poll(NULL, 0, 1);
        smtp_server_get_stats(w.server, &stats);
    } while (stats.sessions > 0);
    struct cloud_op op = fixture_op(&w.f);
    struct arena arena = {0};
    struct mailbox_folder *folders;
    size_t n;
    ck_assert_int_eq(mailbox_folders(&op, "demo", &arena, &folders, &n), ST_OK);
    ck_assert_int_eq(folders[0].total, 0);
    arena_free(&arena);
    stop(&w);
}
END_TEST

static void *stop_thread(void *server)
{
    smtp_server_stop(server);
    return NULL;
}

START_TEST(stops)
{
    struct world w;
    start(&w, (struct smtp_server_options){0});
    int idle = dial(&w), reading = dial(&w), storing = dial(&w);
    greet(idle);
    greet(reading);
    greet(storing);
    for (int i = 0; i < 2; i++) {
        int fd = i == 0 ? reading : storing;
        say(fd, ENVELOPE "DATA\r\n");
        expect(fd, "250");
        expect(fd, "250");
        expect(fd, "354");
    }
    say(reading, "half a mess");
    /* About a second of a store that refuses, beginning with the batch. */
    local_kv_fail(w.f.kv, 1, 8, LOCAL_UNREACHABLE);
    say(storing, "whole\r\n.\r\n");
    int64_t began_ms = now_ms();
    while (!local_kv_failed(w.f.kv) && now_ms() - began_ms < WAIT_MS)
        poll(NULL, 0, 1);
    pthread_t thread;
    pthread_create(&thread, NULL, stop_thread, w.server);
    expect(idle, "421 4.3.2");
    expect(idle, "");
    expect(reading, "421 4.3.2");
    expect(reading, "");
    expect(storing, "250 2.0.0");
    expect(storing, "421 4.3.2");
    pthread_join(thread, NULL);
    ck_assert_int_lt(now_ms() - began_ms, 10000);
    struct buf raw = {0};
    read_only_message(&w, &raw);
    buf_free(&raw);
    close(idle);
    close(reading);
    close(storing);
    fixture_fini(&w.f);
}
END_TEST

/* The store says nothing for as long as we may wait: then neither do we. */
START_TEST(stops_while_the_store_is_away)
{
    struct world w;
    start(&w, (struct smtp_server_options){0});
    int fd = dial(&w);
    greet(fd);
    say(fd, ENVELOPE "DATA\r\n");
    expect(fd, "250");
    expect(fd, "250");
    expect(fd, "354");
    local_kv_fail(w.f.kv, 1, 1000000, LOCAL_LOST_DONE);
    say(fd, "whole\r\n.\r\n");
    int64_t began_ms = now_ms();
    while (!local_kv_failed(w.f.kv) && now_ms() - began_ms < WAIT_MS)
        poll(NULL, 0, 1);
    began_ms = now_ms();
    smtp_server_stop(w.server);
    ck_assert_int_lt(now_ms() - began_ms, 9500);
    expect(fd, "");
    close(fd);
    fixture_fini(&w.f);
}
END_TEST

START_TEST(many_at_once)
{
    struct world w;
    start(&w, (struct smtp_server_options){.max_per_address = 200});
    int fds[100];
    for (int i = 0; i < 100; i++)
        fds[i] = dial(&w);
    for (int i = 0; i < 100; i++)
        greet(fds[i]);
    for (int i = 0; i < 100; i++)
        say(fds[i], ENVELOPE "DATA\r\n");
    for (int i = 0; i < 100; i++) {
        expect(fds[i], "250");
        expect(fds[i], "250");
        expect(fds[i], "354");
        say(fds[i], "x\r\n.\r\n");
    }
    for (int i = 0; i < 100; i++) {
        expect(fds[i], "250 2.0.0");
        close(fds[i]);
    }
    struct cloud_op op = fixture_op(&w.f);
    struct arena arena = {0};
    struct mailbox_folder *folders;
    size_t n;
    ck_assert_int_eq(mailbox_folders(&op, "demo", &arena, &folders, &n), ST_OK);
    ck_assert_int_eq(folders[0].total, 100);
    arena_free(&arena);
    stop(&w);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("smtp_server");
    TCase *t = tcase_create("all");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, stores_a_message);
    tcase_add_test(t, bounds_connections);
    tcase_add_test(t, deadlines);
    tcase_add_test(t, wants_a_proxy_header);
    tcase_add_test(t, bounds_memory);
    tcase_add_test(t, stores_nothing_for_who_has_gone);
    tcase_add_test(t, stops);
    tcase_add_test(t, stops_while_the_store_is_away);
    tcase_add_test(t, many_at_once);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
