/*
 * The schema's checker: a good account gives no word; each kind of damage
 * gives its own.
 */
#include "cloud/check.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define UID_A "01ARZ3NDEKTSV4RRFFQ69G5FAV"
#define UID_B "01BX5ZZKBKACTAV9WEVGEMMVRZ"

struct row {
    const char *row, *column, *value;
};

static char heard[4096];

static void say(void *ctx, const char *text)
{
    (void)ctx;
    size_t at = strlen(heard);
    (void)snprintf(heard + at, sizeof(heard) - at, "%s\n", text);
}

/* Two messages in inbox, one of them read, one being written; a file. In
 * tree order. */
static const struct row good[] = {
    {"ann:drive:UID_" UID_A, "name", "file.txt"},
    {"ann:drive:UID_" UID_A, "size", "1000"},
    {"ann:mailbox", "folders/inbox", "{}"},
    {"ann:mailbox", "inbox#next", "2"},
    {"ann:mailbox", "inbox#total", "2"},
    {"ann:mailbox", "inbox#unread", "1"},
    {"ann:mailbox", "inbox/0000000000000001",
     "{\"uid\":\"" UID_A "\",\"flags\":[\"read\"],\"size\":100}"},
    {"ann:mailbox", "inbox/0000000000000002",
     "{\"uid\":\"" UID_B "\",\"flags\":[],\"size\":20}"},
    {"ann:mailmsg:" UID_A, "header", "{}"},
    {"ann:mailmsg:" UID_A, "place", "inbox/0000000000000001"},
    {"ann:mailmsg:" UID_B, "header", "{}"},
    {"ann:mailmsg:" UID_B, "place", "inbox/0000000000000002"},
    {"ann:pending:" UID_A, "intent",
     "{\"kind\":\"mail\",\"chunks\":1,\"size\":7,\"created\":1}"},
    {"ann:usage", "bytes", "1127"},
    {"ann:usage", "limit", "5000"},
    {"ann:usage", "reserved", "7"},
};
#define COUNT (sizeof(good) / sizeof(good[0]))

static void give(struct cloud_check *k, const char *partition,
                 const struct row *r)
{
    struct cell c = {slice_of(partition), slice_of(r->row), slice_of(r->column),
                     slice_of(r->value)};
    cloud_check_cell(k, &c);
}

/* Row AT of GOOD is left out, or has VALUE instead. */
static struct cloud_check_counts run(int at, const char *value)
{
    struct cloud_check_counts n;
    struct cloud_check *k = cloud_check_new(say, NULL);
    struct row other = {"domain:x", "settings", "{}"};
    heard[0] = '\0';
    give(k, "domain:x", &other);
    for (int i = 0; i < (int)COUNT; i++) {
        struct row r = good[i];
        if (i == at && value != NULL) {
            r.value = value;
        }
        if (i != at || value != NULL) {
            give(k, "ann", &r);
        }
    }
    give(k, "user:ann", &other);
    cloud_check_finish(k, &n);
    cloud_check_free(k);
    return n;
}

START_TEST(good_account)
{
    struct cloud_check_counts n = run(-1, NULL);
    ck_assert_str_eq(heard, "");
    ck_assert_uint_eq(n.problems, 0);
    ck_assert_uint_eq(n.accounts, 1);
    ck_assert_uint_eq(n.messages, 2);
    ck_assert_uint_eq(n.folders, 1);
    ck_assert_uint_eq(n.cells, COUNT + 2);
}
END_TEST

static const struct {
    int at;
    const char *value; /* NULL: the cell is missing */
    const char *word;
} damages[] = {
    {1, "999", "usage bytes is 1127, but there are 1126"},
    {4, "3", "inbox#total is 3, but there are 2"},
    {4, "x", "counter"},
    {5, "2", "inbox#unread is 2, but there are 1"},
    {6, NULL, "message " UID_A " is in no folder"},
    {6, "{", "index cell"},
    {7, "{\"uid\":\"" UID_A "\",\"flags\":[],\"size\":20}", "a second time"},
    {8, NULL, "message " UID_A " has no header"},
    {9, NULL, "message " UID_A " has no place"},
    {9, "inbox/0000000000000003", "but its place says inbox/0000000000000003"},
    {9, "nonsense", "cannot be read"},
    {12, NULL, "usage reserved is 7, but there are 0"},
    {13, "5", "usage bytes is 5"},
};

START_TEST(damage_is_told)
{
    struct cloud_check_counts n = run(damages[_i].at, damages[_i].value);
    ck_assert_uint_gt(n.problems, 0);
    ck_assert_msg(strstr(heard, damages[_i].word) != NULL,
                  "wanted '%s', heard: %s", damages[_i].word, heard);
    ck_assert_msg(strncmp(heard, "account ann: ", 13) == 0, "heard: %s", heard);
}
END_TEST

START_TEST(message_that_is_gone)
{
    struct cloud_check_counts n;
    struct cloud_check *k = cloud_check_new(say, NULL);
    heard[0] = '\0';
    for (size_t i = 0; i < COUNT; i++) {
        if (strcmp(good[i].row, "ann:mailmsg:" UID_A) != 0) {
            give(k, "ann", &good[i]);
        }
    }
    cloud_check_finish(k, &n);
    cloud_check_free(k);
    ck_assert_uint_eq(n.problems, 1);
    ck_assert_ptr_nonnull(strstr(heard, "is not there"));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("cloud_check");
    TCase *t = tcase_create("check");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, good_account);
    tcase_add_loop_test(t, damage_is_told, 0,
                        sizeof(damages) / sizeof(damages[0]));
    tcase_add_test(t, message_that_is_gone);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
