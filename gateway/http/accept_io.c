/*
 * The PROXY header (common/proxy2.h) must be taken off exactly, to the byte,
 * before the socket goes to libmicrohttpd: it is looked at with MSG_PEEK until
 * it is whole, and then just that much is read. Waiting is edge-triggered, so
 * a half header in the socket's buffer does not keep the thread busy.
 *
 * A connection whose deadline has passed is shut down, not closed: whoever
 * owns it at that moment (this thread, or libmicrohttpd) sees its end and
 * closes it in its own time.
 *
 * When descriptors run out, the one held in reserve is given up to take the
 * connection and close it, or the listener would stay ready for ever.
 */
#include "gateway/http/accept_io.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/proxy2.h"
#include "gateway/http/exchange_io.h"

/* What an event is about: this and a number in epoll's 64 bits. */
enum kind { KIND_WAKE = 0, KIND_LISTENER = 1, KIND_PENDING = 2 };

struct http_acceptor {
    struct http_acceptor_options options;
    int epoll, wakeup, reserve;
    pthread_t thread;
    atomic_bool closing, stopping;
    /* Pending descriptors, by number: which listener each came from. */
    uint8_t *from;
    size_t from_size;
};

static uint64_t tag(enum kind kind, unsigned number)
{
    return (uint64_t)kind << 32 | number;
}

static int watch(struct http_acceptor *a, int fd, uint32_t events,
                 uint64_t data)
{
    struct epoll_event e = {.events = events, .data.u64 = data};
    return epoll_ctl(a->epoll, EPOLL_CTL_ADD, fd, &e);
}

static void drop(struct http_acceptor *a, int fd)
{
    http_conns_remove(a->options.conns, fd);
    close(fd);
}

static void hand_over(struct http_acceptor *a, unsigned listener, int fd,
                      const struct sockaddr_storage *from)
{
    struct http_address address = http_address_of((const void *)from);
    if (http_conns_address(a->options.conns, fd, address) != ST_OK) {
        log_debug(a->options.log, "http", "refused",
                  "reason=\"too many connections of one address\"");
        drop(a, fd);
        return;
    }
    int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    a->options.hand_over(a->options.ctx, listener, fd, from);
}

/* Takes the header off FD once it is whole. */
static void read_proxy(struct http_acceptor *a, int fd)
{
    uint8_t bytes[LIMIT_PROXY2_READ];
    struct proxy2 p;
    ssize_t n;
    do
        n = recv(fd, bytes, sizeof(bytes), MSG_PEEK | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return;
    enum status s =
        n <= 0 ? ST_CLOSED : proxy2_decode(slice_make(bytes, (size_t)n), &p);
    if (s == ST_MORE)
        return;
    if (s == ST_INVALID)
        log_warn(a->options.log, "http", "bad-proxy-header",
                 "action=\"connection closed\"");
    (void)epoll_ctl(a->epoll, EPOLL_CTL_DEL, fd, NULL);
    if (s != ST_OK || recv(fd, bytes, p.length, 0) != (ssize_t)p.length) {
        drop(a, fd);
        return;
    }
    struct sockaddr_storage from = p.from;
    socklen_t len = sizeof(from);
    if (p.local && getpeername(fd, (struct sockaddr *)&from, &len) != 0) {
        drop(a, fd);
        return;
    }
    hand_over(a, a->from[fd], fd, &from);
}

static void remember(struct http_acceptor *a, int fd, unsigned listener)
{
    if ((size_t)fd >= a->from_size) {
        a->from_size = (size_t)fd * 2 + 64;
        a->from = xrealloc(a->from, a->from_size);
    }
    a->from[fd] = (uint8_t)listener;
}

static void take(struct http_acceptor *a, unsigned listener, int fd,
                 const struct sockaddr_storage *from)
{
    int64_t until = http_now_ms() + a->options.head_timeout_ms;
    if (http_conns_add(a->options.conns, fd, until) != ST_OK) {
        close(fd);
        return;
    }
    if (!a->options.proxy) {
        hand_over(a, listener, fd, from);
        return;
    }
    remember(a, fd, listener);
    if (watch(a, fd, EPOLLIN | EPOLLRDHUP | EPOLLET,
              tag(KIND_PENDING, (unsigned)fd)) != 0)
        drop(a, fd);
}

static void on_no_descriptors(struct http_acceptor *a, int listener)
{
    log_warn(a->options.log, "http", "no-descriptors",
             "action=\"connection refused\"");
    close(a->reserve);
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd >= 0)
        close(fd);
    a->reserve = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void accept_some(struct http_acceptor *a, unsigned listener)
{
    int from_fd = a->options.listeners[listener];
    for (int i = 0; i < 64 && !atomic_load(&a->closing); i++) {
        struct sockaddr_storage from;
        socklen_t len = sizeof(from);
        int fd = accept4(from_fd, (struct sockaddr *)&from, &len,
                         SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            take(a, listener, fd, &from);
            continue;
        }
        if (errno == EMFILE || errno == ENFILE)
            on_no_descriptors(a, from_fd);
        if (errno == EAGAIN || errno == EWOULDBLOCK)
            return;
    }
}

static void shut(int fd)
{
    (void)shutdown(fd, SHUT_RDWR);
}

static void close_listeners(struct http_acceptor *a)
{
    for (int i = 0; i < HTTP_LISTENERS; i++) {
        if (a->options.listeners[i] >= 0)
            close(a->options.listeners[i]);
        a->options.listeners[i] = -1;
    }
}

static void on_wake(struct http_acceptor *a)
{
    uint64_t n;
    if (read(a->wakeup, &n, sizeof(n)) < 0)
        return;
    if (atomic_load(&a->closing))
        close_listeners(a);
}

static void *run(void *arg)
{
    struct http_acceptor *a = arg;
    struct epoll_event events[64];
    while (!atomic_load(&a->stopping)) {
        int n = epoll_wait(a->epoll, events, 64, 500);
        for (int i = 0; i < n; i++) {
            unsigned number = (unsigned)(events[i].data.u64 & 0xffffffff);
            enum kind kind = (enum kind)(events[i].data.u64 >> 32);
            if (kind == KIND_WAKE)
                on_wake(a);
            else if (kind == KIND_PENDING)
                read_proxy(a, (int)number);
            else if (a->options.listeners[number] >= 0)
                accept_some(a, number);
        }
        (void)http_conns_expire(a->options.conns, http_now_ms(), shut);
    }
    return NULL;
}

static void free_acceptor(struct http_acceptor *a)
{
    close_listeners(a);
    close(a->epoll);
    close(a->wakeup);
    close(a->reserve);
    free(a->from);
    free(a);
}

enum status http_acceptor_start(const struct http_acceptor_options *o,
                                struct http_acceptor **out)
{
    struct http_acceptor *a = xcalloc(1, sizeof(*a));
    a->options = *o;
    a->epoll = epoll_create1(EPOLL_CLOEXEC);
    a->wakeup = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    a->reserve = open("/dev/null", O_RDONLY | O_CLOEXEC);
    bool ok = a->epoll >= 0 && a->wakeup >= 0 &&
              watch(a, a->wakeup, EPOLLIN, tag(KIND_WAKE, 0)) == 0;
    for (unsigned i = 0; ok && i < HTTP_LISTENERS; i++) {
        if (o->listeners[i] >= 0)
            ok = watch(a, o->listeners[i], EPOLLIN, tag(KIND_LISTENER, i)) == 0;
    }
    if (!ok || pthread_create(&a->thread, NULL, run, a) != 0) {
        free_acceptor(a);
        return ST_IO;
    }
    *out = a;
    return ST_OK;
}

static void wake(struct http_acceptor *a)
{
    uint64_t one = 1;
    /* Fails only if it is full, and then the thread wakes anyhow. */
    if (write(a->wakeup, &one, sizeof(one)) < 0)
        return;
}

void http_acceptor_close(struct http_acceptor *a)
{
    atomic_store(&a->closing, true);
    wake(a);
}

void http_acceptor_stop(struct http_acceptor *a)
{
    if (a == NULL)
        return;
    atomic_store(&a->closing, true);
    atomic_store(&a->stopping, true);
    wake(a);
    pthread_join(a->thread, NULL);
    free_acceptor(a);
}
