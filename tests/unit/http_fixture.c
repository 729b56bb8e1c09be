#include "tests/unit/http_fixture.h"

#include <arpa/inet.h>
#include <check.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cloud/delivery.h"

void web_init(struct web *w, const struct http_server_options *o)
{
    struct err err;
    const char *src = getenv("srcdir");
    char dir[512];
    fixture_init(&w->f);
    fixture_account(&w->f, "demo");
    fixture_account(&w->f, "alice");
    snprintf(dir, sizeof(dir), "%s/gateway/web", src == NULL ? ".." : src);
    ck_assert_int_eq(http_static_load(dir, &w->files, &err), ST_OK);
    w->events = http_events_new(w->f.cloud, &w->f.log);
    struct http_app_options ao = {.cloud = w->f.cloud,
                                  .log = &w->f.log,
                                  .events = w->events,
                                  .timeout_ms = 5000,
                                  .signup = true,
                                  .login_burst = 3,
                                  .login_interval_ms = 60000};
    w->app = http_app_new(&ao);
    struct http_server_options so = {0};
    if (o != NULL)
        so = *o;
    so.app = w->app;
    so.files = w->files;
    so.log = &w->f.log;
    so.listen = "127.0.0.1:0";
    enum status s = http_server_start(&so, &w->server, &err);
    ck_assert_msg(s == ST_OK, "%s", err.text);
    w->port = http_server_port(w->server);
}

void web_fini(struct web *w)
{
    http_events_stop(w->events);
    http_server_stop(w->server);
    http_app_free(w->app);
    http_events_free(w->events);
    http_static_free(w->files);
    fixture_fini(&w->f);
}

void reply_free(struct reply *r)
{
    buf_free(&r->head);
    buf_free(&r->body);
    cJSON_Delete(r->json);
    memset(r, 0, sizeof(*r));
}

const char *reply_header(const struct reply *r, const char *name)
{
    static _Thread_local char turns[8][1024];
    static _Thread_local unsigned turn;
    size_t len = strlen(name);
    const char *p = (const char *)r->head.data;
    while (p != NULL && (p = strstr(p, "\r\n")) != NULL) {
        p += 2;
        if (strncasecmp(p, name, len) != 0 || p[len] != ':')
            continue;
        const char *value = p + len + 1 + strspn(p + len + 1, " ");
        char *out = turns[turn++ % 8];
        snprintf(out, 1024, "%.*s", (int)strcspn(value, "\r"), value);
        return out;
    }
    return NULL;
}

const char *reply_code(const struct reply *r)
{
    const char *code = cJSON_GetStringValue(
        cJSON_GetObjectItem(cJSON_GetObjectItem(r->json, "error"), "code"));
    return code == NULL ? "" : code;
}

int web_dial(const struct web *w, const char *from)
{
    struct sockaddr_in a = {.sin_family = AF_INET};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(
        inet_pton(AF_INET, from == NULL ? "127.0.0.1" : from, &a.sin_addr), 1);
    ck_assert_int_eq(bind(fd, (const struct sockaddr *)&a, sizeof(a)), 0);
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    a.sin_port = htons(w->port);
    ck_assert_int_eq(connect(fd, (const struct sockaddr *)&a, sizeof(a)), 0);
    struct timeval limit = {.tv_sec = 20};
    ck_assert_int_eq(
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)), 0);
    return fd;
}

void web_write(int fd, const char *bytes, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, bytes, len, MSG_NOSIGNAL);
        if (n <= 0)
            return;
        bytes += n;
        len -= (size_t)n;
    }
}

/* One byte after the other, so that nothing of a next answer is taken. */
static bool read_head(int fd, struct buf *head)
{
    char c;
    while (recv(fd, &c, 1, 0) == 1) {
        buf_put_u8(head, (uint8_t)c);
        if (head->len >= 4 &&
            memcmp(head->data + head->len - 4, "\r\n\r\n", 4) == 0)
            return true;
    }
    return false;
}

void web_read(int fd, bool head, struct reply *r)
{
    memset(r, 0, sizeof(*r));
    if (!read_head(fd, &r->head))
        return;
    (void)buf_cstr(&r->head);
    ck_assert_int_eq(strncmp((const char *)r->head.data, "HTTP/1.1 ", 9), 0);
    r->status = (int)strtol((const char *)r->head.data + 9, NULL, 10);
    const char *length = reply_header(r, "Content-Length");
    size_t left = head || length == NULL ? 0 : strtoul(length, NULL, 10);
    while (left > 0) {
        uint8_t *room = buf_reserve(&r->body, left);
        ssize_t n = recv(fd, room, left, 0);
        if (n <= 0)
            break;
        r->body.len += (size_t)n;
        left -= (size_t)n;
    }
    const char *type = reply_header(r, "Content-Type");
    if (type != NULL && strcmp(type, "application/json") == 0 && !head)
        r->json = cJSON_Parse(buf_cstr(&r->body));
}

bool web_closed(int fd, int ms)
{
    char scratch[4096];
    struct pollfd p = {.fd = fd, .events = POLLIN};
    while (poll(&p, 1, ms) == 1) {
        if (recv(fd, scratch, sizeof(scratch), 0) <= 0)
            return true;
    }
    return false;
}

void web_raw(const struct web *w, const char *bytes, struct reply *r)
{
    int fd = web_dial(w, NULL);
    web_write(fd, bytes, strlen(bytes));
    web_read(fd, strncmp(bytes, "HEAD", 4) == 0, r);
    close(fd);
}

static void keep(struct browser *b, const struct reply *r)
{
    const char *cookie = reply_header(r, "Set-Cookie");
    const char *token =
        cJSON_GetStringValue(cJSON_GetObjectItem(r->json, "csrf_token"));
    if (cookie != NULL)
        snprintf(b->cookie, sizeof(b->cookie), "%.*s",
                 (int)strcspn(cookie, ";"), cookie);
    if (token != NULL)
        snprintf(b->token, sizeof(b->token), "%s", token);
}

void browser_call(struct browser *b, const char *method, const char *path,
                  const char *json, struct reply *r)
{
    struct buf out = {0};
    buf_printf(&out, "%s %s HTTP/1.1\r\nHost: 127.0.0.1:%u\r\n", method, path,
               b->web->port);
    if (b->cookie[0] != '\0')
        buf_printf(&out, "Cookie: %s\r\n", b->cookie);
    if (b->token[0] != '\0' && strcmp(method, "GET") != 0)
        buf_printf(&out, "X-CSRF-Token: %s\r\n", b->token);
    if (b->origin != NULL)
        buf_printf(&out, "Origin: %s\r\n", b->origin);
    if (json != NULL)
        buf_printf(&out, "Content-Length: %zu\r\n\r\n%s", strlen(json), json);
    else
        buf_put_text(&out, "\r\n");
    web_raw(b->web, buf_cstr(&out), r);
    keep(b, r);
    buf_free(&out);
}

void browser_log_in(struct browser *b, struct web *w, const char *user)
{
    struct reply r;
    char json[128];
    memset(b, 0, sizeof(*b));
    b->web = w;
    snprintf(json, sizeof(json),
             "{\"username\":\"%s\",\"password\":\"secret-password\"}", user);
    browser_call(b, "POST", "/api/login", json, &r);
    ck_assert_int_eq(r.status, 200);
    reply_free(&r);
}

void web_deliver(struct web *w, const char *user, const char *mail,
                 char uid[27])
{
    struct cloud_op op = fixture_op(&w->f);
    struct delivery_recipient to = {.username = user, .folder = "inbox"};
    ck_assert_int_eq(delivery_run(&op, slice_of(mail), &to, 1), ST_OK);
    memcpy(uid, to.uid, 27);
}
