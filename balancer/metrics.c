#include "balancer/metrics.h"

const struct metric_def balancer_metrics[M_COUNT] = {
#define SERVICE(NAME, name, refusal)                                           \
    [M_ACCEPTED + SERVICE_##NAME] = {"penn_balancer_accepted_total",           \
                                     METRIC_COUNTER, "service=\"" name "\"",   \
                                     "client connections accepted"},
#include "balancer/services.def"
#define SERVICE(NAME, name, refusal)                                           \
    [M_UNSERVED + SERVICE_##NAME] = {"penn_balancer_unserved_total",           \
                                     METRIC_COUNTER, "service=\"" name "\"",   \
                                     "clients for whom no gateway was found"},
#include "balancer/services.def"
    [M_OPEN] = {"penn_balancer_open", METRIC_GAUGE, "",
                "client connections open now"},
    [M_OVER_LIMIT] = {"penn_balancer_over_limit_total", METRIC_COUNTER, "",
                      "clients closed for max_connections"},
    [M_OVER_ADDRESS_LIMIT] = {"penn_balancer_over_address_limit_total",
                              METRIC_COUNTER, "",
                              "clients closed for max_per_address"},
    [M_GATEWAY_REFUSED] = {"penn_balancer_gateway_refused_total",
                           METRIC_COUNTER, "",
                           "connections that a gateway did not accept"},
    [M_IDLE_CLOSED] = {"penn_balancer_idle_closed_total", METRIC_COUNTER, "",
                       "connections closed for a deadline"},
    [M_BYTES_IN] = {"penn_balancer_in_bytes_total", METRIC_COUNTER, "",
                    "bytes from clients to gateways"},
    [M_BYTES_OUT] = {"penn_balancer_out_bytes_total", METRIC_COUNTER, "",
                     "bytes from gateways to clients"},
    [M_CONNECT] = {"penn_balancer_connect_seconds", METRIC_HISTOGRAM, "",
                   "from accepting a client to a gateway's accepting it"},
    [M_MAPS] = {"penn_balancer_maps_total", METRIC_COUNTER, "",
                "cluster maps taken"},
};
