/*
 * The blocking shell over real sockets: many threads, one client, and in a
 * thread of its own a coordinator and a storage process with the real state
 * machine on one loop. Run under ThreadSanitizer, too.
 */
#include <assert.h>
#include <check.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sodium.h>
#include <uv.h>

#include "common/env_uv_io.h"
#include "kv/kv.h"
#include "storage/state.h"
#include "tests/unit/free_port.h"

static char coordinator_at[32], storage_at[32];
static const char *const coordinators[] = {coordinator_at, NULL};

struct waiter {
    struct env_conn *conn;
    uint64_t request;
    struct buf row, column;
};

struct server {
    pthread_t thread;
    uv_loop_t loop;
    uv_async_t stop;
    struct cluster_key key;
    struct hello_self selves[2];
    struct env *envs[2];
    struct state *state;
    uint64_t seq;
    bool mute;    /* takes commands and says nothing */
    bool watched; /* a WATCH came */
    struct waiter waiter;
};

static struct server server;
static struct kv *kv;
static char key_path[64];
static struct log silent = {.daemon = "test", .node = "test", .fd = -1};

/* ---- the server ---- */

static void reply(struct env *e, struct env_conn *c, struct buf *b)
{
    e->ops->send(c, buf_slice(b));
    buf_free(b);
}

static void on_map_watch(struct server *s, struct env_conn *c)
{
    struct service service = {slice_of("rpc"), slice_of(storage_at)};
    struct node_info node = {
        .node = 1,
        .role = ROLE_STORAGE,
        .services = &service,
        .services_count = 1,
    };
    struct tablet_config tablet = {
        .tablet = 1,
        .hash_last = UINT64_MAX,
        .epoch = 1,
        .primary.node = 1,
    };
    struct msg_map m = {
        .term = 1,
        .version = 1,
        .nodes = &node,
        .nodes_count = 1,
        .tablets = &tablet,
        .tablets_count = 1,
    };
    struct buf b = {0};
    wire_put_map(&b, 0, &m);
    reply(s->envs[0], c, &b);
}

static void on_coordinator(void *ctx, struct env_conn *c,
                           const struct wire_msg *m)
{
    struct server *s = ctx;
    struct buf b = {0};
    if (m->type == MSG_MAP_WATCH) {
        on_map_watch(s, c);
    } else if (m->type == MSG_REPORTS_ASK) {
        struct node_report n = {.node.name = slice_of("storage-1")};
        struct msg_reports r = {.term = 9, .nodes = &n, .nodes_count = 1};
        wire_put_reports(&b, m->request, &r);
        reply(s->envs[0], c, &b);
    }
}

static void on_command(struct server *s, struct env_conn *c,
                       const struct wire_msg *m)
{
    struct buf payload = {0}, b = {0};
    struct applied out;
    if (__atomic_load_n(&s->mute, __ATOMIC_SEQ_CST)) {
        return;
    }
    wire_encode_command(&payload, &m->u.command.command);
    struct name name = {1, ++s->seq};
    state_apply(s->state, name, buf_slice(&payload), 0, &out);
    buf_free(&payload);
    struct msg_result r = {.result = out.r};
    wire_put_result(&b, m->request, &r);
    reply(s->envs[1], c, &b);
}

static void on_get(struct server *s, struct env_conn *c,
                   const struct wire_msg *m)
{
    struct buf b = {0};
    struct msg_value v = {0};
    struct cell_value found = {.bytes = {NULL, 0}};
    const struct msg_get *g = &m->u.get;
    v.found = state_get(s->state, g->partition, g->row, g->column, &found);
    v.value = found.bytes;
    wire_put_value(&b, m->request, &v);
    reply(s->envs[1], c, &b);
}

static void on_scan(struct server *s, struct env_conn *c,
                    const struct wire_msg *m)
{
    struct buf b = {0};
    struct arena a = {0};
    struct msg_cells cells = {0};
    struct place *places;
    state_scan(s->state, &m->u.scan, &a, &cells, &places);
    wire_put_cells(&b, m->request, &cells);
    arena_free(&a);
    reply(s->envs[1], c, &b);
}

/* One WATCH at a time; answered by the next change of its cell. */
static void on_change(void *ctx, struct slice partition, struct slice row,
                      struct slice column)
{
    struct server *s = ctx;
    struct waiter *w = &s->waiter;
    if (w->conn == NULL || !slice_equal(row, buf_slice(&w->row)) ||
        !slice_equal(column, buf_slice(&w->column))) {
        return;
    }
    struct buf b = {0};
    struct msg_changed m = {.changed = 1, .found = 1, .value = slice_of("new")};
    wire_put_changed(&b, w->request, &m);
    reply(s->envs[1], w->conn, &b);
    w->conn = NULL;
}

static void on_watch(struct server *s, struct env_conn *c,
                     const struct wire_msg *m)
{
    s->waiter.conn = c;
    s->waiter.request = m->request;
    buf_clear(&s->waiter.row);
    buf_clear(&s->waiter.column);
    buf_put_slice(&s->waiter.row, m->u.watch.row);
    buf_put_slice(&s->waiter.column, m->u.watch.column);
    __atomic_store_n(&s->watched, true, __ATOMIC_SEQ_CST);
}

static void on_storage(void *ctx, struct env_conn *c, const struct wire_msg *m)
{
    struct server *s = ctx;
    switch ((unsigned)m->type) {
    case MSG_COMMAND:
        on_command(s, c, m);
        break;
    case MSG_GET:
        on_get(s, c, m);
        break;
    case MSG_SCAN:
        on_scan(s, c, m);
        break;
    case MSG_WATCH:
        on_watch(s, c, m);
        break;
    }
}

static void on_open(void *ctx, struct env_conn *c, const struct env_peer *p)
{
}

static void on_close(void *ctx, struct env_conn *c, enum status why)
{
}

static void on_stop(uv_async_t *a)
{
    struct server *s = a->data;
    env_uv_close(s->envs[0], NULL, NULL);
    env_uv_close(s->envs[1], NULL, NULL);
    uv_close((uv_handle_t *)a, NULL);
}

static void *serve(void *arg)
{
    struct server *s = arg;
    uv_run(&s->loop, UV_RUN_DEFAULT);
    return NULL;
}

static void listen_as(struct server *s, int i, uint8_t role, char address[32],
                      const struct env_conn_events *events)
{
    struct err err;
    s->selves[i] = (struct hello_self){.role = role, .name = "server"};
    s->selves[i].node = role == ROLE_STORAGE ? 1 : 11;
    s->selves[i].store.b[0] = (uint8_t)(i + 1);
    s->selves[i].incarnation.counter = 1;
    struct env_uv_options o = {
        .loop = &s->loop,
        .log = &silent,
        .key = &s->key,
        .self = &s->selves[i],
        .accept_roles = ROLES_ALL,
    };
    enum status st = env_uv_open(&o, &s->envs[i], &err);
    ck_assert_msg(st == ST_OK, "%s", err.text);
    do {
        snprintf(address, 32, "127.0.0.1:%u", free_port());
        st = s->envs[i]->ops->listen(s->envs[i], address, events, s, &err);
    } while (st == ST_IN_USE);
    ck_assert_msg(st == ST_OK, "%s", err.text);
}

static void start_server(struct server *s)
{
    static const struct env_conn_events coordinator = {on_open, on_coordinator,
                                                       on_close};
    static const struct env_conn_events storage = {on_open, on_storage,
                                                   on_close};
    struct err err;
    ck_assert_int_ge(sodium_init(), 0);
    snprintf(key_path, sizeof(key_path), "/tmp/unit_kv_io.%d.key",
             (int)getpid());
    ck_assert_msg(key_create(key_path, &err) == ST_OK, "%s", err.text);
    ck_assert_msg(key_load(key_path, &s->key, &err) == ST_OK, "%s", err.text);
    s->state = state_new();
    state_on_change(s->state, on_change, s);
    ck_assert_int_eq(uv_loop_init(&s->loop), 0);
    uv_async_init(&s->loop, &s->stop, on_stop);
    s->stop.data = s;
    listen_as(s, 0, ROLE_COORDINATOR, coordinator_at, &coordinator);
    listen_as(s, 1, ROLE_STORAGE, storage_at, &storage);
    ck_assert_int_eq(pthread_create(&s->thread, NULL, serve, s), 0);
}

static void setup(void)
{
    struct err err;
    start_server(&server);
    struct kv_options o = {
        .coordinators = coordinators,
        .key_file = key_path,
        .role = ROLE_CLIENT,
        .name = "test",
        .log = &silent,
    };
    ck_assert_msg(kv_open(&o, &kv, &err) == ST_OK, "%s", err.text);
    ck_assert_int_eq(kv_wait_ready(kv, 20000), ST_OK);
}

static void teardown(void)
{
    kv_close(kv);
    uv_async_send(&server.stop);
    pthread_join(server.thread, NULL);
    ck_assert_int_eq(uv_loop_close(&server.loop), 0);
    state_free(server.state);
    buf_free(&server.waiter.row);
    buf_free(&server.waiter.column);
    unlink(key_path);
}

/* ---- tests ---- */

START_TEST(calls)
{
    struct kv_key key = kv_key_of("p", "r", "c");
    struct buf b = {0};
    struct slice v2 = slice_of("v2"), v1 = slice_of("v1");
    ck_assert_int_eq(kv_get(kv, key, 5000, &b), ST_NOT_FOUND);
    ck_assert_int_eq(kv_put(kv, key, v1, 5000), ST_OK);
    ck_assert_int_eq(kv_get(kv, key, 5000, &b), ST_OK);
    ck_assert(slice_equal(buf_slice(&b), v1));
    ck_assert_int_eq(kv_cput(kv, key, NULL, v2, 5000), ST_CONFLICT);
    ck_assert_int_eq(kv_cput(kv, key, &v2, v2, 5000), ST_CONFLICT);
    ck_assert_int_eq(kv_cput(kv, key, &v1, v2, 5000), ST_OK);
    ck_assert_int_eq(kv_delete(kv, key, 5000), ST_OK);
    ck_assert_int_eq(kv_get(kv, key, 5000, &b), ST_NOT_FOUND);
    struct kv_batch *batch = kv_batch_new(slice_of("p"));
    kv_batch_require_absent(batch, "r", "c");
    int i = kv_batch_increment(batch, "r", "n", 5);
    int k = kv_batch_add(batch, "r", "l/", "l#next", slice_of("x"));
    struct kv_result result;
    int64_t value;
    ck_assert_int_eq(kv_run(kv, batch, 5000, &result), ST_OK);
    ck_assert(kv_result_value(&result, i, &value));
    ck_assert_int_eq(value, 5);
    ck_assert(kv_result_value(&result, k, &value));
    ck_assert_int_eq(value, 1);
    kv_batch_free(batch);
    struct kv_stats stats;
    kv_get_stats(kv, &stats);
    ck_assert_uint_ge(stats.requests, 9);
    buf_free(&b);
}
END_TEST

START_TEST(large_value)
{
    struct kv_key key = kv_key_of("p", "r", "big");
    struct buf b = {0};
    uint8_t *big = malloc(LIMIT_VALUE);
    memset(big, 'x', LIMIT_VALUE);
    struct slice value = slice_make(big, LIMIT_VALUE);
    ck_assert_int_eq(kv_put(kv, key, value, 20000), ST_OK);
    key.bulk = true;
    ck_assert_int_eq(kv_get(kv, key, 20000, &b), ST_OK);
    ck_assert(slice_equal(buf_slice(&b), value));
    struct kv_result r;
    struct kv_batch *batch = kv_batch_new(slice_of("p"));
    kv_batch_put(batch, "r", "big", slice_make(big, LIMIT_VALUE));
    kv_batch_put(batch, "r", "big2", slice_make(big, LIMIT_VALUE));
    ck_assert_int_eq(kv_run(kv, batch, 5000, &r), ST_TOO_LARGE);
    kv_batch_free(batch);
    free(big);
    buf_free(&b);
}
END_TEST

START_TEST(scan_pages)
{
    char column[16];
    for (int i = 0; i < 25; i++) {
        snprintf(column, sizeof(column), "c%02d", i);
        ck_assert_int_eq(
            kv_put(kv, kv_key_of("scan", "r", column), slice_of(column), 5000),
            ST_OK);
    }
    struct arena a = {0};
    struct kv_scan scan = {.partition = slice_of("scan"), .limit = 10};
    struct cell *cells;
    size_t count, all = 0;
    bool more = true;
    while (more) {
        ck_assert_int_eq(
            kv_scan_page(kv, &scan, 5000, &a, &cells, &count, &more), ST_OK);
        for (size_t i = 0; i < count; i++) {
            snprintf(column, sizeof(column), "c%02zu", all++);
            ck_assert(slice_equal(cells[i].column, slice_of(column)));
        }
        ck_assert_uint_gt(count, 0);
        scan.has_after = true;
        scan.after_row = cells[count - 1].row;
        scan.after_column = cells[count - 1].column;
    }
    ck_assert_uint_eq(all, 25);
    arena_free(&a);
}
END_TEST

static void *change_later(void *arg)
{
    struct kv_key key = kv_key_of("p", "r", "watched");
    while (!__atomic_load_n(&server.watched, __ATOMIC_SEQ_CST)) {
        (void)poll(NULL, 0, 1);
    }
    ck_assert_int_eq(kv_put(kv, key, slice_of("new"), 5000), ST_OK);
    return NULL;
}

START_TEST(watch_is_woken)
{
    pthread_t t;
    bool found = false;
    struct buf b = {0};
    pthread_create(&t, NULL, change_later, NULL);
    ck_assert_int_eq(
        kv_watch(kv, kv_key_of("p", "r", "watched"), NULL, 20000, &found, &b),
        ST_OK);
    ck_assert(found);
    ck_assert(slice_equal(buf_slice(&b), slice_of("new")));
    pthread_join(t, NULL);
    ck_assert_int_eq(
        kv_watch(kv, kv_key_of("p", "r", "other"), NULL, 50, &found, &b),
        ST_TIMEOUT);
    buf_free(&b);
}
END_TEST

START_TEST(call_and_map)
{
    struct arena a = {0};
    struct buf b = {0};
    struct msg_reports_ask ask = {0};
    struct wire_msg answer;
    wire_put_reports_ask(&b, 0, &ask);
    ck_assert_int_eq(kv_call(kv, 0, &b, 5000, &a, &answer), ST_OK);
    ck_assert_int_eq(answer.type, MSG_REPORTS);
    ck_assert_uint_eq(answer.u.reports.term, 9);
    ck_assert(slice_equal(answer.u.reports.nodes[0].node.name,
                          slice_of("storage-1")));
    ck_assert_int_eq(kv_call(kv, 5, &b, 50, &a, &answer), ST_UNREACHABLE);
    const struct msg_map *m = kv_map(kv, &a);
    ck_assert_ptr_nonnull(m);
    ck_assert_uint_eq(m->tablets_count, 1);
    arena_free(&a);
    buf_free(&b);
}
END_TEST

enum { THREADS = 8, EACH = 200 };

static void *count_up(void *arg)
{
    struct kv_batch *b = kv_batch_new(slice_of("p"));
    kv_batch_increment(b, "r", "threads", 1);
    for (int i = 0; i < EACH; i++) {
        struct kv_result r;
        struct arena a = {0};
        ck_assert_int_eq(kv_run(kv, b, 20000, &r), ST_OK);
        ck_assert_ptr_nonnull(kv_map(kv, &a));
        arena_free(&a);
    }
    kv_batch_free(b);
    return NULL;
}

START_TEST(many_threads)
{
    pthread_t threads[THREADS];
    struct buf b = {0};
    for (int i = 0; i < THREADS; i++) {
        pthread_create(&threads[i], NULL, count_up, NULL);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    ck_assert_int_eq(kv_get(kv, kv_key_of("p", "r", "threads"), 5000, &b),
                     ST_OK);
    ck_assert_int_eq(atoi(buf_cstr(&b)), THREADS * EACH);
    buf_free(&b);
}
END_TEST

static void *run_muted(void *arg)
{
    struct kv_result r;
    struct kv_batch *b = kv_batch_new(slice_of("p"));
    kv_batch_increment(b, "r", "muted", 1);
    *(enum status *)arg = kv_run(kv, b, 20000, &r);
    kv_batch_free(b);
    return NULL;
}

START_TEST(close_wakes_callers)
{
    pthread_t t;
    enum status s = ST_OK;
    struct kv_stats before, now;
    ck_assert_int_eq(kv_put(kv, kv_key_of("p", "r", "c"), slice_of("x"), 5000),
                     ST_OK);
    kv_get_stats(kv, &before);
    __atomic_store_n(&server.mute, true, __ATOMIC_SEQ_CST);
    pthread_create(&t, NULL, run_muted, &s);
    do {
        (void)poll(NULL, 0, 1);
        kv_get_stats(kv, &now);
    } while (now.requests == before.requests);
    kv_close(kv);
    pthread_join(t, NULL);
    ck_assert_int_eq(s, ST_UNKNOWN_OUTCOME);
    kv = NULL;
}
END_TEST

START_TEST(bad_options)
{
    struct kv *k = NULL;
    struct err err;
    struct kv_options o = {
        .coordinators = coordinators,
        .key_file = "/nonexistent/key",
        .role = ROLE_CLIENT,
        .name = "test",
        .log = &silent,
    };
    ck_assert_int_eq(kv_open(&o, &k, &err), ST_NOT_FOUND);
    o.coordinators = coordinators + 1;
    ck_assert_int_eq(kv_open(&o, &k, &err), ST_CONFIG);
    ck_assert_ptr_null(k);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("kv_io");
    TCase *t = tcase_create("io");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, calls);
    tcase_add_test(t, large_value);
    tcase_add_test(t, scan_pages);
    tcase_add_test(t, watch_is_woken);
    tcase_add_test(t, call_and_map);
    tcase_add_test(t, many_threads);
    tcase_add_test(t, close_wakes_callers);
    tcase_add_test(t, bad_options);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
