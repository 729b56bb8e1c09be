/*
 * Load on PostgreSQL, in its protocol 3.0 with trust: one prepared statement a
 * connection, its parameters binary, one transaction a request. A fill inserts
 * rows that the server itself makes.
 */
#include "tests/bench/load.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#define PUT                                                                    \
    "INSERT INTO kv VALUES ($1, $2) ON CONFLICT (k) DO UPDATE SET v = "        \
    "excluded.v"
#define GET "SELECT v FROM kv WHERE k = $1"
#define FILL                                                                   \
    "INSERT INTO kv SELECT 'bench:' || lpad(i::text, 10, '0'), $3 FROM "       \
    "generate_series($1::text::bigint, $2::text::bigint) i ON CONFLICT (k) "   \
    "DO UPDATE SET v = excluded.v"

static void put_be32(struct buf *b, size_t v)
{
    uint32_t n = htonl((uint32_t)v);
    buf_put(b, &n, sizeof(n));
}

static void put_be16(struct buf *b, unsigned v)
{
    uint16_t n = htons((uint16_t)v);
    buf_put(b, &n, sizeof(n));
}

/* A message's head; LEN is that of what follows it. */
static void head(struct buf *b, char type, size_t len)
{
    buf_put_u8(b, (uint8_t)type);
    put_be32(b, len + 4);
}

static const char *statement(const struct load_conn *c)
{
    switch (c->o->op) {
    case LOAD_PUT:
        return PUT;
    case LOAD_GET:
        return GET;
    case LOAD_FILL:
        return FILL;
    }
    return "";
}

static void hello(struct load_conn *c)
{
    static const char names[] = "user\0bench\0database\0postgres\0";
    const char *sql = statement(c);
    put_be32(&c->out, 8 + sizeof(names));
    put_be32(&c->out, 196608); /* 3.0 */
    buf_put(&c->out, names, sizeof(names));
    /* Parse: the statement's name, its text, no types. */
    head(&c->out, 'P', 2 + strlen(sql) + 1 + 2);
    buf_put(&c->out, "s", 2);
    buf_put(&c->out, sql, strlen(sql) + 1);
    put_be16(&c->out, 0);
    head(&c->out, 'S', 0);
}

static void put_parameter(struct buf *b, const void *data, size_t len)
{
    put_be32(b, len);
    buf_put(b, data, len);
}

static void request(struct load_conn *c, uint64_t key, uint32_t count)
{
    char name[LOAD_KEY_SIZE + 1], from[24], to[24];
    size_t value = c->o->value_size;
    struct buf *b = &c->body;
    buf_clear(b);
    load_key(key, name);
    switch (c->o->op) {
    case LOAD_GET:
        put_be16(b, 1);
        put_parameter(b, name, LOAD_KEY_SIZE);
        break;
    case LOAD_PUT:
        put_be16(b, 2);
        put_parameter(b, name, LOAD_KEY_SIZE);
        put_parameter(b, c->value, value);
        break;
    case LOAD_FILL:
        (void)snprintf(from, sizeof(from), "%llu", (unsigned long long)key);
        (void)snprintf(to, sizeof(to), "%llu",
                       (unsigned long long)key + count - 1);
        put_be16(b, 3);
        put_parameter(b, from, strlen(from));
        put_parameter(b, to, strlen(to));
        put_parameter(b, c->value, value);
        break;
    }
    /* Bind: portal, statement, all binary; the result's too. */
    head(&c->out, 'B', 1 + 2 + 4 + b->len + 4);
    buf_put(&c->out, "\0s", 3);
    put_be16(&c->out, 1);
    put_be16(&c->out, 1);
    buf_put(&c->out, b->data, b->len);
    put_be16(&c->out, 1);
    put_be16(&c->out, 1);
    head(&c->out, 'E', 1 + 4);
    buf_put_u8(&c->out, 0);
    put_be32(&c->out, 0);
    head(&c->out, 'S', 0);
    c->step = 0;
}

/* The fields of an error, without their zeros, where people look for them. */
static enum load_answer refuse(struct load_conn *c, size_t whole)
{
    for (size_t i = 5; i < whole; i++) {
        if (c->in.data[i] == 0) {
            c->in.data[i] = ' ';
        }
    }
    return load_fail(c, (const char *)c->in.data + 5, whole - 5);
}

enum { SEEN_DONE = 1, SEEN_ROW = 2 };

static enum load_answer answer(struct load_conn *c)
{
    while (c->in.len >= 5) {
        uint32_t len;
        memcpy(&len, c->in.data + 1, sizeof(len));
        size_t whole = (size_t)ntohl(len) + 1;
        if (c->in.len < whole) {
            return LOAD_MORE;
        }
        uint8_t type = c->in.data[0];
        if (type == 'E') {
            return refuse(c, whole);
        }
        c->step |= type == 'C' || type == '1' ? SEEN_DONE : 0;
        c->step |= type == 'D' && whole > c->o->value_size ? SEEN_ROW : 0;
        buf_consume(&c->in, whole);
        /* The first of two comes before the statement is parsed. */
        if (type != 'Z' || (!c->open && (c->step & SEEN_DONE) == 0)) {
            continue;
        }
        unsigned wanted =
            c->o->op == LOAD_GET ? SEEN_DONE | SEEN_ROW : SEEN_DONE;
        if (!c->open) {
            return LOAD_READY;
        }
        return c->step == wanted ? LOAD_GOOD : load_fail(c, "no row", 6);
    }
    return LOAD_MORE;
}

const struct load_protocol load_pg = {"pg", hello, request, answer};
