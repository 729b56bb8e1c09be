/*
 * Load on Redis. A put is SET and WAIT in one request, so that its answer says
 * that the replicas have it too: with appendfsync always a replica
 * acknowledges what it has synced. A get is GET, a fill MSET.
 */
#include "tests/bench/load.h"

#include <stdlib.h>
#include <string.h>

static void hello(struct load_conn *c)
{
    buf_put_text(&c->out, "*1\r\n$4\r\nPING\r\n");
}

static void put_bulk(struct buf *b, const void *data, size_t len)
{
    buf_printf(b, "$%zu\r\n", len);
    buf_put(b, data, len);
    buf_put(b, "\r\n", 2);
}

static void request(struct load_conn *c, uint64_t key, uint32_t count)
{
    char name[LOAD_KEY_SIZE + 1];
    load_key(key, name);
    switch (c->o->op) {
    case LOAD_GET:
        buf_put_text(&c->out, "*2\r\n$3\r\nGET\r\n");
        put_bulk(&c->out, name, LOAD_KEY_SIZE);
        return;
    case LOAD_PUT:
        buf_put_text(&c->out, "*3\r\n$3\r\nSET\r\n");
        put_bulk(&c->out, name, LOAD_KEY_SIZE);
        put_bulk(&c->out, c->value, c->o->value_size);
        if (c->o->replicas > 0) {
            buf_printf(&c->out, "*3\r\n$4\r\nWAIT\r\n$1\r\n%u\r\n$1\r\n0\r\n",
                       (unsigned)c->o->replicas);
        }
        return;
    case LOAD_FILL:
        buf_printf(&c->out, "*%u\r\n$4\r\nMSET\r\n", (unsigned)(1 + 2 * count));
        for (uint32_t i = 0; i < count; i++) {
            load_key(key + i, name);
            put_bulk(&c->out, name, LOAD_KEY_SIZE);
            put_bulk(&c->out, c->value, c->o->value_size);
        }
        return;
    }
}

/* The line at the front of what came, without its end; false: not whole. */
static bool take_line(struct load_conn *c, char line[64])
{
    const uint8_t *end = memchr(c->in.data, '\n', c->in.len);
    if (c->in.len == 0 || end == NULL) {
        return false;
    }
    size_t len = (size_t)(end - c->in.data);
    size_t kept = len < 63 ? len : 63;
    memcpy(line, c->in.data, kept);
    line[kept > 0 && line[kept - 1] == '\r' ? kept - 1 : kept] = 0;
    buf_consume(&c->in, len + 1);
    return true;
}

static enum load_answer answer_get(struct load_conn *c)
{
    size_t len = c->o->value_size;
    const uint8_t *end = memchr(c->in.data, '\n', c->in.len);
    if (end == NULL) {
        return LOAD_MORE;
    }
    if (c->in.data[0] != '$' ||
        strtoul((const char *)c->in.data + 1, NULL, 10) != len) {
        return load_fail(c, (const char *)c->in.data,
                         (size_t)(end - c->in.data));
    }
    size_t whole = (size_t)(end - c->in.data) + 1 + len + 2;
    if (c->in.len < whole) {
        return LOAD_MORE;
    }
    buf_consume(&c->in, whole);
    return LOAD_GOOD;
}

static enum load_answer answer(struct load_conn *c)
{
    char line[64];
    if (c->in.len == 0) {
        return LOAD_MORE;
    }
    if (c->open && c->o->op == LOAD_GET) {
        return answer_get(c);
    }
    if (!take_line(c, line)) {
        return LOAD_MORE;
    }
    if (!c->open) {
        return strcmp(line, "+PONG") == 0 ? LOAD_READY
                                          : load_fail(c, line, strlen(line));
    }
    if (strcmp(line, "+OK") == 0) {
        bool waits = c->o->op == LOAD_PUT && c->o->replicas > 0;
        return waits ? answer(c) : LOAD_GOOD;
    }
    if (line[0] == ':' && strtoul(line + 1, NULL, 10) >= c->o->replicas) {
        return LOAD_GOOD;
    }
    return load_fail(c, line, strlen(line));
}

const struct load_protocol load_resp = {"resp", hello, request, answer};
