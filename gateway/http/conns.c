/*
 * A dense array, searched from one end to the other: some thousand rows of 32
 * bytes take microseconds, which a new connection costs many times over, and
 * the search for the overdue runs once a second. A second array finds a
 * descriptor's row.
 */
#include "gateway/http/conns.h"

#include <arpa/inet.h>
#include <assert.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"

struct row {
    int fd;
    bool has_address;
    struct http_address address;
    int64_t deadline_ms;
};

struct http_conns {
    pthread_mutex_t lock;
    size_t max, max_per_address, count;
    struct row *rows;
    int *place; /* of a descriptor among the rows, -1 for none */
    size_t places;
};

struct http_address http_address_of(const struct sockaddr *sa)
{
    struct http_address a = {{0}};
    if (sa->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const void *)sa;
        a.b[10] = a.b[11] = 0xff;
        memcpy(a.b + 12, &in->sin_addr, 4);
    } else if (sa->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const void *)sa;
        bool mapped = IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr);
        memcpy(a.b, &in6->sin6_addr, mapped ? 16 : 8);
    }
    return a;
}

void http_address_text(const struct sockaddr *sa, char *out, size_t size)
{
    char text[INET6_ADDRSTRLEN] = "";
    if (sa->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const void *)sa;
        (void)inet_ntop(AF_INET, &in->sin_addr, text, sizeof(text));
    } else if (sa->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const void *)sa;
        bool mapped = IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr);
        (void)inet_ntop(mapped ? AF_INET : AF_INET6,
                        in6->sin6_addr.s6_addr + (mapped ? 12 : 0), text,
                        sizeof(text));
    }
    snprintf(out, size, "%s", text);
}

struct http_conns *http_conns_new(size_t max, size_t max_per_address)
{
    struct http_conns *c = xcalloc(1, sizeof(*c));
    pthread_mutex_init(&c->lock, NULL);
    c->max = max;
    c->max_per_address = max_per_address;
    c->rows = xcalloc(max, sizeof(*c->rows));
    return c;
}

void http_conns_free(struct http_conns *c)
{
    if (c == NULL)
        return;
    pthread_mutex_destroy(&c->lock);
    free(c->rows);
    free(c->place);
    free(c);
}

static void make_place(struct http_conns *c, size_t fd)
{
    if (fd < c->places)
        return;
    size_t next = c->places == 0 ? 256 : c->places;
    while (next <= fd)
        next *= 2;
    c->place = xrealloc(c->place, next * sizeof(*c->place));
    for (size_t i = c->places; i < next; i++)
        c->place[i] = -1;
    c->places = next;
}

static struct row *find(const struct http_conns *c, int fd)
{
    if (fd < 0 || (size_t)fd >= c->places || c->place[fd] < 0)
        return NULL;
    return &c->rows[c->place[fd]];
}

enum status http_conns_add(struct http_conns *c, int fd, int64_t deadline_ms)
{
    enum status s = ST_BUSY;
    pthread_mutex_lock(&c->lock);
    assert(fd >= 0 && find(c, fd) == NULL);
    if (c->count < c->max) {
        make_place(c, (size_t)fd);
        c->place[fd] = (int)c->count;
        c->rows[c->count++] =
            (struct row){.fd = fd, .deadline_ms = deadline_ms};
        s = ST_OK;
    }
    pthread_mutex_unlock(&c->lock);
    return s;
}

enum status http_conns_address(struct http_conns *c, int fd,
                               struct http_address a)
{
    size_t same = 0;
    enum status s = ST_TOO_MANY;
    pthread_mutex_lock(&c->lock);
    struct row *own = find(c, fd);
    assert(own != NULL && !own->has_address);
    for (size_t i = 0; i < c->count; i++) {
        const struct row *r = &c->rows[i];
        same += r->has_address && memcmp(&r->address, &a, sizeof(a)) == 0;
    }
    if (same < c->max_per_address) {
        own->address = a;
        own->has_address = true;
        s = ST_OK;
    }
    pthread_mutex_unlock(&c->lock);
    return s;
}

void http_conns_deadline(struct http_conns *c, int fd, int64_t deadline_ms)
{
    pthread_mutex_lock(&c->lock);
    struct row *r = find(c, fd);
    if (r != NULL)
        r->deadline_ms = deadline_ms;
    pthread_mutex_unlock(&c->lock);
}

void http_conns_remove(struct http_conns *c, int fd)
{
    pthread_mutex_lock(&c->lock);
    struct row *r = find(c, fd);
    if (r != NULL) {
        struct row *last = &c->rows[c->count - 1];
        c->place[last->fd] = c->place[fd];
        *r = *last;
        c->place[fd] = -1;
        c->count--;
    }
    pthread_mutex_unlock(&c->lock);
}

size_t http_conns_count(struct http_conns *c)
{
    pthread_mutex_lock(&c->lock);
    size_t n = c->count;
    pthread_mutex_unlock(&c->lock);
    return n;
}

size_t http_conns_expire(struct http_conns *c, int64_t now_ms,
                         void (*fn)(int fd))
{
    size_t n = 0;
    pthread_mutex_lock(&c->lock);
    for (size_t i = 0; i < c->count; i++) {
        struct row *r = &c->rows[i];
        if (r->deadline_ms == 0 || r->deadline_ms > now_ms)
            continue;
        r->deadline_ms = 0;
        fn(r->fd);
        n++;
    }
    pthread_mutex_unlock(&c->lock);
    return n;
}
