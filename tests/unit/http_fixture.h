/*
 * A gateway's HTTP server on loopback on the store in this process, and a
 * client that sends bytes as told, good or bad.
 */
#ifndef TESTS_UNIT_HTTP_FIXTURE_H
#define TESTS_UNIT_HTTP_FIXTURE_H

#include <cjson/cJSON.h>

#include "gateway/http/server_io.h"
#include "tests/unit/cloud_fixture.h"

struct web {
    struct fixture f;
    struct http_static *files;
    struct http_events *events;
    struct http_app *app;
    struct http_server *server;
    uint16_t port;
};

/* O's unset fields get what tests need; may be NULL. Accounts "demo" and
 * "alice" exist. */
void web_init(struct web *w, const struct http_server_options *o);
void web_fini(struct web *w);

struct reply {
    int status; /* 0: the connection ended without an answer */
    struct buf head, body;
    cJSON *json; /* the body, if it is JSON */
};
void reply_free(struct reply *r);
/* Value of header NAME, copied to thread-local turns; NULL if absent. */
const char *reply_header(const struct reply *r, const char *name);
/* "error.code" of a JSON answer, "" if there is none. */
const char *reply_code(const struct reply *r);

/* A connection from loopback address FROM ("127.0.0.1" if NULL). */
int web_dial(const struct web *w, const char *from);
void web_write(int fd, const char *bytes, size_t len);
/* Reads one answer; HEAD's has no body. */
void web_read(int fd, bool head, struct reply *r);
/* True once the peer has closed, within MS. */
bool web_closed(int fd, int ms);

/* Sends BYTES on a connection of its own and reads the answer. */
void web_raw(const struct web *w, const char *bytes, struct reply *r);

/* A browser's state. */
struct browser {
    struct web *web;
    char cookie[128]; /* "penncloud_session=..." or "" */
    char token[64];
    const char *origin; /* NULL: not sent */
};
/* METHOD PATH with JSON (NULL: no body); keeps cookie and token. */
void browser_call(struct browser *b, const char *method, const char *path,
                  const char *json, struct reply *r);
/* Logs in; must work. */
void browser_log_in(struct browser *b, struct web *w, const char *user);
/* Puts MAIL into USER's inbox; gives its uid. */
void web_deliver(struct web *w, const char *user, const char *mail,
                 char uid[27]);

#endif
