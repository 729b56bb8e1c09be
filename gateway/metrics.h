/*
 * The gateway's metrics: ids and rows from metrics.def.
 */
#ifndef GATEWAY_METRICS_H
#define GATEWAY_METRICS_H

#include "common/metrics.h"

enum gateway_metric {
#define METRIC(ID, type, name, labels, help) GATEWAY_##ID,
#include "gateway/metrics.def"
#undef METRIC
    GATEWAY_METRIC_COUNT,
};

extern const struct metric_def gateway_metrics[GATEWAY_METRIC_COUNT];

#endif
