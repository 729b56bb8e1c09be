/*
 * Delivery's ledger: whatever single fault the store has at whatever call, and
 * wherever the gateway dies, a message that was acknowledged is there exactly
 * once in every mailbox, byte for byte; one that was refused is nowhere, now
 * and later; counters and quota always agree with what is there; and what a
 * dead writer left behind is collected.
 */
#include <check.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cloud/delivery_inside.h"
#include "gateway/collector_io.h"
#include "tests/unit/cloud_fixture.h"

#define FOREVER 1000000u
#define HOURS_MS (3600 * 1000ll)

static const char *const users[] = {"alice", "bob", "carol"};

/* How many recipients, how large. */
static const struct {
    size_t recipients, size;
} shapes[] = {{1, 500}, {1, 40000}, {3, 500}, {3, 40000}};
#define SHAPES 4

struct mail {
    struct buf raw;
    char heads[3][64];
    struct delivery_recipient to[3];
    size_t count;
};

static void make_mail(struct mail *m, size_t recipients, size_t size)
{
    *m = (struct mail){.count = recipients};
    buf_put_text(&m->raw, "From: Eve <eve@far.test>\r\nSubject: Hello\r\n\r\n");
    for (unsigned i = 0; m->raw.len < size; i++)
        buf_printf(&m->raw, "line %u\r\n", i);
    for (size_t i = 0; i < recipients; i++) {
        snprintf(m->heads[i], sizeof m->heads[i], "Delivered-For: %s\r\n",
                 users[i]);
        m->to[i] = (struct delivery_recipient){.username = users[i],
                                               .folder = "inbox",
                                               .head = slice_of(m->heads[i])};
    }
}

static void start(struct fixture *f)
{
    fixture_init(f);
    for (size_t i = 0; i < 3; i++)
        fixture_account(f, users[i]);
}

/* Messages in USER's inbox; checks its bytes against MAIL's, and that all
 * counters agree. */
static size_t inspect(struct fixture *f, const struct mail *m, size_t user)
{
    struct cloud_op op = fixture_op(f);
    struct arena arena = {0};
    struct mailbox_page page;
    struct mailbox_query q = {
        .username = users[user], .folder = "inbox", .limit = 200};
    ck_assert_int_eq(mailbox_list(&op, &q, &arena, &page), ST_OK);
    int64_t bytes = 0;
    for (size_t i = 0; i < page.count; i++) {
        struct buf raw = {0}, want = {0};
        ck_assert_int_eq(
            mailbox_read_raw(&op, users[user], page.entries[i].uid, &raw),
            ST_OK);
        buf_put_text(&want, m->heads[user]);
        buf_put_slice(&want, buf_slice(&m->raw));
        ck_assert(slice_equal(buf_slice(&raw), buf_slice(&want)));
        ck_assert_str_eq(page.entries[i].subject, "Hello");
        bytes += (int64_t)page.entries[i].size;
        buf_free(&raw);
        buf_free(&want);
    }
    struct mailbox_folder *folders;
    size_t n;
    ck_assert_int_eq(mailbox_folders(&op, users[user], &arena, &folders, &n),
                     ST_OK);
    ck_assert_str_eq(folders[0].id, "inbox");
    ck_assert_int_eq(folders[0].total, (int64_t)page.count);
    ck_assert_int_eq(folders[0].unread, (int64_t)page.count);
    struct account_usage usage;
    ck_assert_int_eq(account_get_usage(&op, users[user], &usage), ST_OK);
    ck_assert_int_eq(usage.bytes - usage.reserved, bytes);
    arena_free(&arena);
    return page.count;
}

/* Makes a command that is under way arrive. */
static void let_arrive(struct fixture *f)
{
    ck_assert_int_eq(
        kv_put(f->kv, kv_key_of("x", "x", "x"), slice_of("1"), 1000), ST_OK);
}

static void delete_all(struct fixture *f, const char *user)
{
    struct cloud_op op = fixture_op(f);
    struct arena arena = {0};
    struct mailbox_page page;
    struct mailbox_query q = {
        .username = user, .folder = "inbox", .limit = 200};
    ck_assert_int_eq(mailbox_list(&op, &q, &arena, &page), ST_OK);
    for (size_t i = 0; i < page.count; i++)
        ck_assert_int_eq(mailbox_delete(&op, user, page.entries[i].uid), ST_OK);
    arena_free(&arena);
}

static void collect(struct fixture *f)
{
    struct cloud_op op = fixture_op(f);
    uint64_t removed;
    f->wall_ms += 2 * HOURS_MS;
    ck_assert_int_eq(cloud_collect(&op, &removed), ST_OK);
}

/* After deleting and collecting, only what was there before is there. */
static void check_nothing_left(struct fixture *f, uint64_t cells)
{
    for (size_t i = 0; i < 3; i++)
        delete_all(f, users[i]);
    collect(f);
    ck_assert_uint_eq(local_kv_cells(f->kv), cells);
    for (size_t i = 0; i < 3; i++) {
        struct cloud_op op = fixture_op(f);
        struct account_usage usage;
        ck_assert_int_eq(account_get_usage(&op, users[i], &usage), ST_OK);
        ck_assert_int_eq(usage.bytes, 0);
        ck_assert_int_eq(usage.reserved, 0);
    }
}

/* One run with call N failing; true if the fault came to pass. */
static bool run_with_fault(size_t shape, unsigned n, unsigned calls,
                           enum local_kv_fault kind)
{
    struct fixture f;
    struct mail m;
    start(&f);
    let_arrive(&f);
    uint64_t cells = local_kv_cells(f.kv);
    make_mail(&m, shapes[shape].recipients, shapes[shape].size);
    struct cloud_op op = fixture_op(&f);
    local_kv_fail(f.kv, n, calls, kind);
    enum status st = delivery_run(&op, buf_slice(&m.raw), m.to, m.count);
    bool failed = local_kv_failed(f.kv);
    local_kv_fail(f.kv, 0, 0, LOCAL_NONE);
    let_arrive(&f);
    ck_assert_msg(st != ST_UNKNOWN_OUTCOME, "call %u fault %d", n, (int)kind);
    for (size_t i = 0; i < m.count; i++)
        ck_assert_msg(inspect(&f, &m, i) == (st == ST_OK ? 1 : 0),
                      "call %u fault %d: %s", n, (int)kind, status_name(st));
    if (st != ST_OK) {
        ck_assert_int_eq(delivery_run(&op, buf_slice(&m.raw), m.to, m.count),
                         ST_OK);
        for (size_t i = 0; i < m.count; i++)
            ck_assert_uint_eq(inspect(&f, &m, i), 1);
    }
    check_nothing_left(&f, cells);
    buf_free(&m.raw);
    fixture_fini(&f);
    return failed;
}

START_TEST(one_fault)
{
    size_t shape = (size_t)_i % SHAPES;
    enum local_kv_fault kind = (enum local_kv_fault)(_i / SHAPES + 1);
    unsigned n = 0;
    while (run_with_fault(shape, n, 1, kind))
        n++;
    ck_assert_uint_ge(n, 2); /* it did make calls */
}
END_TEST

START_TEST(three_faults_in_a_row)
{
    size_t shape = (size_t)_i % SHAPES;
    enum local_kv_fault kind = (enum local_kv_fault)(_i / SHAPES + 1);
    for (unsigned n = 0; run_with_fault(shape, n, 3, kind); n++)
        ck_assert_uint_lt(n, 200);
}
END_TEST

/* The gateway dies at call N: each mailbox has all of the message or nothing
 * of it, and what is left of it is collected. */
START_TEST(death)
{
    size_t shape = (size_t)_i;
    bool failed = true;
    for (unsigned n = 0; failed; n++) {
        struct fixture f;
        struct mail m;
        start(&f);
        uint64_t cells = local_kv_cells(f.kv);
        make_mail(&m, shapes[shape].recipients, shapes[shape].size);
        struct cloud_op op = fixture_op(&f);
        local_kv_fail(f.kv, n, FOREVER, LOCAL_STOPPED);
        enum status st = delivery_run(&op, buf_slice(&m.raw), m.to, m.count);
        failed = local_kv_failed(f.kv);
        local_kv_fail(f.kv, 0, 0, LOCAL_NONE);
        size_t there = 0;
        for (size_t i = 0; i < m.count; i++)
            there += inspect(&f, &m, i);
        if (st == ST_OK)
            ck_assert_uint_eq(there, m.count);
        else if (st != ST_UNKNOWN_OUTCOME)
            ck_assert_uint_eq(there, 0);
        check_nothing_left(&f, cells);
        buf_free(&m.raw);
        fixture_fini(&f);
    }
}
END_TEST

/* One of three tablets does not answer: nobody gets it, then everybody. */
START_TEST(one_unreachable)
{
    struct fixture f;
    struct mail m;
    start(&f);
    make_mail(&m, 3, 500);
    struct cloud_op op = cloud_op_make(f.cloud, 4300);
    local_kv_fail_only(f.kv, "bob");
    local_kv_fail(f.kv, 2, FOREVER, LOCAL_UNREACHABLE);
    enum status st = delivery_run(&op, buf_slice(&m.raw), m.to, m.count);
    local_kv_fail(f.kv, 0, 0, LOCAL_NONE);
    ck_assert_msg(st == ST_UNKNOWN_OUTCOME, "%s", status_name(st));
    /* It says who has it. */
    for (size_t i = 0; i < 3; i++)
        ck_assert_uint_eq(inspect(&f, &m, i), m.to[i].status == ST_OK ? 1 : 0);
    ck_assert_int_eq(m.to[0].status, ST_OK);
    ck_assert_int_ne(m.to[1].status, ST_OK);
    ck_assert_int_eq(m.to[2].status, ST_OK);
    buf_free(&m.raw);
    fixture_fini(&f);
}
END_TEST

/* One of three tablets has no space for a while: once others have the mail,
 * that is waited for, or the sender would hear nothing and send it again. To
 * one alone it is refused at once. */
START_TEST(one_full)
{
    struct fixture f;
    struct mail m;
    start(&f);
    make_mail(&m, 3, 500);
    struct cloud_op op = fixture_op(&f);
    local_kv_fail_only(f.kv, "alice");
    local_kv_fail(f.kv, 1, 10, LOCAL_FULL);
    ck_assert_int_eq(delivery_run(&op, buf_slice(&m.raw), m.to, 3), ST_OK);
    ck_assert(local_kv_failed(f.kv));
    for (size_t i = 0; i < 3; i++)
        ck_assert_uint_eq(inspect(&f, &m, i), 1);
    local_kv_fail(f.kv, 0, FOREVER, LOCAL_FULL);
    int64_t began_ms = store_now_ms();
    ck_assert_int_eq(delivery_run(&op, buf_slice(&m.raw), m.to, 1),
                     ST_NO_SPACE);
    ck_assert_int_lt(store_now_ms() - began_ms, 5000);
    local_kv_fail(f.kv, 0, 0, LOCAL_NONE);
    ck_assert_uint_eq(inspect(&f, &m, 0), 1);
    buf_free(&m.raw);
    fixture_fini(&f);
}
END_TEST

/* So near the deadline no answer would come in time: then nothing is begun,
 * and that is known. */
START_TEST(too_late_to_begin)
{
    struct fixture f;
    struct mail m;
    start(&f);
    make_mail(&m, 1, 500);
    struct cloud_op op = cloud_op_make(f.cloud, 50);
    local_kv_fail(f.kv, 1, FOREVER, LOCAL_LOST_DONE);
    enum status st = delivery_run(&op, buf_slice(&m.raw), m.to, 1);
    ck_assert_msg(st == ST_UNREACHABLE || st == ST_TIMEOUT, "%s",
                  status_name(st));
    local_kv_fail(f.kv, 0, 0, LOCAL_NONE);
    ck_assert_uint_eq(inspect(&f, &m, 0), 0);
    buf_free(&m.raw);
    fixture_fini(&f);
}
END_TEST

START_TEST(quota)
{
    struct fixture f;
    struct mail m;
    start(&f);
    make_mail(&m, 3, 40000);
    struct cloud_op op = fixture_op(&f);
    int64_t size = (int64_t)(m.raw.len + strlen(m.heads[1]));
    ck_assert_int_eq(account_set_limit(&op, "bob", size - 1), ST_OK);
    ck_assert_int_eq(delivery_run(&op, buf_slice(&m.raw), m.to, 3), ST_BOUND);
    ck_assert_int_eq(m.to[1].status, ST_BOUND);
    for (size_t i = 0; i < 3; i++)
        ck_assert_uint_eq(inspect(&f, &m, i), 0);
    ck_assert_int_eq(account_set_limit(&op, "bob", size), ST_OK);
    ck_assert_int_eq(delivery_run(&op, buf_slice(&m.raw), m.to, 3), ST_OK);
    ck_assert_int_eq(delivery_run(&op, buf_slice(&m.raw), m.to, 3), ST_BOUND);
    for (size_t i = 0; i < 3; i++)
        ck_assert_uint_eq(inspect(&f, &m, i), 1);
    ck_assert_int_eq(
        delivery_run(&op, slice_of("Subject: x\r\n\r\n"), &m.to[1], 1),
        ST_BOUND);
    buf_free(&m.raw);
    fixture_fini(&f);
}
END_TEST

START_TEST(refused)
{
    struct fixture f;
    struct mail m;
    start(&f);
    make_mail(&m, 2, 500);
    struct cloud_op op = fixture_op(&f);
    m.to[1].username = "nobody";
    ck_assert_int_eq(delivery_run(&op, buf_slice(&m.raw), m.to, 2),
                     ST_NOT_FOUND);
    ck_assert_uint_eq(inspect(&f, &m, 0), 0);
    m.to[1].username = "alice";
    ck_assert_int_eq(delivery_run(&op, buf_slice(&m.raw), m.to, 2), ST_INVALID);
    m.to[1].username = "bob";
    m.to[1].folder = "no-such";
    ck_assert_int_eq(delivery_run(&op, buf_slice(&m.raw), m.to, 2), ST_INVALID);
    m.to[1].folder = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
    enum status st = delivery_run(&op, buf_slice(&m.raw), m.to, 2);
    ck_assert_msg(st == ST_NOT_FOUND, "%s", status_name(st));
    ck_assert_uint_eq(inspect(&f, &m, 0), 0);
    buf_free(&m.raw);
    fixture_fini(&f);
}
END_TEST

/* The account is deleted while a large message is on its way to it: nobody
 * gets it, and nothing of it stays. */
START_TEST(the_account_goes_away)
{
    struct fixture f;
    struct mail m;
    struct delivery_one o;
    start(&f);
    let_arrive(&f);
    uint64_t cells = local_kv_cells(f.kv);
    struct cloud_op op = fixture_op(&f);
    fixture_account(&f, "dave");
    make_mail(&m, 1, 40000);
    m.to[0].username = "dave";
    struct delivery d = {.op = op, .raw = buf_slice(&m.raw), .count = 1};
    d.wall_ms = f.wall_ms;
    d.message = message_parse(d.raw);
    delivery_one_init(&d, &o, &m.to[0]);
    ck_assert_int_eq(delivery_prepare(&d, &o), ST_OK);
    ck_assert_int_eq(account_delete(&op, "dave"), ST_OK);
    ck_assert_uint_eq(local_kv_cells(f.kv), cells);
    /* The last chunk was still under way. */
    struct store_name row = mailbox_chunk_row("dave", m.to[0].uid, 0);
    ck_assert_int_eq(store_put(&op, row.text, row.text, "chunk", slice_of("x")),
                     ST_OK);
    if (_i == 0)
        delivery_show(&d, &o, 1000);
    else
        delivery_undo(&d, &o);
    ck_assert_int_eq(o.step, STEP_UNDONE);
    ck_assert_uint_eq(local_kv_cells(f.kv), cells);
    message_free(d.message);
    buf_free(&o.intent);
    buf_free(&m.raw);
    fixture_fini(&f);
}
END_TEST

/* Deletes dave as soon as the mail to him is under way. */
static void *delete_dave(void *ctx)
{
    struct fixture *f = ctx;
    struct cloud_op op = fixture_op(f);
    struct kv_scan scan = {.partition = slice_of("dave"),
                           .row = slice_of("dave:pending:")};
    size_t count = 0;
    while (count == 0) {
        struct arena arena = {0};
        struct cell *cells;
        bool more;
        ck_assert_int_eq(
            kv_scan_page(f->kv, &scan, 1000, &arena, &cells, &count, &more),
            ST_OK);
        arena_free(&arena);
    }
    ck_assert_int_eq(account_delete(&op, "dave"), ST_OK);
    return NULL;
}

/* One of two goes away meanwhile, the first or the last: the other has the
 * mail, and the sender is told so, or he would send it again. */
START_TEST(one_of_two_goes_away)
{
    struct fixture f;
    struct mail m;
    pthread_t thread;
    size_t dave = (size_t)_i;
    start(&f);
    fixture_account(&f, "dave");
    make_mail(&m, 2, LIMIT_MESSAGE - KIB(64));
    m.to[1 - dave] = (struct delivery_recipient){
        .username = "alice", .folder = "inbox", .head = slice_of(m.heads[0])};
    m.to[dave] = (struct delivery_recipient){
        .username = "dave", .folder = "inbox", .head = slice_of(m.heads[1])};
    struct cloud_op op = fixture_op(&f);
    ck_assert_int_eq(pthread_create(&thread, NULL, delete_dave, &f), 0);
    enum status st = delivery_run(&op, buf_slice(&m.raw), m.to, 2);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    ck_assert_msg(st == ST_OK, "%s", status_name(st));
    ck_assert_uint_eq(inspect(&f, &m, 0), 1);
    buf_free(&m.raw);
    fixture_fini(&f);
}
END_TEST

/* Wherever an account's deletion is cut short: once the first message's
 * contents are gone, none comes in any more. */
START_TEST(no_mail_into_what_is_being_deleted)
{
    bool failed = true;
    unsigned refusals = 0;
    for (unsigned n = 0; failed; n++) {
        struct fixture f;
        struct mail m;
        start(&f);
        make_mail(&m, 1, 40000);
        struct cloud_op op = fixture_op(&f);
        struct mailbox_raw raw;
        ck_assert_int_eq(delivery_run(&op, buf_slice(&m.raw), m.to, 1), ST_OK);
        ck_assert_int_eq(mailbox_raw_open(&op, "alice", m.to[0].uid, &raw),
                         ST_OK);
        local_kv_fail(f.kv, n, FOREVER, LOCAL_STOPPED);
        enum status st = account_delete(&op, "alice");
        failed = local_kv_failed(f.kv);
        ck_assert_int_eq(st == ST_OK, !failed);
        local_kv_fail(f.kv, 0, 0, LOCAL_NONE);
        struct buf chunk = {0};
        st = mailbox_raw_read(&op, &raw, 0, &chunk);
        buf_free(&chunk);
        if (st == ST_NOT_FOUND) {
            refusals++;
            st = delivery_run(&op, buf_slice(&m.raw), m.to, 1);
            ck_assert_msg(st == ST_NOT_FOUND, "call %u: %s", n,
                          status_name(st));
        }
        buf_free(&m.raw);
        fixture_fini(&f);
    }
    ck_assert_uint_ge(refusals, 3);
}
END_TEST

/* At the edges of inline, chunk and message size. */
START_TEST(sizes)
{
    static const size_t edges[] = {1,
                                   LIMIT_MESSAGE_INLINE - 1,
                                   LIMIT_MESSAGE_INLINE,
                                   LIMIT_MESSAGE_INLINE + 1,
                                   LIMIT_CHUNK - 1,
                                   LIMIT_CHUNK,
                                   LIMIT_CHUNK + 1,
                                   2 * LIMIT_CHUNK + 7,
                                   LIMIT_MESSAGE};
    struct fixture f;
    start(&f);
    struct cloud_op op = fixture_op(&f);
    uint8_t *bytes = xmalloc(LIMIT_MESSAGE + 1);
    for (size_t i = 0; i <= LIMIT_MESSAGE; i++)
        bytes[i] = (uint8_t)(i * 2654435761u >> 13);
    for (size_t i = 0; i < sizeof edges / sizeof *edges; i++) {
        struct delivery_recipient to = {.username = "alice",
                                        .folder = "archive",
                                        .head = slice_of("X: 1\r\n"),
                                        .flags = MAILBOX_READ};
        struct slice raw = slice_make(bytes, edges[i]);
        struct buf got = {0};
        ck_assert_int_eq(delivery_run(&op, raw, &to, 1), ST_OK);
        ck_assert_int_eq(mailbox_read_raw(&op, "alice", to.uid, &got), ST_OK);
        ck_assert_uint_eq(got.len, edges[i] + 6);
        ck_assert(memcmp(got.data + 6, bytes, edges[i]) == 0);
        buf_free(&got);
    }
    struct delivery_recipient to = {.username = "alice", .folder = "inbox"};
    ck_assert_int_eq(
        delivery_run(&op, slice_make(bytes, LIMIT_MESSAGE + 1), &to, 1),
        ST_INVALID);
    free(bytes);
    fixture_fini(&f);
}
END_TEST

/* The gateway's thread does it, and ends at once when told. */
START_TEST(collector_thread)
{
    struct fixture f;
    struct mail m;
    struct err err;
    struct collector *thread;
    start(&f);
    uint64_t cells = local_kv_cells(f.kv);
    make_mail(&m, 1, 40000);
    struct cloud_op op = fixture_op(&f);
    local_kv_fail(f.kv, 3, FOREVER, LOCAL_STOPPED);
    ck_assert_int_eq(delivery_run(&op, buf_slice(&m.raw), m.to, 1),
                     ST_STOPPING);
    local_kv_fail(f.kv, 0, 0, LOCAL_NONE);
    ck_assert_uint_gt(local_kv_cells(f.kv), cells);
    ck_assert_int_eq(collector_start(f.cloud, 400, &thread, &err), ST_OK);
    f.wall_ms += 2 * HOURS_MS;
    while (local_kv_cells(f.kv) > cells)
        poll(NULL, 0, 1);
    collector_stop(thread);
    buf_free(&m.raw);
    fixture_fini(&f);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("delivery");
    TCase *t = tcase_create("all");
    tcase_set_timeout(t, 60);
    int runs = SHAPES * (LOCAL_FAULTS - 1);
    tcase_add_loop_test(t, one_fault, 0, runs);
    tcase_add_loop_test(t, three_faults_in_a_row, 0, runs);
    tcase_add_loop_test(t, death, 0, SHAPES);
    tcase_add_test(t, one_unreachable);
    tcase_add_test(t, one_full);
    tcase_add_test(t, too_late_to_begin);
    tcase_add_test(t, quota);
    tcase_add_test(t, refused);
    tcase_add_loop_test(t, the_account_goes_away, 0, 2);
    tcase_add_loop_test(t, one_of_two_goes_away, 0, 2);
    tcase_add_test(t, no_mail_into_what_is_being_deleted);
    tcase_add_test(t, sizes);
    tcase_add_test(t, collector_thread);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
