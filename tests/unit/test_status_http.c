/*
 * The status port over real sockets, asked by libcurl while the loop runs,
 * hangs, has not started and has stopped.
 */
#include <check.h>
#include <curl/curl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <netinet/in.h>
#include <unistd.h>

#include "common/status_http_io.h"

static const struct metric_def defs[] = {
    {"penn_test_total", METRIC_COUNTER, "", "counted"}};

struct fixture {
    uv_loop_t loop;
    uv_async_t stop, hang;
    uv_sem_t release; /* lets a hung loop go on */
    struct metrics *metrics;
    struct status_http *s;
    pthread_t thread;
    int renders; /* loop's thread */
};

static void on_render(void *ctx, struct buf *out)
{
    struct fixture *f = ctx;
    buf_printf(out, "{\"renders\":%d}", ++f->renders);
}

static void on_stop(uv_async_t *a)
{
    struct fixture *f = a->data;
    status_http_stop(f->s);
    uv_close((uv_handle_t *)&f->stop, NULL);
    uv_close((uv_handle_t *)&f->hang, NULL);
}

static void on_hang(uv_async_t *a)
{
    struct fixture *f = a->data;
    uv_sem_wait(&f->release);
}

static void *run(void *arg)
{
    struct fixture *f = arg;
    uv_run(&f->loop, UV_RUN_DEFAULT);
    return NULL;
}

static void make(struct fixture *f)
{
    struct err err;
    memset(f, 0, sizeof(*f));
    ck_assert_int_eq(uv_loop_init(&f->loop), 0);
    ck_assert_int_eq(uv_async_init(&f->loop, &f->stop, on_stop), 0);
    ck_assert_int_eq(uv_async_init(&f->loop, &f->hang, on_hang), 0);
    ck_assert_int_eq(uv_sem_init(&f->release, 0), 0);
    f->stop.data = f->hang.data = f;
    f->metrics = metrics_new(defs, 1);
    struct status_http_options o = {.address = "127.0.0.1:0",
                                    .loop = &f->loop,
                                    .metrics = f->metrics,
                                    .render = on_render,
                                    .ctx = f};
    ck_assert_int_eq(status_http_start(&o, &f->s, &err), ST_OK);
}

static void start(struct fixture *f)
{
    ck_assert_int_eq(pthread_create(&f->thread, NULL, run, f), 0);
}

static void finish(struct fixture *f)
{
    uv_async_send(&f->stop);
    pthread_join(f->thread, NULL);
    ck_assert_int_eq(uv_loop_close(&f->loop), 0);
    uv_sem_destroy(&f->release);
    metrics_free(f->metrics);
}

struct reply {
    long code;
    char body[8192];
    size_t len;
};

static size_t on_body(char *data, size_t size, size_t n, void *ctx)
{
    struct reply *r = ctx;
    size_t room = sizeof(r->body) - 1 - r->len;
    size_t take = size * n < room ? size * n : room;
    memcpy(r->body + r->len, data, take);
    r->len += take;
    r->body[r->len] = '\0';
    return size * n;
}

/* METHOD PATH with an optional header line more. */
static struct reply ask(struct fixture *f, const char *method, const char *path,
                        const char *header)
{
    struct reply r = {0};
    char url[128];
    snprintf(url, sizeof(url), "http://127.0.0.1:%u%s", status_http_port(f->s),
             path);
    CURL *c = curl_easy_init();
    struct curl_slist *headers = curl_slist_append(NULL, header);
    curl_easy_setopt(c, CURLOPT_URL, url);
    curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, method);
    curl_easy_setopt(c, CURLOPT_NOBODY, strcmp(method, "HEAD") == 0 ? 1L : 0L);
    curl_easy_setopt(c, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, &r);
    curl_easy_setopt(c, CURLOPT_TIMEOUT, 20L);
    curl_easy_setopt(c, CURLOPT_PROXY, "");
    ck_assert_int_eq(curl_easy_perform(c), CURLE_OK);
    curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &r.code);
    curl_slist_free_all(headers);
    curl_easy_cleanup(c);
    return r;
}

/* Until the loop has run for the first time, /status says so. */
static struct reply wait_running(struct fixture *f)
{
    for (;;) {
        struct reply r = ask(f, "GET", "/status", "X-Test: 1");
        if (strcmp(r.body, "{\"state\":\"starting\"}") != 0) {
            return r;
        }
    }
}

START_TEST(pages)
{
    struct fixture f;
    make(&f);
    start(&f);
    struct reply r = wait_running(&f);
    ck_assert_int_eq((int)r.code, 200);
    ck_assert_str_eq(r.body, "{\"renders\":1}");
    r = ask(&f, "GET", "/status", "X-Test: 1");
    ck_assert_str_eq(r.body, "{\"renders\":2}");
    r = ask(&f, "GET", "/healthz", "X-Test: 1");
    ck_assert_int_eq((int)r.code, 200);
    ck_assert_str_eq(r.body, "ok\n");
    r = ask(&f, "GET", "/readyz", "X-Test: 1");
    ck_assert_int_eq((int)r.code, 503);
    status_http_set_ready(f.s, true);
    r = ask(&f, "GET", "/readyz", "X-Test: 1");
    ck_assert_int_eq((int)r.code, 200);
    metrics_add(f.metrics, 0, 41);
    r = ask(&f, "GET", "/metrics", "X-Test: 1");
    ck_assert_int_eq((int)r.code, 200);
    ck_assert_ptr_nonnull(strstr(r.body, "\npenn_test_total 41\n"));
    ck_assert_ptr_nonnull(strstr(r.body, "\nprocess_open_fds "));
    ck_assert_ptr_nonnull(strstr(r.body, "\nprocess_resident_memory_bytes "));
    ck_assert_ptr_nonnull(strstr(r.body, "penn_build_info{version="));
    r = ask(&f, "HEAD", "/metrics", "X-Test: 1");
    ck_assert_int_eq((int)r.code, 200);
    ck_assert_uint_eq(r.len, 0);
    finish(&f);
}
END_TEST

static const struct {
    const char *method, *path, *header;
    long code;
} requests[] = {
    {"GET", "/", "X-Test: 1", 404},
    {"GET", "/status/", "X-Test: 1", 404},
    {"GET", "/status?x=1", "X-Test: 1", 200},
    {"POST", "/status", "X-Test: 1", 405},
    {"DELETE", "/status", "X-Test: 1", 405},
    {"OPTIONS", "/status", "X-Test: 1", 405},
    {"GET", "/metrics", "Host: localhost", 200},
    {"GET", "/metrics", "Host: LOCALHOST:81", 200},
    {"GET", "/metrics", "Host: 10.1.2.3:81", 200},
    {"GET", "/metrics", "Host: [::1]:81", 200},
    {"GET", "/metrics", "Host: evil.example", 403},
    {"GET", "/metrics", "Host: evil.example:81", 403},
    {"GET", "/metrics", "Host: 127.0.0.1.evil.example", 403},
    {"GET", "/metrics", "Host: [::1", 200}, /* still an address */
    {"GET", "/metrics", "Host: :81", 403},
    {"GET", "/metrics", "Content-Length: 5", 400},
    {"GET", "/metrics", "Content-Length: 0", 200},
    {"GET", "/metrics", "Transfer-Encoding: chunked", 400},
};

START_TEST(refusals)
{
    struct fixture f;
    make(&f);
    start(&f);
    struct reply r =
        ask(&f, requests[_i].method, requests[_i].path, requests[_i].header);
    ck_assert_msg(r.code == requests[_i].code, "%s %s %s: %ld",
                  requests[_i].method, requests[_i].path, requests[_i].header,
                  r.code);
    finish(&f);
}
END_TEST

START_TEST(before_the_loop_runs)
{
    struct fixture f;
    make(&f);
    struct reply r = ask(&f, "GET", "/healthz", "X-Test: 1");
    ck_assert_int_eq((int)r.code, 200);
    r = ask(&f, "GET", "/status", "X-Test: 1");
    ck_assert_int_eq((int)r.code, 200);
    ck_assert_str_eq(r.body, "{\"state\":\"starting\"}");
    start(&f);
    finish(&f);
}
END_TEST

START_TEST(a_loop_that_hangs)
{
    struct fixture f;
    make(&f);
    start(&f);
    (void)wait_running(&f);
    uv_async_send(&f.hang);
    struct reply r;
    do { /* the loop may still answer a question or two */
        r = ask(&f, "GET", "/healthz", "X-Test: 1");
    } while (r.code == 200);
    ck_assert_int_eq((int)r.code, 503);
    r = ask(&f, "GET", "/status", "X-Test: 1");
    ck_assert_int_eq((int)r.code, 503);
    ck_assert_str_eq(r.body, "{\"state\":\"hung\"}");
    r = ask(&f, "GET", "/metrics", "X-Test: 1");
    ck_assert_int_eq((int)r.code, 200);
    uv_sem_post(&f.release);
    do {
        r = ask(&f, "GET", "/healthz", "X-Test: 1");
    } while (r.code != 200);
    finish(&f);
}
END_TEST

struct asker {
    struct fixture *f;
    struct reply reply;
};

static void *ask_status(void *arg)
{
    struct asker *a = arg;
    a->reply = ask(a->f, "GET", "/status", "X-Test: 1");
    return NULL;
}

/* A stop while a question waits ends both. */
START_TEST(stop_while_asked)
{
    struct fixture f;
    make(&f);
    start(&f);
    (void)wait_running(&f);
    struct asker a = {.f = &f};
    pthread_t t;
    uv_async_send(&f.hang);
    ck_assert_int_eq(pthread_create(&t, NULL, ask_status, &a), 0);
    uv_sem_post(&f.release);
    pthread_join(t, NULL);
    ck_assert(a.reply.code == 200 || a.reply.code == 503);
    finish(&f);
}
END_TEST

START_TEST(address_in_use)
{
    struct fixture f;
    make(&f);
    start(&f);
    char address[32];
    struct err err;
    struct status_http *other;
    snprintf(address, sizeof(address), "127.0.0.1:%u", status_http_port(f.s));
    struct status_http_options o = {.address = address, .loop = &f.loop};
    ck_assert_int_eq(status_http_start(&o, &other, &err), ST_IN_USE);
    char want[96];
    snprintf(want, sizeof(want), "cannot listen on %s: Address already in use",
             address);
    ck_assert_str_eq(err.text, want);
    finish(&f);
}
END_TEST

int main(void)
{
    curl_global_init(CURL_GLOBAL_ALL);
    Suite *suite = suite_create("status_http");
    TCase *tc = tcase_create("status_http");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, pages);
    tcase_add_loop_test(tc, refusals, 0,
                        sizeof(requests) / sizeof(requests[0]));
    tcase_add_test(tc, before_the_loop_runs);
    tcase_add_test(tc, a_loop_that_hangs);
    tcase_add_test(tc, stop_while_asked);
    tcase_add_test(tc, address_in_use);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
