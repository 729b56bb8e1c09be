#include "balancer/config.h"

#include "common/limits.h"

#define FIELD(f) offsetof(struct balancer_config, f)

static const struct config_option options[] = {
    {"node", CONFIG_INT, "1", 1, 65535, FIELD(node), NULL,
     "number of this process, unique among balancers"},
    {"http_listen", CONFIG_ADDRESS, "*:80", 0, 0, FIELD(http_listen), NULL,
     "where browsers connect; empty: not offered"},
    {"https_listen", CONFIG_ADDRESS, "", 0, 0, FIELD(https_listen), NULL,
     "the same with TLS, which the gateways speak"},
    {"smtp_listen", CONFIG_ADDRESS, "*:25", 0, 0, FIELD(smtp_listen), NULL,
     "where other mail servers deliver"},
    {"submission_listen", CONFIG_ADDRESS, "", 0, 0, FIELD(submission_listen),
     NULL, "where mail programs submit (STARTTLS)"},
    {"submissions_listen", CONFIG_ADDRESS, "", 0, 0, FIELD(submissions_listen),
     NULL, "the same with TLS from the start"},
    {"status_listen", CONFIG_ADDRESS, "127.0.0.1:7501", 0, 0,
     FIELD(status_listen), NULL, "health, metrics and status"},
    {"proxy_protocol", CONFIG_BOOL, "yes", 0, 0, FIELD(proxy_protocol), NULL,
     "tell gateways the client's address (PROXY v2)"},
    {"max_connections", CONFIG_INT, "16384", 1, LIMIT_BALANCER_CONNS,
     FIELD(max_connections), NULL, "clients at a time"},
    {"max_per_address", CONFIG_INT, "512", 1, LIMIT_BALANCER_CONNS,
     FIELD(max_per_address), NULL, "of them from one IPv4 address or IPv6 /64"},
    {"connect_timeout", CONFIG_DURATION, "1s", 50, 60000,
     FIELD(connect_timeout), NULL, "for one gateway to accept"},
    {"idle_timeout", CONFIG_DURATION, "15m", 1000, 86400000,
     FIELD(idle_timeout), NULL, "without a byte in either direction"},
    {"drain_timeout", CONFIG_DURATION, "9s", 0, LIMIT_STOP_MS - 500,
     FIELD(drain_timeout), NULL, "for clients to finish after SIGTERM"},
};

static enum status check(const struct config *c, struct err *err)
{
    const struct balancer_config *b = c->own;
    if (b->http_listen[0] == '\0' && b->https_listen[0] == '\0' &&
        b->smtp_listen[0] == '\0' && b->submission_listen[0] == '\0' &&
        b->submissions_listen[0] == '\0') {
        return err_set(err, ST_CONFIG,
                       "balancer.http_listen: nothing to listen on");
    }
    return ST_OK;
}

const struct config_spec balancer_config_spec = {
    "balancer", options, sizeof(options) / sizeof(options[0]),
    sizeof(struct balancer_config), check};
