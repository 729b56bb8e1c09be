/*
 * A session's thread: reads, steps the core, performs what it needs with
 * plain blocking calls, writes. All waiting is in poll() with a deadline;
 * when the server stops, it shuts the reading side of every socket, which
 * wakes whoever waits for the client.
 *
 * Deadlines: a command must be whole within its time, however it drips; a
 * message must come at a minimum rate after its first RATE_GRACE_MS.
 */
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <sodium.h>

#include "common/proxy2.h"
#include "gateway/smtp/perform.h"
#include "gateway/smtp/server_inside.h"

#define READ_SIZE 4096
#define READ_SIZE_DATA KIB(64)
#define RATE_GRACE_MS 30000
#define WRITE_TIMEOUT_MS 60000
#define PROXY_TIMEOUT_MS 10000
/* As long as a message waits for the store (delivery_inside.h); while it does
 * not answer, the next recipients need not wait as long again. */
#define LOOKUP_TIMEOUT_MS 10000
#define LOOKUP_AGAIN_MS 1000

/* The thread's own. */
struct thread {
    struct smtp_conn *conn;
    struct smtp_server *server;
    struct smtp_session *session;
    struct smtp_performer performer;
    struct buf in;       /* bytes not yet taken by the session */
    struct buf out;      /* replies not yet sent */
    size_t spooled;      /* what we have added to the server's spool */
    int64_t since_ms;    /* since when we wait for the present command */
    int64_t message_ms;  /* when DATA began */
    uint64_t data_bytes; /* of the message so far */
    bool commanded;      /* EHLO or HELO has come */
    bool over;
    char id[16];
    char uid[ULID_SIZE]; /* of the message being logged */
};

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_BOOTTIME, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- socket ---- */

/* Waits until EVENTS or DEADLINE_MS; false at the deadline. */
static bool wait_for(int fd, short events, int64_t deadline_ms)
{
    for (;;) {
        int64_t left = deadline_ms - now_ms();
        struct pollfd p = {.fd = fd, .events = events};
        int n = poll(&p, 1, left < 0 ? 0 : (int)left);
        if (n > 0)
            return true;
        if (n == 0 || errno != EINTR)
            return false;
    }
}

/* Appends what is there, at most MAX bytes. ST_TIMEOUT, ST_CLOSED. */
static enum status read_some(struct thread *r, size_t max, int64_t deadline_ms)
{
    if (!wait_for(r->conn->fd, POLLIN, deadline_ms))
        return ST_TIMEOUT;
    uint8_t *to = buf_reserve(&r->in, max);
    ssize_t n = recv(r->conn->fd, to, max, 0);
    if (n <= 0)
        return ST_CLOSED;
    r->in.len += (size_t)n;
    return ST_OK;
}

static enum status write_all(struct thread *r, struct slice bytes)
{
    int64_t deadline_ms = now_ms() + WRITE_TIMEOUT_MS;
    while (bytes.len > 0) {
        ssize_t n = send(r->conn->fd, bytes.data, bytes.len,
                         MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            if (!wait_for(r->conn->fd, POLLOUT, deadline_ms))
                return ST_TIMEOUT;
            continue;
        }
        if (n < 0 && errno != EINTR)
            return ST_CLOSED;
        if (n > 0)
            bytes = slice_make(bytes.data + n, bytes.len - (size_t)n);
    }
    return ST_OK;
}

/* ---- the core ---- */

/* Keeps the server's count of bytes in memory; refuses more beyond its
 * limit. */
static void account_spool(struct thread *r)
{
    size_t now = smtp_session_spooled(r->session);
    size_t all = atomic_fetch_add(&r->server->spool, now - r->spooled) + now -
                 r->spooled;
    bool more = now > r->spooled;
    r->spooled = now;
    if (!more || all <= r->server->o.spool_max)
        return;
    struct smtp_event event = {.kind = SMTP_EVENT_NO_MEMORY};
    struct smtp_effects none = {0};
    smtp_session_step(r->session, &event, &none);
    now = smtp_session_spooled(r->session);
    atomic_fetch_sub(&r->server->spool, r->spooled - now);
    r->spooled = now;
}

/* A message gets one line, when it has been decided. */
static void on_finished(struct thread *r)
{
    struct smtp_server *s = r->server;
    const struct smtp_session_record *m = smtp_session_record(r->session);
    atomic_ullong *counter = m->outcome[0] == '2'   ? &s->messages
                             : m->outcome[0] == '5' ? &s->rejected
                                                    : &s->deferred;
    atomic_fetch_add(counter, 1);
    if (m->outcome[0] == '2')
        atomic_fetch_add(&s->bytes, m->size);
    log_info(s->o.log, "smtp", "message",
             "id=%s client=%s from=%s to=%s recipients=%zu size=%zu uid=%s "
             "ms=%lld reply=%s",
             m->id, r->conn->client, log_quote(slice_of(m->sender)),
             log_quote(slice_of(m->to)), m->recipients, m->size, r->uid,
             (long long)(now_ms() - r->message_ms),
             log_quote(slice_of(m->outcome)));
    r->uid[0] = '\0';
}

static void flush(struct thread *r)
{
    if (r->out.len > 0 && write_all(r, buf_slice(&r->out)) != ST_OK)
        r->over = true;
    buf_free(&r->out);
}

/* Takes what the core wants done at once. */
static void take_effects(struct thread *r, struct smtp_effects *out,
                         enum smtp_state before)
{
    enum smtp_state after = smtp_session_state(r->session);
    account_spool(r);
    if (out->finished)
        on_finished(r);
    if (after == SMTP_DATA && before != SMTP_DATA) {
        r->data_bytes = 0;
        r->message_ms = now_ms();
    }
    if (out->reply.len > 0 || after != before)
        r->since_ms = now_ms();
    if (out->delay_ms > 0) {
        flush(r);
        /* Cut short by the client's going or the server's stopping. */
        (void)wait_for(r->conn->fd, POLLRDHUP, now_ms() + out->delay_ms);
    }
    buf_put_slice(&r->out, buf_slice(&out->reply));
    buf_free(&out->reply);
    if (out->close) {
        flush(r);
        r->over = true;
    }
}

static void look_up(struct thread *r, char name[ACCOUNT_NAME_MAX + 1],
                    struct smtp_event *event)
{
    smtp_perform_recipient(&r->performer, r->session, name, event);
    bool told = event->status == ST_OK || event->status == ST_NOT_FOUND ||
                event->status == ST_DENIED || event->status == ST_BOUND;
    r->performer.lookup_timeout_ms = told ? LOOKUP_TIMEOUT_MS : LOOKUP_AGAIN_MS;
}

/* Steps the core with FIRST and with the answers to what it needs. */
static void step(struct thread *r, const struct smtp_event *first)
{
    struct smtp_event event = *first;
    char name[ACCOUNT_NAME_MAX + 1];
    while (!r->over) {
        struct smtp_effects out = {0};
        enum smtp_state before = smtp_session_state(r->session);
        smtp_session_step(r->session, &event, &out);
        if (event.kind == SMTP_EVENT_BYTES) {
            r->data_bytes += before == SMTP_DATA ? out.used : 0;
            buf_consume(&r->in, out.used);
        }
        take_effects(r, &out, before);
        if (out.need == SMTP_NEED_BYTES)
            return;
        if (out.need == SMTP_NEED_RECIPIENT) {
            look_up(r, name, &event);
        } else {
            flush(r);
            if (r->over)
                return; /* gone: the sender will try again, so store nothing */
            smtp_perform_store(&r->performer, r->session, r->uid, &event);
        }
    }
}

/* ---- the course of a connection ---- */

/* Until when the next byte must have come. */
static int64_t deadline(const struct thread *r)
{
    const struct smtp_server_options *o = &r->server->o;
    if (smtp_session_state(r->session) == SMTP_DATA)
        return now_ms() + o->data_timeout_ms;
    return r->since_ms +
           (r->commanded ? o->command_timeout_ms : o->greeting_timeout_ms);
}

static bool too_slow(const struct thread *r)
{
    int64_t ms = now_ms() - r->message_ms;
    return smtp_session_state(r->session) == SMTP_DATA && ms > RATE_GRACE_MS &&
           (int64_t)r->data_bytes <
               ms / 1000 * (int64_t)r->server->o.data_rate_min;
}

static void tell(struct thread *r, enum smtp_event_kind kind)
{
    struct smtp_event event = {.kind = kind};
    step(r, &event);
}

/* Waits for bytes; ends the session if there will be none. */
static void await_bytes(struct thread *r)
{
    bool data = smtp_session_state(r->session) == SMTP_DATA;
    if (!data && r->in.len == 0)
        buf_free(&r->in); /* the large buffer of a message's reads */
    enum status st =
        read_some(r, data ? READ_SIZE_DATA : READ_SIZE, deadline(r));
    if (atomic_load(&r->server->stopping))
        tell(r, SMTP_EVENT_STOP);
    else if (st == ST_CLOSED)
        r->over = true;
    else if (st == ST_TIMEOUT || too_slow(r))
        tell(r, SMTP_EVENT_TIMEOUT);
}

static void serve(struct thread *r)
{
    r->since_ms = now_ms();
    tell(r, SMTP_EVENT_START);
    while (!r->over) {
        if (r->in.len == 0) {
            flush(r);
            if (!r->over)
                await_bytes(r);
        }
        if (r->in.len > 0 && !r->over) {
            struct smtp_event event = {.kind = SMTP_EVENT_BYTES,
                                       .bytes = buf_slice(&r->in)};
            step(r, &event);
            r->commanded |= smtp_session_state(r->session) != SMTP_GREETED;
        }
        if (atomic_load(&r->server->stopping) && !r->over)
            tell(r, SMTP_EVENT_STOP);
    }
    flush(r);
}

static void name_client(struct smtp_conn *c, const struct sockaddr *sa,
                        socklen_t len)
{
    if (getnameinfo(sa, len, c->client, sizeof c->client, NULL, 0,
                    NI_NUMERICHOST) != 0)
        snprintf(c->client, sizeof c->client, "unknown");
    /* An IPv4 client of an IPv6 socket. */
    if (strncmp(c->client, "::ffff:", 7) == 0 && strchr(c->client, '.') != NULL)
        memmove(c->client, c->client + 7, strlen(c->client + 7) + 1);
    /* A scope ("%eth0") has no place in a Received field. */
    c->client[strcspn(c->client, "%")] = '\0';
}

/* Reads the header that the balancer puts before the client's bytes. */
static enum status read_proxy(struct thread *r)
{
    int64_t until_ms = now_ms() + PROXY_TIMEOUT_MS;
    for (;;) {
        struct proxy2 p;
        enum status st = proxy2_decode(buf_slice(&r->in), &p);
        if (st == ST_OK) {
            buf_consume(&r->in, p.length);
            if (!p.local)
                name_client(r->conn, (const struct sockaddr *)&p.from,
                            p.from.ss_family == AF_INET6
                                ? sizeof(struct sockaddr_in6)
                                : sizeof(struct sockaddr_in));
            return ST_OK;
        }
        if (st != ST_MORE || r->in.len > LIMIT_PROXY2_READ)
            return ST_INVALID;
        st = read_some(r, READ_SIZE, until_ms);
        if (st != ST_OK)
            return st;
    }
}

static bool identify(struct thread *r)
{
    struct smtp_conn *c = r->conn;
    struct sockaddr_storage peer;
    socklen_t len = sizeof peer;
    if (getpeername(c->fd, (struct sockaddr *)&peer, &len) != 0)
        return false;
    name_client(c, (const struct sockaddr *)&peer, len);
    if (r->server->o.proxy && read_proxy(r) != ST_OK) {
        log_info(r->server->o.log, "smtp", "no_proxy_header", "client=%s",
                 c->client);
        return false;
    }
    if (smtp_server_admit(c))
        return true;
    (void)write_all(r, slice_of("421 4.7.0 too many connections from you\r\n"));
    return false;
}

static void start_session(struct thread *r)
{
    const struct smtp_server *s = r->server;
    uint8_t random[6];
    randombytes_buf(random, sizeof random);
    sodium_bin2hex(r->id, sizeof r->id, random, sizeof random);
    struct smtp_session_options o = {.hostname = s->hostname,
                                     .client = r->conn->client,
                                     .id = r->id,
                                     .unknown_delay_ms = s->o.unknown_delay_ms};
    r->session = smtp_session_new(&o);
    r->performer =
        (struct smtp_performer){.cloud = s->o.cloud,
                                .log = s->o.log,
                                .hostname = s->hostname,
                                .client = r->conn->client,
                                .lookup_timeout_ms = LOOKUP_TIMEOUT_MS,
                                .store_timeout_ms = s->o.store_timeout_ms,
                                .cut_ms = &s->cut_ms};
}

void *smtp_conn_run(void *conn)
{
    struct smtp_conn *c = conn;
    struct thread r = {.conn = c, .server = c->server};
    if (identify(&r)) {
        start_session(&r);
        serve(&r);
        atomic_fetch_sub(&r.server->spool, r.spooled);
        smtp_session_free(r.session);
    }
    buf_free(&r.in);
    buf_free(&r.out);
    smtp_server_leave(c);
    return NULL;
}
