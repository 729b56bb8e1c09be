/*
 * A client that holds the cluster's key and misbehaves: what a broken, newer
 * or taken-over process could send.
 *
 *   cluster_stranger KEYFILE HOST:PORT OFFENCE
 *   cluster_stranger --list
 *
 * Connects as a client (pennctl's role), proves the key, says hello, commits
 * the offence and prints what came of it: "closed", "answered TYPE STATUS",
 * or "silence" after WAIT_MS. With a key that is not the cluster's the answer
 * must be "closed" whatever the offence.
 */
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <sodium.h>
#include <xxhash.h>

#include "common/hello.h"
#include "common/key.h"
#include "common/seal.h"
#include "common/wire.h"

#define WAIT_MS 5000

struct stranger {
    int fd;
    struct seal *seal;
    struct buf plain, raw; /* heard; to be sent */
    bool closed, flip;     /* flip: spoil the next record */
};

/* ---- offences ---- */

/* A frame with a right checksum and any payload. */
static void put_frame(struct buf *out, uint32_t length, uint16_t type,
                      uint16_t reserved, struct slice payload)
{
    struct buf f = {0};
    buf_put_u32(&f, length);
    buf_put_u16(&f, type);
    buf_put_u16(&f, reserved);
    buf_put_u64(&f, 7);
    uint64_t seed = XXH3_64bits(f.data, f.len);
    buf_put_u64(&f, XXH3_64bits_withSeed(payload.data, payload.len, seed));
    buf_put_slice(&f, payload);
    buf_put_slice(out, buf_slice(&f));
    buf_free(&f);
}

static void put_get(struct buf *out, size_t key_len)
{
    struct buf p = {0};
    buf_put_u32(&p, 1); /* tablet */
    buf_put_u8(&p, 0);  /* forwarded */
    buf_put_u32(&p, (uint32_t)key_len);
    for (size_t i = 0; i < key_len; i++) {
        buf_put_u8(&p, 'k');
    }
    buf_put_u32(&p, 0); /* row */
    buf_put_u32(&p, 0); /* column */
    put_frame(out, (uint32_t)p.len, MSG_GET, 0, buf_slice(&p));
    buf_free(&p);
}

static void put_key(struct buf *out)
{
    put_get(out, LIMIT_KEY_PART);
}

static void put_checksum(struct buf *out)
{
    put_get(out, 5);
    out->data[out->len - 1] ^= 1;
}

static void put_garbage(struct buf *out)
{
    for (unsigned i = 0; i < 4096; i++) {
        buf_put_u8(out, (uint8_t)randombytes_uniform(256));
    }
}

static void put_huge(struct buf *out)
{
    put_frame(out, 0xfffffff0u, MSG_GET, 0, slice_of("x"));
}

static void put_reserved(struct buf *out)
{
    put_frame(out, 1, MSG_GET, 0xffff, slice_of("x"));
}

static void put_unknown(struct buf *out)
{
    put_frame(out, 3, 60000, 0, slice_of("new"));
}

static void put_short(struct buf *out)
{
    put_frame(out, 2, MSG_GET, 0, slice_of("\1"));
    put_frame(out, 3, MSG_MAP_WATCH, 0, slice_of("abc"));
}

static void put_counts(struct buf *out)
{
    struct buf p = {0};
    buf_put_u32(&p, 1); /* a COMMAND with lists that it has no bytes for */
    buf_put_u8(&p, 0);
    buf_put_u8(&p, COMMAND_BATCH);
    for (unsigned i = 0; i < 40; i++) {
        buf_put_u8(&p, 0);
    }
    buf_put_u32(&p, 0);
    buf_put_u32(&p, 0xffffffffu);
    buf_put_u32(&p, 0xffffffffu);
    put_frame(out, (uint32_t)p.len, MSG_COMMAND, 0, buf_slice(&p));
    buf_free(&p);
}

static void put_long_key(struct buf *out)
{
    put_get(out, LIMIT_KEY_PART + 1);
}

/* What only storage processes may say, and only to each other. */
static void put_prepare(struct buf *out)
{
    struct msg_prepare m = {.tablet = 1,
                            .epoch = 1000000,
                            .entry = {1000000, 1},
                            .committed = 1,
                            .payload = slice_of("boo")};
    wire_put_prepare(out, 0, &m);
}

static void put_heartbeat(struct buf *out)
{
    struct msg_heartbeat m = {.term = 1000000};
    wire_put_heartbeat(out, 0, &m);
}

static void put_map(struct buf *out)
{
    struct msg_map m = {.term = 1000000, .version = 1000000};
    wire_put_map(out, 0, &m);
}

static void put_hello(struct buf *out)
{
    struct msg_hello m = {.magic = WIRE_MAGIC};
    wire_put_hello(out, 0, &m);
}

static void hello_magic(struct msg_hello *h)
{
    h->magic ^= 1;
}

static void hello_version(struct msg_hello *h)
{
    h->protocol_low = h->protocol_high = 999;
}

static void hello_cluster(struct msg_hello *h)
{
    memset(h->cluster.b, 0x5a, sizeof(h->cluster.b));
}

static void hello_role(struct msg_hello *h)
{
    h->role = 99;
}

static void hello_name(struct msg_hello *h)
{
    h->name = slice_of("two\nlines");
}

static const struct offence {
    const char *name;
    void (*hello)(struct msg_hello *h); /* spoils the hello */
    void (*put)(struct buf *out);       /* comes after it */
    bool no_hello, flip;
} offences[] = {
    {"magic", hello_magic, NULL, false, false},
    {"version", hello_version, NULL, false, false},
    {"cluster", hello_cluster, NULL, false, false},
    {"role", hello_role, NULL, false, false},
    {"name", hello_name, NULL, false, false},
    {"no-hello", NULL, put_unknown, true, false},
    {"second-hello", NULL, put_hello, false, false},
    {"checksum", NULL, put_checksum, false, false},
    {"garbage", NULL, put_garbage, false, false},
    {"huge", NULL, put_huge, false, false},
    {"reserved", NULL, put_reserved, false, false},
    {"short", NULL, put_short, false, false},
    {"counts", NULL, put_counts, false, false},
    {"fit-key", NULL, put_key, false, false},
    {"long-key", NULL, put_long_key, false, false},
    {"prepare", NULL, put_prepare, false, false},
    {"heartbeat", NULL, put_heartbeat, false, false},
    {"map", NULL, put_map, false, false},
    {"record", NULL, put_unknown, false, true},
    {"unknown", NULL, put_unknown, false, false},
};

/* ---- the connection ---- */

static void flush(struct stranger *s)
{
    size_t at = 0;
    if (s->flip && s->raw.len > SEAL_HEAD) {
        s->raw.data[s->raw.len - 1] ^= 1;
        s->flip = false;
    }
    while (at < s->raw.len && !s->closed) {
        ssize_t n = write(s->fd, s->raw.data + at, s->raw.len - at);
        s->closed = n <= 0;
        at += n > 0 ? (size_t)n : 0;
    }
    buf_clear(&s->raw);
}

/* Hears once; false if nothing came in time. */
static bool hear(struct stranger *s)
{
    uint8_t bytes[65536];
    struct pollfd p = {.fd = s->fd, .events = POLLIN};
    flush(s);
    if (s->closed || poll(&p, 1, WAIT_MS) != 1) {
        return false;
    }
    ssize_t n = read(s->fd, bytes, sizeof(bytes));
    if (n <= 0 || seal_receive(s->seal, slice_make(bytes, (size_t)n), &s->plain,
                               &s->raw) != ST_OK) {
        s->closed = true;
        return false;
    }
    flush(s);
    return true;
}

/* The next frame other than a HELLO or a MAP. */
static bool next_frame(struct stranger *s, struct arena *a,
                       struct wire_msg *out)
{
    struct wire_header h;
    do {
        while (s->plain.len < WIRE_HEADER ||
               wire_read_header(s->plain.data, &h) != ST_OK ||
               s->plain.len < WIRE_HEADER + h.length) {
            if (!hear(s)) {
                return false;
            }
        }
        struct slice frame = {
            arena_copy(a, s->plain.data, WIRE_HEADER + h.length),
            WIRE_HEADER + h.length};
        buf_consume(&s->plain, frame.len);
        if (wire_decode(frame, a, out) != ST_OK) {
            return false;
        }
    } while (out->type == MSG_HELLO || out->type == MSG_MAP);
    return true;
}

static bool meet(struct stranger *s, const char *key_file, const char *address)
{
    struct seal_options o = {.side = SEAL_CONNECTS};
    struct sockaddr_in to = {.sin_family = AF_INET};
    struct err err = {""};
    const char *colon = strrchr(address, ':');
    char host[64];
    if (colon == NULL || key_load(key_file, &o.key, &err) != ST_OK) {
        fprintf(stderr, "stranger: %s\n", err.text);
        return false;
    }
    (void)snprintf(host, sizeof(host), "%.*s", (int)(colon - address), address);
    to.sin_port = htons((uint16_t)strtoul(colon + 1, NULL, 10));
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (inet_pton(AF_INET, host, &to.sin_addr) != 1 ||
        connect(s->fd, (struct sockaddr *)&to, sizeof(to)) != 0) {
        perror("stranger: connect");
        return false;
    }
    randombytes_buf(o.seed, sizeof(o.seed));
    s->seal = seal_new(&o, &s->raw);
    while (!seal_ready(s->seal) && hear(s)) {
    }
    return true;
}

static void offend(struct stranger *s, const struct offence *o)
{
    struct hello_self self = {.role = ROLE_CLIENT, .name = "stranger"};
    struct msg_hello hello;
    struct buf frames = {0};
    hello_make(&self, LANE_REQUEST, &hello);
    if (o->hello != NULL) {
        o->hello(&hello);
    }
    if (!o->no_hello) {
        wire_put_hello(&frames, 0, &hello);
        seal_send(s->seal, buf_slice(&frames), &s->raw);
        flush(s);
        buf_clear(&frames);
    }
    if (o->put != NULL) {
        o->put(&frames);
        s->flip = o->flip;
        seal_send(s->seal, buf_slice(&frames), &s->raw);
        flush(s);
    }
    buf_free(&frames);
}

static void outcome(struct stranger *s)
{
    struct arena a = {0};
    struct wire_msg m;
    if (!s->closed && next_frame(s, &a, &m)) {
        enum status st = ST_OK;
        if (m.type == MSG_ERROR) {
            (void)status_from_wire(m.u.error.status, &st);
        }
        printf("answered %s %s\n", wire_type_name((uint16_t)m.type),
               status_name(st));
    } else {
        printf("%s\n", s->closed ? "closed" : "silence");
    }
    arena_free(&a);
}

int main(int argc, char **argv)
{
    struct stranger s = {.fd = -1};
    const struct offence *o = NULL;
    bool list = argc == 2 && strcmp(argv[1], "--list") == 0;
    for (size_t i = 0; i < sizeof(offences) / sizeof(offences[0]); i++) {
        if (list) {
            printf("%s\n", offences[i].name);
        } else if (argc == 4 && strcmp(argv[3], offences[i].name) == 0) {
            o = &offences[i];
        }
    }
    if (list) {
        return 0;
    }
    if (o == NULL || sodium_init() < 0 || !meet(&s, argv[1], argv[2])) {
        fprintf(stderr,
                "usage: cluster_stranger KEYFILE HOST:PORT OFFENCE | --list\n");
        return 2;
    }
    if (!s.closed) {
        offend(&s, o);
    }
    outcome(&s);
    seal_free(s.seal);
    buf_free(&s.plain);
    buf_free(&s.raw);
    (void)close(s.fd);
    return 0;
}
