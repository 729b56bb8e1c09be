/*
 * Options of penn-storaged: section [storage] (common/config.h).
 */
#ifndef STORAGE_CONFIG_H
#define STORAGE_CONFIG_H

#include "common/config.h"

struct storage_config {
    int64_t node;
    char *listen;
    char *advertise;
    char *beacon_listen;
    char *beacon_advertise;
    char *status_listen;
    char *data_dir;
    uint64_t log_limit;
    uint64_t segment_size;
    uint64_t value_cache;
    int64_t scrub_interval; /* ms */
    uint64_t scrub_rate;
};

extern const struct config_spec storage_config_spec;

#endif
