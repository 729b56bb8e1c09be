/*
 * Who may talk to whom, and about what.
 */
#include "common/hello.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct hello_self self = {
    .cluster = {{1}}, .node = 3, .role = ROLE_STORAGE, .name = "storage-3"};

static struct msg_hello good(void)
{
    static struct hello_self other = {.cluster = {{1}},
                                      .store = {{9}},
                                      .incarnation = {4, 5},
                                      .term = 6,
                                      .node = 7,
                                      .role = ROLE_GATEWAY,
                                      .name = "gateway-7"};
    struct msg_hello h;
    hello_make(&other, LANE_BULK, &h);
    return h;
}

START_TEST(peer_is_told)
{
    struct msg_hello h = good();
    struct env_peer p;
    struct err err;
    ck_assert_int_eq(hello_check(&self, &h, ROLES_ALL, &p, &err), ST_OK);
    ck_assert_uint_eq(p.node, 7);
    ck_assert_uint_eq(p.role, ROLE_GATEWAY);
    ck_assert_uint_eq(p.lane, LANE_BULK);
    ck_assert_uint_eq(p.store.b[0], 9);
    ck_assert_uint_eq(p.incarnation.counter, 4);
    ck_assert_uint_eq(p.incarnation.random, 5);
    ck_assert_uint_eq(p.term, 6);
    ck_assert_str_eq(p.name, "gateway-7");
}
END_TEST

static void bad_magic(struct msg_hello *h)
{
    h->magic ^= 1;
}
static void upside_down(struct msg_hello *h)
{
    h->protocol_low = 5;
    h->protocol_high = 4;
}
static void too_new(struct msg_hello *h)
{
    h->protocol_low = WIRE_PROTOCOL_HIGH + 1;
    h->protocol_high = WIRE_PROTOCOL_HIGH + 2;
}
static void too_old(struct msg_hello *h)
{
    h->protocol_low = h->protocol_high = WIRE_PROTOCOL_LOW - 1;
}
static void overlaps(struct msg_hello *h)
{
    h->protocol_low = 0;
    h->protocol_high = 500;
}
static void other_cluster(struct msg_hello *h)
{
    h->cluster.b[15] = 1;
}
static void no_cluster(struct msg_hello *h)
{
    memset(&h->cluster, 0, sizeof(h->cluster));
}
static void no_role(struct msg_hello *h)
{
    h->role = ROLE_NONE;
}
static void strange_role(struct msg_hello *h)
{
    h->role = ROLE_CLIENT + 1;
}
static void strange_lane(struct msg_hello *h)
{
    h->lane = LANE_BEACON + 1;
}
static void unwanted_role(struct msg_hello *h)
{
    h->role = ROLE_BALANCER;
}
static void name_with_newline(struct msg_hello *h)
{
    h->name = slice_of("a\nlevel=panic");
}
static void name_with_8bit(struct msg_hello *h)
{
    h->name = slice_of("a\xff");
}
static void no_name(struct msg_hello *h)
{
    h->name = slice_of("");
}

static const struct {
    void (*change)(struct msg_hello *h);
    enum status want;
} rows[] = {
    {bad_magic, ST_INVALID},
    {upside_down, ST_INVALID},
    {too_new, ST_VERSION},
    {too_old, ST_VERSION},
    {overlaps, ST_OK},
    {other_cluster, ST_WRONG_CLUSTER},
    {no_cluster, ST_OK},
    {no_role, ST_INVALID},
    {strange_role, ST_INVALID},
    {strange_lane, ST_INVALID},
    {unwanted_role, ST_DENIED},
    {name_with_newline, ST_INVALID},
    {name_with_8bit, ST_INVALID},
    {no_name, ST_OK},
};

START_TEST(checks)
{
    struct msg_hello h = good();
    struct env_peer p;
    struct err err = {""};
    memset(&p, 0x5a, sizeof(p));
    rows[_i].change(&h);
    enum status s =
        hello_check(&self, &h, ROLES_ALL & ~ROLE_BIT(ROLE_BALANCER), &p, &err);
    ck_assert_int_eq(s, rows[_i].want);
    ck_assert((s == ST_OK) == (err.text[0] == '\0'));
    ck_assert(s == ST_OK || p.role == 0x5a);
}
END_TEST

START_TEST(version_error_names_both_ranges)
{
    struct msg_hello h = good();
    struct env_peer p;
    struct err err = {""};
    char own[32];
    snprintf(own, sizeof(own), "%d to %d", WIRE_PROTOCOL_LOW,
             WIRE_PROTOCOL_HIGH);
    h.protocol_low = 41;
    h.protocol_high = 43;
    ck_assert_int_eq(hello_check(&self, &h, ROLES_ALL, &p, &err), ST_VERSION);
    ck_assert_ptr_nonnull(strstr(err.text, "41 to 43"));
    ck_assert_ptr_nonnull(strstr(err.text, own));
}
END_TEST

START_TEST(new_process_knows_no_cluster)
{
    struct hello_self fresh = {.role = ROLE_STORAGE, .name = ""};
    struct msg_hello h = good();
    struct env_peer p;
    struct err err;
    ck_assert_int_eq(hello_check(&fresh, &h, ROLES_ALL, &p, &err), ST_OK);
}
END_TEST

/* The rows that matter most, and what they must not allow. */
static const struct {
    uint16_t type;
    uint8_t from, to;
    bool may;
} table[] = {
    {MSG_PREPARE, ROLE_STORAGE, ROLE_STORAGE, true},
    {MSG_PREPARE, ROLE_GATEWAY, ROLE_STORAGE, false},
    {MSG_PREPARE, ROLE_CLIENT, ROLE_STORAGE, false},
    {MSG_PREPARE, ROLE_STORAGE, ROLE_COORDINATOR, false},
    {MSG_BEACON, ROLE_GATEWAY, ROLE_STORAGE, false},
    {MSG_CUT, ROLE_ADMIN, ROLE_STORAGE, false},
    {MSG_RELEASE, ROLE_COORDINATOR, ROLE_STORAGE, false},
    {MSG_GET, ROLE_GATEWAY, ROLE_STORAGE, true},
    {MSG_GET, ROLE_BALANCER, ROLE_STORAGE, false},
    {MSG_COMMAND, ROLE_STORAGE, ROLE_STORAGE, true},
    {MSG_COMMAND, ROLE_GATEWAY, ROLE_COORDINATOR, false},
    {MSG_VALUE, ROLE_STORAGE, ROLE_GATEWAY, true},
    {MSG_VALUE, ROLE_GATEWAY, ROLE_STORAGE, false},
    {MSG_SCAN_TABLET, ROLE_GATEWAY, ROLE_STORAGE, false},
    {MSG_SCAN_TABLET, ROLE_CLIENT, ROLE_STORAGE, true},
    {MSG_HEARTBEAT, ROLE_STORAGE, ROLE_COORDINATOR, true},
    {MSG_HEARTBEAT, ROLE_CLIENT, ROLE_COORDINATOR, false},
    {MSG_HEARTBEAT, ROLE_STORAGE, ROLE_STORAGE, false},
    {MSG_CHANGE, ROLE_GATEWAY, ROLE_COORDINATOR, false},
    {MSG_CHANGE, ROLE_STORAGE, ROLE_COORDINATOR, true},
    {MSG_NODE_SET, ROLE_GATEWAY, ROLE_COORDINATOR, false},
    {MSG_NODE_SET, ROLE_CLIENT, ROLE_COORDINATOR, true},
    {MSG_TABLET_MOVE, ROLE_STORAGE, ROLE_COORDINATOR, false},
    {MSG_MAP, ROLE_COORDINATOR, ROLE_BALANCER, true},
    {MSG_MAP, ROLE_STORAGE, ROLE_GATEWAY, false},
    {MSG_ERROR, ROLE_CLIENT, ROLE_STORAGE, true},
    {60000, ROLE_STORAGE, ROLE_STORAGE, false},
    {0, ROLE_STORAGE, ROLE_STORAGE, false},
    {MSG_ERROR, ROLE_NONE, ROLE_STORAGE, false},
    {MSG_ERROR, ROLE_STORAGE, ROLE_NONE, false},
    {MSG_ERROR, 200, ROLE_STORAGE, false},
    {MSG_ERROR, ROLE_STORAGE, 33, false},
};

START_TEST(role_table)
{
    ck_assert(hello_may_send(table[_i].from, table[_i].to, table[_i].type) ==
              table[_i].may);
}
END_TEST

/* Each message has someone who may send it, and to whom. */
START_TEST(every_message_is_of_use)
{
    static const uint16_t types[] = {
#define MSG(NAME, id, msg) id,
#include "common/messages.def"
    };
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        bool any = false;
        for (unsigned from = 0; from <= ROLE_CLIENT; from++) {
            for (unsigned to = 0; to <= ROLE_CLIENT; to++) {
                any |= hello_may_send((uint8_t)from, (uint8_t)to, types[i]);
            }
        }
        ck_assert_msg(any, "%s", wire_type_name(types[i]));
    }
}
END_TEST

#define COUNT(a) ((int)(sizeof(a) / sizeof((a)[0])))

int main(void)
{
    Suite *s = suite_create("hello");
    TCase *t = tcase_create("hello");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, peer_is_told);
    tcase_add_loop_test(t, checks, 0, COUNT(rows));
    tcase_add_test(t, version_error_names_both_ranges);
    tcase_add_test(t, new_process_knows_no_cluster);
    tcase_add_loop_test(t, role_table, 0, COUNT(table));
    tcase_add_test(t, every_message_is_of_use);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
