/*
 * The API as a browser uses and abuses it: accounts and sessions, forged
 * requests, mail from writing to deleting, other people's objects, a store
 * that fails, and that openapi.json tells the truth.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/unit/http_fixture.h"

static struct web web;
static struct browser demo, alice;

static void set_up(void)
{
    web_init(&web, NULL);
    browser_log_in(&demo, &web, "demo");
    browser_log_in(&alice, &web, "alice");
}

static void tear_down(void)
{
    web_fini(&web);
}

/* Calls and expects STATUS and, where not NULL, CODE. */
static void expect(struct browser *b, const char *method, const char *path,
                   const char *json, int status, const char *code)
{
    struct reply r;
    browser_call(b, method, path, json, &r);
    ck_assert_msg(r.status == status, "%s %s %s -> %d %s", method, path,
                  json == NULL ? "" : json, r.status, buf_cstr(&r.body));
    if (code != NULL)
        ck_assert_str_eq(reply_code(&r), code);
    reply_free(&r);
}

static const char *text_of(const cJSON *o, const char *name)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItem(o, name));
    return text == NULL ? "" : text;
}

/* ---- accounts ---- */

START_TEST(sign_up_log_in_and_out)
{
    struct browser b = {.web = &web};
    struct reply r;
    browser_call(&b, "POST", "/api/signup",
                 "{\"username\":\"bob\",\"password\":\"12345678\","
                 "\"display_name\":\"Bob\"}",
                 &r);
    ck_assert_int_eq(r.status, 201);
    ck_assert_str_eq(text_of(r.json, "address"), "bob@penncloud.test");
    const char *cookie = reply_header(&r, "Set-Cookie");
    ck_assert_ptr_nonnull(strstr(cookie, "; HttpOnly"));
    ck_assert_ptr_nonnull(strstr(cookie, "; SameSite=Lax"));
    ck_assert_ptr_nonnull(strstr(cookie, "; Path=/"));
    ck_assert_ptr_null(strstr(cookie, "Secure"));
    ck_assert_str_eq(reply_header(&r, "Cache-Control"), "no-store");
    reply_free(&r);
    expect(&b, "GET", "/api/me", NULL, 200, NULL);
    struct browser copy = b;
    expect(&b, "POST", "/api/logout", NULL, 200, NULL);
    expect(&copy, "GET", "/api/me", NULL, 401, "unauthenticated");
}
END_TEST

static const struct {
    const char *json;
    int status;
    const char *code;
} signups[] = {
    {"{\"username\":\"demo\",\"password\":\"12345678\"}", 409,
     "username_taken"},
    {"{\"username\":\"DEMO\",\"password\":\"12345678\"}", 409,
     "username_taken"},
    {"{\"username\":\"postmaster\",\"password\":\"12345678\"}", 409,
     "username_taken"},
    {"{\"username\":\"Admin@penncloud.test\",\"password\":\"12345678\"}", 409,
     "username_taken"},
    {"{\"username\":\"x\",\"password\":\"1234567\"}", 400, "bad_field"},
    {"{\"username\":\"x..y\",\"password\":\"12345678\"}", 400, "bad_field"},
    {"{\"username\":\"a/b\",\"password\":\"12345678\"}", 400, "bad_field"},
    {"{\"username\":\"a:b\",\"password\":\"12345678\"}", 400, "bad_field"},
    {"{\"username\":\"\",\"password\":\"12345678\"}", 400, "bad_field"},
    {"{\"username\":7,\"password\":\"12345678\"}", 400, "bad_field"},
    {"{\"password\":\"12345678\"}", 400, "bad_field"},
    {"{\"username\":\"x\"}", 400, "bad_field"},
    {"{\"username\":\"x\\ny\",\"password\":\"12345678\"}", 400, "bad_field"},
    {"{\"username\":\"x\",\"password\":\"12345678\",\"display_name\":\"\\r\"}",
     400, "bad_field"},
    {"\"x\"", 400, "bad_json"},
};

START_TEST(bad_signups)
{
    struct browser b = {.web = &web};
    expect(&b, "POST", "/api/signup", signups[_i].json, signups[_i].status,
           signups[_i].code);
}
END_TEST

/* Sixty of an address that may fail three logins, then no more. */
START_TEST(signups_are_bounded)
{
    struct browser b = {.web = &web};
    char json[128];
    for (int i = 0; i < 60; i++) {
        snprintf(json, sizeof(json),
                 "{\"username\":\"user%d\",\"password\":\"12345678\"}", i);
        expect(&b, "POST", "/api/signup", json, 201, NULL);
        b = (struct browser){.web = &web};
    }
    expect(&b, "POST", "/api/signup",
           "{\"username\":\"user60\",\"password\":\"12345678\"}", 429,
           "too_many");
    expect(&b, "POST", "/api/login",
           "{\"username\":\"user59\",\"password\":\"12345678\"}", 200, NULL);
}
END_TEST

START_TEST(logins_are_bounded)
{
    struct browser b = {.web = &web};
    const char *bad = "{\"username\":\"demo\",\"password\":\"wrong-password\"}";
    const char *none =
        "{\"username\":\"nobody\",\"password\":\"wrong-password\"}";
    const char *good =
        "{\"username\":\"demo\",\"password\":\"secret-password\"}";
    struct reply r, s;
    browser_call(&b, "POST", "/api/login", bad, &r);
    browser_call(&b, "POST", "/api/login", none, &s);
    ck_assert_int_eq(r.status, 401);
    ck_assert_str_eq(buf_cstr(&r.body), buf_cstr(&s.body));
    reply_free(&r);
    reply_free(&s);
    for (int i = 0; i < 5; i++)
        expect(&b, "POST", "/api/login", good, 200, NULL);
    expect(&b, "POST", "/api/login", bad, 401, "bad_login");
    expect(&b, "POST", "/api/login", bad, 401, "bad_login");
    expect(&b, "POST", "/api/login", bad, 429, "too_many");
    expect(&b, "POST", "/api/login", good, 429, "too_many");
    expect(&b, "POST", "/api/login",
           "{\"username\":\"Alice@penncloud.test\","
           "\"password\":\"secret-password\"}",
           200, NULL);
}
END_TEST

/* A planted session id never becomes a session. */
START_TEST(a_login_makes_a_new_session)
{
    struct browser old = demo, planted = {.web = &web};
    expect(&demo, "POST", "/api/login",
           "{\"username\":\"demo\",\"password\":\"secret-password\"}", 200,
           NULL);
    ck_assert_str_ne(old.cookie, demo.cookie);
    expect(&old, "GET", "/api/me", NULL, 401, NULL);
    expect(&demo, "GET", "/api/me", NULL, 200, NULL);
    snprintf(planted.cookie, sizeof(planted.cookie), HTTP_COOKIE "=%064d", 7);
    expect(&planted, "GET", "/api/me", NULL, 401, NULL);
}
END_TEST

START_TEST(a_new_password_ends_all_sessions)
{
    struct browser other, old = demo;
    browser_log_in(&other, &web, "demo");
    expect(&demo, "POST", "/api/me/password",
           "{\"old_password\":\"wrong\",\"new_password\":\"12345678\"}", 403,
           "not_allowed");
    expect(&demo, "POST", "/api/me/password",
           "{\"old_password\":\"secret-password\",\"new_password\":\"123\"}",
           400, "bad_field");
    expect(&demo, "POST", "/api/me/password",
           "{\"old_password\":\"secret-password\","
           "\"new_password\":\"12345678\"}",
           200, NULL);
    expect(&demo, "GET", "/api/me", NULL, 200, NULL);
    expect(&demo, "POST", "/api/mail/drafts", "{}", 201, NULL);
    expect(&other, "GET", "/api/me", NULL, 401, NULL);
    expect(&old, "GET", "/api/me", NULL, 401, NULL);
}
END_TEST

/* ---- forged requests ---- */

START_TEST(changes_need_the_token_and_our_origin)
{
    static const char *const paths[] = {
        "/api/logout", "/api/me/password", "/api/mail/messages",
        "/api/mail/messages/actions", "/api/mail/drafts"};
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        struct browser b = demo;
        b.token[0] = '\0';
        expect(&b, "POST", paths[i], "{}", 403, "bad_csrf");
        snprintf(b.token, sizeof(b.token), "%s", alice.token);
        expect(&b, "POST", paths[i], "{}", 403, "bad_csrf");
        b = demo;
        b.token[3] ^= 1;
        expect(&b, "POST", paths[i], "{}", 403, "bad_csrf");
        b = demo;
        b.origin = "http://evil.test";
        expect(&b, "POST", paths[i], "{}", 403, "bad_origin");
        b.origin = "null";
        expect(&b, "POST", paths[i], "{}", 403, "bad_origin");
    }
    expect(&demo, "GET", "/api/me", NULL, 200, NULL);
}
END_TEST

/* ---- mail ---- */

static void uid_of(struct browser *b, const char *folder, int index,
                   char uid[27])
{
    char path[128];
    struct reply r;
    snprintf(path, sizeof(path), "/api/mail/folders/%s/messages", folder);
    browser_call(b, "GET", path, NULL, &r);
    const cJSON *list = cJSON_GetObjectItem(r.json, "messages");
    const cJSON *item = cJSON_GetArrayItem(list, index);
    snprintf(uid, 27, "%s", text_of(item, "uid"));
    reply_free(&r);
}

static int total_of(struct browser *b, const char *folder, const char *what)
{
    struct reply r;
    int n = -1;
    const cJSON *f;
    browser_call(b, "GET", "/api/mail/folders", NULL, &r);
    cJSON_ArrayForEach(f, cJSON_GetObjectItem(r.json, "folders"))
    {
        if (strcmp(text_of(f, "id"), folder) == 0)
            n = cJSON_GetObjectItem(f, what)->valueint;
    }
    reply_free(&r);
    return n;
}

static void get(struct browser *b, const char *uid, const char *rest,
                struct reply *r)
{
    char path[128];
    snprintf(path, sizeof(path), "/api/mail/messages/%s%s", uid, rest);
    browser_call(b, "GET", path, NULL, r);
}

START_TEST(from_writing_to_deleting)
{
    struct reply r;
    char uid[27], json[256], answer[27];
    expect(&demo, "POST", "/api/mail/messages",
           "{\"to\":\"Alice A. <alice@penncloud.test>\",\"subject\":\"H\xc3\xa4"
           "llo\",\"text\":\"Zeile 1\\nZ\xc3\xa4hle 2\\n\",\"attachments\":"
           "[{\"name\":\"a \xc3\xa4.txt\",\"content_type\":\"text/plain\","
           "\"data\":\"aGVsbG8=\"}]}",
           201, NULL);
    ck_assert_int_eq(total_of(&demo, "sent", "total"), 1);
    ck_assert_int_eq(total_of(&demo, "sent", "unread"), 0);
    ck_assert_int_eq(total_of(&alice, "inbox", "unread"), 1);
    uid_of(&alice, "inbox", 0, uid);
    get(&alice, uid, "", &r);
    ck_assert_int_eq(r.status, 200);
    ck_assert_str_eq(text_of(r.json, "subject"), "H\xc3\xa4llo");
    ck_assert_str_eq(text_of(r.json, "text"), "Zeile 1\nZ\xc3\xa4hle 2\n");
    const cJSON *from =
        cJSON_GetArrayItem(cJSON_GetObjectItem(r.json, "from"), 0);
    ck_assert_str_eq(text_of(from, "address"), "demo@penncloud.test");
    ck_assert(cJSON_IsFalse(cJSON_GetObjectItem(r.json, "read")));
    ck_assert(cJSON_IsFalse(cJSON_GetObjectItem(r.json, "has_html")));
    reply_free(&r);
    get(&alice, uid, "/parts/2", &r);
    ck_assert_str_eq(buf_cstr(&r.body), "hello");
    ck_assert_str_eq(reply_header(&r, "Content-Disposition"),
                     "attachment; filename=\"a __.txt\"; "
                     "filename*=UTF-8''a%20%C3%A4.txt");
    ck_assert_ptr_nonnull(
        strstr(reply_header(&r, "Content-Security-Policy"), "sandbox"));
    reply_free(&r);
    snprintf(json, sizeof(json),
             "{\"to\":[\"demo@penncloud.test\"],\"subject\":\"Re: H\","
             "\"text\":\"ok\",\"in_reply_to\":\"%s\"}",
             uid);
    expect(&alice, "POST", "/api/mail/messages", json, 201, NULL);
    uid_of(&demo, "inbox", 0, answer);
    get(&demo, answer, "", &r);
    ck_assert_ptr_nonnull(
        strstr(text_of(r.json, "in_reply_to"), "@penncloud.test"));
    reply_free(&r);
    get(&alice, uid, "", &r);
    ck_assert(cJSON_IsTrue(cJSON_GetObjectItem(r.json, "answered")));
    reply_free(&r);
    snprintf(json, sizeof(json), "{\"uids\":[\"%s\"],\"action\":\"read\"}",
             uid);
    expect(&alice, "POST", "/api/mail/messages/actions", json, 200, NULL);
    ck_assert_int_eq(total_of(&alice, "inbox", "unread"), 0);
    snprintf(json, sizeof(json),
             "{\"uids\":[\"%s\"],\"action\":\"move\",\"folder\":\"trash\"}",
             uid);
    expect(&alice, "POST", "/api/mail/messages/actions", json, 200, NULL);
    ck_assert_int_eq(total_of(&alice, "inbox", "total"), 0);
    ck_assert_int_eq(total_of(&alice, "trash", "total"), 1);
    snprintf(json, sizeof(json), "{\"uids\":[\"%s\"],\"action\":\"delete\"}",
             uid);
    expect(&alice, "POST", "/api/mail/messages/actions", json, 200, NULL);
    get(&alice, uid, "", &r);
    ck_assert_int_eq(r.status, 404);
    reply_free(&r);
}
END_TEST

START_TEST(sending_to_oneself_and_in_secret)
{
    struct reply r;
    char uid[27];
    expect(&demo, "POST", "/api/mail/messages",
           "{\"to\":\"demo@penncloud.test\",\"bcc\":\"alice@penncloud.test, "
           "alice@penncloud.test\",\"subject\":\"x\",\"text\":\"y\"}",
           201, NULL);
    ck_assert_int_eq(total_of(&demo, "inbox", "total"), 1);
    ck_assert_int_eq(total_of(&demo, "sent", "total"), 1);
    ck_assert_int_eq(total_of(&alice, "inbox", "total"), 1);
    uid_of(&alice, "inbox", 0, uid);
    get(&alice, uid, "/raw", &r);
    ck_assert_ptr_null(strcasestr(buf_cstr(&r.body), "bcc"));
    ck_assert_ptr_null(strstr(buf_cstr(&r.body), "alice"));
    reply_free(&r);
    uid_of(&demo, "inbox", 0, uid);
    get(&demo, uid, "/raw", &r);
    ck_assert_ptr_null(strcasestr(buf_cstr(&r.body), "bcc"));
    reply_free(&r);
    uid_of(&demo, "sent", 0, uid);
    get(&demo, uid, "", &r);
    const cJSON *bcc =
        cJSON_GetArrayItem(cJSON_GetObjectItem(r.json, "bcc"), 0);
    ck_assert_str_eq(text_of(bcc, "address"), "alice@penncloud.test");
    reply_free(&r);
}
END_TEST

/* A note to oneself is there twice. Who wrote it sees whom he sent it to in
 * secret, nobody else does. */
START_TEST(secret_recipients_are_the_writers)
{
    struct reply r;
    char uid[27];
    fixture_account(&web.f, "carol");
    expect(&demo, "POST", "/api/mail/messages",
           "{\"to\":\"demo@penncloud.test\"}", 201, NULL);
    ck_assert_int_eq(total_of(&demo, "inbox", "total"), 1);
    ck_assert_int_eq(total_of(&demo, "sent", "total"), 1);
    expect(&demo, "POST", "/api/mail/messages",
           "{\"to\":\"alice@penncloud.test\","
           "\"bcc\":\"carol@penncloud.test\"}",
           201, NULL);
    uid_of(&demo, "sent", 0, uid);
    get(&demo, uid, "", &r);
    const cJSON *bcc =
        cJSON_GetArrayItem(cJSON_GetObjectItem(r.json, "bcc"), 0);
    ck_assert_str_eq(text_of(bcc, "address"), "carol@penncloud.test");
    reply_free(&r);
    uid_of(&alice, "inbox", 0, uid);
    get(&alice, uid, "/raw", &r);
    ck_assert_ptr_null(strstr(buf_cstr(&r.body), "carol"));
    reply_free(&r);
}
END_TEST

static const struct {
    const char *json;
    int status;
    const char *code;
} compositions[] = {
    {"{}", 400, "bad_field"},
    {"{\"to\":\"\"}", 400, "bad_field"},
    {"{\"to\":7}", 400, "bad_field"},
    {"{\"to\":[7]}", 400, "bad_field"},
    {"{\"to\":\"alice\"}", 400, "bad_field"},
    {"{\"to\":\"alice@other.test\"}", 422, "foreign_recipient"},
    {"{\"to\":\"nobody@penncloud.test\"}", 422, "unknown_recipient"},
    {"{\"to\":\"alice@penncloud.test\",\"cc\":\"x@other.test\"}", 422,
     "foreign_recipient"},
    {"{\"to\":\"alice@penncloud.test\\r\\nBcc: x@y\"}", 400, "bad_field"},
    {"{\"to\":\"\\\"a\\nb\\\" <alice@penncloud.test>\"}", 400, "bad_field"},
    {"{\"to\":\"alice@penncloud.test\",\"subject\":\"a\\nb\"}", 400,
     "bad_field"},
    {"{\"to\":\"alice@penncloud.test\",\"subject\":\"a\\rb\"}", 400,
     "bad_field"},
    {"{\"to\":\"alice@penncloud.test\",\"subject\":\"a\\u0000b\"}", 400,
     "bad_json"},
    {"{\"to\":\"alice@penncloud.test\",\"subject\":\"a\\u0007b\"}", 400,
     "bad_field"},
    {"{\"to\":\"alice@penncloud.test\",\"cc\":\"a\\nb\"}", 400, "bad_field"},
    {"{\"to\":\"alice@penncloud.test\",\"bcc\":\"a\\nb\"}", 400, "bad_field"},
    {"{\"to\":\"alice@penncloud.test\",\"text\":\"a\\u0000b\"}", 400,
     "bad_json"},
    {"{\"to\":\"alice@penncloud.test\",\"text\":7}", 400, "bad_field"},
    {"{\"to\":\"alice@penncloud.test\",\"in_reply_to\":\"a\\nb\"}", 400,
     "bad_field"},
    {"{\"to\":\"alice@penncloud.test\",\"attachments\":{}}", 400, "bad_field"},
    {"{\"to\":\"alice@penncloud.test\",\"attachments\":[{\"name\":\"a\\r\\n"
     "b\",\"data\":\"\"}]}",
     400, "bad_field"},
    {"{\"to\":\"alice@penncloud.test\",\"attachments\":[{\"name\":\"a\","
     "\"content_type\":\"a/b\\r\\nX: y\",\"data\":\"\"}]}",
     400, "bad_field"},
    {"{\"to\":\"alice@penncloud.test\",\"attachments\":[{\"name\":\"a\","
     "\"data\":\"%%%\"}]}",
     400, "bad_field"},
    {"{\"to\":\"alice@penncloud.test\",\"attachments\":[{\"data\":\"\"}]}", 400,
     "bad_field"},
    {"{\"to\":\"<alice@penncloud.test\"}", 400, "bad_field"},
    {"{\"to\":\"alice@penncloud.test> x\"}", 400, "bad_field"},
};

START_TEST(bad_mail_is_refused_whole)
{
    expect(&demo, "POST", "/api/mail/messages", compositions[_i].json,
           compositions[_i].status, compositions[_i].code);
    ck_assert_int_eq(total_of(&alice, "inbox", "total"), 0);
    ck_assert_int_eq(total_of(&demo, "sent", "total"), 0);
}
END_TEST

START_TEST(what_is_not_yours_is_not_there)
{
    static const char *const rests[] = {"", "/raw", "/html", "/parts/1"};
    static const char *const actions[] = {"read",   "unread", "flag",
                                          "unflag", "delete", "move"};
    char uid[27], json[256];
    struct reply r;
    web_deliver(&web, "alice", "Subject: secret\r\n\r\nbody\r\n", uid);
    for (size_t i = 0; i < 4; i++) {
        get(&demo, uid, rests[i], &r);
        ck_assert_int_eq(r.status, 404);
        ck_assert_ptr_null(strstr(buf_cstr(&r.body), "secret"));
        reply_free(&r);
    }
    for (size_t i = 0; i < 6; i++) {
        snprintf(json, sizeof(json),
                 "{\"uids\":[\"%s\"],\"action\":\"%s\",\"folder\":\"trash\"}",
                 uid, actions[i]);
        expect(&demo, "POST", "/api/mail/messages/actions", json, 404,
               "not_found");
    }
    get(&alice, uid, "", &r);
    ck_assert_int_eq(r.status, 200);
    ck_assert(cJSON_IsFalse(cJSON_GetObjectItem(r.json, "read")));
    ck_assert_str_eq(text_of(r.json, "folder"), "inbox");
    reply_free(&r);
    expect(&demo, "GET", "/api/mail/messages/..%2f..%2falice", NULL, 404, NULL);
    expect(&demo, "GET", "/api/mail/folders/alice:mailbox/messages", NULL, 404,
           NULL);
}
END_TEST

START_TEST(hostile_html_and_types)
{
    struct reply r;
    char uid[27];
    web_deliver(&web, "demo",
                "Subject: x\r\nMIME-Version: 1.0\r\n"
                "Content-Type: multipart/mixed; boundary=b\r\n\r\n"
                "--b\r\nContent-Type: text/html\r\n\r\n"
                "<p onclick=alert(1)>hi</p><script>alert(2)</script>"
                "<img src=http://evil.test/p.gif>\r\n"
                "--b\r\nContent-Type: image/svg+xml; name=\"x.svg\"\r\n"
                "Content-Disposition: attachment\r\n\r\n<svg/>\r\n"
                "--b--\r\n",
                uid);
    get(&demo, uid, "", &r);
    ck_assert(cJSON_IsTrue(cJSON_GetObjectItem(r.json, "has_html")));
    ck_assert_int_eq(cJSON_GetObjectItem(r.json, "remote_images")->valueint, 1);
    reply_free(&r);
    get(&demo, uid, "/html", &r);
    ck_assert_int_eq(r.status, 200);
    ck_assert_ptr_nonnull(strstr(buf_cstr(&r.body), "<p>hi</p>"));
    ck_assert_ptr_null(strstr(buf_cstr(&r.body), "alert"));
    ck_assert_ptr_null(strstr(buf_cstr(&r.body), "evil"));
    const char *csp = reply_header(&r, "Content-Security-Policy");
    ck_assert_ptr_nonnull(strstr(csp, "sandbox"));
    ck_assert_ptr_null(strstr(csp, "allow-scripts"));
    ck_assert_ptr_null(strstr(csp, "allow-same-origin"));
    reply_free(&r);
    get(&demo, uid, "/parts/2", &r);
    ck_assert_str_eq(reply_header(&r, "Content-Type"),
                     "application/octet-stream");
    ck_assert_ptr_nonnull(
        strstr(reply_header(&r, "Content-Disposition"), "attachment"));
    reply_free(&r);
}
END_TEST

/* PARTS is put between the HTML and the end; the HTML names cid:a COUNT
 * times. Gives what /html answers, and the milliseconds it took. */
static long named_often(const char *parts, unsigned count, struct buf *html)
{
    struct buf mail = {0};
    struct reply r;
    struct timespec from, to;
    char uid[27];
    buf_put_text(&mail, "MIME-Version: 1.0\r\nContent-Type: "
                        "multipart/related; boundary=b\r\n\r\n"
                        "--b\r\nContent-Type: text/html\r\n\r\n");
    for (unsigned i = 0; i < count; i++)
        buf_put_text(&mail, "<img src=cid:a>\r\n");
    buf_put_text(&mail, parts);
    buf_put_text(&mail, "--b--\r\n");
    web_deliver(&web, "demo", buf_cstr(&mail), uid);
    clock_gettime(CLOCK_MONOTONIC, &from);
    get(&demo, uid, "/html", &r);
    clock_gettime(CLOCK_MONOTONIC, &to);
    ck_assert_int_eq(r.status, 200);
    buf_put_slice(html, buf_slice(&r.body));
    reply_free(&r);
    buf_free(&mail);
    return (to.tv_sec - from.tv_sec) * 1000 +
           (to.tv_nsec - from.tv_nsec) / 1000000;
}

#define PICTURE_HEAD                                                           \
    "--b\r\nContent-Type: image/png\r\nContent-ID: <a>\r\n"                    \
    "Content-Transfer-Encoding: base64\r\n\r\n"

START_TEST(pictures_of_the_mail_are_shown)
{
    struct buf html = {0};
    named_often(PICTURE_HEAD "iVBORw0K\r\n", 2, &html);
    const char *first = strstr(buf_cstr(&html), "data:image/png;base64,iVBO");
    ck_assert_ptr_nonnull(first);
    ck_assert_ptr_nonnull(strstr(first + 1, "data:image/png;base64,iVBO"));
    buf_free(&html);
}
END_TEST

/* One picture that is dear to decode and comes to nothing (too large to be
 * shown, or no base64 at all), named 50,000 times. */
START_TEST(pictures_are_not_decoded_without_end)
{
    struct buf parts = {0}, html = {0};
    buf_put_text(&parts, PICTURE_HEAD);
    while (parts.len < MIB(4))
        buf_put_text(&parts, _i == 0 ? "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\r\n"
                                     : "--------------------------------\r\n");
    buf_put_text(&parts, "\r\n");
    long ms = named_often(buf_cstr(&parts), 50000, &html);
    ck_assert_msg(ms < 5000, "%ld ms", ms);
    ck_assert_ptr_null(strstr(buf_cstr(&html), "data:"));
    buf_free(&parts);
    buf_free(&html);
}
END_TEST

START_TEST(lists_go_on_by_cursor)
{
    struct reply r;
    char uid[27], path[256] = "/api/mail/folders/inbox/messages?limit=3";
    int seen = 0, pages = 0;
    for (int i = 0; i < 8; i++)
        web_deliver(&web, "demo", "Subject: x\r\n\r\ny\r\n", uid);
    for (;;) {
        browser_call(&demo, "GET", path, NULL, &r);
        ck_assert_int_eq(r.status, 200);
        seen += cJSON_GetArraySize(cJSON_GetObjectItem(r.json, "messages"));
        pages++;
        const cJSON *next = cJSON_GetObjectItem(r.json, "next");
        bool end = cJSON_IsNull(next);
        if (!end)
            snprintf(path, sizeof(path),
                     "/api/mail/folders/inbox/messages?limit=3&before=%s",
                     next->valuestring);
        reply_free(&r);
        if (end)
            break;
    }
    ck_assert_int_eq(seen, 8);
    ck_assert_int_eq(pages, 3);
    static const char *const bad[] = {"limit=0",   "limit=201",    "limit=x",
                                      "limit=-1",  "limit=",       "limit=1e3",
                                      "before=zz", "before=%2e%2e"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        snprintf(path, sizeof(path), "/api/mail/folders/inbox/messages?%s",
                 bad[i]);
        expect(&demo, "GET", path, NULL, 400, "bad_field");
    }
}
END_TEST

START_TEST(drafts_are_kept_and_replaced)
{
    struct reply r;
    char first[27], json[256];
    browser_call(&demo, "POST", "/api/mail/drafts",
                 "{\"to\":\"not yet\",\"text\":\"one\"}", &r);
    reply_free(&r);
    browser_call(&demo, "POST", "/api/mail/drafts", "{\"text\":\"one\"}", &r);
    ck_assert_int_eq(r.status, 201);
    snprintf(first, sizeof(first), "%s", text_of(r.json, "uid"));
    reply_free(&r);
    int before = total_of(&demo, "drafts", "total");
    snprintf(json, sizeof(json), "{\"text\":\"two\",\"draft\":\"%s\"}", first);
    expect(&demo, "POST", "/api/mail/drafts", json, 201, NULL);
    ck_assert_int_eq(total_of(&demo, "drafts", "total"), before);
    ck_assert_int_eq(total_of(&demo, "drafts", "unread"), 0);
}
END_TEST

/* An answer that was a draft for a while is an answer still. */
START_TEST(drafts_stay_in_their_thread)
{
    struct reply r;
    char uid[27], json[256], draft[27];
    web_deliver(&web, "demo",
                "Message-ID: <one@x.test>\r\nReferences: <zero@x.test>\r\n"
                "Subject: x\r\n\r\ny\r\n",
                uid);
    snprintf(json, sizeof(json), "{\"text\":\"a\",\"in_reply_to\":\"%s\"}",
             uid);
    browser_call(&demo, "POST", "/api/mail/drafts", json, &r);
    snprintf(draft, sizeof(draft), "%s", text_of(r.json, "uid"));
    reply_free(&r);
    snprintf(json, sizeof(json),
             "{\"to\":\"alice@penncloud.test\",\"draft\":\"%s\"}", draft);
    expect(&demo, "POST", "/api/mail/messages", json, 201, NULL);
    ck_assert_int_eq(total_of(&demo, "drafts", "total"), 0);
    uid_of(&alice, "inbox", 0, uid);
    get(&alice, uid, "", &r);
    ck_assert_str_eq(text_of(r.json, "in_reply_to"), "one@x.test");
    const cJSON *list = cJSON_GetObjectItem(r.json, "references");
    ck_assert_int_eq(cJSON_GetArraySize(list), 2);
    ck_assert_str_eq(cJSON_GetArrayItem(list, 0)->valuestring, "zero@x.test");
    ck_assert_str_eq(cJSON_GetArrayItem(list, 1)->valuestring, "one@x.test");
    reply_free(&r);
}
END_TEST

static const char *const bad_actions[] = {
    "{}",
    "{\"uids\":[],\"action\":\"read\"}",
    "{\"uids\":\"x\",\"action\":\"read\"}",
    "{\"uids\":[7],\"action\":\"read\"}",
    "{\"uids\":[\"x\"],\"action\":\"burn\"}",
    "{\"uids\":[\"x\"]}",
    "{\"uids\":[\"x\"],\"action\":\"move\"}",
    "{\"uids\":[\"x\"],\"action\":\"move\",\"folder\":\"../x\"}",
};

START_TEST(bad_actions_are_refused)
{
    expect(&demo, "POST", "/api/mail/messages/actions", bad_actions[_i], 400,
           "bad_field");
}
END_TEST

/* ---- a store that fails ---- */

START_TEST(a_silent_store_is_told)
{
    struct reply r;
    local_kv_fail(web.f.kv, 0, 1000000, LOCAL_UNREACHABLE);
    browser_call(&demo, "GET", "/api/mail/folders", NULL, &r);
    ck_assert_int_eq(r.status, 503);
    ck_assert_str_eq(reply_code(&r), "unavailable");
    ck_assert_ptr_nonnull(reply_header(&r, "Retry-After"));
    reply_free(&r);
    web_raw(&web, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", &r);
    ck_assert_int_eq(r.status, 200);
    reply_free(&r);
    local_kv_fail(web.f.kv, 0, 0, LOCAL_NONE);
}
END_TEST

/* The server's disks are full: that is no quota, and what it takes to delete
 * works. */
START_TEST(a_full_store_is_told)
{
    struct browser again;
    struct reply r;
    char json[128], uid[27];
    static const char mail[] =
        "{\"to\":\"demo@penncloud.test\",\"subject\":\"x\",\"text\":\"x\"}";
    expect(&alice, "POST", "/api/mail/messages", mail, 201, NULL);
    local_kv_fail(web.f.kv, 0, 1000000, LOCAL_FULL_RESERVE);
    browser_call(&alice, "POST", "/api/mail/messages", mail, &r);
    ck_assert_int_eq(r.status, 507);
    ck_assert_str_eq(reply_code(&r), "no_space");
    ck_assert_ptr_nonnull(strstr(buf_cstr(&r.body), "server is out of space"));
    reply_free(&r);
    browser_log_in(&again, &web, "demo");
    uid_of(&again, "inbox", 0, uid);
    snprintf(json, sizeof(json),
             "{\"uids\":[\"%s\"],\"action\":\"move\",\"folder\":\"trash\"}",
             uid);
    expect(&again, "POST", "/api/mail/messages/actions", json, 200, NULL);
    snprintf(json, sizeof(json), "{\"uids\":[\"%s\"],\"action\":\"delete\"}",
             uid);
    expect(&again, "POST", "/api/mail/messages/actions", json, 200, NULL);
    ck_assert_int_eq(total_of(&again, "trash", "total"), 0);
    ck_assert_int_eq(total_of(&again, "inbox", "total"), 0);
    local_kv_fail(web.f.kv, 0, 0, LOCAL_NONE);
}
END_TEST

/* A large mail has as much longer as there is more to write. The store takes
 * chunks again after nearly seven seconds; small calls have five. */
START_TEST(a_large_send_has_its_time)
{
    struct buf json = {0};
    struct reply r;
    buf_put_text(&json, "{\"to\":\"alice@penncloud.test\",\"attachments\":[{"
                        "\"name\":\"a\",\"data\":\"");
    for (size_t size = _i == 0 ? KIB(64) : MIB(6); json.len < size;)
        buf_put_text(&json, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
    buf_put_text(&json, "\"}]}");
    local_kv_fail_only(web.f.kv, "alice:mail:");
    local_kv_fail(web.f.kv, 0, 38, LOCAL_UNREACHABLE);
    browser_call(&demo, "POST", "/api/mail/messages", buf_cstr(&json), &r);
    ck_assert(local_kv_failed(web.f.kv));
    ck_assert_int_eq(r.status, _i == 0 ? 503 : 201);
    reply_free(&r);
    buf_free(&json);
    local_kv_fail(web.f.kv, 0, 0, LOCAL_NONE);
}
END_TEST

/* Each call of a send fails once, in each way: afterwards the mail is there
 * once or not at all, as the answer said. */
START_TEST(a_send_is_done_once_or_not)
{
    static const enum local_kv_fault kinds[] = {
        LOCAL_UNREACHABLE, LOCAL_LOST_DONE, LOCAL_LOST_NOT_DONE};
    const char *mail = "{\"to\":\"alice@penncloud.test\",\"subject\":\"s\","
                       "\"text\":\"t\"}";
    int want = 0;
    for (unsigned at = 0; at < 40; at++) {
        struct reply r;
        local_kv_fail(web.f.kv, at, 1, kinds[_i]);
        browser_call(&demo, "POST", "/api/mail/messages", mail, &r);
        bool failed = local_kv_failed(web.f.kv);
        local_kv_fail(web.f.kv, 0, 0, LOCAL_NONE);
        ck_assert_msg(r.status == 201 || r.status == 503, "%u: %d", at,
                      r.status);
        ck_assert_str_ne(reply_code(&r), "unknown_outcome");
        want += r.status == 201;
        reply_free(&r);
        ck_assert_int_eq(total_of(&alice, "inbox", "total"), want);
        ck_assert_int_eq(total_of(&demo, "sent", "total"), want);
        if (!failed)
            break;
    }
    ck_assert_int_gt(want, 1);
}
END_TEST

/* ---- the description ---- */

static cJSON *described;

/* "/a/{uid}/b" and "/a/{}/b" name the same. */
static void bare_path(const char *path, char out[256])
{
    size_t n = 0;
    for (; *path != '\0' && n < 250; path++) {
        out[n++] = *path;
        if (*path == '{')
            path += strcspn(path, "}") - 1;
    }
    out[n] = '\0';
}

static const cJSON *find_operation(const struct http_route *row)
{
    char method[16], bare[256];
    const cJSON *path;
    size_t i = 0;
    for (const char *p = http_method_name(row->method); *p != '\0'; p++)
        method[i++] = (char)(*p | 0x20);
    method[i] = '\0';
    cJSON_ArrayForEach(path, cJSON_GetObjectItem(described, "paths"))
    {
        bare_path(path->string, bare);
        if (strcmp(bare, row->pattern) == 0)
            return cJSON_GetObjectItem(path, method);
    }
    return NULL;
}

static bool code_described(enum http_error e)
{
    char text[64];
    const cJSON *responses = cJSON_GetObjectItem(
        cJSON_GetObjectItem(described, "components"), "responses");
    snprintf(text, sizeof(text), "E%d", http_error_status(e));
    char *one = cJSON_PrintUnformatted(cJSON_GetObjectItem(responses, text));
    snprintf(text, sizeof(text), "\"%s\"", http_error_code(e));
    bool found = one != NULL && strstr(one, text) != NULL;
    cJSON_free(one);
    return found;
}

START_TEST(description_is_true)
{
    struct reply r;
    const cJSON *path, *op;
    size_t operations = 0;
    web_raw(&web, "GET /api/openapi.json HTTP/1.1\r\nHost: a\r\n\r\n", &r);
    described = r.json;
    ck_assert_str_eq(text_of(described, "openapi"), "3.1.0");
    for (size_t i = 0; i < http_routes_count; i++) {
        const struct http_route *row = &http_routes[i];
        op = find_operation(row);
        ck_assert_msg(op != NULL, "%s is not described", row->pattern);
        ck_assert_str_eq(text_of(op, "operationId"), row->name);
        const cJSON *security = cJSON_GetObjectItem(op, "security");
        const cJSON *first = cJSON_GetArrayItem(security, 0);
        ck_assert((first != NULL) == (row->auth == HTTP_AUTH_SESSION));
        ck_assert((cJSON_GetObjectItem(first, "csrf") != NULL) ==
                  (row->guard == HTTP_GUARD_TOKEN));
    }
    cJSON_ArrayForEach(path, cJSON_GetObjectItem(described, "paths"))
    {
        operations += (size_t)cJSON_GetArraySize(path);
    }
    ck_assert_uint_eq(operations, http_routes_count);
    for (int e = 1; e < HTTP_ERROR_COUNT; e++)
        ck_assert_msg(code_described((enum http_error)e), "%s",
                      http_error_code((enum http_error)e));
    reply_free(&r);
}
END_TEST

#define COUNT(a) ((int)(sizeof(a) / sizeof((a)[0])))

int main(void)
{
    Suite *s = suite_create("http_api");
    TCase *t = tcase_create("api");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, sign_up_log_in_and_out);
    tcase_add_loop_test(t, bad_signups, 0, COUNT(signups));
    tcase_add_test(t, signups_are_bounded);
    tcase_add_test(t, logins_are_bounded);
    tcase_add_test(t, a_login_makes_a_new_session);
    tcase_add_test(t, a_new_password_ends_all_sessions);
    tcase_add_test(t, changes_need_the_token_and_our_origin);
    tcase_add_test(t, from_writing_to_deleting);
    tcase_add_test(t, sending_to_oneself_and_in_secret);
    tcase_add_test(t, secret_recipients_are_the_writers);
    tcase_add_loop_test(t, bad_mail_is_refused_whole, 0, COUNT(compositions));
    tcase_add_test(t, what_is_not_yours_is_not_there);
    tcase_add_test(t, hostile_html_and_types);
    tcase_add_test(t, pictures_of_the_mail_are_shown);
    tcase_add_loop_test(t, pictures_are_not_decoded_without_end, 0, 2);
    tcase_add_test(t, lists_go_on_by_cursor);
    tcase_add_test(t, drafts_are_kept_and_replaced);
    tcase_add_test(t, drafts_stay_in_their_thread);
    tcase_add_loop_test(t, bad_actions_are_refused, 0, COUNT(bad_actions));
    tcase_add_test(t, a_silent_store_is_told);
    tcase_add_test(t, a_full_store_is_told);
    tcase_add_loop_test(t, a_large_send_has_its_time, 0, 2);
    tcase_add_loop_test(t, a_send_is_done_once_or_not, 0, 3);
    tcase_add_test(t, description_is_true);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
