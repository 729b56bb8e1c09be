/*
 * The row user:<username> as a whole; for account*.c alone.
 */
#ifndef CLOUD_ACCOUNT_ROW_H
#define CLOUD_ACCOUNT_ROW_H

#include "cloud/account.h"
#include "cloud/password.h"
#include "cloud/store.h"

struct account_row {
    struct account account;
    char password[PASSWORD_HASH_SIZE]; /* libsodium's string */
    char state[128];                   /* the cell as read, for conditions */
};

struct store_name account_user_row(const char *username);
struct store_name account_index_row(const char *username);
/* ST_NOT_FOUND; an account in any state is found. USERNAME is valid. */
enum status account_row_read(const struct cloud_op *op, const char *username,
                             struct account_row *out) MUST_CHECK;
void account_write_state(const struct account *a, struct buf *out);
void account_write_profile(const struct account *a, struct buf *out);

#endif
