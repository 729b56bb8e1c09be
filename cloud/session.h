/*
 * Web sessions. The cookie holds a uid of 256 random bits; the store knows
 * only its hash (BLAKE2b-256), so a copy of the store opens no session. A
 * session ends by itself when idle or too old, when it is ended, and when the
 * account's generation has moved on (password changed, account disabled).
 */
#ifndef CLOUD_SESSION_H
#define CLOUD_SESSION_H

#include "cloud/account.h"

#define SESSION_UID_TEXT 64 /* hex digits in the cookie */
#define SESSION_HASH_TEXT 64

/* Keep it out of logs, URLs and arguments. */
struct session_uid {
    char text[SESSION_UID_TEXT + 1];
};

struct session {
    char username[ACCOUNT_NAME_MAX + 1];
    char hash[SESSION_HASH_TEXT + 1]; /* may be shown: names the session */
    int64_t created_ms, last_seen_ms;
    char address[64]; /* where it was made from */
    char agent[128];  /* User-Agent, cut, control characters removed */
};

/* Where a request comes from, for the list of one's sessions. */
struct session_origin {
    const char *address;
    const char *agent; /* may be NULL */
};

/* For ACCOUNT as account_check_password() gave it. */
enum status session_create(const struct cloud_op *op,
                           const struct account *account,
                           const struct session_origin *origin,
                           struct session_uid *uid) MUST_CHECK;
/* COOKIE may be anything. ST_UNAUTHENTICATED: no such session, ended, idle
 * or too old. Notes the time of use at most once in five minutes. ACCOUNT
 * (may be NULL) is filled too. */
enum status session_look_up(const struct cloud_op *op, struct slice cookie,
                            struct session *out,
                            struct account *account) MUST_CHECK;
/* Ends the session whose cookie this is; ST_OK also if there is none. */
enum status session_end(const struct cloud_op *op,
                        struct slice cookie) MUST_CHECK;
/* Ends one of USERNAME's by its hash; ST_NOT_FOUND if it is not his. */
enum status session_end_one(const struct cloud_op *op, const char *username,
                            struct slice hash) MUST_CHECK;
/* Ends all of USERNAME's. */
enum status session_end_all(const struct cloud_op *op,
                            const char *username) MUST_CHECK;
/* USERNAME's live sessions, in ARENA. */
enum status session_list(const struct cloud_op *op, const char *username,
                         struct arena *arena, struct session **out,
                         size_t *count) MUST_CHECK;

/* The CSRF token that belongs to a cookie: derived from it one way, so it
 * needs no storage. 32 hex digits and a NUL. Pure. */
void session_csrf_token(struct slice cookie, char out[33]);
/* Compares in constant time. */
bool session_csrf_matches(struct slice cookie, struct slice token);

#endif
