/*
 * Listening sockets. A socket for "*" is an IPv6 one that takes IPv4 too,
 * or an IPv4 one where the host has no IPv6.
 */
#include "common/address_io.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG 1024

enum status address_resolve(const char *text, int flags, struct addrinfo **out,
                            struct err *err)
{
    struct address a;
    char port[8];
    if (address_parse(text, &a) != ST_OK) {
        return err_set(err, ST_INVALID, "%s: not host:port", text);
    }
    struct addrinfo hints = {.ai_family = AF_UNSPEC,
                             .ai_socktype = SOCK_STREAM,
                             .ai_flags = flags | AI_NUMERICSERV};
    (void)snprintf(port, sizeof(port), "%u", a.port);
    int error = getaddrinfo(a.host, port, &hints, out);
    if (error != 0) {
        return err_set(err, ST_NOT_FOUND, "%s: %s", text, gai_strerror(error));
    }
    return ST_OK;
}

/* Binds and listens; closes FD on failure and returns errno. */
static int listen_on(int fd, const struct sockaddr *sa, socklen_t len)
{
    int on = 1, off = 0;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (sa->sa_family == AF_INET6) {
        struct sockaddr_in6 six;
        memcpy(&six, sa, sizeof(six));
        bool any = IN6_IS_ADDR_UNSPECIFIED(&six.sin6_addr);
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, any ? &off : &on,
                         sizeof(on));
    }
    if (bind(fd, sa, len) != 0 || listen(fd, BACKLOG) != 0) {
        int error = errno;
        (void)close(fd);
        return error;
    }
    return 0;
}

static enum status try_listen(const char *text, const struct sockaddr *sa,
                              socklen_t len, int *out, struct err *err)
{
    int fd =
        socket(sa->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int error = fd < 0 ? errno : listen_on(fd, sa, len);
    if (error != 0) {
        return err_set(err, status_from_errno(error), "cannot listen on %s: %s",
                       text, strerror(error));
    }
    *out = fd;
    return ST_OK;
}

static enum status listen_everywhere(const char *text, uint16_t port, int *out,
                                     struct err *err)
{
    struct sockaddr_in6 six = {.sin6_family = AF_INET6,
                               .sin6_addr = IN6ADDR_ANY_INIT,
                               .sin6_port = htons(port)};
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(port)};
    int probe = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (probe < 0) {
        return try_listen(text, (struct sockaddr *)&four, sizeof(four), out,
                          err);
    }
    (void)close(probe);
    return try_listen(text, (struct sockaddr *)&six, sizeof(six), out, err);
}

enum status address_listen(const char *text, int *out, struct err *err)
{
    struct address a;
    struct addrinfo *list;
    if (address_parse(text, &a) == ST_OK && strcmp(a.host, "*") == 0) {
        return listen_everywhere(text, a.port, out, err);
    }
    enum status s = address_resolve(text, AI_PASSIVE, &list, err);
    if (s != ST_OK) {
        return s;
    }
    s = ST_NOT_FOUND;
    for (struct addrinfo *i = list; i != NULL && s != ST_OK; i = i->ai_next) {
        s = try_listen(text, i->ai_addr, i->ai_addrlen, out, err);
    }
    freeaddrinfo(list);
    return s;
}

uint16_t address_bound_port(int fd)
{
    struct sockaddr_storage ss = {0};
    socklen_t len = sizeof(ss);
    struct sockaddr_in four;
    struct sockaddr_in6 six;
    if (getsockname(fd, (struct sockaddr *)&ss, &len) != 0) {
        return 0;
    }
    if (ss.ss_family == AF_INET6) {
        memcpy(&six, &ss, sizeof(six));
        return ntohs(six.sin6_port);
    }
    memcpy(&four, &ss, sizeof(four));
    return ntohs(four.sin_port);
}
