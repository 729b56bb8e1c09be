/*
 * pennctl user: accounts, and the cluster's key. Passwords are typed twice
 * without echo, or come as one line of standard input; they are wiped when
 * used, and never an argument.
 */
#include "admin/ctl.h"

#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "admin/password_io.h"
#include "cloud/account.h"
#include "common/key.h"

/* The list of an installation with many accounts takes its time. */
#define LIST_MS 600000

/* An account's password into OUT, which is wiped by its owner. */
static bool ask_password(bool from_stdin, const char *name,
                         char out[PASSWORD_LINE])
{
    char again[PASSWORD_LINE], prompt[ACCOUNT_NAME_MAX + 32];
    if (from_stdin) {
        return password_read_line(out);
    }
    (void)snprintf(prompt, sizeof(prompt), "Password for %.64s: ", name);
    bool good =
        password_prompt(prompt, out) && password_prompt("Again: ", again);
    if (good && strcmp(out, again) != 0) {
        (void)fprintf(stderr, "pennctl: the two are not the same\n");
        good = false;
    }
    sodium_memzero(again, sizeof(again));
    return good;
}

static int told(struct ctl *c, enum status s, const char *what)
{
    if (s != ST_OK) {
        return ctl_fail(c, s, what);
    }
    if (c->json) {
        ctl_print_take(cJSON_CreateObject());
    }
    return CTL_DONE;
}

static bool name_fits(const char *name)
{
    if (account_name_valid(slice_of(name))) {
        return true;
    }
    (void)fprintf(stderr,
                  "pennctl: %s: not a user name: lower-case letters and "
                  "digits, with . _ - between them\n",
                  name);
    return false;
}

int ctl_cmd_user_add(struct ctl *c, int argc, char **argv)
{
    const char *display = "";
    char password[PASSWORD_LINE];
    bool from_stdin = ctl_take_flag(&argc, argv, "--password-stdin");
    (void)ctl_take_option(&argc, argv, "--display", &display);
    if (!ctl_end_options(&argc, argv) || argc != 1 || !name_fits(argv[0])) {
        return ctl_misuse("user add");
    }
    if (!ask_password(from_stdin, argv[0], password)) {
        return CTL_USAGE;
    }
    struct cloud_op op = cloud_op_make(c->cloud, c->timeout_ms);
    enum status s = account_create(&op, argv[0], slice_of(password), display);
    sodium_memzero(password, sizeof(password));
    if (s == ST_INVALID) {
        (void)fprintf(stderr,
                      "pennctl: a password has %d to %d bytes, a display name "
                      "at most %d and no control characters\n",
                      ACCOUNT_PASSWORD_MIN, ACCOUNT_PASSWORD_MAX,
                      ACCOUNT_DISPLAY_MAX);
    }
    return told(c, s, argv[0]);
}

int ctl_cmd_user_passwd(struct ctl *c, int argc, char **argv)
{
    char password[PASSWORD_LINE];
    struct account a;
    bool from_stdin = ctl_take_flag(&argc, argv, "--password-stdin");
    if (!ctl_end_options(&argc, argv) || argc != 1 || !name_fits(argv[0])) {
        return ctl_misuse("user passwd");
    }
    struct cloud_op op = cloud_op_make(c->cloud, c->timeout_ms);
    enum status s = account_get(&op, argv[0], &a);
    if (s != ST_OK) {
        return ctl_fail(c, s, argv[0]);
    }
    if (!ask_password(from_stdin, argv[0], password)) {
        return CTL_USAGE;
    }
    op = cloud_op_make(c->cloud, c->timeout_ms);
    s = account_set_password(&op, argv[0], slice_of(password));
    sodium_memzero(password, sizeof(password));
    return told(c, s, argv[0]);
}

/* ---- list ---- */

/* The store has accounts in the order of their hashes, people want them by
 * name. */
struct listing {
    struct account *at;
    size_t count, room;
};

static const char *state_name(enum account_state s)
{
    switch (s) {
    case ACCOUNT_ACTIVE:
        return "active";
    case ACCOUNT_DISABLED:
        return "disabled";
    case ACCOUNT_DELETED:
        return "deleted";
    }
    return "unknown";
}

static bool list_one(void *ctx, const struct account *a)
{
    struct listing *l = ctx;
    if (l->count == l->room) {
        l->room = l->room == 0 ? 64 : 2 * l->room;
        l->at = xrealloc(l->at, l->room * sizeof(*l->at));
    }
    l->at[l->count++] = *a;
    return true;
}

static int by_name(const void *a, const void *b)
{
    const struct account *x = a, *y = b;
    return strcmp(x->username, y->username);
}

static cJSON *account_json(const struct account *a,
                           const struct account_usage *u)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "username", a->username);
    cJSON_AddStringToObject(o, "display_name", a->display_name);
    cJSON_AddStringToObject(o, "state", state_name(a->state));
    cJSON_AddNumberToObject(o, "created_ms", (double)a->created_ms);
    if (u != NULL) {
        cJSON_AddNumberToObject(o, "bytes", (double)u->bytes);
        cJSON_AddNumberToObject(o, "limit", (double)u->limit);
    }
    return o;
}

/* USERS: where to, or NULL for a table. */
static void print_accounts(struct cloud_op *op, const struct listing *l,
                           cJSON *users)
{
    for (size_t i = 0; i < l->count; i++) {
        const struct account *a = &l->at[i];
        struct account_usage u = {0};
        enum status s = account_get_usage(op, a->username, &u);
        if (users != NULL) {
            cJSON_AddItemToArray(users,
                                 account_json(a, s == ST_OK ? &u : NULL));
        } else {
            (void)printf("%-24s %-8s %14lld %14lld  %s\n", a->username,
                         state_name(a->state), (long long)u.bytes,
                         (long long)u.limit, a->display_name);
        }
    }
}

int ctl_cmd_user_list(struct ctl *c, int argc, char **argv)
{
    if (!ctl_end_options(&argc, argv) || argc != 0) {
        return ctl_misuse("user list");
    }
    struct listing l = {0};
    struct cloud_op op = cloud_op_make(c->cloud, LIST_MS);
    enum status s = account_list(&op, list_one, &l);
    if (s != ST_OK) {
        free(l.at);
        return ctl_fail(c, s, "user list");
    }
    if (l.count > 1) {
        qsort(l.at, l.count, sizeof(*l.at), by_name);
    }
    if (c->json) {
        cJSON *root = cJSON_CreateObject();
        print_accounts(&op, &l, cJSON_AddArrayToObject(root, "users"));
        ctl_print_take(root);
    } else {
        (void)printf("%-24s %-8s %14s %14s  %s\n", "NAME", "STATE", "BYTES",
                     "LIMIT", "DISPLAYED AS");
        print_accounts(&op, &l, NULL);
    }
    free(l.at);
    return CTL_DONE;
}

/* ---- states ---- */

static int set_disabled(struct ctl *c, int argc, char **argv, bool disabled)
{
    const char *words = disabled ? "user disable" : "user enable";
    if (!ctl_end_options(&argc, argv) || argc != 1 || !name_fits(argv[0])) {
        return ctl_misuse(words);
    }
    struct cloud_op op = cloud_op_make(c->cloud, c->timeout_ms);
    return told(c, account_set_disabled(&op, argv[0], disabled), argv[0]);
}

int ctl_cmd_user_disable(struct ctl *c, int argc, char **argv)
{
    return set_disabled(c, argc, argv, true);
}

int ctl_cmd_user_enable(struct ctl *c, int argc, char **argv)
{
    return set_disabled(c, argc, argv, false);
}

int ctl_cmd_user_delete(struct ctl *c, int argc, char **argv)
{
    bool yes = ctl_take_flag(&argc, argv, "--yes");
    if (!ctl_end_options(&argc, argv) || argc != 1 || !yes ||
        !name_fits(argv[0])) {
        return ctl_misuse("user delete");
    }
    struct cloud_op op = cloud_op_make(c->cloud, LIST_MS);
    return told(c, account_delete(&op, argv[0]), argv[0]);
}

/* ---- key ---- */

int ctl_cmd_keygen(struct ctl *c, int argc, char **argv)
{
    struct err err = {""};
    if (!ctl_end_options(&argc, argv) || argc > 1) {
        return ctl_misuse("keygen");
    }
    if (argc == 0) {
        int code = ctl_open(c, CTL_CONFIG);
        if (code != CTL_DONE) {
            return code;
        }
    }
    const char *path = argc == 1 ? argv[0] : c->config.cluster.key_file;
    enum status s = key_create(path, &err);
    if (s != ST_OK) {
        (void)fprintf(stderr, "pennctl: %s\n", err.text);
        return CTL_NO;
    }
    return told(c, ST_OK, path);
}
