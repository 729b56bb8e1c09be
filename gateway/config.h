/*
 * The options of [gateway] (penncloud.conf(5)).
 */
#ifndef GATEWAY_CONFIG_H
#define GATEWAY_CONFIG_H

#include "common/config.h"

struct gateway_config {
    int64_t node;
    char *http_listen, *https_listen;
    char *smtp_listen;
    char *status_listen;
    char *certificate, *private_key;
    bool proxy_protocol;
    char *hostname, *postmaster;
    char *web_dir;
    bool signup;
    uint64_t quota;
    int64_t http_max_connections, http_max_per_address, http_workers;
    int64_t smtp_max_sessions, smtp_max_per_address;
    int64_t request_timeout, session_idle, session_end;
    int64_t hash_parallel;
    int64_t login_burst, login_interval;
};

extern const struct config_spec gateway_config_spec;

#endif
