#include "storage/config.h"

#define FIELD(f) offsetof(struct storage_config, f)

static const struct config_option options[] = {
    {"node", CONFIG_INT, NULL, 1, 65535, FIELD(node), NULL,
     "number of this process, unique among storage processes"},
    {"listen", CONFIG_ADDRESS, "*:7300", 0, 0, FIELD(listen), NULL,
     "where peers, gateways and tools connect"},
    {"advertise", CONFIG_ADDRESS, "", 0, 0, FIELD(advertise), NULL,
     "address under which others reach listen; unset: the same"},
    {"beacon_listen", CONFIG_ADDRESS, "*:7302", 0, 0, FIELD(beacon_listen),
     NULL, "where peers' beacons arrive, on which read leases rest"},
    {"beacon_advertise", CONFIG_ADDRESS, "", 0, 0, FIELD(beacon_advertise),
     NULL, "address under which others reach beacon_listen; unset: the same"},
    {"status_listen", CONFIG_ADDRESS, "127.0.0.1:7301", 0, 0,
     FIELD(status_listen), NULL, "status port: health, metrics, status"},
    {"data_dir", CONFIG_PATH, "/var/lib/penncloud/storage", 0, 0,
     FIELD(data_dir), NULL, "directory of the store"},
    {"log_limit", CONFIG_SIZE, "64M", 1 << 20, 1LL << 40, FIELD(log_limit),
     NULL, "length of the log at which tablets are checkpointed"},
    {"segment_size", CONFIG_SIZE, "16M", 9 << 20, 1 << 30, FIELD(segment_size),
     NULL, "size of the log's segments"},
    {"value_cache", CONFIG_SIZE, "16M", 0, 1LL << 40, FIELD(value_cache), NULL,
     "memory for large values that were read lately"},
    {"scrub_interval", CONFIG_DURATION, "10m", 0, 86400000,
     FIELD(scrub_interval), NULL,
     "how often replicas are compared and a scrub begins; 0: never"},
    {"scrub_rate", CONFIG_SIZE, "4M", 0, 1LL << 30, FIELD(scrub_rate), NULL,
     "bytes a second that the scrub reads; 0: it reads nothing"},
};

/* Others cannot connect to "any address". */
static const char *unreachable(const char *listen, const char *advertise)
{
    if (advertise[0] == '\0' &&
        (listen[0] == '*' || listen[0] == '0' || listen[0] == ':')) {
        return "must be set, because listen names no address";
    }
    return NULL;
}

static enum status check(const struct config *c, struct err *err)
{
    const struct storage_config *s = c->own;
    const char *wrong = unreachable(s->listen, s->advertise);
    if (wrong != NULL) {
        return err_set(err, ST_CONFIG, "storage.advertise: %s", wrong);
    }
    wrong = unreachable(s->beacon_listen, s->beacon_advertise);
    if (wrong != NULL) {
        return err_set(err, ST_CONFIG, "storage.beacon_advertise: %s", wrong);
    }
    return ST_OK;
}

const struct config_spec storage_config_spec = {
    "storage", options, sizeof(options) / sizeof(options[0]),
    sizeof(struct storage_config), check};
