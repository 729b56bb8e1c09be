/*
 * The table of a gateway's options, and what must hold between them.
 */
#include "gateway/config.h"

#include "common/limits.h"

#define FIELD(f) offsetof(struct gateway_config, f)

static const struct config_option options[] = {
    {"node", CONFIG_INT, NULL, 1, 65535, FIELD(node), NULL,
     "number of this process, unique in the cluster"},
    {"http_listen", CONFIG_ADDRESS, "*:80", 0, 0, FIELD(http_listen), NULL,
     "where browsers and the balancer connect"},
    {"https_listen", CONFIG_ADDRESS, "", 0, 0, FIELD(https_listen), NULL,
     "the same with TLS; empty: not offered"},
    {"smtp_listen", CONFIG_ADDRESS, "*:25", 0, 0, FIELD(smtp_listen), NULL,
     "where other mail servers deliver; empty: not offered"},
    {"status_listen", CONFIG_ADDRESS, "127.0.0.1:7401", 0, 0,
     FIELD(status_listen), NULL, "health, metrics and status"},
    {"certificate", CONFIG_PATH, "", 0, 0, FIELD(certificate), NULL,
     "PEM file with the chain for TLS"},
    {"private_key", CONFIG_PATH, "", 0, 0, FIELD(private_key), NULL,
     "PEM file with its key"},
    {"proxy_protocol", CONFIG_BOOL, "no", 0, 0, FIELD(proxy_protocol), NULL,
     "connections begin with a PROXY v2 header: all come from the balancer"},
    {"hostname", CONFIG_STRING, "", 0, 255, FIELD(hostname), NULL,
     "name in SMTP greetings; empty: mail.<first domain>"},
    {"postmaster", CONFIG_STRING, "", 0, 64, FIELD(postmaster), NULL,
     "account that gets mail to postmaster"},
    {"web_dir", CONFIG_PATH, PENN_PKGDATADIR "/web", 0, 0, FIELD(web_dir), NULL,
     "files of the web interface"},
    {"signup", CONFIG_BOOL, "yes", 0, 0, FIELD(signup), NULL,
     "people may make their own accounts"},
    {"quota", CONFIG_SIZE, "10G", 1 << 20, 1LL << 50, FIELD(quota), NULL,
     "space of a new account"},
    {"http_max_connections", CONFIG_INT, "8192", 16, 65536,
     FIELD(http_max_connections), NULL, "HTTP connections at a time"},
    {"http_max_per_address", CONFIG_INT, "256", 1, 65536,
     FIELD(http_max_per_address), NULL,
     "of them from one IPv4 address or IPv6 /64"},
    {"http_workers", CONFIG_INT, "16", 1, 256, FIELD(http_workers), NULL,
     "threads that answer API calls"},
    {"smtp_max_sessions", CONFIG_INT, "8000", 1, 65536,
     FIELD(smtp_max_sessions), NULL, "SMTP sessions at a time"},
    {"smtp_max_per_address", CONFIG_INT, "50", 1, 65536,
     FIELD(smtp_max_per_address), NULL, "of them from one address"},
    {"request_timeout", CONFIG_DURATION, "10s", 1000, 300000,
     FIELD(request_timeout), NULL, "for the store to answer one API call"},
    {"session_idle", CONFIG_DURATION, "7d", 60000, 365LL * 86400000,
     FIELD(session_idle), NULL, "a web session ends when unused for that long"},
    {"session_end", CONFIG_DURATION, "30d", 60000, 365LL * 86400000,
     FIELD(session_end), NULL, "a web session ends at that age"},
    {"hash_parallel", CONFIG_INT, "2", 1, 64, FIELD(hash_parallel), NULL,
     "passwords checked at once, 64 MiB each"},
    {"login_burst", CONFIG_INT, "10", 1, 10000, FIELD(login_burst), NULL,
     "failed logins of one name at once (of one address: four times that)"},
    {"login_interval", CONFIG_DURATION, "30s", 100, 3600000,
     FIELD(login_interval), NULL, "one more try each"},
};

static enum status check(const struct config *c, struct err *err)
{
    const struct gateway_config *g = c->own;
    if (c->cluster.domains.count == 0)
        return err_set(err, ST_CONFIG,
                       "cluster.domains: a gateway needs a mail domain");
    if (g->http_listen[0] == '\0')
        return err_set(err, ST_CONFIG, "gateway.http_listen: is needed");
    if (g->https_listen[0] != '\0' &&
        (g->certificate[0] == '\0' || g->private_key[0] == '\0'))
        return err_set(err, ST_CONFIG,
                       "gateway.https_listen: needs certificate and "
                       "private_key");
    return ST_OK;
}

const struct config_spec gateway_config_spec = {
    "gateway", options, sizeof(options) / sizeof(options[0]),
    sizeof(struct gateway_config), check};
