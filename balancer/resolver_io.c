/*
 * A short list of what was asked for; the oldest entry not being looked up
 * makes room for a new one. There are as many as all gateways can announce.
 */
#include "balancer/resolver_io.h"

#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>

#include "balancer/core.h"
#include "common/address.h"

#define FRESH_MS 60000
#define RETRY_MS 1000
#define ENTRIES (BALANCER_GATEWAYS * SERVICE_COUNT)

struct entry {
    struct resolver *resolver;
    char text[LIMIT_ADDRESS + 1];
    struct sockaddr_storage address;
    bool used, known, failed, pending;
    uint64_t asked_ms;  /* when it was last asked for */
    uint64_t lookup_ms; /* when a lookup last began */
    uv_getaddrinfo_t req;
};

struct resolver {
    uv_loop_t *loop;
    bool closing;
    size_t pending;
    struct entry entries[ENTRIES];
};

struct resolver *resolver_new(uv_loop_t *loop)
{
    struct resolver *r = xcalloc(1, sizeof(*r));
    r->loop = loop;
    return r;
}

void resolver_free(struct resolver *r)
{
    if (r == NULL) {
        return;
    }
    r->closing = true;
    if (r->pending == 0) {
        free(r);
        return;
    }
    for (size_t i = 0; i < ENTRIES; i++) {
        if (r->entries[i].pending) {
            (void)uv_cancel((uv_req_t *)&r->entries[i].req);
        }
    }
}

/* TEXT as numbers; false if its host is a name. */
static bool parse_numeric(const struct address *a, struct sockaddr_storage *out)
{
    struct sockaddr_in four = {.sin_family = AF_INET,
                               .sin_port = htons(a->port)};
    struct sockaddr_in6 six = {.sin6_family = AF_INET6,
                               .sin6_port = htons(a->port)};
    if (inet_pton(AF_INET, a->host, &four.sin_addr) == 1) {
        memcpy(out, &four, sizeof(four));
        return true;
    }
    if (inet_pton(AF_INET6, a->host, &six.sin6_addr) == 1) {
        memcpy(out, &six, sizeof(six));
        return true;
    }
    return false;
}

static void on_found(uv_getaddrinfo_t *req, int status, struct addrinfo *list)
{
    struct entry *e = req->data;
    struct resolver *r = e->resolver;
    e->pending = false;
    r->pending--;
    e->failed = status != 0 || list == NULL;
    if (!e->failed) {
        e->known = true;
        memcpy(&e->address, list->ai_addr, list->ai_addrlen);
    }
    uv_freeaddrinfo(list);
    if (r->closing && r->pending == 0) {
        free(r);
    }
}

static void look_up(struct entry *e, const struct address *a, uint64_t now)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_NUMERICSERV};
    char port[8];
    (void)snprintf(port, sizeof(port), "%u", a->port);
    e->req.data = e;
    e->lookup_ms = now;
    e->pending = uv_getaddrinfo(e->resolver->loop, &e->req, on_found, a->host,
                                port, &hints) == 0;
    e->failed = !e->pending;
    e->resolver->pending += e->pending ? 1 : 0;
}

/* TEXT's entry, or one made free for it; NULL if all are being looked up. */
static struct entry *locate(struct resolver *r, const char *text)
{
    struct entry *oldest = NULL;
    for (size_t i = 0; i < ENTRIES; i++) {
        struct entry *e = &r->entries[i];
        if (e->used && strcmp(e->text, text) == 0) {
            return e;
        }
        if (!e->pending && (oldest == NULL || e->asked_ms < oldest->asked_ms)) {
            oldest = e;
        }
    }
    if (oldest != NULL) {
        *oldest = (struct entry){.resolver = r, .used = true};
        (void)snprintf(oldest->text, sizeof(oldest->text), "%s", text);
    }
    return oldest;
}

enum status resolver_find(struct resolver *r, const char *text,
                          struct sockaddr_storage *out)
{
    struct address a;
    uint64_t now = uv_now(r->loop);
    if (address_parse(text, &a) != ST_OK) {
        return ST_NOT_FOUND;
    }
    if (parse_numeric(&a, out)) {
        return ST_OK;
    }
    struct entry *e = locate(r, text);
    if (e == NULL) {
        return ST_BUSY;
    }
    bool fresh = e->lookup_ms != 0 &&
                 now - e->lookup_ms < (e->failed ? RETRY_MS : FRESH_MS);
    e->asked_ms = now;
    if (!e->pending && !fresh) {
        look_up(e, &a, now);
    }
    if (e->known) {
        *out = e->address;
        return ST_OK;
    }
    return e->failed ? ST_NOT_FOUND : ST_BUSY;
}
