/*
 * See the header.
 */
#include "tests/unit/cloud_fixture.h"

#include <check.h>

static int64_t wall(void *ctx)
{
    return ((struct fixture *)ctx)->wall_ms;
}

void fixture_init(struct fixture *f)
{
    static const char *const domains[] = {"penncloud.test", "second.test",
                                          NULL};
    *f = (struct fixture){
        .kv = local_kv_open(),
        .log = {"test", "test", LOG_LEVEL_ERROR, -1, NULL, NULL},
        .wall_ms = 1763800000000};
    struct cloud_options o = {.kv = f->kv,
                              .log = &f->log,
                              .domains = domains,
                              .postmaster = "alice",
                              .wall_ms = wall,
                              .wall_ctx = f,
                              .hash_memory = 1 << 20};
    struct err err = {""};
    ck_assert_msg(cloud_open(&o, &f->cloud, &err) == ST_OK, "%s", err.text);
}

void fixture_fini(struct fixture *f)
{
    cloud_close(f->cloud);
    kv_close(f->kv);
}

struct cloud_op fixture_op(struct fixture *f)
{
    return cloud_op_make(f->cloud, 20000);
}

void fixture_account(struct fixture *f, const char *username)
{
    struct cloud_op op = fixture_op(f);
    ck_assert_int_eq(
        account_create(&op, username, slice_of("secret-password"), ""), ST_OK);
}
