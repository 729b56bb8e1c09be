/*
 * Options of penn-coordinatord: section [coordinator] (common/config.h).
 */
#ifndef COORDINATOR_CONFIG_H
#define COORDINATOR_CONFIG_H

#include "common/config.h"

struct coordinator_config {
    int64_t node;
    char *listen;
    char *status_listen;
    char *data_dir;
    int64_t initial_nodes;
    int64_t detect_after;      /* ms */
    int64_t rereplicate_after; /* ms */
    int64_t balance_after;     /* ms; 0: never */
};

extern const struct config_spec coordinator_config_spec;

#endif
