/*
 * A cloud on the store in one process, for the tests of cloud/ and of what
 * stands on it: cheap passwords, a clock that the test moves.
 */
#ifndef TESTS_UNIT_CLOUD_FIXTURE_H
#define TESTS_UNIT_CLOUD_FIXTURE_H

#include "cloud/account.h"
#include "tests/support/local_kv.h"

struct fixture {
    struct kv *kv;
    struct cloud *cloud;
    struct log log;
    _Atomic int64_t wall_ms;
};

void fixture_init(struct fixture *f);
void fixture_fini(struct fixture *f);
/* An op of 20 s, more than any test needs. */
struct cloud_op fixture_op(struct fixture *f);
/* Account USERNAME with the password "secret-password"; must work. */
void fixture_account(struct fixture *f, const char *username);

#endif
