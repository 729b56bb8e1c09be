/*
 * Accounts. A name is taken by one batch in its partition user:<username>
 * (penncloud-schema(5)); the mailbox and usage cells in <username> are made
 * before that, idempotently, so a crash between leaves nothing that shows.
 *
 * Passwords: Argon2id at 64 MiB; at most cloud_options.hash_parallel at once,
 * others wait in line, and beyond hash_waiting callers get ST_TOO_MANY. An
 * unknown or disabled account costs the same time as a wrong password.
 */
#ifndef CLOUD_ACCOUNT_H
#define CLOUD_ACCOUNT_H

#include "cloud/cloud.h"

#define ACCOUNT_NAME_MAX 64
#define ACCOUNT_DISPLAY_MAX 128 /* bytes of UTF-8 */
#define ACCOUNT_PASSWORD_MIN 8  /* bytes */
#define ACCOUNT_PASSWORD_MAX 1024

enum account_state {
    ACCOUNT_ACTIVE = 1,
    ACCOUNT_DISABLED = 2, /* no login; mail is still taken */
    ACCOUNT_DELETED = 3,  /* its data is being removed */
};

struct account {
    char username[ACCOUNT_NAME_MAX + 1];
    char display_name[ACCOUNT_DISPLAY_MAX + 1]; /* "" if none */
    enum account_state state;
    int64_t created_ms;
    /* Raised by each password change and disabling: ends all sessions made
     * before, everywhere, at once. */
    uint64_t generation;
};

struct account_usage {
    int64_t bytes;    /* counted, what is being uploaded included */
    int64_t reserved; /* of these: not visible yet */
    int64_t limit;
};

/* [a-z0-9]+([._-][a-z0-9]+)*, at most 64 characters. */
bool account_name_valid(struct slice name);

/* ST_EXISTS; ST_INVALID: bad name, password too short or too long, display
 * name not UTF-8 or with control characters. */
enum status account_create(const struct cloud_op *op, const char *username,
                           struct slice password,
                           const char *display_name) MUST_CHECK;
/* ST_OK fills *OUT; ST_UNAUTHENTICATED: no such account, not active, or a
 * wrong password (which of them is told to nobody); ST_TOO_MANY: too many
 * hashes wait. USERNAME may be anything. */
enum status account_check_password(const struct cloud_op *op,
                                   const char *username, struct slice password,
                                   struct account *out) MUST_CHECK;
/* ST_NOT_FOUND; a deleted account is not found. */
enum status account_get(const struct cloud_op *op, const char *username,
                        struct account *out) MUST_CHECK;
enum status account_get_usage(const struct cloud_op *op, const char *username,
                              struct account_usage *out) MUST_CHECK;
enum status account_set_display_name(const struct cloud_op *op,
                                     const char *username,
                                     const char *display_name) MUST_CHECK;
/* Checks OLD first (ST_UNAUTHENTICATED). Ends all sessions of the account;
 * the caller makes itself a new one. *OUT has the new generation. */
enum status account_change_password(const struct cloud_op *op,
                                    const char *username,
                                    struct slice old_password,
                                    struct slice new_password,
                                    struct account *out) MUST_CHECK;
/* For operators: as above without the old one. */
enum status account_set_password(const struct cloud_op *op,
                                 const char *username,
                                 struct slice password) MUST_CHECK;
/* Disabling ends all sessions. */
enum status account_set_disabled(const struct cloud_op *op,
                                 const char *username,
                                 bool disabled) MUST_CHECK;
enum status account_set_limit(const struct cloud_op *op, const char *username,
                              int64_t limit_bytes) MUST_CHECK;
/* The account is gone at once (nobody finds it), then its data go; ST_MORE
 * never comes out: interrupted, it is called again. */
enum status account_delete(const struct cloud_op *op,
                           const char *username) MUST_CHECK;
/* Calls FN for every account, in no useful order; stops when FN answers
 * false. */
enum status account_list(const struct cloud_op *op,
                         bool (*fn)(void *ctx, const struct account *a),
                         void *ctx) MUST_CHECK;

#endif
