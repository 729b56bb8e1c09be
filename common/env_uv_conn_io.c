/*
 * What a connection of the libuv env carries.
 *
 * In: bytes -> seal -> opened bytes -> frames -> checks -> the user. The first
 * frame must be the peer's HELLO; each later one must decode, and be one that
 * the peer's role may send to ours (common/roles.def), or the connection ends.
 * A request of an unknown type is answered with ERROR(UNSUPPORTED): a newer
 * peer finds out so.
 *
 * Out: frames are collected, large ones where they are; once a turn of the loop
 * they are sealed, WRITE_PORTION at a time, which stays in the processor's
 * cache until the kernel has copied it, and no more than WRITE_AHEAD is in
 * libuv's hands: so a connection that does not drain holds its frames once, and
 * a large answer on one connection does not keep the others waiting for the
 * sealing of it all.
 */
#include <assert.h>
#include <sodium.h>
#include <stdlib.h>
#include <time.h>

#include "common/env_uv_impl.h"

#define WRITE_PORTION KIB(256)
#define WRITE_AHEAD MIB(1) /* in libuv's hands, of one connection */
/* Of one connection, then others have their turn. */
#define WRITE_TURN KIB(512)
#define READ_TURN MIB(1)
/* What so many have caused leaves before the next ones are looked at: whoever
 * waits for it works meanwhile. */
#define FRAMES_AT_ONCE 64
/* An empty buffer larger than this gives its memory back. */
#define KEEP_BUFFER KIB(64)
/* Less is copied: a piece costs a record and memory of its own. */
#define PIECE_LEAST KIB(16)
#define CPU_CLOCK_LEAST KIB(16)

struct write {
    uv_write_t req;
    struct env_conn *c;
    struct buf bytes;
    size_t size; /* of BYTES, at its end */
};

static bool alive(const struct env_conn *c)
{
    return c->state < CONN_FAILED;
}

/* Nanoseconds, to tell what sealing LEN bytes takes: of this thread's CPU, or,
 * where asking for that would take as long, of time. */
static uint64_t seal_clock(size_t len)
{
    struct timespec t;
    clockid_t which =
        len < CPU_CLOCK_LEAST ? CLOCK_MONOTONIC : CLOCK_THREAD_CPUTIME_ID;
    int r = clock_gettime(which, &t);
    assert(r == 0);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void count_sealing(struct env_conn *c, uint64_t began, size_t len)
{
    count_add(&c->u->counters.sealing_ns, seal_clock(len) - began);
}

/* ---- what is to be sent ---- */

static size_t unsealed(const struct env_conn *c)
{
    return c->pieces_len + (c->out.len - c->out_at);
}

static void mark_dirty(struct env_conn *c)
{
    if (!c->dirty) {
        c->dirty = true;
        c->refs++;
        STAILQ_INSERT_TAIL(&c->u->net.dirty, c, dirty_link);
    }
}

static void piece_free(struct env_conn *c, struct out_piece *p)
{
    STAILQ_REMOVE_HEAD(&c->pieces, link); /* it is the first one */
    c->pieces_len -= p->left.len;
    buf_free(&p->own);
    if (p->lent.done != NULL) {
        p->lent.done(p->lent.ctx);
    }
    free(p);
}

void env_uv_conn_drop_out(struct env_conn *c)
{
    while (!STAILQ_EMPTY(&c->pieces)) {
        piece_free(c, STAILQ_FIRST(&c->pieces));
    }
    buf_free(&c->out);
    c->out_at = 0;
}

static struct out_piece *piece_add(struct env_conn *c, struct slice bytes)
{
    struct out_piece *p = xcalloc(1, sizeof(*p));
    p->left = bytes;
    c->pieces_len += bytes.len;
    STAILQ_INSERT_TAIL(&c->pieces, p, link);
    return p;
}

/* What is collected becomes a piece, so that another one can follow. */
static void close_out(struct env_conn *c)
{
    if (c->out.len == c->out_at) {
        return;
    }
    struct out_piece *p = piece_add(
        c, slice_make(c->out.data + c->out_at, c->out.len - c->out_at));
    p->own = c->out;
    c->out = (struct buf){0};
    c->out_at = 0;
}

/* Seals the next bytes, MOST at most, into SEALED; how many it were. */
static size_t seal_next(struct env_conn *c, size_t most, struct buf *sealed)
{
    struct out_piece *p = STAILQ_FIRST(&c->pieces);
    struct slice s =
        p != NULL ? p->left
                  : slice_make(c->out.data + c->out_at, c->out.len - c->out_at);
    s.len = s.len < most ? s.len : most;
    seal_send(c->seal, s, sealed);
    if (p == NULL) {
        c->out_at += s.len;
        return s.len;
    }
    p->left = slice_make(p->left.data + s.len, p->left.len - s.len);
    c->pieces_len -= s.len;
    if (p->left.len == 0) {
        piece_free(c, p);
    }
    return s.len;
}

static void tidy_out(struct env_conn *c)
{
    if (c->out_at == c->out.len) {
        c->out_at = 0;
        if (c->out.cap > KEEP_BUFFER) {
            buf_free(&c->out);
        } else {
            buf_clear(&c->out);
        }
    } else if (c->out_at > c->out.len / 2) {
        buf_consume(&c->out, c->out_at); /* moves less than was sent */
        c->out_at = 0;
    }
}

/* ---- out ---- */

static void write_free(struct write *w)
{
    struct buf *kept = &w->c->u->net.sealed;
    if (kept->data == NULL) {
        *kept = w->bytes;
        buf_clear(kept);
    } else {
        buf_free(&w->bytes);
    }
    free(w);
}

static void on_written(uv_write_t *req, int status)
{
    struct write *w = req->data;
    struct env_conn *c = w->c;
    c->in_flight -= w->size;
    if (status == 0) {
        count_add(&c->u->counters.bytes_out, w->size);
    }
    write_free(w);
    if (status < 0) {
        env_uv_conn_fail(c, ST_CLOSED);
    } else if (c->state == CONN_OPEN && unsealed(c) > 0) {
        mark_dirty(c);
    }
}

/* Gives BYTES from AT on, which are emptied, to libuv. */
static void write_later_take(struct env_conn *c, struct buf *bytes, size_t at)
{
    struct write *w = xcalloc(1, sizeof(*w));
    w->c = c;
    w->req.data = w;
    w->bytes = *bytes;
    *bytes = (struct buf){0};
    w->size = w->bytes.len - at;
    c->in_flight += w->size;
    uv_buf_t b = uv_buf_init((char *)w->bytes.data + at, (unsigned)w->size);
    int r = uv_write(&w->req, (uv_stream_t *)&c->tcp, &b, 1, on_written);
    if (r < 0) {
        c->in_flight -= w->size;
        write_free(w);
        env_uv_conn_fail(c, ST_CLOSED);
    }
}

/* Writes BYTES. What the kernel takes at once, mostly all, needs no request,
 * and BYTES keeps its memory; the rest goes with it to libuv. */
static void write_bytes(struct env_conn *c, struct buf *bytes)
{
    int n = UV_EAGAIN;
    if (c->in_flight == 0) {
        uv_buf_t b = uv_buf_init((char *)bytes->data, (unsigned)bytes->len);
        n = uv_try_write((uv_stream_t *)&c->tcp, &b, 1);
    }
    if (n < 0 && n != UV_EAGAIN) {
        env_uv_conn_fail(c, ST_CLOSED);
        return;
    }
    size_t done = n < 0 ? 0 : (size_t)n;
    count_add(&c->u->counters.bytes_out, done);
    if (done < bytes->len) {
        write_later_take(c, bytes, done);
    }
}

/* Seals and writes the next portion; its size. */
static size_t write_portion(struct env_conn *c)
{
    struct buf *sealed = &c->u->net.sealed;
    size_t size = unsealed(c), left;
    size = size < WRITE_PORTION ? size : WRITE_PORTION;
    buf_clear(sealed);
    /* The exact size at once, instead of doubling up to it. */
    (void)buf_reserve(sealed, seal_size(size));
    uint64_t began = seal_clock(size);
    for (left = size; left > 0;) {
        left -= seal_next(c, left, sealed);
    }
    count_sealing(c, began, size);
    write_bytes(c, sealed);
    return size;
}

void env_uv_conn_flush(struct env_conn *c)
{
    size_t done = 0;
    while (c->state == CONN_OPEN && unsealed(c) > 0 && done < WRITE_TURN &&
           c->in_flight < WRITE_AHEAD) {
        done += write_portion(c);
    }
    tidy_out(c);
    if (c->state == CONN_OPEN && unsealed(c) > 0 &&
        c->in_flight < WRITE_AHEAD) {
        mark_dirty(c); /* goes on in the next turn */
    }
}

void env_uv_conn_flush_last(struct env_conn *c)
{
    while (c->state == CONN_OPEN && unsealed(c) > 0 && c->in_flight == 0) {
        (void)write_portion(c);
    }
}

/* Number of whole frames; users send nothing else. REST: what the last one
 * lacks. */
static unsigned count_frames(struct slice frames, size_t rest)
{
    unsigned count = 0;
    while (frames.len > 0) {
        struct wire_header h;
        assert(frames.len >= WIRE_HEADER &&
               wire_read_header(frames.data, &h) == ST_OK);
        size_t size = WIRE_HEADER + (size_t)h.length;
        count++;
        if (frames.len < size) {
            assert(frames.len + rest == size);
            return count;
        }
        frames = slice_make(frames.data + size, frames.len - size);
    }
    assert(rest == 0);
    return count;
}

size_t env_uv_conn_queued(const struct env_conn *c)
{
    return unsealed(c) + c->in_flight;
}

/* True if COUNT frames of LEN bytes may be queued. */
static bool may_queue(struct env_conn *c, unsigned count, size_t len)
{
    if (!alive(c) || count == 0) {
        return false;
    }
    if (env_uv_conn_queued(c) + len > LIMIT_CONN_QUEUE) {
        log_warn(c->u->env.log, "net", "queue-full", "peer=%s queued=%zu",
                 log_quote(slice_of(c->address)), env_uv_conn_queued(c));
        env_uv_conn_fail(c, ST_BUSY);
        return false;
    }
    count_add(&c->u->counters.frames_out, count);
    if (c->state == CONN_OPEN) {
        mark_dirty(c);
    }
    return true;
}

void env_uv_conn_send(struct env_conn *c, struct slice frames)
{
    if (may_queue(c, count_frames(frames, 0), frames.len)) {
        buf_put_slice(&c->out, frames);
    }
}

void env_uv_conn_send_take(struct env_conn *c, struct buf *frames)
{
    struct slice all = buf_slice(frames);
    if (all.len < PIECE_LEAST) {
        env_uv_conn_send(c, all);
        buf_free(frames);
    } else if (may_queue(c, count_frames(all, 0), all.len)) {
        close_out(c);
        piece_add(c, all)->own = *frames;
        *frames = (struct buf){0};
    } else {
        buf_free(frames);
    }
}

void env_uv_conn_send_lent(struct env_conn *c, struct slice start,
                           const struct env_lent *rest)
{
    size_t len = start.len + rest->bytes.len;
    if (!may_queue(c, count_frames(start, rest->bytes.len), len)) {
        rest->done(rest->ctx);
        return;
    }
    buf_put_slice(&c->out, start);
    if (rest->bytes.len < PIECE_LEAST) {
        buf_put_slice(&c->out, rest->bytes);
        rest->done(rest->ctx);
    } else {
        close_out(c);
        piece_add(c, rest->bytes)->lent = *rest;
    }
}

/* ---- frames in ---- */

/* Ends C for what its peer did or is. */
static void refuse(struct env_conn *c, const char *event, enum status why,
                   const char *text)
{
    if (env_uv_may_log(c->u)) {
        log_warn(c->u->env.log, "net", event,
                 "peer=%s name=%s status=%s why=\"%s\"",
                 log_quote(slice_of(c->address)),
                 log_quote(slice_of(c->peer.name)), status_name(why), text);
    }
    env_uv_conn_fail(c, why);
}

static void meet_hello(struct env_conn *c, const struct msg_hello *h)
{
    struct net *n = &c->u->net;
    struct err err = {""};
    enum status s = hello_check(
        n->self, h, c->incoming ? n->accept_roles : ROLES_ALL, &c->peer, &err);
    if (s != ST_OK) {
        count_add(&c->u->counters.handshake_failures, 1);
        refuse(c, "hello-refused", s, err.text);
        return;
    }
    if (!c->incoming) {
        c->peer.lane = (uint8_t)c->lane; /* who connects chooses it */
    }
    env_timer_stop(&c->u->env, &c->deadline);
    env_uv_conn_known(c);
    env_uv_conn_move(c, CONN_OPEN);
    if (unsealed(c) > 0) {
        mark_dirty(c);
    }
    c->events->on_open(c->ctx, c, &c->peer);
}

static void answer_unsupported(struct env_conn *c, uint64_t request)
{
    struct buf b = {0};
    struct msg_error m = {.status = ST_UNSUPPORTED,
                          .text = slice_of("unknown message type")};
    if (request == 0) {
        return;
    }
    wire_put_error(&b, request, &m);
    env_uv_conn_send(c, buf_slice(&b));
    buf_free(&b);
}

static void take_message(struct env_conn *c, const struct wire_msg *m)
{
    if (c->state == CONN_HELLO) {
        if (m->type == MSG_HELLO) {
            meet_hello(c, &m->u.hello);
        } else {
            refuse(c, "hello-missing", ST_INVALID,
                   "the first frame is no hello");
        }
        return;
    }
    if (m->type == MSG_HELLO ||
        !hello_may_send(c->peer.role, c->u->net.self->role,
                        (uint16_t)m->type)) {
        char text[64];
        (void)snprintf(text, sizeof(text), "a %s may not send %s here",
                       role_name(c->peer.role),
                       wire_type_name((uint16_t)m->type));
        count_add(&c->u->counters.denied, 1);
        refuse(c, "message-denied", ST_DENIED, text);
        return;
    }
    c->events->on_message(c->ctx, c, m);
}

static void take_frame(struct env_conn *c, struct slice frame)
{
    struct arena arena = {0};
    struct wire_msg m;
    count_add(&c->u->counters.frames_in, 1);
    enum status s = wire_decode(frame, &arena, &m);
    if (s == ST_OK) {
        take_message(c, &m);
    } else if (s == ST_UNSUPPORTED && c->state == CONN_OPEN) {
        answer_unsupported(c, m.request);
    } else {
        count_add(&c->u->counters.invalid, 1);
        refuse(c, "frame-refused", ST_INVALID, "a frame does not decode");
    }
    arena_free(&arena);
}

/* Bytes of the frame at AT; 0: not whole yet, or it ended the connection. */
static size_t frame_size(struct env_conn *c, size_t at)
{
    struct wire_header h;
    size_t left = c->in.len - at;
    if (left < WIRE_HEADER) {
        return 0;
    }
    if (wire_read_header(c->in.data + at, &h) != ST_OK) {
        count_add(&c->u->counters.invalid, 1);
        refuse(c, "frame-refused", ST_INVALID, "bad header of a frame");
        return 0;
    }
    size_t size = WIRE_HEADER + (size_t)h.length;
    if (left < size) {
        /* The rest comes: no doubling and copying on the way there. */
        (void)buf_reserve(&c->in, size - left);
        return 0;
    }
    return size;
}

static void take_frames(struct env_conn *c)
{
    size_t at = 0, size;
    unsigned taken = 0;
    while (alive(c) && (size = frame_size(c, at)) > 0) {
        struct slice frame = slice_make(c->in.data + at, size);
        at += size;
        take_frame(c, frame);
        if (++taken % FRAMES_AT_ONCE == 0) {
            env_uv_net_flush(&c->u->net);
        }
    }
    if (at > 0) {
        buf_consume(&c->in, at);
    }
    if (c->in.len == 0 && c->in.cap > KEEP_BUFFER) {
        buf_free(&c->in);
    }
}

/* ---- bytes in ---- */

static void seal_failed(struct env_conn *c, enum status why)
{
    bool stranger = c->state == CONN_SHAKING;
    if (stranger) {
        count_add(&c->u->counters.handshake_failures, 1);
        refuse(c, c->incoming ? "stranger" : "peer-not-of-cluster", why,
               "the peer has not shown the cluster's key");
    } else {
        count_add(&c->u->counters.invalid, 1);
        refuse(c, "record-refused", why, "a record was changed on the way");
    }
}

static void take_bytes(struct env_conn *c, struct slice in)
{
    struct buf reply = {0};
    count_add(&c->u->counters.bytes_in, in.len);
    uint64_t began = seal_clock(in.len);
    enum status s = seal_receive(c->seal, in, &c->in, &reply);
    count_sealing(c, began, in.len);
    if (s != ST_OK) {
        buf_free(&reply);
        seal_failed(c, s);
        return;
    }
    if (reply.len > 0) {
        write_bytes(c, &reply);
        buf_clear(&reply);
    }
    if (c->state == CONN_SHAKING && seal_ready(c->seal)) {
        struct msg_hello h;
        env_uv_conn_move(c, CONN_HELLO);
        hello_make(c->u->net.self, c->lane, &h);
        wire_put_hello(&reply, 0, &h);
        buf_clear(&c->u->net.sealed);
        seal_send(c->seal, buf_slice(&reply), &c->u->net.sealed);
        write_bytes(c, &c->u->net.sealed);
    }
    buf_free(&reply);
    if (c->in.len > 0) {
        take_frames(c);
    }
}

static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *out)
{
    struct env_conn *c = h->data;
    *out = uv_buf_init((char *)c->u->net.read_buf, ENV_UV_READ_BUFFER);
}

/* libuv reads as long as there is something: of one that always has more it
 * would be a turn of 8 MiB. */
static void pause_if_much(struct env_conn *c, size_t n)
{
    struct net *net = &c->u->net;
    c->read = c->read_turn == net->turn ? c->read + n : n;
    c->read_turn = net->turn;
    if (c->read >= READ_TURN && alive(c)) {
        (void)uv_read_stop((uv_stream_t *)&c->tcp);
        c->paused = net->paused = true;
    }
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *b)
{
    struct env_conn *c = stream->data;
    if (n > 0) {
        pause_if_much(c, (size_t)n);
        take_bytes(c, slice_make(b->base, (size_t)n));
    } else if (n < 0 && c->state == CONN_OPEN) {
        env_uv_conn_fail(c, ST_CLOSED);
    } else if (n < 0 && alive(c)) {
        count_add(&c->u->counters.handshake_failures, 1);
        /* What a peer does that does not believe us, or that just died. */
        refuse(c, "closed-in-handshake", ST_UNREACHABLE,
               c->incoming
                   ? "the peer closed before it had shown the key"
                   : "the peer closed before it answered; same key there?");
    }
}

void env_uv_conns_go_on(struct net *n)
{
    struct env_conn *c;
    if (!n->paused) {
        return;
    }
    n->paused = false;
    TAILQ_FOREACH(c, &n->conns, all)
    {
        if (c->paused && alive(c)) {
            int r = uv_read_start((uv_stream_t *)&c->tcp, on_alloc, on_read);
            assert(r == 0); /* it was reading */
        }
        c->paused = false;
    }
}

void env_uv_conn_start(struct env_conn *c)
{
    struct net *n = &c->u->net;
    struct seal_options o = {
        .key = n->key, .side = c->incoming ? SEAL_ACCEPTS : SEAL_CONNECTS};
    struct buf first = {0};
    env_uv_conn_move(c, CONN_SHAKING);
    env_timer_start(&c->u->env, &c->deadline,
                    LIMIT_HANDSHAKE_MS * (int64_t)1000);
    (void)uv_tcp_nodelay(&c->tcp, 1);
    randombytes_buf(o.seed, sizeof(o.seed));
    c->seal = seal_new(&o, &first);
    sodium_memzero(&o, sizeof(o));
    int r = uv_read_start((uv_stream_t *)&c->tcp, on_alloc, on_read);
    if (r < 0) {
        buf_free(&first);
        env_uv_conn_fail(c, ST_UNREACHABLE);
    } else if (first.len > 0) {
        write_bytes(c, &first);
        buf_free(&first);
    }
}
