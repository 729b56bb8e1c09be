/*
 * Inside of the SMTP server; for server_io.c and conn_io.c alone.
 */
#ifndef GATEWAY_SMTP_SERVER_INSIDE_H
#define GATEWAY_SMTP_SERVER_INSIDE_H

#include <pthread.h>
#include <stdatomic.h>

#include "gateway/smtp/server_io.h"

#define SMTP_CLIENT_TEXT 64

/* One connection, owned by its thread; the server's list and lock reach FD
 * and BUSY. */
struct smtp_conn {
    struct smtp_server *server;
    struct smtp_conn *prev, *next;
    int fd;
    char client[SMTP_CLIENT_TEXT]; /* its address, without port */
    bool counted;                  /* in the table of addresses */
};

/* Sessions of one client address. */
struct smtp_address {
    struct smtp_address *next;
    unsigned sessions;
    char client[SMTP_CLIENT_TEXT];
};
#define SMTP_ADDRESS_BUCKETS 1024

struct smtp_server {
    struct smtp_server_options o; /* defaults filled in; texts are copies */
    char *hostname, *listen;
    int listen_fd;
    int stop_fd; /* eventfd: readable once the server stops */
    pthread_t acceptor;
    pthread_mutex_t lock;
    pthread_cond_t ended;
    struct smtp_conn *conns;
    unsigned sessions;
    struct smtp_address *addresses[SMTP_ADDRESS_BUCKETS];
    atomic_bool stopping;
    _Atomic int64_t cut_ms; /* 0, or when storing must end: struct cloud_op */
    atomic_size_t spool;
    atomic_ullong accepted, refused, messages, deferred, rejected, bytes;
};

/* Counts the connection's client; false if it has too many sessions. */
bool smtp_server_admit(struct smtp_conn *c);
/* The session's thread: runs CONN to its end and frees it. */
void *smtp_conn_run(void *conn);
/* Takes CONN off the list; its thread's last word to the server. */
void smtp_server_leave(struct smtp_conn *c);

#endif
