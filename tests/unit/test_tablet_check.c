/*
 * What can be no configuration: from a faulty peer, coordinator or register.
 */
#include "common/tablet_check.h"

#include <check.h>
#include <stdlib.h>

struct hostile {
    const char *name;
    void (*spoil)(struct tablet_config *t);
};

static struct replica in_sync[LIMIT_REPLICAS + 1];
static struct replica eligible[LIMIT_REPLICAS + 1];
static struct replica learners[LIMIT_REPLICAS + 1];

static struct replica node(uint32_t n)
{
    return (struct replica){n, {{(uint8_t)n, 0xaa}}};
}

static struct tablet_config good_config(void)
{
    for (uint32_t i = 0; i < 3; i++) {
        in_sync[i] = node(i + 1);
    }
    eligible[0] = node(4);
    learners[0] = node(5);
    learners[1] = node(4); /* one of E may learn */
    return (struct tablet_config){
        .tablet = 7,
        .hash_first = 10,
        .hash_last = 10,
        .epoch = 3,
        .primary = node(2),
        .in_sync = in_sync,
        .in_sync_count = 3,
        .eligible = eligible,
        .eligible_count = 1,
        .learners = learners,
        .learners_count = 2,
    };
}

static void no_tablet(struct tablet_config *t)
{
    t->tablet = 0;
}

static void tablet_too_great(struct tablet_config *t)
{
    t->tablet = LIMIT_TABLETS + 1;
}

static void no_epoch(struct tablet_config *t)
{
    t->epoch = 0;
}

static void epoch_for_ever(struct tablet_config *t)
{
    t->epoch = UINT64_MAX;
}

static void range_backwards(struct tablet_config *t)
{
    t->hash_first = t->hash_last + 1;
}

static void nobody_in_sync(struct tablet_config *t)
{
    t->in_sync_count = 0;
}

static void nobody_in_sync_nor_primary(struct tablet_config *t)
{
    t->in_sync_count = 0;
    t->primary = (struct replica){0};
}

static void primary_outside(struct tablet_config *t)
{
    t->primary = node(5);
}

static void primary_of_another_store(struct tablet_config *t)
{
    t->primary.store.b[5] ^= 1;
}

static void member_twice(struct tablet_config *t)
{
    t->in_sync[2] = t->in_sync[0];
}

static void learner_twice(struct tablet_config *t)
{
    t->learners[1] = t->learners[0];
}

static void eligible_twice(struct tablet_config *t)
{
    t->eligible[1] = t->eligible[0];
    t->eligible_count = 2;
}

static void member_learns(struct tablet_config *t)
{
    t->learners[0] = t->in_sync[1];
}

static void member_eligible(struct tablet_config *t)
{
    t->eligible[0] = t->in_sync[2];
}

static void member_without_number(struct tablet_config *t)
{
    t->in_sync[2].node = 0;
}

static void too_many(struct tablet_config *t)
{
    for (uint32_t i = 0; i <= LIMIT_REPLICAS; i++) {
        t->learners[i] = node(20 + i);
    }
    t->learners_count = LIMIT_REPLICAS + 1;
}

static const struct hostile hostile[] = {
    {"no tablet", no_tablet},
    {"tablet too great", tablet_too_great},
    {"no epoch", no_epoch},
    {"no epoch can follow", epoch_for_ever},
    {"hash range backwards", range_backwards},
    {"nobody in sync", nobody_in_sync},
    {"nobody in sync, no primary", nobody_in_sync_nor_primary},
    {"primary not in sync", primary_outside},
    {"primary's store not in sync", primary_of_another_store},
    {"member twice", member_twice},
    {"learner twice", learner_twice},
    {"eligible twice", eligible_twice},
    {"member learns", member_learns},
    {"member eligible", member_eligible},
    {"member without number", member_without_number},
    {"too many", too_many},
};
#define HOSTILE ((int)(sizeof(hostile) / sizeof(hostile[0])))

START_TEST(a_good_one_passes)
{
    struct tablet_config t = good_config();
    ck_assert_int_eq(tablet_check_config(&t), ST_OK);
    t.primary = (struct replica){0}; /* nobody at present */
    ck_assert_int_eq(tablet_check_config(&t), ST_OK);
    t.epoch = LIMIT_EPOCH;
    t.hash_last = UINT64_MAX;
    ck_assert_int_eq(tablet_check_config(&t), ST_OK);
}
END_TEST

START_TEST(what_can_be_none_is_refused)
{
    struct tablet_config t = good_config();
    hostile[_i].spoil(&t);
    ck_assert_msg(tablet_check_config(&t) == ST_INVALID, "%s",
                  hostile[_i].name);
    struct msg_map m = {
        .replicas = 3, .min_insync = 2, .tablets = &t, .tablets_count = 1};
    ck_assert_msg(tablet_check_map(&m) == ST_INVALID, "%s", hostile[_i].name);
}
END_TEST

static const struct {
    uint8_t replicas, min_insync;
    uint32_t first, second; /* tablets; 0: none */
    enum status status;
} maps[] = {
    {0, 0, 0, 0, ST_OK}, /* nothing is placed yet */
    {3, 2, 1, 2, ST_OK},
    {2, 2, 1, 0, ST_OK},
    {1, 1, 1, 0, ST_OK},
    {3, 2, 0, 0, ST_OK},
    {0, 0, 1, 0, ST_INVALID},
    {3, 1, 1, 0, ST_INVALID},
    {3, 3, 1, 0, ST_INVALID},
    {3, 0, 0, 0, ST_INVALID},
    {LIMIT_REPLICAS, LIMIT_REPLICAS / 2 + 1, 1, 0, ST_INVALID},
    {3, 2, 2, 1, ST_INVALID},
    {3, 2, 2, 2, ST_INVALID},
};

START_TEST(a_map)
{
    struct tablet_config all[] = {good_config(), good_config()};
    all[0].tablet = maps[_i].first;
    all[1].tablet = maps[_i].second;
    struct msg_map m = {.replicas = maps[_i].replicas,
                        .min_insync = maps[_i].min_insync,
                        .tablets = all};
    m.tablets_count = maps[_i].second != 0 ? 2 : maps[_i].first != 0;
    ck_assert_int_eq(tablet_check_map(&m), maps[_i].status);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("tablet_check");
    TCase *c = tcase_create("configurations");
    tcase_set_timeout(c, 60);
    tcase_add_test(c, a_good_one_passes);
    tcase_add_loop_test(c, what_can_be_none_is_refused, 0, HOSTILE);
    tcase_add_loop_test(c, a_map, 0, sizeof(maps) / sizeof(maps[0]));
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
