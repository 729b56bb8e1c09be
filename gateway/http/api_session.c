/*
 * Accounts and sessions: sign up, log in and out, who am I, change the
 * password.
 *
 * A login always makes a new session and ends the one whose cookie came with
 * it, so nobody can plant a session id. Attempts are bounded for an address
 * and for a name before any password is hashed; a success does not count.
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include <sodium.h>

#include "gateway/http/json.h"

#define COOKIE_SECONDS (30 * 86400)

static void set_cookie(struct http_call *c, const char *value, int seconds)
{
    char text[256];
    snprintf(text, sizeof(text),
             HTTP_COOKIE "=%s; Path=/; HttpOnly; SameSite=Lax; Max-Age=%d%s",
             value, seconds, c->req->secure ? "; Secure" : "");
    http_response_header(c->res, "Set-Cookie", text);
    sodium_memzero(text, sizeof(text));
}

static cJSON *describe(struct http_call *c, const struct account *a,
                       const char *cookie)
{
    char token[33], address[ACCOUNT_NAME_MAX + 260];
    cJSON *o = cJSON_CreateObject();
    snprintf(address, sizeof(address), "%s@%s", a->username,
             cloud_main_domain(c->op.cloud));
    session_csrf_token(slice_of(cookie), token);
    cJSON_AddStringToObject(o, "username", a->username);
    cJSON_AddStringToObject(o, "display_name", a->display_name);
    cJSON_AddStringToObject(o, "address", address);
    cJSON_AddStringToObject(o, "csrf_token", token);
    return o;
}

/* What an operator wants to find again; NAME may be anything. */
static void note(struct http_call *c, const char *event, const char *name)
{
    log_info(http_app_options(c->app)->log, "http", event, "user=%s address=%s",
             log_quote(slice_of(name)), c->req->address);
}

/* Makes a session for A and answers with the account. */
static void enter(struct http_call *c, const struct account *a, int status)
{
    struct session_origin origin = {c->req->address, c->req->agent};
    struct session_uid uid;
    enum status s = session_create(&c->op, a, &origin, &uid);
    if (s != ST_OK) {
        http_call_fail(c, s);
        return;
    }
    http_json_reply(c, status, describe(c, a, uid.text));
    set_cookie(c, uid.text, COOKIE_SECONDS);
    sodium_memzero(&uid, sizeof(uid));
}

/* The name as accounts have it: lower case, without our own domain. */
static void fold_name(struct http_call *c, const char *text,
                      char out[ACCOUNT_NAME_MAX + 1])
{
    const char *at = strrchr(text, '@');
    size_t len = strlen(text);
    if (at != NULL && cloud_domain_is_local(c->op.cloud, at + 1))
        len = (size_t)(at - text);
    if (len > ACCOUNT_NAME_MAX)
        len = ACCOUNT_NAME_MAX;
    for (size_t i = 0; i < len; i++)
        out[i] = (char)tolower((unsigned char)text[i]);
    out[len] = '\0';
}

static void wipe(const char *secret)
{
    if (secret != NULL)
        sodium_memzero((void *)(uintptr_t)secret, strlen(secret));
}

static bool may_try(struct http_call *c, const char *name)
{
    if (http_app_may_try(c->app, c->req, name))
        return true;
    http_call_refuse(c, HTTP_ERROR_TOO_MANY, NULL);
    return false;
}

/* Addresses by which others take whoever reads them for the operator of the
 * domain (RFC 2142; certificates are given to some of them). An operator makes
 * them: pennctl(1) user add. */
static bool is_reserved(const char *name)
{
    static const char *const names[] = {
        "abuse",         "admin",    "administrator", "hostmaster",
        "mailer-daemon", "noc",      "no-reply",      "noreply",
        "postmaster",    "root",     "security",      "ssladmin",
        "ssl",           "sysadmin", "usenet",        "webmaster"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(name, names[i]) == 0)
            return true;
    }
    return false;
}

static void sign_up(struct http_call *c, const char *name, const char *password,
                    const char *display)
{
    struct account a;
    if (is_reserved(name)) {
        http_call_refuse(c, HTTP_ERROR_USERNAME_TAKEN,
                         "This username is kept for the operator.");
        return;
    }
    enum status s = account_create(&c->op, name, slice_of(password), display);
    if (s == ST_EXISTS) {
        http_call_refuse(c, HTTP_ERROR_USERNAME_TAKEN, NULL);
        return;
    }
    if (s == ST_INVALID) {
        http_json_refuse(c, "username", "is not a valid name");
        return;
    }
    if (s == ST_OK)
        s = account_get(&c->op, name, &a);
    if (s != ST_OK) {
        http_call_fail(c, s);
        return;
    }
    note(c, "signed-up", a.username);
    enter(c, &a, 201);
}

void http_api_signup(struct http_call *c)
{
    if (!http_app_options(c->app)->signup) {
        http_call_refuse(c, HTTP_ERROR_NOT_ALLOWED,
                         "Accounts are made by the operator here.");
        return;
    }
    cJSON *o = http_json_body(c);
    if (o == NULL)
        return;
    const char *name = http_json_text(c, o, "username", 256, NULL);
    const char *password =
        name == NULL
            ? NULL
            : http_json_text(c, o, "password", ACCOUNT_PASSWORD_MAX, NULL);
    const char *display =
        password == NULL
            ? NULL
            : http_json_text(c, o, "display_name", ACCOUNT_DISPLAY_MAX, "");
    if (display != NULL && strlen(password) < ACCOUNT_PASSWORD_MIN) {
        http_json_refuse(c, "password", "must have at least 8 characters");
    } else if (display != NULL && !http_app_may_sign_up(c->app, c->req)) {
        http_call_refuse(c, HTTP_ERROR_TOO_MANY, NULL);
    } else if (display != NULL) {
        char folded[ACCOUNT_NAME_MAX + 1];
        fold_name(c, name, folded);
        sign_up(c, strlen(name) > ACCOUNT_NAME_MAX ? name : folded, password,
                display);
    }
    wipe(password);
    cJSON_Delete(o);
}

static void log_in(struct http_call *c, const char *name, const char *password)
{
    struct account a;
    enum status s =
        account_check_password(&c->op, name, slice_of(password), &a);
    if (s == ST_UNAUTHENTICATED) {
        note(c, "login-failed", name);
        http_call_refuse(c, HTTP_ERROR_BAD_LOGIN, NULL);
        return;
    }
    http_app_succeeded(c->app, c->req, name);
    if (s != ST_OK) {
        http_call_fail(c, s);
        return;
    }
    const char *old = http_request_cookie(c->req, HTTP_COOKIE);
    /* If it cannot be ended now, it ends by its age. */
    if (old != NULL && session_end(&c->op, slice_of(old)) != ST_OK)
        log_debug(http_app_options(c->app)->log, "http", "old-session-left",
                  "user=%s", a.username);
    note(c, "logged-in", a.username);
    enter(c, &a, 200);
}

void http_api_login(struct http_call *c)
{
    cJSON *o = http_json_body(c);
    if (o == NULL)
        return;
    const char *name = http_json_text(c, o, "username", 256, NULL);
    const char *password =
        name == NULL
            ? NULL
            : http_json_text(c, o, "password", ACCOUNT_PASSWORD_MAX, NULL);
    if (password != NULL) {
        char folded[ACCOUNT_NAME_MAX + 1];
        fold_name(c, name, folded);
        if (may_try(c, folded))
            log_in(c, folded, password);
    }
    wipe(password);
    cJSON_Delete(o);
}

void http_api_logout(struct http_call *c)
{
    enum status s = session_end(&c->op, slice_of(c->cookie));
    if (s != ST_OK) {
        http_call_fail(c, s);
        return;
    }
    http_json_reply(c, 200, cJSON_CreateObject());
    set_cookie(c, "", 0);
}

void http_api_me(struct http_call *c)
{
    struct account_usage usage;
    enum status s = account_get_usage(&c->op, c->account.username, &usage);
    if (s != ST_OK) {
        http_call_fail(c, s);
        return;
    }
    cJSON *o = describe(c, &c->account, c->cookie);
    cJSON *u = cJSON_AddObjectToObject(o, "usage");
    cJSON_AddNumberToObject(u, "bytes", (double)usage.bytes);
    cJSON_AddNumberToObject(u, "limit", (double)usage.limit);
    http_json_add_time(o, "created", c->account.created_ms);
    http_json_reply(c, 200, o);
}

static void change_password(struct http_call *c, const char *old,
                            const char *new)
{
    struct account a;
    if (!may_try(c, c->account.username))
        return;
    enum status s = account_change_password(&c->op, c->account.username,
                                            slice_of(old), slice_of(new), &a);
    if (s == ST_UNAUTHENTICATED) {
        http_call_refuse(c, HTTP_ERROR_NOT_ALLOWED,
                         "The old password is wrong.");
        return;
    }
    http_app_succeeded(c->app, c->req, c->account.username);
    if (s == ST_INVALID)
        http_json_refuse(c, "new_password", "must have at least 8 characters");
    else if (s != ST_OK)
        http_call_fail(c, s);
    if (s != ST_OK)
        return;
    note(c, "password-changed", a.username);
    enter(c, &a, 200);
}

void http_api_password(struct http_call *c)
{
    cJSON *o = http_json_body(c);
    if (o == NULL)
        return;
    const char *old =
        http_json_text(c, o, "old_password", ACCOUNT_PASSWORD_MAX, NULL);
    const char *new = old == NULL ? NULL
                                  : http_json_text(c, o, "new_password",
                                                   ACCOUNT_PASSWORD_MAX, NULL);
    if (new != NULL)
        change_password(c, old, new);
    wipe(old);
    wipe(new);
    cJSON_Delete(o);
}
