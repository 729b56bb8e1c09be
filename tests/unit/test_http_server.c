/*
 * The server as strangers see it: framing, headers, methods, limits,
 * deadlines, PROXY, files, event streams.
 */
#include <check.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "common/proxy2.h"
#include "tests/unit/http_fixture.h"

#define HEAD_MS 600
#define LONG_MS 30000

static struct web web;

static void set_up(void)
{
    struct http_server_options o = {.head_timeout_ms = HEAD_MS,
                                    .idle_timeout_ms = HEAD_MS,
                                    .body_timeout_ms = HEAD_MS,
                                    .max_per_address = 20,
                                    .max_connections = 60};
    web_init(&web, &o);
}

static void tear_down(void)
{
    web_fini(&web);
}

#define HOST "Host: m.test\r\n"

static const struct {
    const char *bytes;
    int status;
    const char *code, *allow;
} answers[] = {
    {"GET /api/me HTTP/1.1\r\n" HOST "\r\n", 401, "unauthenticated", NULL},
    {"GET /api/me HTTP/1.1\r\n\r\n", 400, "bad_host", NULL},
    {"GET /api/me HTTP/1.1\r\n" HOST HOST "\r\n", 400, "bad_host", NULL},
    {"POST /api/login HTTP/1.1\r\n" HOST
     "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
     400, "ambiguous_length", NULL},
    {"GET /api/me HTTP/1.1\r\n" HOST
     "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
     400, "ambiguous_length", NULL},
    {"POST /api/login HTTP/1.1\r\n" HOST
     "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
     400, "ambiguous_length", NULL},
    {"GET /api/nothing HTTP/1.1\r\n" HOST "\r\n", 404, "not_found", NULL},
    {"GET /nothing HTTP/1.1\r\n" HOST "\r\n", 404, "not_found", NULL},
    {"GET /../../etc/passwd HTTP/1.1\r\n" HOST "\r\n", 404, "not_found", NULL},
    {"GET /%2e%2e/main.c HTTP/1.1\r\n" HOST "\r\n", 404, "not_found", NULL},
    {"GET /%00 HTTP/1.1\r\n" HOST "\r\n", 404, "not_found", NULL},
    {"PUT /api/me HTTP/1.1\r\n" HOST "\r\n", 405, "method_not_allowed",
     "GET, HEAD"},
    {"BREW /api/login HTTP/1.1\r\n" HOST "\r\n", 405, "method_not_allowed",
     "POST"},
    {"OPTIONS /api/mail/messages HTTP/1.1\r\n" HOST "\r\n", 405,
     "method_not_allowed", "POST"},
    {"DELETE / HTTP/1.1\r\n" HOST "\r\n", 405, "method_not_allowed",
     "GET, HEAD"},
    {"POST /api/login HTTP/1.1\r\n" HOST "Content-Length: 70000\r\n\r\n", 413,
     "too_large", NULL},
    {"POST /api/login HTTP/1.1\r\n" HOST "Content-Length: 900000000\r\n\r\n",
     413, "too_large", NULL},
    {"POST /api/login HTTP/1.1\r\n" HOST "Content-Length: 2\r\n\r\n[]", 400,
     "bad_json", NULL},
    {"POST /api/login HTTP/1.1\r\n" HOST "Content-Length: 2\r\n\r\n{}", 400,
     "bad_field", NULL},
    {"POST /api/login HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\n{}x", 400,
     "bad_json", NULL},
    {"POST /api/login HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n", 400,
     "bad_json", NULL},
    {"POST /api/login HTTP/1.1\r\n" HOST
     "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
     400, "bad_field", NULL},
    {"POST /api/login HTTP/1.1\r\n" HOST "Content-Length: "
     "41\r\n\r\n{\"username\":\"a\\u0000b\",\"password\":\"12345\"}",
     400, "bad_json", NULL},
    {"POST /api/login HTTP/1.1\r\n" HOST
     "Content-Length: 33\r\n\r\n{\"username\":\"\xff\",\"password\":\"123\"}",
     400, "bad_json", NULL},
    {"POST /api/login HTTP/1.1\r\n" HOST
     "Origin: http://evil.test\r\nContent-Length: 2\r\n\r\n{}",
     403, "bad_origin", NULL},
    {"POST /api/login HTTP/1.1\r\n" HOST
     "Origin: null\r\nContent-Length: 2\r\n\r\n{}",
     403, "bad_origin", NULL},
    {"POST /api/logout HTTP/1.1\r\n" HOST "Content-Length: 2\r\n\r\n{}", 401,
     "unauthenticated", NULL},
};

static void check_security(const struct reply *r)
{
    static const char *const needed[] = {"Content-Security-Policy",
                                         "X-Content-Type-Options",
                                         "Referrer-Policy",
                                         "Cross-Origin-Opener-Policy",
                                         "Cross-Origin-Resource-Policy",
                                         "Permissions-Policy",
                                         "X-Frame-Options"};
    for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++)
        ck_assert_msg(reply_header(r, needed[i]) != NULL, "%s", needed[i]);
}

START_TEST(refusals)
{
    struct reply r;
    web_raw(&web, answers[_i].bytes, &r);
    ck_assert_msg(r.status == answers[_i].status, "%s-> %d", answers[_i].bytes,
                  r.status);
    ck_assert_str_eq(reply_code(&r), answers[_i].code);
    if (answers[_i].allow != NULL)
        ck_assert_str_eq(reply_header(&r, "Allow"), answers[_i].allow);
    check_security(&r);
    reply_free(&r);
}
END_TEST

START_TEST(long_target)
{
    struct reply r;
    struct buf out = {0};
    buf_put_text(&out, "GET /");
    for (int i = 0; i < 5000; i++)
        buf_put_text(&out, "a");
    buf_put_text(&out, " HTTP/1.1\r\n" HOST "\r\n");
    web_raw(&web, buf_cstr(&out), &r);
    ck_assert_int_eq(r.status, 414);
    ck_assert_str_eq(reply_code(&r), "uri_too_long");
    check_security(&r);
    reply_free(&r);
    buf_free(&out);
}
END_TEST

/* What follows two lengths on the connection is never taken for a request. */
START_TEST(smuggling_ends_the_connection)
{
    int fd = web_dial(&web, NULL);
    const char *bytes = "POST /api/login HTTP/1.1\r\n" HOST
                        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n"
                        "\r\n0\r\n\r\nGET /app.js HTTP/1.1\r\n" HOST "\r\n";
    struct reply r;
    web_write(fd, bytes, strlen(bytes));
    web_read(fd, false, &r);
    ck_assert_int_eq(r.status, 400);
    ck_assert_str_eq(reply_header(&r, "Connection"), "close");
    reply_free(&r);
    web_read(fd, false, &r);
    ck_assert_int_eq(r.status, 0);
    reply_free(&r);
    close(fd);
}
END_TEST

START_TEST(many_requests_on_one_connection)
{
    int fd = web_dial(&web, NULL);
    const char *bytes =
        "GET / HTTP/1.1\r\n" HOST "\r\n"
        "GET /api/me HTTP/1.1\r\n" HOST "\r\n"
        "HEAD /app.css HTTP/1.1\r\n" HOST "\r\n"
        "POST /api/login HTTP/1.1\r\n" HOST "Content-Length: 2\r\n\r\n{}"
        "PUT /app.css HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello"
        "GET /favicon.svg HTTP/1.1\r\n" HOST "\r\n";
    static const int want[] = {200, 401, 200, 400, 405, 200};
    web_write(fd, bytes, strlen(bytes));
    for (size_t i = 0; i < 6; i++) {
        struct reply r;
        web_read(fd, i == 2, &r);
        ck_assert_msg(r.status == want[i], "%zu: %d", i, r.status);
        check_security(&r);
        reply_free(&r);
    }
    close(fd);
}
END_TEST

/* People get a page, programs a code; of the API everybody gets the code. */
START_TEST(missing_pages)
{
    static const struct {
        const char *method, *path, *accept;
        bool page;
    } rows[] = {
        {"GET", "/nothing", "text/html,application/xhtml+xml,*/*;q=0.8", true},
        {"GET", "/%2e%2e/main.c", "text/html", true},
        {"GET", "/nothing", "*/*", false},
        {"GET", "/nothing", "application/json", false},
        {"POST", "/nothing", "text/html", false},
        {"GET", "/api/nothing", "text/html", false},
    };
    char request[256];
    struct reply r;
    snprintf(request, sizeof(request),
             "%s %s HTTP/1.1\r\n" HOST "Accept: %s\r\n\r\n", rows[_i].method,
             rows[_i].path, rows[_i].accept);
    web_raw(&web, request, &r);
    ck_assert_int_eq(r.status, 404);
    const char *type = reply_header(&r, "Content-Type");
    if (rows[_i].page) {
        ck_assert_str_eq(type, "text/html; charset=utf-8");
        ck_assert(memmem(r.body.data, r.body.len, "no such page", 12) != NULL);
    } else {
        ck_assert_str_eq(reply_code(&r), "not_found");
    }
    check_security(&r);
    reply_free(&r);
}
END_TEST

START_TEST(files_have_types_and_tags)
{
    static const char *const rows[][2] = {
        {"/", "text/html; charset=utf-8"},
        {"/index.html", "text/html; charset=utf-8"},
        {"/app.js", "text/javascript; charset=utf-8"},
        {"/app.css", "text/css; charset=utf-8"},
        {"/logo.svg", "image/svg+xml"},
        {"/api/openapi.json", "application/json"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char request[256];
        struct reply r;
        snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\n" HOST "\r\n",
                 rows[i][0]);
        web_raw(&web, request, &r);
        ck_assert_int_eq(r.status, 200);
        ck_assert_str_eq(reply_header(&r, "Content-Type"), rows[i][1]);
        ck_assert_uint_gt(r.body.len, 100);
        const char *tag = reply_header(&r, "ETag");
        if (i < 5) {
            ck_assert_str_eq(reply_header(&r, "Cache-Control"), "no-cache");
            snprintf(request, sizeof(request),
                     "GET %s HTTP/1.1\r\n" HOST "If-None-Match: %s\r\n\r\n",
                     rows[i][0], tag);
            reply_free(&r);
            web_raw(&web, request, &r);
            ck_assert_int_eq(r.status, 304);
            ck_assert_uint_eq(r.body.len, 0);
        }
        reply_free(&r);
    }
}
END_TEST

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static const char *const drips[] = {
    "",                        /* says nothing */
    "GET / HTTP/1.1\r\nX-A: ", /* head */
    "POST /api/login HTTP/1.1\r\n" HOST "Content-Length: 4000\r\n\r\n{",
};

/* A byte every 50 ms does not keep a connection. */
START_TEST(dripping_clients_are_ended)
{
    int fd = web_dial(&web, NULL);
    int64_t began = now_ms();
    bool closed = false;
    web_write(fd, drips[_i], strlen(drips[_i]));
    while (!closed && now_ms() - began < LONG_MS) {
        if (_i > 0)
            web_write(fd, "a", 1);
        closed = web_closed(fd, 50);
    }
    ck_assert(closed);
    ck_assert_int_ge(now_ms() - began, HEAD_MS - 100);
    ck_assert_int_le(now_ms() - began, HEAD_MS + 2500);
    close(fd);
}
END_TEST

START_TEST(idle_connections_are_ended)
{
    int fd = web_dial(&web, NULL);
    struct reply r;
    const char *bytes = "GET / HTTP/1.1\r\n" HOST "\r\n";
    web_write(fd, bytes, strlen(bytes));
    web_read(fd, false, &r);
    ck_assert_int_eq(r.status, 200);
    reply_free(&r);
    ck_assert(!web_closed(fd, 100));
    ck_assert(web_closed(fd, HEAD_MS + 2500));
    close(fd);
}
END_TEST

/* Twenty of one address fill its share; others are served. */
START_TEST(one_address_cannot_take_all)
{
    int fds[21];
    struct reply r;
    for (int i = 0; i < 21; i++)
        fds[i] = web_dial(&web, "127.0.0.9");
    /* At once, and not when its time is over. */
    int64_t began = now_ms();
    ck_assert(web_closed(fds[20], LONG_MS));
    ck_assert_int_lt(now_ms() - began, HEAD_MS / 2);
    web_raw(&web, "GET / HTTP/1.1\r\n" HOST "\r\n", &r);
    ck_assert_int_eq(r.status, 200);
    reply_free(&r);
    for (int i = 0; i < 21; i++)
        close(fds[i]);
}
END_TEST

START_TEST(chunked_bodies_are_bounded)
{
    int fd = web_dial(&web, NULL);
    struct reply r;
    const char *head = "POST /api/login HTTP/1.1\r\n" HOST
                       "Transfer-Encoding: chunked\r\n\r\n";
    struct buf chunk = {0};
    buf_printf(&chunk, "400\r\n%1024s\r\n", "");
    web_write(fd, head, strlen(head));
    for (int i = 0; i < 6; i++)
        web_write(fd, (const char *)chunk.data, chunk.len);
    buf_free(&chunk);
    web_write(fd, "0\r\n\r\n", 5);
    web_read(fd, false, &r);
    ck_assert_int_eq(r.status, 413);
    reply_free(&r);
    close(fd);
}
END_TEST

/* ---- event streams ---- */

static int open_stream(const struct browser *b)
{
    char request[512];
    struct reply r;
    int fd = web_dial(&web, NULL);
    snprintf(request, sizeof(request),
             "GET /api/events HTTP/1.1\r\n" HOST "Cookie: %s\r\n\r\n",
             b->cookie);
    web_write(fd, request, strlen(request));
    web_read(fd, false, &r);
    ck_assert_int_eq(r.status, 200);
    ck_assert_str_eq(reply_header(&r, "Content-Type"), "text/event-stream");
    check_security(&r);
    reply_free(&r);
    return fd;
}

/* Reads until WORD has come. */
static bool hears(int fd, const char *word, int ms)
{
    char text[4096] = "";
    size_t len = 0;
    int64_t until = now_ms() + ms;
    while (now_ms() < until && len < sizeof(text) - 1) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (poll(&p, 1, (int)(until - now_ms())) <= 0)
            continue;
        ssize_t n = recv(fd, text + len, sizeof(text) - 1 - len, MSG_DONTWAIT);
        if (n <= 0)
            return false;
        len += (size_t)n;
        text[len] = '\0';
        if (strstr(text, word) != NULL)
            return true;
    }
    return false;
}

START_TEST(new_mail_is_heard_of_at_once)
{
    struct browser b;
    char uid[27];
    browser_log_in(&b, &web, "demo");
    int one = open_stream(&b), two = open_stream(&b);
    ck_assert(hears(one, "event: ready", LONG_MS));
    ck_assert(hears(two, "event: ready", LONG_MS));
    for (int i = 0; i < 3; i++) {
        int64_t began = now_ms();
        web_deliver(&web, "demo", "Subject: x\r\n\r\ny\r\n", uid);
        ck_assert(hears(one, "event: mail", LONG_MS));
        ck_assert(hears(two, "event: mail", LONG_MS));
        ck_assert_int_le(now_ms() - began, 1000);
    }
    close(one);
    close(two);
}
END_TEST

START_TEST(streams_are_bounded_and_given_back)
{
    struct browser b;
    struct reply r;
    int fds[LIMIT_HTTP_USER_STREAMS];
    browser_log_in(&b, &web, "demo");
    for (int i = 0; i < LIMIT_HTTP_USER_STREAMS; i++)
        fds[i] = open_stream(&b);
    browser_call(&b, "GET", "/api/events", NULL, &r);
    ck_assert_int_eq(r.status, 503);
    ck_assert_ptr_nonnull(reply_header(&r, "Retry-After"));
    reply_free(&r);
    for (int i = 0; i < LIMIT_HTTP_USER_STREAMS; i++)
        close(fds[i]);
    int64_t until = now_ms() + LONG_MS;
    while (http_events_count(web.events) > 0 && now_ms() < until)
        poll(NULL, 0, 1);
    ck_assert_uint_eq(http_events_count(web.events), 0);
    int fd = open_stream(&b);
    close(fd);
}
END_TEST

/* ---- PROXY ---- */

static void set_up_proxy(void)
{
    struct http_server_options o = {.proxy = true, .head_timeout_ms = HEAD_MS};
    web_init(&web, &o);
}

static void set_up_patient_proxy(void)
{
    struct http_server_options o = {.proxy = true, .head_timeout_ms = LONG_MS};
    web_init(&web, &o);
}

static int dial_proxied(size_t piece)
{
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_port = htons(7)};
    struct sockaddr_in to = from;
    struct buf head = {0};
    from.sin_addr.s_addr = htonl(0xc0000201);
    proxy2_encode(&head, (const void *)&from, (const void *)&to);
    buf_put_text(&head, "GET /app.js HTTP/1.1\r\n" HOST "\r\n");
    int fd = web_dial(&web, NULL);
    for (size_t at = 0; at < head.len; at += piece) {
        size_t len = head.len - at < piece ? head.len - at : piece;
        web_write(fd, (const char *)head.data + at, len);
        /* The next goes out when the server's kernel has this one. */
        int unsent = 1;
        for (int64_t began = now_ms(); unsent > 0;) {
            ck_assert_int_eq(ioctl(fd, TIOCOUTQ, &unsent), 0);
            ck_assert_int_lt(now_ms() - began, LONG_MS);
        }
        sched_yield();
    }
    buf_free(&head);
    return fd;
}

START_TEST(proxy_header_is_taken_off)
{
    static const size_t pieces[] = {1, 5, 16, 28, 29, 1000};
    for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
        struct reply r;
        int fd = dial_proxied(pieces[i]);
        web_read(fd, false, &r);
        ck_assert_msg(r.status == 200, "%zu: %d", pieces[i], r.status);
        reply_free(&r);
        close(fd);
    }
}
END_TEST

START_TEST(no_proxy_header_no_answer)
{
    struct reply r;
    web_raw(&web, "GET / HTTP/1.1\r\n" HOST "\r\n", &r);
    ck_assert_int_eq(r.status, 0);
    int fd = web_dial(&web, NULL);
    web_write(fd, "\r\n\r\n", 4);
    ck_assert(web_closed(fd, HEAD_MS + 2500));
    close(fd);
}
END_TEST

static Suite *make_suite(void)
{
    Suite *s = suite_create("http_server");
    TCase *t = tcase_create("server");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_loop_test(t, refusals, 0,
                        (int)(sizeof(answers) / sizeof(answers[0])));
    tcase_add_test(t, long_target);
    tcase_add_test(t, smuggling_ends_the_connection);
    tcase_add_test(t, many_requests_on_one_connection);
    tcase_add_loop_test(t, missing_pages, 0, 6);
    tcase_add_test(t, files_have_types_and_tags);
    tcase_add_loop_test(t, dripping_clients_are_ended, 0, 3);
    tcase_add_test(t, idle_connections_are_ended);
    tcase_add_test(t, one_address_cannot_take_all);
    tcase_add_test(t, chunked_bodies_are_bounded);
    tcase_add_test(t, new_mail_is_heard_of_at_once);
    tcase_add_test(t, streams_are_bounded_and_given_back);
    suite_add_tcase(s, t);
    t = tcase_create("proxy");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, set_up_proxy, tear_down);
    tcase_add_test(t, no_proxy_header_no_answer);
    suite_add_tcase(s, t);
    t = tcase_create("patient proxy");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, set_up_patient_proxy, tear_down);
    tcase_add_test(t, proxy_header_is_taken_off);
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    SRunner *r = srunner_create(make_suite());
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
