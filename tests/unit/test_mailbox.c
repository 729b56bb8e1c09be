/*
 * Mailboxes: lists and cursors, flags, moving, deleting; each with every call
 * to the store failing in every way, and by many threads at once. After each,
 * index, counters and quota agree.
 */
#include <check.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cloud/delivery.h"
#include "cloud/json.h"
#include "tests/unit/cloud_fixture.h"

static void start(struct fixture *f)
{
    fixture_init(f);
    fixture_account(f, "demo");
}

/* A message of about SIZE bytes into FOLDER. */
static void deliver(struct fixture *f, const char *folder, unsigned n,
                    size_t size, char uid[ULID_SIZE])
{
    struct buf raw = {0};
    struct cloud_op op = fixture_op(f);
    buf_printf(&raw, "From: a@b.test\r\nSubject: message %u\r\n\r\n", n);
    while (raw.len < size)
        buf_put_text(&raw, "0123456789\r\n");
    struct delivery_recipient to = {.username = "demo", .folder = folder};
    f->wall_ms++;
    ck_assert_int_eq(delivery_run(&op, buf_slice(&raw), &to, 1), ST_OK);
    memcpy(uid, to.uid, ULID_SIZE);
    buf_free(&raw);
}

static void list(struct fixture *f, const char *folder, struct arena *arena,
                 struct mailbox_page *page)
{
    struct cloud_op op = fixture_op(f);
    struct mailbox_query q = {
        .username = "demo", .folder = folder, .limit = 200};
    ck_assert_int_eq(mailbox_list(&op, &q, arena, page), ST_OK);
}

/* All of the mailbox agrees with itself; returns the number of messages. */
static size_t check_mailbox(struct fixture *f)
{
    struct cloud_op op = fixture_op(f);
    struct arena arena = {0};
    struct mailbox_folder *folders;
    size_t n, all = 0;
    int64_t bytes = 0;
    ck_assert_int_eq(mailbox_folders(&op, "demo", &arena, &folders, &n), ST_OK);
    for (size_t i = 0; i < n; i++) {
        struct mailbox_page page;
        int64_t unread = 0;
        list(f, folders[i].id, &arena, &page);
        for (size_t j = 0; j < page.count; j++) {
            struct mailbox_message m;
            struct mailbox_entry *e = &page.entries[j];
            bytes += (int64_t)e->size;
            unread += (e->flags & MAILBOX_READ) ? 0 : 1;
            ck_assert_int_eq(mailbox_get(&op, "demo", e->uid, &arena, &m),
                             ST_OK);
            ck_assert_str_eq(m.folder, folders[i].id);
            ck_assert_str_eq(m.entry.seq, e->seq);
            buf_free(&m.header);
        }
        ck_assert_int_eq(folders[i].total, (int64_t)page.count);
        ck_assert_int_eq(folders[i].unread, unread);
        all += page.count;
    }
    struct account_usage usage;
    ck_assert_int_eq(account_get_usage(&op, "demo", &usage), ST_OK);
    ck_assert_int_eq(usage.bytes, bytes);
    arena_free(&arena);
    return all;
}

START_TEST(lists)
{
    struct fixture f;
    start(&f);
    char uids[45][ULID_SIZE];
    for (unsigned i = 0; i < 45; i++)
        deliver(&f, "inbox", i, 100, uids[i]);
    struct cloud_op op = fixture_op(&f);
    struct arena arena = {0};
    struct mailbox_page page;
    struct mailbox_query q = {
        .username = "demo", .folder = "inbox", .limit = 20};
    static const size_t counts[] = {20, 20, 5};
    unsigned newest = 45;
    char before[MAILBOX_SEQ_TEXT + 1];
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(mailbox_list(&op, &q, &arena, &page), ST_OK);
        ck_assert_uint_eq(page.count, counts[i]);
        for (size_t j = 0; j < page.count; j++) {
            char subject[32];
            snprintf(subject, sizeof subject, "message %u", --newest);
            ck_assert_str_eq(page.entries[j].subject, subject);
            ck_assert_str_eq(page.entries[j].uid, uids[newest]);
        }
        ck_assert_int_eq(page.next[0] == '\0', i == 2);
        memcpy(before, page.next, sizeof before);
        q.before = before;
        /* What arrives meanwhile moves no page. */
        char uid[ULID_SIZE];
        deliver(&f, "inbox", 100, 100, uid);
    }
    static const char *const cursors[] = {"", "x", "000000000000000G",
                                          "00000000000000000"};
    for (size_t i = 0; i < 4; i++) {
        q.before = cursors[i];
        ck_assert_int_eq(mailbox_list(&op, &q, &arena, &page), ST_INVALID);
    }
    q.before = NULL;
    q.limit = 201;
    ck_assert_int_eq(mailbox_list(&op, &q, &arena, &page), ST_INVALID);
    q.limit = 0;
    ck_assert_int_eq(mailbox_list(&op, &q, &arena, &page), ST_INVALID);
    q.limit = 1;
    static const char *const folders[] = {"", "Inbox", "inbox/", "folders",
                                          "01ARZ3NDEKTSV4RRFFQ69G5FAV"};
    for (size_t i = 0; i < 5; i++) {
        q.folder = folders[i];
        ck_assert_int_eq(mailbox_list(&op, &q, &arena, &page), ST_NOT_FOUND);
    }
    arena_free(&arena);
    fixture_fini(&f);
}
END_TEST

START_TEST(folders)
{
    struct fixture f;
    start(&f);
    struct cloud_op op = fixture_op(&f);
    struct arena arena = {0};
    struct mailbox_folder *folder;
    size_t n;
    char id[MAILBOX_FOLDER_MAX + 1], uid[ULID_SIZE];
    ck_assert_int_eq(mailbox_folder_create(&op, "demo", "Work", id), ST_OK);
    ck_assert_int_eq(mailbox_folder_create(&op, "demo", "Work", id), ST_EXISTS);
    static const char *const bad[] = {"", " x", "a\nb", "a\xff"};
    for (size_t i = 0; i < 4; i++)
        ck_assert_int_eq(mailbox_folder_create(&op, "demo", bad[i], id),
                         ST_INVALID);
    ck_assert_int_eq(mailbox_folder_create(&op, "nobody", "Work", id),
                     ST_NOT_FOUND);
    deliver(&f, id, 1, 100, uid);
    ck_assert_int_eq(mailbox_folders(&op, "demo", &arena, &folder, &n), ST_OK);
    ck_assert_uint_eq(n, 7);
    static const char *const first[] = {"inbox",   "sent", "drafts",
                                        "archive", "junk", "trash"};
    for (size_t i = 0; i < 6; i++) {
        ck_assert_str_eq(folder[i].id, first[i]);
        ck_assert_str_eq(folder[i].role, first[i]);
    }
    ck_assert_str_eq(folder[6].id, id);
    ck_assert_str_eq(folder[6].name, "Work");
    ck_assert_int_eq(folder[6].total, 1);
    ck_assert_int_eq(mailbox_folders(&op, "nobody", &arena, &folder, &n),
                     ST_NOT_FOUND);
    arena_free(&arena);
    fixture_fini(&f);
}
END_TEST

START_TEST(changes)
{
    struct fixture f;
    start(&f);
    struct cloud_op op = fixture_op(&f);
    char a[ULID_SIZE], b[ULID_SIZE];
    deliver(&f, "inbox", 1, 100, a);
    deliver(&f, "inbox", 2, 40000, b);
    struct arena arena = {0};
    struct mailbox_message m;
    ck_assert_int_eq(
        mailbox_set_flags(&op, "demo", a, MAILBOX_READ | MAILBOX_FLAGGED, 0),
        ST_OK);
    ck_assert_int_eq(mailbox_set_flags(&op, "demo", a, 0, MAILBOX_FLAGGED),
                     ST_OK);
    ck_assert_int_eq(mailbox_get(&op, "demo", a, &arena, &m), ST_OK);
    ck_assert_uint_eq(m.entry.flags, MAILBOX_READ);
    buf_free(&m.header);
    ck_assert_int_eq(mailbox_move(&op, "demo", a, "archive"), ST_OK);
    ck_assert_int_eq(mailbox_move(&op, "demo", a, "archive"), ST_OK);
    ck_assert_int_eq(mailbox_move(&op, "demo", b, "trash"), ST_OK);
    ck_assert_uint_eq(check_mailbox(&f), 2);
    ck_assert_int_eq(mailbox_get(&op, "demo", a, &arena, &m), ST_OK);
    ck_assert_str_eq(m.folder, "archive");
    ck_assert_uint_eq(m.entry.flags, MAILBOX_READ);
    buf_free(&m.header);
    ck_assert_int_eq(mailbox_move(&op, "demo", a, "nowhere"), ST_NOT_FOUND);
    ck_assert_int_eq(mailbox_delete(&op, "demo", b), ST_OK);
    ck_assert_int_eq(mailbox_delete(&op, "demo", b), ST_NOT_FOUND);
    ck_assert_uint_eq(check_mailbox(&f), 1);
    /* Whatever stands where a uid should. */
    static const char *const bad[] = {"", "x", "../../etc",
                                      "01ARZ3NDEKTSV4RRFFQ69G5FAV"};
    struct mailbox_raw raw;
    for (size_t i = 0; i < 4; i++) {
        ck_assert_int_eq(mailbox_get(&op, "demo", bad[i], &arena, &m),
                         ST_NOT_FOUND);
        ck_assert_int_eq(mailbox_raw_open(&op, "demo", bad[i], &raw),
                         ST_NOT_FOUND);
        ck_assert_int_eq(mailbox_set_flags(&op, "demo", bad[i], 1, 0),
                         ST_NOT_FOUND);
        ck_assert_int_eq(mailbox_move(&op, "demo", bad[i], "trash"),
                         ST_NOT_FOUND);
        ck_assert_int_eq(mailbox_delete(&op, "demo", bad[i]), ST_NOT_FOUND);
    }
    /* Nobody reaches another's. */
    fixture_account(&f, "eve");
    ck_assert_int_eq(mailbox_get(&op, "eve", a, &arena, &m), ST_NOT_FOUND);
    ck_assert_int_eq(mailbox_raw_open(&op, "eve", a, &raw), ST_NOT_FOUND);
    ck_assert_int_eq(mailbox_delete(&op, "eve", a), ST_NOT_FOUND);
    arena_free(&arena);
    fixture_fini(&f);
}
END_TEST

START_TEST(raw_pieces)
{
    struct fixture f;
    start(&f);
    struct cloud_op op = fixture_op(&f);
    char uid[ULID_SIZE];
    deliver(&f, "inbox", 1, 9 << 20, uid);
    struct mailbox_raw raw;
    struct buf all = {0}, pieces = {0};
    ck_assert_int_eq(mailbox_raw_open(&op, "demo", uid, &raw), ST_OK);
    ck_assert_uint_eq(raw.pieces, 3);
    for (uint32_t i = 0; i < raw.pieces; i++)
        ck_assert_int_eq(mailbox_raw_read(&op, &raw, i, &pieces), ST_OK);
    ck_assert_int_eq(mailbox_raw_read(&op, &raw, 3, &pieces), ST_NOT_FOUND);
    ck_assert_int_eq(mailbox_read_raw(&op, "demo", uid, &all), ST_OK);
    ck_assert_uint_eq(all.len, raw.size);
    ck_assert(slice_equal(buf_slice(&all), buf_slice(&pieces)));
    struct arena arena = {0};
    struct mailbox_message m;
    ck_assert_int_eq(mailbox_get(&op, "demo", uid, &arena, &m), ST_OK);
    cJSON *o = json_parse_object(buf_slice(&m.header));
    ck_assert_int_eq(json_int(o, "size", 0), (int64_t)raw.size);
    ck_assert_str_eq(json_text(o, "subject"), "message 1");
    cJSON_Delete(o);
    buf_free(&m.header);
    buf_free(&all);
    buf_free(&pieces);
    arena_free(&arena);
    fixture_fini(&f);
}
END_TEST

static void *deliver_later(void *arg)
{
    char uid[ULID_SIZE];
    deliver(arg, "inbox", 1, 100, uid);
    return NULL;
}

START_TEST(waits)
{
    struct fixture f;
    start(&f);
    int64_t next = -1;
    struct cloud_op brief = cloud_op_make(f.cloud, 20);
    ck_assert_int_eq(mailbox_wait(&brief, "demo", "inbox", 0, &next),
                     ST_TIMEOUT);
    pthread_t thread;
    pthread_create(&thread, NULL, deliver_later, &f);
    struct cloud_op op = fixture_op(&f);
    ck_assert_int_eq(mailbox_wait(&op, "demo", "inbox", 0, &next), ST_OK);
    ck_assert_int_eq(next, 1);
    pthread_join(thread, NULL);
    fixture_fini(&f);
}
END_TEST

/* ---- faults ---- */

static enum status change(const struct cloud_op *op, int which, const char *uid)
{
    switch (which) {
    case 0:
        return mailbox_set_flags(op, "demo", uid, MAILBOX_READ, 0);
    case 1:
        return mailbox_move(op, "demo", uid, "archive");
    default:
        return mailbox_delete(op, "demo", uid);
    }
}

/* True if the change is there. */
static bool is_changed(struct fixture *f, int which, const char *uid)
{
    struct cloud_op op = fixture_op(f);
    struct arena arena = {0};
    struct mailbox_message m = {0};
    enum status st = mailbox_get(&op, "demo", uid, &arena, &m);
    bool changed = which == 0   ? (m.entry.flags & MAILBOX_READ) != 0
                   : which == 1 ? strcmp(m.folder, "archive") == 0
                                : st == ST_NOT_FOUND;
    buf_free(&m.header);
    arena_free(&arena);
    return changed;
}

START_TEST(one_fault)
{
    int which = _i % 3;
    enum local_kv_fault kind = (enum local_kv_fault)(_i / 3 + 1);
    bool failed = true;
    for (unsigned n = 0; failed; n++) {
        struct fixture f;
        start(&f);
        char uid[ULID_SIZE], other[ULID_SIZE];
        deliver(&f, "inbox", 1, 40000, uid);
        deliver(&f, "inbox", 2, 100, other);
        struct cloud_op op = fixture_op(&f);
        local_kv_fail(f.kv, n, 1, kind);
        enum status st = change(&op, which, uid);
        failed = local_kv_failed(f.kv);
        local_kv_fail(f.kv, 0, 0, LOCAL_NONE);
        bool changed = is_changed(&f, which, uid);
        ck_assert_msg(st == ST_OK || st == ST_TIMEOUT, "%s", status_name(st));
        ck_assert_msg(changed == (st == ST_OK), "call %u fault %d: %s", n,
                      (int)kind, status_name(st));
        ck_assert_uint_eq(check_mailbox(&f), which == 2 && changed ? 1 : 2);
        fixture_fini(&f);
    }
}
END_TEST

/* ---- many at once ---- */

struct worker {
    struct fixture *f;
    char (*uids)[ULID_SIZE];
    unsigned seed;
};

static void *work(void *arg)
{
    struct worker *w = arg;
    static const char *const to[] = {"inbox", "archive", "trash"};
    for (int i = 0; i < 200; i++) {
        struct cloud_op op = fixture_op(w->f);
        w->seed = w->seed * 1664525u + 1013904223u;
        const char *uid = w->uids[(w->seed >> 8) % 8];
        enum status st;
        switch ((w->seed >> 16) % 128) {
        case 0:
            st = mailbox_delete(&op, "demo", uid);
            break;
        case 1 ... 70:
            st = mailbox_set_flags(&op, "demo", uid,
                                   (w->seed >> 20 & 1) ? MAILBOX_READ : 0,
                                   MAILBOX_READ);
            break;
        default:
            st = mailbox_move(&op, "demo", uid, to[(w->seed >> 20) % 3]);
        }
        ck_assert_msg(st == ST_OK || st == ST_NOT_FOUND, "%s", status_name(st));
    }
    return NULL;
}

START_TEST(many_at_once)
{
    struct fixture f;
    start(&f);
    char uids[8][ULID_SIZE];
    for (unsigned i = 0; i < 8; i++)
        deliver(&f, "inbox", i, 100, uids[i]);
    pthread_t threads[6];
    struct worker workers[6];
    for (unsigned i = 0; i < 6; i++) {
        workers[i] = (struct worker){&f, uids, i + 1};
        pthread_create(&threads[i], NULL, work, &workers[i]);
    }
    for (int i = 0; i < 6; i++)
        pthread_join(threads[i], NULL);
    ck_assert_uint_le(check_mailbox(&f), 8);
    fixture_fini(&f);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("mailbox");
    TCase *t = tcase_create("all");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, lists);
    tcase_add_test(t, folders);
    tcase_add_test(t, changes);
    tcase_add_test(t, raw_pieces);
    tcase_add_test(t, waits);
    tcase_add_loop_test(t, one_fault, 0, 3 * (LOCAL_FAULTS - 1));
    tcase_add_test(t, many_at_once);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
