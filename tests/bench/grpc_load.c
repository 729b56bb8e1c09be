/*
 * Load on etcd, in its own protocol: gRPC, that is HTTP/2 with a protobuf
 * message in each direction. Debian has no load generator for it, and the
 * JSON gateway would add its own work to every figure. Only what a client
 * must do is here: one stream after the other on a connection, headers that
 * use no table, flow control of what is sent, answers to SETTINGS and PING.
 *
 * Of an answer only this is read: gRPC sends a message, in DATA, if the call
 * went well, and none if it did not; so headers need no decoding.
 */
#include "tests/bench/load.h"

#include <string.h>

enum { F_DATA, F_HEADERS, F_PRIORITY, F_RST_STREAM, F_SETTINGS };
enum { F_PUSH, F_PING = 6, F_GOAWAY, F_WINDOW_UPDATE };
enum { END_STREAM = 1, ACK = 1, END_HEADERS = 4 };
#define HEAD 9
#define WINDOW 65535 /* unless the peer says otherwise */
#define FRAME 16384

/* ---- frames ---- */

static uint32_t be(const uint8_t *p, int n)
{
    uint32_t v = 0;
    for (int i = 0; i < n; i++) {
        v = v << 8 | p[i];
    }
    return v;
}

static void put_be(struct buf *b, uint32_t v, int n)
{
    for (int i = n - 1; i >= 0; i--) {
        buf_put_u8(b, (uint8_t)(v >> (8 * i)));
    }
}

static void frame(struct buf *b, size_t len, uint8_t type, uint8_t flags,
                  uint32_t stream)
{
    put_be(b, (uint32_t)len, 3);
    buf_put_u8(b, type);
    buf_put_u8(b, flags);
    put_be(b, stream, 4);
}

static void hello(struct load_conn *c)
{
    buf_put_text(&c->out, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    frame(&c->out, 12, F_SETTINGS, 0, 0);
    put_be(&c->out, 2, 2); /* no push */
    put_be(&c->out, 0, 4);
    put_be(&c->out, 4, 2); /* window of each stream */
    put_be(&c->out, 1 << 30, 4);
    frame(&c->out, 4, F_WINDOW_UPDATE, 0, 0);
    put_be(&c->out, 1 << 30, 4);
    c->window = c->stream_start = WINDOW;
    c->frame_max = FRAME;
}

/* ---- messages ---- */

static void put_varint(struct buf *b, size_t v)
{
    for (; v >= 128; v >>= 7) {
        buf_put_u8(b, (uint8_t)(v | 128));
    }
    buf_put_u8(b, (uint8_t)v);
}

static size_t varint_size(size_t v)
{
    size_t n = 1;
    for (; v >= 128; v >>= 7) {
        n++;
    }
    return n;
}

static void put_field(struct buf *b, unsigned number, const void *data,
                      size_t len)
{
    buf_put_u8(b, (uint8_t)(number << 3 | 2));
    put_varint(b, len);
    buf_put(b, data, len);
}

static size_t put_size(const struct load_conn *c)
{
    size_t v = c->o->value_size;
    return 2 + LOAD_KEY_SIZE + 1 + varint_size(v) + v;
}

/* PutRequest {1: key, 2: value}. */
static void put_put(struct load_conn *c, uint64_t key)
{
    char name[LOAD_KEY_SIZE + 1];
    load_key(key, name);
    put_field(&c->body, 1, name, LOAD_KEY_SIZE);
    put_field(&c->body, 2, c->value, c->o->value_size);
}

/* TxnRequest {2: repeated RequestOp {2: PutRequest}}. */
static void put_txn(struct load_conn *c, uint64_t key, uint32_t count)
{
    size_t size = put_size(c);
    for (uint32_t i = 0; i < count; i++) {
        buf_put_u8(&c->body, 2 << 3 | 2);
        put_varint(&c->body, 1 + varint_size(size) + size);
        buf_put_u8(&c->body, 2 << 3 | 2);
        put_varint(&c->body, size);
        put_put(c, key + i);
    }
}

/* A header whose name is INDEX of the static table, or NAME. */
static void put_header(struct buf *b, unsigned index, const char *name,
                       const char *value)
{
    if (index >= 15) {
        buf_put_u8(b, 15);
        buf_put_u8(b, (uint8_t)(index - 15));
    } else {
        buf_put_u8(b, (uint8_t)index);
    }
    if (index == 0) {
        buf_put_u8(b, (uint8_t)strlen(name));
        buf_put_text(b, name);
    }
    buf_put_u8(b, (uint8_t)strlen(value));
    buf_put_text(b, value);
}

static void put_headers(struct load_conn *c, const char *path)
{
    size_t at = c->out.len;
    frame(&c->out, 0, F_HEADERS, END_HEADERS, c->stream);
    buf_put_u8(&c->out, 0x80 | 3); /* :method POST */
    buf_put_u8(&c->out, 0x80 | 6); /* :scheme http */
    put_header(&c->out, 4, NULL, path);
    put_header(&c->out, 1, NULL, "127.0.0.1");
    put_header(&c->out, 31, NULL, "application/grpc");
    put_header(&c->out, 0, "te", "trailers");
    c->out.data[at + 2] = (uint8_t)(c->out.len - at - HEAD);
}

/* As much of the body as the windows let go. */
static void pump(struct load_conn *c)
{
    while (c->body_at < c->body.len && c->window > 0 && c->stream_window > 0) {
        size_t n = c->body.len - c->body_at;
        n = n > c->frame_max ? c->frame_max : n;
        n = n > (size_t)c->window ? (size_t)c->window : n;
        n = n > (size_t)c->stream_window ? (size_t)c->stream_window : n;
        bool last = c->body_at + n == c->body.len;
        frame(&c->out, n, F_DATA, last ? END_STREAM : 0, c->stream);
        buf_put(&c->out, c->body.data + c->body_at, n);
        c->body_at += n;
        c->window -= (int64_t)n;
        c->stream_window -= (int64_t)n;
    }
}

static void request(struct load_conn *c, uint64_t key, uint32_t count)
{
    static const char *const paths[] = {"/etcdserverpb.KV/Put",
                                        "/etcdserverpb.KV/Range",
                                        "/etcdserverpb.KV/Txn"};
    char name[LOAD_KEY_SIZE + 1];
    buf_clear(&c->body);
    buf_put(&c->body, "\0\0\0\0\0", 5); /* plain; its length, filled in */
    switch (c->o->op) {
    case LOAD_PUT:
        put_put(c, key);
        break;
    case LOAD_GET: /* RangeRequest {1: key}, linearizable */
        load_key(key, name);
        put_field(&c->body, 1, name, LOAD_KEY_SIZE);
        break;
    case LOAD_FILL:
        put_txn(c, key, count);
        break;
    }
    for (int i = 0; i < 4; i++) {
        c->body.data[1 + i] = (uint8_t)((c->body.len - 5) >> (24 - 8 * i));
    }
    c->stream += c->stream == 0 ? 1 : 2;
    c->stream_window = c->stream_start;
    c->body_at = 0;
    c->step = 0;
    c->received = 0;
    put_headers(c, paths[c->o->op]);
    pump(c);
}

/* ---- answers ---- */

static void on_settings(struct load_conn *c, const uint8_t *p, size_t len)
{
    for (size_t i = 0; i + 6 <= len; i += 6) {
        uint32_t v = be(p + i + 2, 4);
        if (be(p + i, 2) == 4) {
            c->stream_window += (int64_t)v - c->stream_start;
            c->stream_start = v;
        } else if (be(p + i, 2) == 5) {
            c->frame_max = v;
        }
    }
    frame(&c->out, 0, F_SETTINGS, ACK, 0);
}

static void on_data(struct load_conn *c, size_t len)
{
    c->received += len;
    if (len > 0) {
        frame(&c->out, 4, F_WINDOW_UPDATE, 0, 0);
        put_be(&c->out, (uint32_t)len, 4);
    }
}

static enum load_answer on_end(struct load_conn *c)
{
    size_t least = c->o->op == LOAD_GET ? 5 + c->o->value_size : 5;
    if (c->received >= least) {
        return LOAD_GOOD;
    }
    return load_fail(c, "refused, or no such key", 23);
}

/* One frame: its payload P, LEN bytes. */
static enum load_answer on_frame(struct load_conn *c, const uint8_t *head,
                                 const uint8_t *p, size_t len)
{
    uint8_t type = head[3], flags = head[4];
    uint32_t stream = be(head + 5, 4) & 0x7fffffff;
    switch (type) {
    case F_DATA:
        on_data(c, len);
        break;
    case F_SETTINGS:
        if ((flags & ACK) == 0) {
            on_settings(c, p, len);
            pump(c);
            return c->open ? LOAD_MORE : LOAD_READY;
        }
        break;
    case F_PING:
        if ((flags & ACK) == 0 && len == 8) {
            frame(&c->out, 8, F_PING, ACK, 0);
            buf_put(&c->out, p, 8);
        }
        break;
    case F_WINDOW_UPDATE:
        if (len == 4 && stream == 0) {
            c->window += be(p, 4);
        } else if (len == 4 && stream == c->stream) {
            c->stream_window += be(p, 4);
        }
        pump(c);
        break;
    case F_GOAWAY:
    case F_RST_STREAM:
        return load_fail(c, "stream reset", 12);
    default:
        break;
    }
    bool ends = (type == F_DATA || type == F_HEADERS) && (flags & END_STREAM);
    return ends && stream == c->stream ? on_end(c) : LOAD_MORE;
}

static enum load_answer answer(struct load_conn *c)
{
    while (c->in.len >= HEAD) {
        size_t len = be(c->in.data, 3);
        if (c->in.len < HEAD + len) {
            return LOAD_MORE;
        }
        enum load_answer a = on_frame(c, c->in.data, c->in.data + HEAD, len);
        buf_consume(&c->in, HEAD + len);
        if (a != LOAD_MORE) {
            return a;
        }
    }
    return LOAD_MORE;
}

const struct load_protocol load_grpc = {"grpc", hello, request, answer};
