/*
 * Options of [balancer].
 */
#ifndef BALANCER_CONFIG_H
#define BALANCER_CONFIG_H

#include "common/config.h"

struct balancer_config {
    int64_t node;
    char *http_listen, *https_listen;
    char *smtp_listen, *submission_listen, *submissions_listen;
    char *status_listen;
    bool proxy_protocol;
    int64_t max_connections;
    int64_t max_per_address;
    int64_t connect_timeout; /* ms, one gateway */
    int64_t idle_timeout;    /* ms without a byte either way */
    int64_t drain_timeout;   /* ms after SIGTERM */
};

extern const struct config_spec balancer_config_spec;

#endif
