/*
 * One lock for all: events are rare and short. A stream belongs to two: to
 * the watch of its account, whose thread alone takes it off the list and
 * frees it, and to its response, whose end marks it as gone. While it is not
 * gone its connection and descriptor are open.
 *
 * A stream with nothing to say suspends its connection from inside the
 * library's reading callback, and what comes next resumes it. A client that
 * has left is noticed by looking at the descriptor, as a suspended connection
 * is not polled.
 */
#include "gateway/http/events_io.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include <microhttpd.h>
#include <sodium.h>

#include "cloud/mailbox.h"
#include "cloud/session.h"

#define WAIT_MS 4000
#define PING_MS 15000
#define END_MS 2000 /* for a client to take the end of its stream */

struct http_stream {
    struct http_stream *next;
    struct http_events *events;
    struct MHD_Connection *conn; /* NULL until bound */
    int fd;
    bool suspended, ended, gone, greeted;
    int64_t ended_ms;
    int64_t checked_ms; /* when the session was last found alive */
    char cookie[SESSION_UID_TEXT + 1];
    struct buf pending;
};

struct watch {
    struct watch *next;
    struct http_events *events;
    char username[ACCOUNT_NAME_MAX + 1];
    int64_t seen; /* the inbox's #next; -1: not known yet */
    struct http_stream *streams;
    unsigned count;
};

struct http_events {
    struct cloud *cloud;
    const struct log *log;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* a thread ended, or all shall */
    struct watch *watches;
    unsigned watch_count, stream_count;
    bool stopping;
};

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

struct http_events *http_events_new(struct cloud *cloud, const struct log *log)
{
    struct http_events *e = xcalloc(1, sizeof(*e));
    pthread_condattr_t attr;
    e->cloud = cloud;
    e->log = log;
    pthread_mutex_init(&e->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&e->changed, &attr);
    pthread_condattr_destroy(&attr);
    return e;
}

/* ---- one stream, under the lock ---- */

static void wake(struct http_stream *s)
{
    if (s->suspended) {
        s->suspended = false;
        MHD_resume_connection(s->conn);
    }
}

static void end_stream(struct http_stream *s)
{
    if (!s->ended)
        s->ended_ms = now_ms();
    s->ended = true;
    wake(s);
}

static void say(struct http_stream *s, const char *text)
{
    buf_put_text(&s->pending, text);
    /* It reads nothing: it shall come again. */
    if (s->pending.full)
        end_stream(s);
    wake(s);
}

static void greet(struct watch *w, struct http_stream *s)
{
    char text[96];
    if (w->seen < 0 || s->greeted)
        return;
    s->greeted = true;
    snprintf(text, sizeof(text), "event: ready\ndata: {\"next\":%lld}\n\n",
             (long long)w->seen);
    say(s, text);
}

static bool client_left(const struct http_stream *s)
{
    char byte;
    return s->conn != NULL && !s->gone &&
           recv(s->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

static void free_stream(struct http_stream *s)
{
    buf_free(&s->pending);
    sodium_memzero(s->cookie, sizeof(s->cookie));
    free(s);
}

/* ---- a watch's thread ---- */

static void sweep(struct watch *w)
{
    for (struct http_stream **at = &w->streams; *at != NULL;) {
        struct http_stream *s = *at;
        if (s->gone) {
            *at = s->next;
            w->count--;
            w->events->stream_count--;
            free_stream(s);
            continue;
        }
        if (w->events->stopping || client_left(s))
            end_stream(s);
        if (s->ended && s->conn != NULL && s->ended_ms < now_ms() - END_MS)
            (void)shutdown(s->fd, SHUT_RDWR);
        at = &s->next;
    }
}

static void tell_mail(struct watch *w, int64_t next)
{
    char text[96];
    snprintf(text, sizeof(text), "event: mail\ndata: {\"next\":%lld}\n\n",
             (long long)next);
    bool first = w->seen < 0;
    w->seen = next;
    for (struct http_stream *s = w->streams; s != NULL; s = s->next) {
        if (!first && s->greeted)
            say(s, text);
        greet(w, s);
    }
}

/* Pings S and asks whether its session still lives; gives up the lock for
 * that. Only this thread takes streams off the list, so S stays. */
static void check_session(struct http_events *e, struct http_stream *s)
{
    struct session session;
    char cookie[sizeof(s->cookie)];
    memcpy(cookie, s->cookie, sizeof(cookie));
    s->checked_ms = now_ms();
    say(s, ": ping\n\n");
    pthread_mutex_unlock(&e->lock);
    struct cloud_op op = cloud_op_make(e->cloud, 2000);
    enum status status = session_look_up(&op, slice_of(cookie), &session, NULL);
    sodium_memzero(cookie, sizeof(cookie));
    pthread_mutex_lock(&e->lock);
    if (status == ST_UNAUTHENTICATED) {
        say(s, "event: logout\ndata: {}\n\n");
        end_stream(s);
    }
}

static void check_sessions(struct watch *w)
{
    int64_t before = now_ms() - PING_MS;
    struct http_stream *s = w->streams;
    while (s != NULL) {
        if (!s->ended && !s->gone && s->checked_ms <= before)
            check_session(w->events, s);
        s = s->next;
    }
}

static void pause_watch(struct http_events *e)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec++;
    pthread_cond_timedwait(&e->changed, &e->lock, &until);
}

/* Waits for a change of the inbox, outside the lock. */
static void wait_for_mail(struct watch *w)
{
    struct http_events *e = w->events;
    int64_t seen = w->seen, next = seen;
    pthread_mutex_unlock(&e->lock);
    struct cloud_op op = cloud_op_make(e->cloud, WAIT_MS);
    enum status s = mailbox_wait(&op, w->username, "inbox", seen, &next);
    pthread_mutex_lock(&e->lock);
    if (s == ST_OK)
        tell_mail(w, next);
    else if (s != ST_TIMEOUT && !e->stopping)
        pause_watch(e);
}

static void unlink_watch(struct watch *w)
{
    struct watch **at = &w->events->watches;
    while (*at != w)
        at = &(*at)->next;
    *at = w->next;
    w->events->watch_count--;
}

static void *watch_thread(void *arg)
{
    struct watch *w = arg;
    struct http_events *e = w->events;
    pthread_mutex_lock(&e->lock);
    for (;;) {
        sweep(w);
        if (w->count == 0)
            break;
        if (e->stopping) {
            pause_watch(e);
            continue;
        }
        wait_for_mail(w);
        check_sessions(w);
    }
    unlink_watch(w);
    pthread_cond_broadcast(&e->changed);
    pthread_mutex_unlock(&e->lock);
    free(w);
    return NULL;
}

/* ---- opening ---- */

static bool start_thread(struct watch *w)
{
    pthread_attr_t attr;
    pthread_t thread;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, KIB(256));
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    int failed = pthread_create(&thread, &attr, watch_thread, w);
    pthread_attr_destroy(&attr);
    return failed == 0;
}

static struct watch *find_watch(struct http_events *e, const char *username)
{
    struct watch *w = e->watches;
    while (w != NULL && strcmp(w->username, username) != 0)
        w = w->next;
    return w;
}

static struct watch *make_watch(struct http_events *e, const char *username)
{
    if (e->watch_count == LIMIT_HTTP_WATCHES)
        return NULL;
    struct watch *w = xcalloc(1, sizeof(*w));
    w->events = e;
    w->seen = -1;
    snprintf(w->username, sizeof(w->username), "%s", username);
    w->next = e->watches;
    e->watches = w;
    e->watch_count++;
    return w;
}

static void add_stream(struct watch *w, struct http_stream *s)
{
    s->next = w->streams;
    w->streams = s;
    w->count++;
    w->events->stream_count++;
    greet(w, s);
}

enum status http_events_open(struct http_events *e, const char *username,
                             const char *cookie, struct http_stream **out)
{
    struct http_stream *s = xcalloc(1, sizeof(*s));
    enum status status = ST_BUSY;
    s->events = e;
    s->fd = -1;
    s->checked_ms = now_ms();
    s->pending.max = KIB(16);
    snprintf(s->cookie, sizeof(s->cookie), "%s", cookie);
    /* At once something to read, so that the client sees the answer. */
    buf_put_text(&s->pending, "retry: 1000\n\n");
    pthread_mutex_lock(&e->lock);
    struct watch *w = find_watch(e, username);
    bool is_new = w == NULL;
    if (is_new && !e->stopping)
        w = make_watch(e, username);
    if (w != NULL && !e->stopping && w->count < LIMIT_HTTP_USER_STREAMS) {
        add_stream(w, s);
        status = ST_OK;
        if (is_new && !start_thread(w)) {
            unlink_watch(w);
            e->stream_count--;
            free(w);
            status = ST_BUSY;
        }
    }
    pthread_mutex_unlock(&e->lock);
    if (status == ST_OK)
        *out = s;
    else
        free_stream(s);
    return status;
}

/* ---- the library's side ---- */

void http_stream_bind(struct http_stream *s, struct MHD_Connection *conn,
                      int fd)
{
    pthread_mutex_lock(&s->events->lock);
    s->fd = fd;
    s->conn = conn;
    pthread_mutex_unlock(&s->events->lock);
}

static ssize_t read_stream(void *cls, uint64_t pos, char *out, size_t max)
{
    struct http_stream *s = cls;
    ssize_t n = 0;
    pthread_mutex_lock(&s->events->lock);
    if (s->pending.len > 0) {
        size_t len = s->pending.len < max ? s->pending.len : max;
        memcpy(out, s->pending.data, len);
        buf_consume(&s->pending, len);
        n = (ssize_t)len;
    } else if (s->ended) {
        n = MHD_CONTENT_READER_END_OF_STREAM;
    } else {
        s->suspended = true;
        MHD_suspend_connection(s->conn);
    }
    pthread_mutex_unlock(&s->events->lock);
    return n;
}

static void leave(void *cls)
{
    struct http_stream *s = cls;
    struct http_events *e = s->events;
    pthread_mutex_lock(&e->lock);
    s->gone = true;
    s->suspended = false;
    pthread_cond_broadcast(&e->changed);
    pthread_mutex_unlock(&e->lock);
}

struct MHD_Response *http_stream_response(struct http_stream **s)
{
    struct MHD_Response *r = MHD_create_response_from_callback(
        MHD_SIZE_UNKNOWN, KIB(4), read_stream, *s, leave);
    if (r != NULL)
        *s = NULL;
    return r;
}

void http_stream_drop(struct http_stream **s)
{
    if (*s != NULL)
        leave(*s);
    *s = NULL;
}

/* ---- the end ---- */

unsigned http_events_count(struct http_events *e)
{
    pthread_mutex_lock(&e->lock);
    unsigned n = e->stream_count;
    pthread_mutex_unlock(&e->lock);
    return n;
}

void http_events_stop(struct http_events *e)
{
    pthread_mutex_lock(&e->lock);
    e->stopping = true;
    for (struct watch *w = e->watches; w != NULL; w = w->next) {
        for (struct http_stream *s = w->streams; s != NULL; s = s->next)
            end_stream(s);
    }
    pthread_cond_broadcast(&e->changed);
    while (e->watch_count > 0)
        pthread_cond_wait(&e->changed, &e->lock);
    pthread_mutex_unlock(&e->lock);
}

void http_events_free(struct http_events *e)
{
    if (e == NULL)
        return;
    assert(e->watch_count == 0);
    pthread_cond_destroy(&e->changed);
    pthread_mutex_destroy(&e->lock);
    free(e);
}
