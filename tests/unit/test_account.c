/*
 * Accounts, passwords, sessions and what an address means, on the real state
 * machine; with each call to the store failing in each way.
 */
#include <check.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cloud/mail_address.h"
#include "cloud/password.h"
#include "cloud/session.h"
#include "cloud/store.h"
#include "tests/unit/cloud_fixture.h"

static const struct session_origin origin = {"192.0.2.7", "Browser\r\n/1.0"};

static struct slice text(const char *s)
{
    return slice_of(s);
}

static enum status check(struct fixture *f, const char *user, const char *pw,
                         struct account *a)
{
    struct cloud_op op = fixture_op(f);
    return account_check_password(&op, user, text(pw), a);
}

START_TEST(names)
{
    static const struct {
        const char *name;
        bool valid;
    } table[] = {
        {"a", true},    {"alice", true}, {"a.b", true},   {"a-b_c.d9", true},
        {"0", true},    {"", false},     {"A", false},    {".a", false},
        {"a.", false},  {"a..b", false}, {"a.-b", false}, {"a b", false},
        {"a:b", false}, {"a/b", false},  {"a\n", false},  {"\xc3\xa4", false},
        {"a@b", false}, {"-", false},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        ck_assert_msg(account_name_valid(text(table[i].name)) == table[i].valid,
                      "%s", table[i].name);
    char name[70];
    memset(name, 'x', sizeof name);
    ck_assert(account_name_valid(slice_make(name, 64)));
    ck_assert(!account_name_valid(slice_make(name, 65)));
}
END_TEST

START_TEST(create_and_check)
{
    struct fixture f;
    fixture_init(&f);
    fixture_account(&f, "alice");
    struct cloud_op op = fixture_op(&f);
    struct account a;
    ck_assert_int_eq(account_create(&op, "alice", text("another-password"), ""),
                     ST_EXISTS);
    ck_assert_int_eq(check(&f, "alice", "secret-password", &a), ST_OK);
    ck_assert_str_eq(a.username, "alice");
    static const char *const wrong[] = {"", "secret-passwor",
                                        "secret-password ", "Secret-password"};
    for (size_t i = 0; i < 4; i++)
        ck_assert_int_eq(check(&f, "alice", wrong[i], &a), ST_UNAUTHENTICATED);
    ck_assert_int_eq(check(&f, "nobody", "secret-password", &a),
                     ST_UNAUTHENTICATED);
    ck_assert_int_eq(check(&f, "../Bad:name", "secret-password", &a),
                     ST_UNAUTHENTICATED);
    ck_assert_int_eq(account_create(&op, "bob", text("seven77"), ""),
                     ST_INVALID);
    ck_assert_int_eq(account_create(&op, "Bob", text("long-enough"), ""),
                     ST_INVALID);
    ck_assert_int_eq(account_create(&op, "bob", text("long-enough"), "a\r\nb"),
                     ST_INVALID);
    ck_assert_int_eq(account_create(&op, "bob", text("long-enough"), "B\xff"),
                     ST_INVALID);
    ck_assert_int_eq(account_get(&op, "bob", &a), ST_NOT_FOUND);
    struct account_usage u;
    ck_assert_int_eq(account_get_usage(&op, "alice", &u), ST_OK);
    ck_assert_int_eq(u.bytes, 0);
    ck_assert_int_eq(u.limit, LIMIT_QUOTA_DEFAULT);
    fixture_fini(&f);
}
END_TEST

START_TEST(disable_and_change)
{
    struct fixture f;
    fixture_init(&f);
    fixture_account(&f, "alice");
    struct cloud_op op = fixture_op(&f);
    struct account a;
    ck_assert_int_eq(account_set_disabled(&op, "alice", true), ST_OK);
    ck_assert_int_eq(check(&f, "alice", "secret-password", &a),
                     ST_UNAUTHENTICATED);
    ck_assert_int_eq(account_set_disabled(&op, "alice", false), ST_OK);
    ck_assert_int_eq(account_change_password(&op, "alice", text("wrong"),
                                             text("new-password"), &a),
                     ST_UNAUTHENTICATED);
    ck_assert_int_eq(account_change_password(&op, "alice",
                                             text("secret-password"),
                                             text("new-password"), &a),
                     ST_OK);
    ck_assert_int_eq(check(&f, "alice", "secret-password", &a),
                     ST_UNAUTHENTICATED);
    ck_assert_int_eq(check(&f, "alice", "new-password", &a), ST_OK);
    ck_assert_int_eq(account_set_password(&op, "alice", text("operator-pw")),
                     ST_OK);
    ck_assert_int_eq(check(&f, "alice", "operator-pw", &a), ST_OK);
    ck_assert_int_eq(account_set_display_name(&op, "alice", "Alice \xc3\x84"),
                     ST_OK);
    ck_assert_int_eq(account_get(&op, "alice", &a), ST_OK);
    ck_assert_str_eq(a.display_name, "Alice \xc3\x84");
    ck_assert_int_eq(account_set_limit(&op, "alice", 1000), ST_OK);
    struct account_usage u;
    ck_assert_int_eq(account_get_usage(&op, "alice", &u), ST_OK);
    ck_assert_int_eq(u.limit, 1000);
    fixture_fini(&f);
}
END_TEST

static bool collect_name(void *ctx, const struct account *a)
{
    char *all = ctx;
    strcat(all, a->username);
    strcat(all, " ");
    return true;
}

START_TEST(list_and_delete)
{
    struct fixture f;
    fixture_init(&f);
    uint64_t empty = local_kv_cells(f.kv);
    char all[4096] = "";
    struct cloud_op op = fixture_op(&f);
    for (int i = 0; i < 20; i++) {
        char name[16];
        snprintf(name, sizeof name, "user%d", i);
        fixture_account(&f, name);
    }
    ck_assert_int_eq(account_list(&op, collect_name, all), ST_OK);
    for (int i = 0; i < 20; i++) {
        char name[32];
        snprintf(name, sizeof name, "user%d ", i);
        ck_assert_msg(strstr(all, name) != NULL, "%s in %s", name, all);
        name[strlen(name) - 1] = '\0';
        ck_assert_int_eq(account_delete(&op, name), ST_OK);
        struct account a;
        ck_assert_int_eq(account_get(&op, name, &a), ST_NOT_FOUND);
    }
    ck_assert_uint_eq(local_kv_cells(f.kv), empty);
    fixture_account(&f, "user7");
    fixture_fini(&f);
}
END_TEST

/* ---- sessions ---- */

static struct session_uid log_in(struct fixture *f, const char *pw)
{
    struct account a;
    struct session_uid uid;
    struct cloud_op op = fixture_op(f);
    ck_assert_int_eq(check(f, "alice", pw, &a), ST_OK);
    ck_assert_int_eq(session_create(&op, &a, &origin, &uid), ST_OK);
    return uid;
}

static enum status look_up(struct fixture *f, const struct session_uid *uid,
                           struct session *s)
{
    struct cloud_op op = fixture_op(f);
    return session_look_up(&op, text(uid->text), s, NULL);
}

START_TEST(sessions_end)
{
    struct fixture f;
    fixture_init(&f);
    fixture_account(&f, "alice");
    struct cloud_op op = fixture_op(&f);
    struct session s;
    struct session_uid one = log_in(&f, "secret-password");
    struct session_uid two = log_in(&f, "secret-password");
    ck_assert_str_ne(one.text, two.text);
    ck_assert_int_eq(look_up(&f, &one, &s), ST_OK);
    ck_assert_str_eq(s.username, "alice");
    ck_assert_str_eq(s.address, "192.0.2.7");
    ck_assert_str_eq(s.agent, "Browser /1.0");
    ck_assert(strstr(s.hash, one.text) == NULL);

    struct session_uid guess = one;
    guess.text[5] = guess.text[5] == '0' ? '1' : '0';
    ck_assert_int_eq(look_up(&f, &guess, &s), ST_UNAUTHENTICATED);
    ck_assert_int_eq(session_look_up(&op, text(""), &s, NULL),
                     ST_UNAUTHENTICATED);

    ck_assert_int_eq(session_end(&op, text(one.text)), ST_OK);
    ck_assert_int_eq(session_end(&op, text(one.text)), ST_OK);
    ck_assert_int_eq(look_up(&f, &one, &s), ST_UNAUTHENTICATED);
    ck_assert_int_eq(look_up(&f, &two, &s), ST_OK);

    /* One's own session can be ended by hash, nobody else's. */
    fixture_account(&f, "bob");
    ck_assert_int_eq(session_end_one(&op, "bob", text(s.hash)), ST_NOT_FOUND);
    ck_assert_int_eq(look_up(&f, &two, &s), ST_OK);
    ck_assert_int_eq(session_end_one(&op, "alice", text(s.hash)), ST_OK);
    ck_assert_int_eq(look_up(&f, &two, &s), ST_UNAUTHENTICATED);
    fixture_fini(&f);
}
END_TEST

START_TEST(sessions_end_all)
{
    struct fixture f;
    fixture_init(&f);
    fixture_account(&f, "alice");
    struct cloud_op op = fixture_op(&f);
    struct session s;
    struct account a;
    struct session_uid uid[3];
    for (int i = 0; i < 3; i++)
        uid[i] = log_in(&f, "secret-password");
    struct arena arena = {0};
    struct session *list;
    size_t count = 0;
    ck_assert_int_eq(session_list(&op, "alice", &arena, &list, &count), ST_OK);
    ck_assert_uint_eq(count, 3);
    arena_free(&arena);

    /* A login that began before the change may make its session after it: it
     * must not live. */
    struct account before;
    ck_assert_int_eq(check(&f, "alice", "secret-password", &before), ST_OK);
    ck_assert_int_eq(account_change_password(&op, "alice",
                                             text("secret-password"),
                                             text("new-password"), &a),
                     ST_OK);
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(look_up(&f, &uid[i], &s), ST_UNAUTHENTICATED);
    struct session_uid slow;
    ck_assert_int_eq(session_create(&op, &before, &origin, &slow), ST_OK);
    ck_assert_int_eq(look_up(&f, &slow, &s), ST_UNAUTHENTICATED);
    struct session_uid fresh;
    ck_assert_int_eq(session_create(&op, &a, &origin, &fresh), ST_OK);
    ck_assert_int_eq(look_up(&f, &fresh, &s), ST_OK);

    ck_assert_int_eq(account_set_disabled(&op, "alice", true), ST_OK);
    ck_assert_int_eq(look_up(&f, &fresh, &s), ST_UNAUTHENTICATED);
    fixture_fini(&f);
}
END_TEST

START_TEST(sessions_age)
{
    static const int64_t day = 24 * 3600 * 1000ll;
    struct fixture f;
    fixture_init(&f);
    fixture_account(&f, "alice");
    struct session s;
    struct session_uid idle = log_in(&f, "secret-password");
    f.wall_ms += 7 * day - 1;
    ck_assert_int_eq(look_up(&f, &idle, &s), ST_OK);
    f.wall_ms += 7 * day - 1; /* the use before was noted */
    ck_assert_int_eq(look_up(&f, &idle, &s), ST_OK);
    f.wall_ms += 7 * day;
    ck_assert_int_eq(look_up(&f, &idle, &s), ST_UNAUTHENTICATED);

    struct session_uid busy = log_in(&f, "secret-password");
    int64_t made_ms = f.wall_ms;
    for (int i = 0; i < 29; i++) {
        f.wall_ms += day;
        ck_assert_int_eq(look_up(&f, &busy, &s), ST_OK);
    }
    f.wall_ms = made_ms + 30 * day - 1;
    ck_assert_int_eq(look_up(&f, &busy, &s), ST_OK);
    f.wall_ms = made_ms + 30 * day;
    ck_assert_int_eq(look_up(&f, &busy, &s), ST_UNAUTHENTICATED);
    fixture_fini(&f);
}
END_TEST

START_TEST(csrf)
{
    struct fixture f;
    fixture_init(&f); /* starts libsodium */
    char one[33], two[33];
    session_csrf_token(text("cookie one"), one);
    session_csrf_token(text("cookie two"), two);
    ck_assert_str_ne(one, two);
    ck_assert(session_csrf_matches(text("cookie one"), text(one)));
    ck_assert(!session_csrf_matches(text("cookie one"), text(two)));
    ck_assert(!session_csrf_matches(text("cookie one"), text("")));
    fixture_fini(&f);
}
END_TEST

/* ---- the gate ---- */

struct attempt {
    struct password_gate *gate;
    enum status status;
};

static void *hash_thread(void *arg)
{
    struct attempt *a = arg;
    char out[PASSWORD_HASH_SIZE];
    a->status = password_hash(a->gate, text("secret-password"),
                              store_now_ms() + 60000, out);
    return NULL;
}

/* One run is held up by hand; two may wait, a third may not. */
START_TEST(hashes_are_bounded)
{
    struct fixture f;
    struct password_gate gate;
    struct attempt attempts[2];
    pthread_t threads[2];
    char out[PASSWORD_HASH_SIZE];
    fixture_init(&f); /* starts libsodium */
    password_gate_init(&gate, 1, 2, 1 << 20);
    gate.running = 1;
    ck_assert_int_eq(password_hash(&gate, text("x"), store_now_ms() + 20, out),
                     ST_TIMEOUT);
    for (int i = 0; i < 2; i++) {
        attempts[i] = (struct attempt){&gate, ST_IO};
        pthread_create(&threads[i], NULL, hash_thread, &attempts[i]);
    }
    unsigned waiting;
    do {
        pthread_mutex_lock(&gate.lock);
        waiting = gate.waiting;
        pthread_mutex_unlock(&gate.lock);
    } while (waiting < 2);
    ck_assert_int_eq(
        password_hash(&gate, text("x"), store_now_ms() + 60000, out),
        ST_TOO_MANY);
    ck_assert_int_eq(
        password_verify(&gate, NULL, text("x"), store_now_ms() + 60000),
        ST_TOO_MANY);
    pthread_mutex_lock(&gate.lock);
    gate.running = 0;
    pthread_cond_signal(&gate.left);
    pthread_mutex_unlock(&gate.lock);
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        ck_assert_int_eq(attempts[i].status, ST_OK);
    }
    ck_assert_uint_eq(gate.running, 0);
    password_gate_fini(&gate);
    fixture_fini(&f);
}
END_TEST

/* ---- faults ---- */

/* Signing up with call N of the store failing, for growing N until none
 * fails: an answer of OK is an account that works, a refusal is none. */
START_TEST(create_with_faults)
{
    enum local_kv_fault kind = (enum local_kv_fault)(_i + 1);
    bool failed = true;
    for (unsigned n = 0; failed; n++) {
        struct fixture f;
        fixture_init(&f);
        struct cloud_op op = fixture_op(&f);
        local_kv_fail(f.kv, n, 1, kind);
        enum status st =
            account_create(&op, "alice", text("secret-password"), "");
        failed = local_kv_failed(f.kv);
        local_kv_fail(f.kv, 0, 0, LOCAL_NONE);
        struct account a;
        if (st == ST_OK) {
            ck_assert_int_eq(check(&f, "alice", "secret-password", &a), ST_OK);
        } else {
            ck_assert_msg(st == ST_TIMEOUT, "call %u, fault %d: %s", n,
                          (int)kind, status_name(st));
            ck_assert_int_eq(account_get(&op, "alice", &a), ST_NOT_FOUND);
            fixture_account(&f, "alice");
        }
        fixture_fini(&f);
        ck_assert_uint_lt(n, 100);
    }
}
END_TEST

/* The same for changing the password: never both, never neither. */
START_TEST(change_with_faults)
{
    enum local_kv_fault kind = (enum local_kv_fault)(_i + 1);
    bool failed = true;
    for (unsigned n = 0; failed; n++) {
        struct fixture f;
        fixture_init(&f);
        fixture_account(&f, "alice");
        struct session_uid uid = log_in(&f, "secret-password");
        struct cloud_op op = fixture_op(&f);
        local_kv_fail(f.kv, n, 1, kind);
        struct account a;
        enum status st = account_change_password(
            &op, "alice", text("secret-password"), text("new-password"), &a);
        failed = local_kv_failed(f.kv);
        local_kv_fail(f.kv, 0, 0, LOCAL_NONE);
        struct session s;
        bool done = st == ST_OK;
        ck_assert_int_eq(check(&f, "alice", "new-password", &a),
                         done ? ST_OK : ST_UNAUTHENTICATED);
        ck_assert_int_eq(check(&f, "alice", "secret-password", &a),
                         done ? ST_UNAUTHENTICATED : ST_OK);
        ck_assert_int_eq(look_up(&f, &uid, &s),
                         done ? ST_UNAUTHENTICATED : ST_OK);
        fixture_fini(&f);
        ck_assert_uint_lt(n, 100);
    }
}
END_TEST

/* ---- addresses ---- */

static const struct {
    const char *text, *formatted; /* NULL: refused */
} spellings[] = {
    {"demo@penncloud.test", "demo@penncloud.test"},
    {"Demo@PennCloud.Test", "Demo@penncloud.test"},
    {"\"demo\"@penncloud.test", "demo@penncloud.test"},
    {"\"a b\"@x.test", "\"a b\"@x.test"},
    {"\"a\\\"b\"@x.test", "\"a\\\"b\"@x.test"},
    {"\"a@b\"@x.test", "\"a@b\"@x.test"},
    {"a%b@x.test", "a%b@x.test"},
    {"a!b@x.test", "a!b@x.test"},
    {"root@localhost", "root@localhost"},
    {"a+tag@x.test", "a+tag@x.test"},
    {"", NULL},
    {"demo", NULL},
    {"@penncloud.test", NULL},
    {"demo@", NULL},
    {"demo@penncloud.test.", NULL},
    {"demo@.penncloud.test", NULL},
    {"demo@penncloud..test", NULL},
    {"demo@-penncloud.test", NULL},
    {"demo@penncloud-.test", NULL},
    {"demo@penncloud_x.test", NULL},
    {"demo@[127.0.0.1]", NULL},
    {"demo@penncloud.test@evil.test", NULL},
    {".demo@x.test", NULL},
    {"demo.@x.test", NULL},
    {"de..mo@x.test", NULL},
    {"de mo@x.test", NULL},
    {"demo\r@x.test", NULL},
    {"demo@x.test\n", NULL},
    {"d\xc3\xa9mo@x.test", NULL},
    {"demo@x\xc3\xa9.test", NULL},
    {"\"demo@x.test", NULL},
    {"\"demo\"x@x.test", NULL},
    {"\"de\tmo\"@x.test", NULL},
    {"@a.test,@b.test:demo@x.test", NULL},
    {"<demo@x.test>", NULL},
    {"demo@x.test ", NULL},
    {" demo@x.test", NULL},
};

START_TEST(address_syntax)
{
    for (size_t i = 0; i < sizeof spellings / sizeof *spellings; i++) {
        struct mail_address a;
        char out[2 * MAIL_ADDRESS_MAX];
        enum status st = mail_address_parse(text(spellings[i].text), &a);
        ck_assert_msg((st == ST_OK) == (spellings[i].formatted != NULL), "%s",
                      spellings[i].text);
        if (st != ST_OK)
            continue;
        mail_address_format(&a, out);
        ck_assert_str_eq(out, spellings[i].formatted);
    }
}
END_TEST

START_TEST(address_lengths)
{
    struct mail_address a;
    char big[400];
    for (size_t n = 63; n <= 65; n++) {
        memset(big, 'x', n);
        strcpy(big + n, "@x.test");
        ck_assert_int_eq(mail_address_parse(text(big), &a),
                         n <= 64 ? ST_OK : ST_INVALID);
        strcpy(big, "a@");
        memset(big + 2, 'x', n);
        strcpy(big + 2 + n, ".test");
        ck_assert_int_eq(mail_address_parse(text(big), &a),
                         n <= 63 ? ST_OK : ST_INVALID);
    }
    for (size_t n = 254; n <= 256; n++) {
        strcpy(big, "a@");
        for (size_t i = 0; i < n; i++)
            big[2 + i] = i % 50 == 49 && i + 1 < n ? '.' : 'x';
        big[2 + n] = '\0';
        ck_assert_int_eq(mail_address_parse(text(big), &a),
                         n <= 255 ? ST_OK : ST_INVALID);
    }
}
END_TEST

START_TEST(resolving)
{
    static const struct {
        const char *address;
        enum status status;
        const char *username;
    } table[] = {
        {"demo@penncloud.test", ST_OK, "demo"},
        {"DEMO@second.test", ST_OK, "demo"},
        {"demo+shop@penncloud.test", ST_OK, "demo"},
        {"\"demo\"@penncloud.test", ST_OK, "demo"},
        {"postmaster@penncloud.test", ST_OK, "alice"},
        {"PostMaster@second.test", ST_OK, "alice"},
        {"help@penncloud.test", ST_OK, "demo"},
        {"demo@added.test", ST_OK, "demo"},
        {"nobody@penncloud.test", ST_NOT_FOUND, NULL},
        {"demo%evil.test@penncloud.test", ST_NOT_FOUND, NULL},
        {"\"demo@evil.test\"@penncloud.test", ST_NOT_FOUND, NULL},
        {"demo:mailbox@penncloud.test", ST_INVALID, NULL},
        {"demo@evil.test", ST_DENIED, NULL},
        {"demo@sub.penncloud.test", ST_DENIED, NULL},
        {"demo@xpenncloud.test", ST_DENIED, NULL},
    };
    struct fixture f;
    fixture_init(&f);
    fixture_account(&f, "demo");
    fixture_account(&f, "alice");
    struct cloud_op op = fixture_op(&f);
    ck_assert_int_eq(kv_put(f.kv,
                            kv_key_of("alias:help@penncloud.test",
                                      "alias:help@penncloud.test", "settings"),
                            text("{\"to\":\"demo\"}"), 1000),
                     ST_OK);
    ck_assert_int_eq(
        kv_put(f.kv,
               kv_key_of("domain:added.test", "domain:added.test", "settings"),
               text("{}"), 1000),
        ST_OK);
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct mail_address a;
        char name[ACCOUNT_NAME_MAX + 1] = "";
        enum status st = mail_address_parse(text(table[i].address), &a);
        if (st == ST_OK)
            st = mail_address_resolve(&op, &a, name);
        ck_assert_msg(st == table[i].status, "%s: %s", table[i].address,
                      status_name(st));
        if (st == ST_OK)
            ck_assert_str_eq(name, table[i].username);
    }
    fixture_fini(&f);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("account");
    TCase *t = tcase_create("all");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, names);
    tcase_add_test(t, create_and_check);
    tcase_add_test(t, disable_and_change);
    tcase_add_test(t, list_and_delete);
    tcase_add_test(t, sessions_end);
    tcase_add_test(t, sessions_end_all);
    tcase_add_test(t, sessions_age);
    tcase_add_test(t, csrf);
    tcase_add_test(t, hashes_are_bounded);
    tcase_add_loop_test(t, create_with_faults, 0, LOCAL_FAULTS - 1);
    tcase_add_loop_test(t, change_with_faults, 0, LOCAL_FAULTS - 1);
    tcase_add_test(t, address_syntax);
    tcase_add_test(t, address_lengths);
    tcase_add_test(t, resolving);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
