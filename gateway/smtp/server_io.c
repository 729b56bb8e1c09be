/*
 * The server around the sessions: listens, accepts, bounds, stops.
 *
 * A thread a session, with a small stack; threads are detached, and the
 * server counts them. Beyond max_sessions in all, or max_per_address from one
 * client, a connection gets 421 and is closed. Stopping: the listening socket
 * closes, the reading side of every connection is shut, which makes its
 * thread say 421 and end, unless it is storing a message: that one is
 * finished first, with its deadline cut to STOP_STORE_MS.
 */
#include "gateway/smtp/server_io.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <xxhash.h>

#include "common/address.h"
#include "gateway/smtp/server_inside.h"

#define STACK_SIZE KIB(256)
#define BACKLOG 1024
#define STOP_STORE_MS 4000
#define ACCEPT_PAUSE_MS 100

static void fill_defaults(struct smtp_server_options *o)
{
    if (o->max_sessions == 0)
        o->max_sessions = 8000;
    if (o->max_per_address == 0)
        o->max_per_address = 50;
    if (o->spool_max == 0)
        o->spool_max = MIB(256);
    if (o->store_timeout_ms == 0)
        o->store_timeout_ms = 300000;
    if (o->greeting_timeout_ms == 0)
        o->greeting_timeout_ms = 120000;
    if (o->command_timeout_ms == 0)
        o->command_timeout_ms = 300000;
    if (o->data_timeout_ms == 0)
        o->data_timeout_ms = 180000;
    if (o->data_rate_min == 0)
        o->data_rate_min = 100;
    if (o->unknown_delay_ms == 0)
        o->unknown_delay_ms = 1000;
}

/* ---- limits ---- */

static struct smtp_address **bucket(struct smtp_server *s, const char *client)
{
    return &s->addresses[XXH3_64bits(client, strlen(client)) %
                         SMTP_ADDRESS_BUCKETS];
}

bool smtp_server_admit(struct smtp_conn *c)
{
    struct smtp_server *s = c->server;
    pthread_mutex_lock(&s->lock);
    struct smtp_address **head = bucket(s, c->client), *a = *head;
    while (a != NULL && strcmp(a->client, c->client) != 0)
        a = a->next;
    if (a == NULL) {
        a = xcalloc(1, sizeof *a);
        memcpy(a->client, c->client, sizeof a->client);
        a->next = *head;
        *head = a;
    }
    c->counted = a->sessions < s->o.max_per_address;
    if (c->counted)
        a->sessions++;
    pthread_mutex_unlock(&s->lock);
    if (!c->counted)
        atomic_fetch_add(&s->refused, 1);
    return c->counted;
}

/* Under the lock. */
static void forget_address(struct smtp_server *s, const char *client)
{
    struct smtp_address **at = bucket(s, client);
    while (strcmp((*at)->client, client) != 0)
        at = &(*at)->next;
    struct smtp_address *a = *at;
    if (--a->sessions == 0) {
        *at = a->next;
        free(a);
    }
}

void smtp_server_leave(struct smtp_conn *c)
{
    struct smtp_server *s = c->server;
    pthread_mutex_lock(&s->lock);
    if (c->counted)
        forget_address(s, c->client);
    *(c->prev != NULL ? &c->prev->next : &s->conns) = c->next;
    if (c->next != NULL)
        c->next->prev = c->prev;
    /* Under the lock: nobody shuts a number that is another's by now. */
    close(c->fd);
    free(c);
    s->sessions--;
    pthread_cond_signal(&s->ended);
    pthread_mutex_unlock(&s->lock);
}

/* ---- accepting ---- */

static void refuse(struct smtp_server *s, int fd, const char *text)
{
    (void)!send(fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT);
    close(fd);
    atomic_fetch_add(&s->refused, 1);
}

/* Puts a new connection on the list; NULL if there are too many. */
static struct smtp_conn *enlist(struct smtp_server *s, int fd)
{
    struct smtp_conn *c = NULL;
    pthread_mutex_lock(&s->lock);
    if (s->sessions < s->o.max_sessions) {
        c = xcalloc(1, sizeof *c);
        *c = (struct smtp_conn){.server = s, .next = s->conns, .fd = fd};
        if (c->next != NULL)
            c->next->prev = c;
        s->conns = c;
        s->sessions++;
    }
    pthread_mutex_unlock(&s->lock);
    return c;
}

static void start_thread(struct smtp_server *s, int fd)
{
    struct smtp_conn *c = enlist(s, fd);
    if (c == NULL) {
        refuse(s, fd, "421 4.7.0 too many connections, try later\r\n");
        return;
    }
    int one = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    pthread_attr_t attr;
    pthread_t thread;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_SIZE);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    int error = pthread_create(&thread, &attr, smtp_conn_run, c);
    pthread_attr_destroy(&attr);
    if (error != 0) {
        log_warn(s->o.log, "smtp", "no_thread", "error=%d", error);
        smtp_server_leave(c);
        atomic_fetch_add(&s->refused, 1);
        return;
    }
    atomic_fetch_add(&s->accepted, 1);
}

/* Waits for a connection, at most MS; false once the server stops. */
static bool wait_connection(struct smtp_server *s, int ms)
{
    struct pollfd p[2] = {{.fd = s->stop_fd, .events = POLLIN},
                          {.fd = s->listen_fd, .events = POLLIN}};
    /* While descriptors are short, the listening socket stays readable. */
    while (poll(p, ms < 0 ? 2 : 1, ms) < 0 && errno == EINTR)
        ;
    return p[0].revents == 0;
}

static void *accept_all(void *server)
{
    struct smtp_server *s = server;
    int pause_ms = -1;
    while (wait_connection(s, pause_ms)) {
        int fd = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC);
        pause_ms = -1;
        if (fd >= 0) {
            start_thread(s, fd);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS ||
                   errno == ENOMEM) {
            log_warn(s->o.log, "smtp", "accept", "error=%d", errno);
            pause_ms = ACCEPT_PAUSE_MS;
        }
    }
    return NULL;
}

/* ---- listening ---- */

static int listen_on(const struct addrinfo *ai)
{
    int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
                    ai->ai_protocol);
    int one = 1, zero = 0;
    if (fd < 0)
        return -1;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (ai->ai_family == AF_INET6)
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof zero);
    if (bind(fd, ai->ai_addr, ai->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

static enum status open_listener(struct smtp_server *s, struct err *err)
{
    struct address a;
    if (address_parse(s->listen, &a) != ST_OK)
        return err_set(err, ST_CONFIG, "\"%s\" is not host:port", s->listen);
    char port[8];
    snprintf(port, sizeof port, "%u", a.port);
    struct addrinfo hints = {.ai_flags = AI_PASSIVE | AI_NUMERICSERV,
                             .ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    /* "*": the IPv6 wildcard takes IPv4 too, where the host has IPv6. */
    bool any = strcmp(a.host, "*") == 0;
    int error = getaddrinfo(any ? "::" : a.host, port, &hints, &list);
    if (error != 0)
        return err_set(err, ST_CONFIG, "%s: %s", s->listen,
                       gai_strerror(error));
    s->listen_fd = listen_on(list);
    freeaddrinfo(list);
    if (s->listen_fd < 0 && any) {
        struct sockaddr_in four = {.sin_family = AF_INET,
                                   .sin_port = htons(a.port)};
        struct addrinfo ai = {.ai_family = AF_INET,
                              .ai_addr = (struct sockaddr *)&four,
                              .ai_addrlen = sizeof four};
        s->listen_fd = listen_on(&ai);
    }
    if (s->listen_fd < 0)
        return err_set(err, errno == EADDRINUSE ? ST_IN_USE : ST_IO,
                       "cannot listen on %s: %s", s->listen, strerror(errno));
    return ST_OK;
}

static void free_server(struct smtp_server *s)
{
    if (s->listen_fd >= 0)
        close(s->listen_fd);
    if (s->stop_fd >= 0)
        close(s->stop_fd);
    pthread_cond_destroy(&s->ended);
    pthread_mutex_destroy(&s->lock);
    free(s->hostname);
    free(s->listen);
    free(s);
}

enum status smtp_server_start(const struct smtp_server_options *o,
                              struct smtp_server **out, struct err *err)
{
    struct smtp_server *s = xcalloc(1, sizeof *s);
    s->o = *o;
    fill_defaults(&s->o);
    s->hostname = xstrdup(o->hostname);
    s->listen = xstrdup(o->listen);
    s->listen_fd = -1;
    s->stop_fd = eventfd(0, EFD_CLOEXEC);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->ended, NULL);
    enum status st = s->stop_fd >= 0
                         ? open_listener(s, err)
                         : err_set(err, ST_IO, "eventfd: %s", strerror(errno));
    if (st == ST_OK && pthread_create(&s->acceptor, NULL, accept_all, s) != 0)
        st = err_set(err, ST_NO_MEMORY, "cannot start a thread");
    if (st != ST_OK) {
        free_server(s);
        return st;
    }
    log_info(s->o.log, "smtp", "listening", "address=%s proxy=%d", s->listen,
             s->o.proxy ? 1 : 0);
    *out = s;
    return ST_OK;
}

uint16_t smtp_server_port(const struct smtp_server *s)
{
    struct sockaddr_storage sa;
    socklen_t len = sizeof sa;
    if (getsockname(s->listen_fd, (struct sockaddr *)&sa, &len) != 0)
        return 0;
    return sa.ss_family == AF_INET6
               ? ntohs(((const struct sockaddr_in6 *)&sa)->sin6_port)
               : ntohs(((const struct sockaddr_in *)&sa)->sin_port);
}

void smtp_server_get_stats(const struct smtp_server *s,
                           struct smtp_server_stats *out)
{
    struct smtp_server *own = (struct smtp_server *)(uintptr_t)s;
    pthread_mutex_lock(&own->lock);
    unsigned sessions = own->sessions;
    pthread_mutex_unlock(&own->lock);
    *out = (struct smtp_server_stats){.sessions = sessions,
                                      .accepted = atomic_load(&s->accepted),
                                      .refused = atomic_load(&s->refused),
                                      .messages = atomic_load(&s->messages),
                                      .deferred = atomic_load(&s->deferred),
                                      .rejected = atomic_load(&s->rejected),
                                      .bytes = atomic_load(&s->bytes),
                                      .spool_bytes = atomic_load(&s->spool)};
}

void smtp_server_stop(struct smtp_server *s)
{
    if (s == NULL)
        return;
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    atomic_store(&s->cut_ms,
                 now.tv_sec * 1000 + now.tv_nsec / 1000000 + STOP_STORE_MS);
    atomic_store(&s->stopping, true);
    uint64_t one = 1;
    while (write(s->stop_fd, &one, sizeof one) < 0 && errno == EINTR)
        ;
    pthread_join(s->acceptor, NULL);
    pthread_mutex_lock(&s->lock);
    for (struct smtp_conn *c = s->conns; c != NULL; c = c->next)
        shutdown(c->fd, SHUT_RD);
    while (s->sessions > 0)
        pthread_cond_wait(&s->ended, &s->lock);
    pthread_mutex_unlock(&s->lock);
    log_info(s->o.log, "smtp", "stopped", "address=%s", s->listen);
    free_server(s);
}
