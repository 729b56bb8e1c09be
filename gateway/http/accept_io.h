/*
 * Accepting: one thread that takes connections, keeps the book of them
 * (conns.h), reads the PROXY header where there is one, hands the sockets
 * over, and ends connections whose deadline has passed.
 */
#ifndef GATEWAY_HTTP_ACCEPT_IO_H
#define GATEWAY_HTTP_ACCEPT_IO_H

#include <sys/socket.h>

#include "common/log.h"
#include "gateway/http/conns.h"

#define HTTP_LISTENERS 2

struct http_acceptor;

struct http_acceptor_options {
    int listeners[HTTP_LISTENERS]; /* taken; -1: none */
    bool proxy;
    int head_timeout_ms;
    struct http_conns *conns; /* borrowed */
    const struct log *log;    /* borrowed */
    /* Takes FD, which is in the book and has an address there; on the
     * acceptor's thread. Who closes FD removes it from the book before. */
    void (*hand_over)(void *ctx, unsigned listener, int fd,
                      const struct sockaddr_storage *from);
    void *ctx;
};

/* ST_IO, ST_NO_MEMORY; the listeners are then closed. */
enum status http_acceptor_start(const struct http_acceptor_options *o,
                                struct http_acceptor **out) MUST_CHECK;
/* From now on takes no connections, but still ends overdue ones. */
void http_acceptor_close(struct http_acceptor *a);
/* Closes, ends the thread and frees. NULL is allowed. */
void http_acceptor_stop(struct http_acceptor *a);

#endif
