/*
 * The balancer's metrics. Rows that exist for each service stand together:
 * the id is M_X + enum balancer_service.
 */
#ifndef BALANCER_METRICS_H
#define BALANCER_METRICS_H

#include "balancer/core.h"
#include "common/metrics.h"

enum balancer_metric {
    M_ACCEPTED = 0,
    M_UNSERVED = M_ACCEPTED + SERVICE_COUNT,
    M_OPEN = M_UNSERVED + SERVICE_COUNT,
    M_OVER_LIMIT,
    M_OVER_ADDRESS_LIMIT,
    M_GATEWAY_REFUSED,
    M_IDLE_CLOSED,
    M_BYTES_IN,
    M_BYTES_OUT,
    M_CONNECT,
    M_MAPS,
    M_COUNT
};

extern const struct metric_def balancer_metrics[M_COUNT];

#endif
