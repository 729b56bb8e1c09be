/*
 * Changing accounts: password, state, profile, limit; and deleting them.
 *
 * A change is read, decided, and written under the condition that the row's
 * state is as it was read; when that fails, or our session at the store was
 * lost, all is read again, and what is already as wanted is done. Password
 * changes and disabling raise the generation in the same batch, which ends
 * every session made before (session.h) at that instant; removing the
 * sessions' cells afterwards is only tidying.
 *
 * Deleting: the state becomes "deleted" (nobody finds the account, mail is
 * refused), then the folders go (which ends deliveries under way: each of
 * their steps requires its folder), then the chunks of messages, then all
 * rows of <username>, the index, and last the row itself, which frees the
 * name. Each step may be repeated, so an interrupted deletion is finished by
 * deleting again.
 */
#include "cloud/account.h"

#include <stdio.h>
#include <string.h>

#include <sodium.h>

#include "cloud/account_row.h"
#include "cloud/context.h"
#include "cloud/mailbox_store.h"
#include "cloud/session.h"
#include "cloud/text.h"

/* Writes ROW's account under the condition that the state is still the one
 * in ROW; PASSWORD may be NULL: stays. */
static enum status write_row(const struct cloud_op *op,
                             const struct account_row *row,
                             const char *password)
{
    struct store_name name = account_user_row(row->account.username);
    struct buf state = {0}, profile = {0};
    account_write_state(&row->account, &state);
    account_write_profile(&row->account, &profile);
    struct kv_batch *b = kv_batch_new(slice_of(name.text));
    kv_batch_require_equal(b, name.text, "state", slice_of(row->state));
    kv_batch_require_equal(b, name.text, "password", slice_of(row->password));
    kv_batch_put(b, name.text, "state", buf_slice(&state));
    kv_batch_put(b, name.text, "profile", buf_slice(&profile));
    if (password != NULL)
        kv_batch_put(b, name.text, "password", slice_of(password));
    enum status st = store_run(op, b, NULL);
    kv_batch_free(b);
    buf_free(&state);
    buf_free(&profile);
    return st;
}

/* True if the change must be tried again from the reading on. */
static bool read_again(const struct cloud_op *op, enum status *st)
{
    if (*st != ST_CONFLICT && *st != ST_UNKNOWN_CLIENT)
        return false;
    if (cloud_op_left(op) > 0)
        return true;
    *st = *st == ST_CONFLICT ? ST_BUSY : ST_UNKNOWN_OUTCOME;
    return false;
}

static enum status read_live(const struct cloud_op *op, const char *username,
                             struct account_row *row)
{
    if (!account_name_valid(slice_of(username)))
        return ST_NOT_FOUND;
    enum status st = account_row_read(op, username, row);
    if (st == ST_OK && row->account.state == ACCOUNT_DELETED)
        return ST_NOT_FOUND;
    return st;
}

/* Puts HASH in place; if EXPECTED is not NULL, only over that one. */
static enum status replace_password(const struct cloud_op *op,
                                    const char *username, const char *expected,
                                    const char *hash, struct account *out)
{
    struct account_row row;
    enum status st;
    do {
        st = read_live(op, username, &row);
        if (st != ST_OK)
            return st;
        if (strcmp(row.password, hash) == 0)
            break; /* done by a run whose answer was lost */
        if (expected != NULL && strcmp(row.password, expected) != 0)
            return ST_UNAUTHENTICATED;
        row.account.generation++;
        st = write_row(op, &row, hash);
    } while (read_again(op, &st));
    if (st == ST_OK && out != NULL)
        *out = row.account;
    return st;
}

static enum status set_password(const struct cloud_op *op, const char *username,
                                const char *expected, struct slice password,
                                struct account *out)
{
    if (password.len < ACCOUNT_PASSWORD_MIN ||
        password.len > ACCOUNT_PASSWORD_MAX)
        return ST_INVALID;
    char hash[PASSWORD_HASH_SIZE];
    enum status st =
        password_hash(&op->cloud->gate, password, op->deadline_ms, hash);
    if (st == ST_OK)
        st = replace_password(op, username, expected, hash, out);
    sodium_memzero(hash, sizeof hash);
    if (st == ST_OK && session_end_all(op, username) != ST_OK)
        log_info(cloud_log(op->cloud), "account", "sessions_left",
                 "user=%s text=\"ended, cells remain for a while\"", username);
    return st;
}

enum status account_change_password(const struct cloud_op *op,
                                    const char *username,
                                    struct slice old_password,
                                    struct slice new_password,
                                    struct account *out)
{
    struct account_row row;
    enum status st = read_live(op, username, &row);
    if (st != ST_OK)
        return st == ST_NOT_FOUND ? ST_UNAUTHENTICATED : st;
    st = password_verify(&op->cloud->gate, row.password, old_password,
                         op->deadline_ms);
    if (st == ST_OK)
        st = set_password(op, username, row.password, new_password, out);
    sodium_memzero(&row, sizeof row);
    return st;
}

enum status account_set_password(const struct cloud_op *op,
                                 const char *username, struct slice password)
{
    return set_password(op, username, NULL, password, NULL);
}

enum status account_set_disabled(const struct cloud_op *op,
                                 const char *username, bool disabled)
{
    enum account_state want = disabled ? ACCOUNT_DISABLED : ACCOUNT_ACTIVE;
    struct account_row row;
    enum status st;
    do {
        st = read_live(op, username, &row);
        if (st != ST_OK || row.account.state == want)
            return st;
        row.account.state = want;
        row.account.generation++;
        st = write_row(op, &row, NULL);
    } while (read_again(op, &st));
    return st;
}

enum status account_set_display_name(const struct cloud_op *op,
                                     const char *username,
                                     const char *display_name)
{
    if (strlen(display_name) > ACCOUNT_DISPLAY_MAX ||
        text_is_unsafe(slice_of(display_name)))
        return ST_INVALID;
    struct account_row row;
    enum status st;
    do {
        st = read_live(op, username, &row);
        if (st != ST_OK || strcmp(row.account.display_name, display_name) == 0)
            return st;
        snprintf(row.account.display_name, sizeof row.account.display_name,
                 "%s", display_name);
        st = write_row(op, &row, NULL);
    } while (read_again(op, &st));
    return st;
}

enum status account_set_limit(const struct cloud_op *op, const char *username,
                              int64_t limit_bytes)
{
    if (limit_bytes < 0)
        return ST_INVALID;
    struct account a;
    enum status st = account_get(op, username, &a);
    if (st != ST_OK)
        return st;
    char value[24];
    snprintf(value, sizeof value, "%lld", (long long)limit_bytes);
    return store_put(op, username, store_name("%s:usage", username).text,
                     "limit", slice_of(value));
}

/* ---- deleting ---- */

static enum status mark_deleted(const struct cloud_op *op, const char *username)
{
    struct account_row row;
    enum status st;
    do {
        st = account_row_read(op, username, &row);
        if (st != ST_OK || row.account.state == ACCOUNT_DELETED)
            return st;
        row.account.state = ACCOUNT_DELETED;
        row.account.generation++;
        st = write_row(op, &row, NULL);
    } while (read_again(op, &st));
    return st;
}

static enum status delete_folders(const struct cloud_op *op,
                                  const char *username)
{
    struct kv_batch *b = kv_batch_new(slice_of(username));
    kv_batch_delete_prefix(b, mailbox_row(username).text, "folders/");
    enum status st = store_repeat(op, b);
    kv_batch_free(b);
    return st;
}

static enum status delete_rows(const struct cloud_op *op, const char *username)
{
    struct kv_batch *b = kv_batch_new(slice_of(username));
    kv_batch_delete_rows(b, store_name("%s:", username).text);
    enum status st;
    struct kv_result result = {0};
    do {
        st = store_run(op, b, &result);
    } while ((st == ST_OK && result.more) ||
             (st == ST_UNKNOWN_CLIENT && cloud_op_left(op) > 0));
    kv_batch_free(b);
    return st == ST_UNKNOWN_CLIENT ? ST_UNKNOWN_OUTCOME : st;
}

enum status account_delete(const struct cloud_op *op, const char *username)
{
    if (!account_name_valid(slice_of(username)))
        return ST_NOT_FOUND;
    enum status st = mark_deleted(op, username);
    if (st == ST_OK)
        st = session_end_all(op, username);
    if (st == ST_OK)
        st = delete_folders(op, username);
    if (st == ST_OK)
        st = mailbox_delete_all_chunks(op, username);
    if (st == ST_OK)
        st = delete_rows(op, username);
    struct store_name index = account_index_row(username);
    if (st == ST_OK)
        st = store_delete(op, index.text, index.text, username);
    struct store_name row = account_user_row(username);
    if (st == ST_OK) {
        struct kv_batch *b = kv_batch_new(slice_of(row.text));
        kv_batch_delete_prefix(b, row.text, "");
        st = store_repeat(op, b);
        kv_batch_free(b);
    }
    return st;
}
