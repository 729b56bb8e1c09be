/*
 * What is decided about a request without any socket: framing, Host, Origin,
 * cookies, queries, routes, headers of answers, limits on attempts and
 * connections.
 */
#include <arpa/inet.h>
#include <check.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/http/conns.h"
#include "gateway/http/rate.h"
#include "gateway/http/response.h"
#include "gateway/http/route.h"

static struct http_request make(const char *target, const char *const *headers)
{
    struct http_request r = {.method = HTTP_GET};
    http_request_target(&r, target);
    for (; headers != NULL && headers[0] != NULL; headers += 2)
        http_request_header(&r, headers[0], headers[1]);
    return r;
}

static const struct {
    const char *headers[9];
    enum http_error want;
} framings[] = {
    {{"Host", "a"}, HTTP_ERROR_NONE},
    {{"hOsT", "a:80"}, HTTP_ERROR_NONE},
    {{"Host", "[::1]:80"}, HTTP_ERROR_NONE},
    {{NULL}, HTTP_ERROR_BAD_HOST},
    {{"Host", "a", "Host", "a"}, HTTP_ERROR_BAD_HOST},
    {{"Host", ""}, HTTP_ERROR_BAD_HOST},
    {{"Host", "a b"}, HTTP_ERROR_BAD_HOST},
    {{"Host", "a/b"}, HTTP_ERROR_BAD_HOST},
    {{"Host", "u@a"}, HTTP_ERROR_BAD_HOST},
    {{"Host", "a", "Content-Length", "5"}, HTTP_ERROR_NONE},
    {{"Host", "a", "Content-Length", "0"}, HTTP_ERROR_NONE},
    {{"Host", "a", "Transfer-Encoding", "chunked"}, HTTP_ERROR_NONE},
    {{"Host", "a", "Content-Length", "5", "Transfer-Encoding", "chunked"},
     HTTP_ERROR_AMBIGUOUS_LENGTH},
    {{"Host", "a", "Content-Length", "5", "content-length", "5"},
     HTTP_ERROR_AMBIGUOUS_LENGTH},
    {{"Host", "a", "Transfer-Encoding", "chunked", "Transfer-Encoding",
      "chunked"},
     HTTP_ERROR_AMBIGUOUS_LENGTH},
    {{"Host", "a", "Transfer-Encoding", "gzip"}, HTTP_ERROR_AMBIGUOUS_LENGTH},
    {{"Host", "a", "Transfer-Encoding", "xchunked"},
     HTTP_ERROR_AMBIGUOUS_LENGTH},
    {{"Host", "a", "Content-Length", "-1"}, HTTP_ERROR_AMBIGUOUS_LENGTH},
    {{"Host", "a", "Content-Length", "+5"}, HTTP_ERROR_AMBIGUOUS_LENGTH},
    {{"Host", "a", "Content-Length", "5,5"}, HTTP_ERROR_AMBIGUOUS_LENGTH},
    {{"Host", "a", "Content-Length", "99999999999999999999"},
     HTTP_ERROR_AMBIGUOUS_LENGTH},
};

START_TEST(framing_is_unambiguous)
{
    struct http_request r = make("/api/me", framings[_i].headers);
    ck_assert_int_eq(http_request_check(&r), framings[_i].want);
    http_request_free(&r);
}
END_TEST

START_TEST(long_targets_are_refused)
{
    char target[LIMIT_HTTP_TARGET + 2];
    const char *headers[] = {"Host", "a", NULL};
    memset(target, 'a', sizeof(target));
    target[0] = '/';
    for (size_t len = LIMIT_HTTP_TARGET - 1; len <= LIMIT_HTTP_TARGET + 1;
         len++) {
        memset(target + 1, 'a', sizeof(target) - 1);
        target[len] = '\0';
        struct http_request r = make(target, headers);
        ck_assert_int_eq(http_request_check(&r), len > LIMIT_HTTP_TARGET
                                                     ? HTTP_ERROR_URI_TOO_LONG
                                                     : HTTP_ERROR_NONE);
        http_request_free(&r);
    }
    struct http_request r = make("http://a/", headers);
    ck_assert_int_eq(http_request_check(&r), HTTP_ERROR_BAD_REQUEST);
    http_request_free(&r);
}
END_TEST

static const struct {
    const char *host, *origin, *site;
    bool secure, own;
} origins[] = {
    {"m.test", NULL, NULL, false, true},
    {"m.test", "http://m.test", NULL, false, true},
    {"m.test", "http://M.test", NULL, false, true},
    {"m.test:8080", "http://m.test:8080", NULL, false, true},
    {"m.test", "https://m.test", NULL, true, true},
    {"m.test", "http://m.test", NULL, true, false},
    {"m.test", "https://m.test", NULL, false, false},
    {"m.test", "http://m.test:8080", NULL, false, false},
    {"m.test", "http://m.test.evil.test", NULL, false, false},
    {"m.test", "http://evil.test", NULL, false, false},
    {"m.test", "http://m.test/", NULL, false, false},
    {"m.test", "null", NULL, false, false},
    {"m.test", "", NULL, false, false},
    {"m.test", NULL, "cross-site", false, false},
    {"m.test", "http://m.test", "same-origin", false, true},
    {"m.test", "http://m.test", "cross-site", false, false},
};

START_TEST(foreign_origins_are_known)
{
    struct http_request r = {.host = origins[_i].host,
                             .origin = origins[_i].origin,
                             .site = origins[_i].site,
                             .secure = origins[_i].secure};
    ck_assert(http_request_own_origin(&r) == origins[_i].own);
}
END_TEST

static const struct {
    const char *header, *value;
} cookies[] = {
    {"c=1", "1"},       {"a=0; c=1; b=2", "1"},
    {"a=0;c=1", "1"},   {"  c=1", "1"},
    {"cc=0; c=1", "1"}, {"c=", ""},
    {"c=1=2", "1=2"},   {"c=1; c=1", "1"},
    {"c=1; c=2", NULL}, {"xc=1", NULL},
    {"c", NULL},        {"", NULL},
    {";;;", NULL},
};

START_TEST(cookies_are_found)
{
    struct http_request r = {.cookie = cookies[_i].header};
    const char *got = http_request_cookie(&r, "c");
    if (cookies[_i].value == NULL)
        ck_assert_ptr_null(got);
    else
        ck_assert_str_eq(got, cookies[_i].value);
    http_request_free(&r);
}
END_TEST

static const struct {
    const char *target, *value;
} queries[] = {
    {"/?q=1", "1"},
    {"/?a=0&q=1", "1"},
    {"/?q=a+b", "a b"},
    {"/?q=a%2Bb", "a+b"},
    {"/?q=%C3%A9", "\xc3\xa9"},
    {"/?q=", ""},
    {"/?qq=1", NULL},
    {"/?q", NULL},
    {"/", NULL},
    {"/?q=%", NULL},
    {"/?q=%4", NULL},
    {"/?q=%zz", NULL},
    {"/?q=%00", NULL},
    {"/?q=%0a", NULL},
    {"/?q=%ff", NULL},
    {"/?q=%c0%af", NULL},
    {"/?q=%ed%a0%80", NULL},
};

START_TEST(queries_are_decoded)
{
    struct http_request r = make(queries[_i].target, NULL);
    const char *got = http_request_query(&r, "q");
    if (queries[_i].value == NULL)
        ck_assert_ptr_null(got);
    else
        ck_assert_str_eq(got, queries[_i].value);
    http_request_free(&r);
}
END_TEST

static const struct {
    enum http_method method;
    const char *path, *name;
    enum http_error want;
    const char *allow, *param;
} paths[] = {
    {HTTP_GET, "/api/me", "me", HTTP_ERROR_NONE, "", NULL},
    {HTTP_HEAD, "/api/me", "me", HTTP_ERROR_NONE, "", NULL},
    {HTTP_POST, "/api/me", NULL, HTTP_ERROR_METHOD, "GET, HEAD", NULL},
    {HTTP_OTHER, "/api/login", NULL, HTTP_ERROR_METHOD, "POST", NULL},
    {HTTP_GET, "/api/mail/folders/inbox/messages", "list", HTTP_ERROR_NONE, "",
     "inbox"},
    {HTTP_GET, "/api/mail/folders/a%20b/messages", "list", HTTP_ERROR_NONE, "",
     "a b"},
    {HTTP_GET, "/api/mail/folders//messages", NULL, HTTP_ERROR_NOT_FOUND, "",
     NULL},
    {HTTP_GET, "/api/mail/folders/%00/messages", NULL, HTTP_ERROR_NOT_FOUND, "",
     NULL},
    {HTTP_GET, "/api/mail/folders/a/b/messages", NULL, HTTP_ERROR_NOT_FOUND, "",
     NULL},
    {HTTP_POST, "/api/mail/messages/actions", "actions", HTTP_ERROR_NONE, "",
     NULL},
    {HTTP_DELETE, "/api/mail/messages", NULL, HTTP_ERROR_METHOD, "POST", NULL},
    {HTTP_GET, "/api/mail/messages/X/parts/2.1", "part", HTTP_ERROR_NONE, "",
     "X"},
    {HTTP_GET, "/api/me/", NULL, HTTP_ERROR_NOT_FOUND, "", NULL},
    {HTTP_GET, "/api", NULL, HTTP_ERROR_NOT_FOUND, "", NULL},
    {HTTP_GET, "/api/ME", NULL, HTTP_ERROR_NOT_FOUND, "", NULL},
};

START_TEST(routes_are_found)
{
    struct http_request r = make(paths[_i].path, NULL);
    const struct http_route *route = NULL;
    struct buf allow = {0};
    r.method = paths[_i].method;
    ck_assert_int_eq(http_route_find(&r, &route, &allow), paths[_i].want);
    ck_assert_str_eq(buf_cstr(&allow), paths[_i].allow);
    if (paths[_i].name != NULL)
        ck_assert_str_eq(route->name, paths[_i].name);
    if (paths[_i].param != NULL)
        ck_assert_str_eq(r.params[0], paths[_i].param);
    buf_free(&allow);
    http_request_free(&r);
}
END_TEST

/* A route that changes something must have a guard. */
START_TEST(every_change_is_guarded)
{
    for (size_t i = 0; i < http_routes_count; i++) {
        const struct http_route *row = &http_routes[i];
        bool reads = row->method == HTTP_GET;
        enum http_guard want = row->auth == HTTP_AUTH_SESSION
                                   ? HTTP_GUARD_TOKEN
                                   : HTTP_GUARD_ORIGIN;
        ck_assert_msg(row->guard == (reads ? HTTP_GUARD_NONE : want), "%s",
                      row->pattern);
    }
}
END_TEST

struct seen {
    char text[4096];
};

static void note(void *ctx, const char *name, const char *value)
{
    struct seen *s = ctx;
    size_t len = strlen(s->text);
    snprintf(s->text + len, sizeof(s->text) - len, "%s: %s\n", name, value);
}

START_TEST(policies_differ)
{
    struct seen app = {""}, mail = {""}, file = {""};
    struct http_response r = {.policy = HTTP_POLICY_APP};
    http_response_security(&r, false, note, &app);
    r.policy = HTTP_POLICY_MAIL;
    http_response_security(&r, true, note, &mail);
    r.policy = HTTP_POLICY_ATTACHMENT;
    http_response_security(&r, false, note, &file);
    ck_assert_ptr_nonnull(strstr(app.text, "script-src 'self'"));
    ck_assert_ptr_null(strstr(app.text, "unsafe"));
    ck_assert_ptr_null(strstr(app.text, "Strict-Transport"));
    ck_assert_ptr_nonnull(strstr(mail.text, "Strict-Transport"));
    ck_assert_ptr_nonnull(strstr(mail.text, "default-src 'none'"));
    ck_assert_ptr_nonnull(strstr(mail.text, "sandbox allow-popups"));
    ck_assert_ptr_null(strstr(mail.text, "script"));
    ck_assert_ptr_null(strstr(mail.text, "same-origin-allow"));
    ck_assert_ptr_nonnull(strstr(file.text, "sandbox\n"));
    ck_assert_ptr_nonnull(strstr(file.text, "nosniff"));
}
END_TEST

START_TEST(names_of_files_are_harmless)
{
    struct http_response r = {0};
    ck_assert_str_eq(http_disposition(&r, "a b.pdf"),
                     "attachment; filename=\"a b.pdf\"; "
                     "filename*=UTF-8''a%20b.pdf");
    ck_assert_str_eq(http_disposition(&r, "\"\r\nX: y"),
                     "attachment; filename=\"___X_ y\"; "
                     "filename*=UTF-8''%22%0D%0AX%3A%20y");
    http_response_free(&r);
}
END_TEST

START_TEST(attempts_are_bounded)
{
    struct http_rate *r = http_rate_new(3, 1000);
    struct slice a = slice_of("a"), b = slice_of("b");
    for (int i = 0; i < 3; i++)
        ck_assert(http_rate_take(r, a, 5000));
    ck_assert(!http_rate_take(r, a, 5000));
    ck_assert(http_rate_take(r, b, 5000));
    ck_assert(!http_rate_take(r, a, 5999));
    ck_assert(http_rate_take(r, a, 6000));
    ck_assert(!http_rate_take(r, a, 6000));
    http_rate_give(r, a, 6000);
    ck_assert(http_rate_take(r, a, 6000));
    for (int i = 0; i < 3; i++)
        ck_assert(http_rate_take(r, a, 100000));
    ck_assert(!http_rate_take(r, a, 100000));
    http_rate_free(r);
}
END_TEST

/* However many others try, nobody gets more than his own. */
START_TEST(a_flood_of_names_gives_nobody_more)
{
    struct http_rate *r = http_rate_new(5, 1000000);
    int got = 0;
    for (int i = 0; i < 200000; i++) {
        char name[16];
        snprintf(name, sizeof(name), "n%d", i);
        (void)http_rate_take(r, slice_of(name), 1);
        if (i % 1000 == 0)
            got += http_rate_take(r, slice_of("victim"), 1);
    }
    ck_assert_int_le(got, 40);
    http_rate_free(r);
}
END_TEST

static int ended[8];
static size_t ended_count;

static void end(int fd)
{
    ended[ended_count++] = fd;
}

static struct http_address address(const char *text)
{
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
    struct sockaddr_in in = {.sin_family = AF_INET};
    if (inet_pton(AF_INET, text, &in.sin_addr) == 1)
        return http_address_of((const void *)&in);
    ck_assert_int_eq(inet_pton(AF_INET6, text, &in6.sin6_addr), 1);
    return http_address_of((const void *)&in6);
}

START_TEST(connections_are_counted)
{
    struct http_conns *c = http_conns_new(4, 2);
    for (int fd = 10; fd < 14; fd++)
        ck_assert_int_eq(http_conns_add(c, fd, 1000 + fd), ST_OK);
    ck_assert_int_eq(http_conns_add(c, 14, 0), ST_BUSY);
    ck_assert_int_eq(http_conns_address(c, 10, address("192.0.2.1")), ST_OK);
    ck_assert_int_eq(http_conns_address(c, 11, address("::ffff:192.0.2.1")),
                     ST_OK);
    ck_assert_int_eq(http_conns_address(c, 12, address("192.0.2.1")),
                     ST_TOO_MANY);
    ck_assert_int_eq(http_conns_address(c, 12, address("2001:db8::1")), ST_OK);
    ck_assert_int_eq(http_conns_address(c, 13, address("2001:db8::f:1")),
                     ST_OK);
    http_conns_remove(c, 10);
    http_conns_remove(c, 99);
    ck_assert_uint_eq(http_conns_count(c), 3);
    ck_assert_int_eq(http_conns_add(c, 300, 0), ST_OK);
    ck_assert_int_eq(http_conns_address(c, 300, address("192.0.2.1")), ST_OK);
    ended_count = 0;
    http_conns_deadline(c, 12, 0);
    ck_assert_uint_eq(http_conns_expire(c, 1013, end), 2);
    ck_assert_uint_eq(http_conns_expire(c, 9999, end), 0);
    ck_assert_uint_eq(ended_count, 2);
    ck_assert_int_eq(ended[0] + ended[1], 11 + 13);
    http_conns_free(c);
}
END_TEST

#define COUNT(a) ((int)(sizeof(a) / sizeof((a)[0])))

int main(void)
{
    Suite *s = suite_create("http_request");
    TCase *t = tcase_create("request");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, framing_is_unambiguous, 0, COUNT(framings));
    tcase_add_test(t, long_targets_are_refused);
    tcase_add_loop_test(t, foreign_origins_are_known, 0, COUNT(origins));
    tcase_add_loop_test(t, cookies_are_found, 0, COUNT(cookies));
    tcase_add_loop_test(t, queries_are_decoded, 0, COUNT(queries));
    tcase_add_loop_test(t, routes_are_found, 0, COUNT(paths));
    tcase_add_test(t, every_change_is_guarded);
    tcase_add_test(t, policies_differ);
    tcase_add_test(t, names_of_files_are_harmless);
    tcase_add_test(t, attempts_are_bounded);
    tcase_add_test(t, a_flood_of_names_gives_nobody_more);
    tcase_add_test(t, connections_are_counted);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
