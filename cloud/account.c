/*
 * Accounts: see the header. An account is the row user:<username>:
 *
 *   password   libsodium's string
 *   profile    {"display_name","created"}
 *   state      {"state":"active"|"disabled"|"deleted","generation"}
 *
 * They are read together, as one instant, so a password is never compared
 * with one state and believed with another. Making an account:
 *
 *   1. the mailbox's folders, counters and the drive's root in <username>,
 *      if they are not there;
 *   2. the name in the index users:<xx>;
 *   3. the row user:<username>, required absent. From here on it exists.
 *
 * A crash after 1 or 2 leaves cells that nobody finds (the index is checked
 * against the row when listed), and the next sign-up of the name uses them.
 */
#include "cloud/account.h"

#include <stdio.h>
#include <string.h>

#include <sodium.h>

#include "cloud/account_row.h"
#include "cloud/context.h"
#include "cloud/json.h"
#include "cloud/store.h"
#include "cloud/text.h"

static const struct {
    const char *id, *name;
} first_folders[] = {
    {"inbox", "Inbox"},     {"sent", "Sent"}, {"drafts", "Drafts"},
    {"archive", "Archive"}, {"junk", "Junk"}, {"trash", "Trash"},
};

static const char *const state_names[] = {
    [ACCOUNT_ACTIVE] = "active",
    [ACCOUNT_DISABLED] = "disabled",
    [ACCOUNT_DELETED] = "deleted",
};

bool account_name_valid(struct slice name)
{
    if (name.len == 0 || name.len > ACCOUNT_NAME_MAX)
        return false;
    bool separator = true; /* none at the start, none twice, none at the end */
    for (size_t i = 0; i < name.len; i++) {
        uint8_t c = name.data[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        if (!letter && (separator || (c != '.' && c != '_' && c != '-')))
            return false;
        separator = !letter;
    }
    return !separator;
}

static bool display_name_valid(const char *name)
{
    return strlen(name) <= ACCOUNT_DISPLAY_MAX &&
           !text_is_unsafe(slice_of(name));
}

static bool password_valid(struct slice password)
{
    return password.len >= ACCOUNT_PASSWORD_MIN &&
           password.len <= ACCOUNT_PASSWORD_MAX;
}

/* ---- the row ---- */

struct store_name account_user_row(const char *username)
{
    return store_name("user:%s", username);
}

void account_write_state(const struct account *a, struct buf *out)
{
    cJSON *o = cJSON_CreateObject();
    json_add_text(o, "state", state_names[a->state]);
    json_add_int(o, "generation", (int64_t)a->generation);
    json_write_take(o, out);
}

void account_write_profile(const struct account *a, struct buf *out)
{
    cJSON *o = cJSON_CreateObject();
    json_add_text(o, "display_name", a->display_name);
    json_add_int(o, "created", a->created_ms);
    json_write_take(o, out);
}

static bool parse_state(struct slice value, struct account *out)
{
    cJSON *o = json_parse_object(value);
    const char *state = json_text(o, "state");
    out->generation = (uint64_t)json_int(o, "generation", 0);
    out->state = 0;
    for (enum account_state i = ACCOUNT_ACTIVE; i <= ACCOUNT_DELETED; i++) {
        if (state != NULL && strcmp(state, state_names[i]) == 0)
            out->state = i;
    }
    cJSON_Delete(o);
    return out->state != 0;
}

static void parse_profile(struct slice value, struct account *out)
{
    cJSON *o = json_parse_object(value);
    const char *name = json_text(o, "display_name");
    text_line(slice_of(name != NULL ? name : ""), out->display_name,
              sizeof out->display_name);
    out->created_ms = json_int(o, "created", 0);
    cJSON_Delete(o);
}

enum status account_row_read(const struct cloud_op *op, const char *username,
                             struct account_row *out)
{
    struct store_name row = account_user_row(username);
    struct store_cells c;
    struct account_row r = {0};
    enum status st = store_row(op, row.text, row.text, "", &c);
    if (st != ST_OK)
        goto out;
    const struct cell *password = store_find(&c, "password");
    const struct cell *state = store_find(&c, "state");
    const struct cell *profile = store_find(&c, "profile");
    if (state == NULL) {
        st = ST_NOT_FOUND;
        goto out;
    }
    if (!parse_state(state->value, &r.account) || password == NULL ||
        password->value.len >= sizeof r.password ||
        state->value.len >= sizeof r.state) {
        st = ST_CORRUPT;
        goto out;
    }
    memcpy(r.password, password->value.data, password->value.len);
    memcpy(r.state, state->value.data, state->value.len);
    snprintf(r.account.username, sizeof r.account.username, "%s", username);
    if (profile != NULL)
        parse_profile(profile->value, &r.account);
    *out = r;
out:
    store_cells_free(&c);
    return st;
}

/* ---- making ---- */

static void add_folder(struct kv_batch *b, const char *row, size_t i,
                       int64_t uid_validity)
{
    cJSON *o = cJSON_CreateObject();
    json_add_text(o, "name", first_folders[i].name);
    json_add_text(o, "role", first_folders[i].id);
    json_add_int(o, "uid_validity", uid_validity);
    struct buf value = {0};
    json_write_take(o, &value);
    kv_batch_put(b, row, store_name("folders/%s", first_folders[i].id).text,
                 buf_slice(&value));
    buf_free(&value);
    static const char *const counters[] = {"next", "unread", "total"};
    for (size_t n = 0; n < 3; n++)
        kv_batch_increment(
            b, row, store_name("%s#%s", first_folders[i].id, counters[n]).text,
            0);
}

static void add_drive_root(struct kv_batch *b, const char *username,
                           int64_t now_ms)
{
    struct store_name row = store_name("%s:drive:UID_root", username);
    char now[24];
    snprintf(now, sizeof now, "%lld", (long long)now_ms);
    kv_batch_put(b, row.text, "type", slice_of("folder"));
    kv_batch_put(b, row.text, "name", slice_of(""));
    kv_batch_put(b, row.text, "parent", slice_of(""));
    kv_batch_put(b, row.text, "modified", slice_of(now));
}

/* Step 1. A conflict says that it was done before. */
static enum status make_cells(const struct cloud_op *op, const char *username)
{
    int64_t now_ms = cloud_wall_ms(op->cloud);
    struct store_name mailbox = store_name("%s:mailbox", username);
    struct store_name usage = store_name("%s:usage", username);
    struct kv_batch *b = kv_batch_new(slice_of(username));
    kv_batch_require_absent(b, mailbox.text, "folders/inbox");
    for (size_t i = 0; i < sizeof first_folders / sizeof *first_folders; i++)
        add_folder(b, mailbox.text, i, now_ms / 1000);
    kv_batch_increment(b, usage.text, "bytes", 0);
    kv_batch_increment(b, usage.text, "reserved", 0);
    kv_batch_increment(b, usage.text, "limit", op->cloud->o.quota_bytes);
    add_drive_root(b, username, now_ms);
    enum status st = store_repeat(op, b);
    kv_batch_free(b);
    return st == ST_CONFLICT ? ST_OK : st;
}

struct store_name account_index_row(const char *username)
{
    return store_name("users:%02x",
                      (unsigned)(partition_hash(slice_of(username)) & 0x3f));
}

/* Step 3. The password's salt is random, so its string tells ours from
 * another's after a lost session. */
static enum status claim(const struct cloud_op *op, const struct account *a,
                         const char *password)
{
    struct store_name row = account_user_row(a->username);
    struct buf state = {0}, profile = {0};
    account_write_state(a, &state);
    account_write_profile(a, &profile);
    struct kv_batch *b = kv_batch_new(slice_of(row.text));
    kv_batch_require_absent(b, row.text, "state");
    kv_batch_put(b, row.text, "password", slice_of(password));
    kv_batch_put(b, row.text, "profile", buf_slice(&profile));
    kv_batch_put(b, row.text, "state", buf_slice(&state));
    enum status st = store_repeat(op, b);
    if (st == ST_CONFLICT) {
        struct account_row now;
        st = account_row_read(op, a->username, &now);
        if (st == ST_OK)
            st = strcmp(now.password, password) == 0 ? ST_OK : ST_EXISTS;
        else if (st != ST_NOT_FOUND)
            st = ST_UNKNOWN_OUTCOME;
    }
    kv_batch_free(b);
    buf_free(&state);
    buf_free(&profile);
    return st;
}

enum status account_create(const struct cloud_op *op, const char *username,
                           struct slice password, const char *display_name)
{
    if (!account_name_valid(slice_of(username)) || !password_valid(password) ||
        !display_name_valid(display_name))
        return ST_INVALID;
    struct account_row row;
    enum status st = account_row_read(op, username, &row);
    if (st != ST_NOT_FOUND)
        return st == ST_OK ? ST_EXISTS : st;
    char hash[PASSWORD_HASH_SIZE];
    st = password_hash(&op->cloud->gate, password, op->deadline_ms, hash);
    if (st != ST_OK)
        return st;
    struct account a = {.state = ACCOUNT_ACTIVE,
                        .created_ms = cloud_wall_ms(op->cloud),
                        .generation = 1};
    snprintf(a.username, sizeof a.username, "%s", username);
    snprintf(a.display_name, sizeof a.display_name, "%s", display_name);
    st = make_cells(op, username);
    struct store_name index = account_index_row(username);
    if (st == ST_OK)
        st = store_put(op, index.text, index.text, username, slice_of("{}"));
    /* Nothing shows before the claim: until then it surely did not happen. */
    if (st == ST_UNKNOWN_OUTCOME)
        st = ST_UNREACHABLE;
    if (st == ST_OK)
        st = claim(op, &a, hash);
    sodium_memzero(hash, sizeof hash);
    return st;
}

/* ---- asking ---- */

enum status account_check_password(const struct cloud_op *op,
                                   const char *username, struct slice password,
                                   struct account *out)
{
    struct account_row row = {0};
    enum status st = ST_NOT_FOUND;
    if (account_name_valid(slice_of(username)))
        st = account_row_read(op, username, &row);
    if (st != ST_OK && st != ST_NOT_FOUND)
        return st;
    bool usable = st == ST_OK && row.account.state == ACCOUNT_ACTIVE;
    if (password.len > ACCOUNT_PASSWORD_MAX) {
        password = slice_make(password.data, ACCOUNT_PASSWORD_MAX);
        usable = false;
    }
    st = password_verify(&op->cloud->gate, usable ? row.password : NULL,
                         password, op->deadline_ms);
    sodium_memzero(row.password, sizeof row.password);
    if (st == ST_OK)
        *out = row.account;
    return st;
}

enum status account_get(const struct cloud_op *op, const char *username,
                        struct account *out)
{
    struct account_row row;
    if (!account_name_valid(slice_of(username)))
        return ST_NOT_FOUND;
    enum status st = account_row_read(op, username, &row);
    if (st == ST_OK && row.account.state == ACCOUNT_DELETED)
        return ST_NOT_FOUND;
    if (st == ST_OK)
        *out = row.account;
    return st;
}

enum status account_get_usage(const struct cloud_op *op, const char *username,
                              struct account_usage *out)
{
    struct store_name row = store_name("%s:usage", username);
    struct store_cells c;
    struct account_usage u = {0};
    enum status st = store_row(op, username, row.text, "", &c);
    if (st == ST_OK) {
        const struct cell *bytes = store_find(&c, "bytes");
        const struct cell *reserved = store_find(&c, "reserved");
        const struct cell *limit = store_find(&c, "limit");
        if (limit == NULL)
            st = ST_NOT_FOUND;
        else if (!store_parse_counter(limit->value, &u.limit) ||
                 (bytes && !store_parse_counter(bytes->value, &u.bytes)) ||
                 (reserved &&
                  !store_parse_counter(reserved->value, &u.reserved)))
            st = ST_CORRUPT;
    }
    store_cells_free(&c);
    if (st == ST_OK)
        *out = u;
    return st;
}

/* One of the index's 64 rows. *GO becomes false when FN has had enough. */
static enum status list_row(const struct cloud_op *op, const char *row,
                            bool (*fn)(void *ctx, const struct account *a),
                            void *ctx, bool *go)
{
    struct kv_scan scan = {
        .partition = slice_of(row), .row = slice_of(row), .row_exact = true};
    struct arena arena = {0};
    bool more = true;
    enum status st = ST_OK;
    while (st == ST_OK && more && *go) {
        struct cell *cells = NULL;
        size_t count = 0;
        st = kv_scan_page(cloud_kv(op->cloud), &scan, cloud_op_left(op), &arena,
                          &cells, &count, &more);
        for (size_t i = 0; i < count && st == ST_OK && *go; i++) {
            struct account a;
            char name[ACCOUNT_NAME_MAX + 1];
            snprintf(name, sizeof name, "%.*s", (int)cells[i].column.len,
                     (const char *)cells[i].column.data);
            st = account_get(op, name, &a);
            if (st == ST_OK)
                *go = fn(ctx, &a);
            else if (st == ST_NOT_FOUND)
                st = ST_OK;
            scan.has_after = true;
            scan.after_row = cells[i].row;
            scan.after_column = cells[i].column;
        }
        more = more && count > 0;
    }
    arena_free(&arena);
    return st == ST_NOT_FOUND ? ST_OK : st;
}

enum status account_list(const struct cloud_op *op,
                         bool (*fn)(void *ctx, const struct account *a),
                         void *ctx)
{
    bool go = true;
    for (unsigned i = 0; i < 64 && go; i++) {
        struct store_name row = store_name("users:%02x", i);
        enum status st = list_row(op, row.text, fn, ctx, &go);
        if (st != ST_OK)
            return st;
    }
    return ST_OK;
}
