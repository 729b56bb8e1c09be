/*
 * The rows of the gateway's metrics.
 */
#include "gateway/metrics.h"

const struct metric_def gateway_metrics[GATEWAY_METRIC_COUNT] = {
#define METRIC(ID, type, name, labels, help)                                   \
    [GATEWAY_##ID] = {name, METRIC_##type, labels, help},
#include "gateway/metrics.def"
#undef METRIC
};
