#include "coordinator/config.h"

#define FIELD(f) offsetof(struct coordinator_config, f)

static const struct config_option options[] = {
    {"node", CONFIG_INT, "1", 1, 65535, FIELD(node), NULL,
     "number of this process, unique among coordinators"},
    {"listen", CONFIG_ADDRESS, "*:7100", 0, 0, FIELD(listen), NULL,
     "where all other processes connect"},
    {"status_listen", CONFIG_ADDRESS, "127.0.0.1:7101", 0, 0,
     FIELD(status_listen), NULL, "status port: health, metrics, status"},
    {"data_dir", CONFIG_PATH, "/var/lib/penncloud/coordinator", 0, 0,
     FIELD(data_dir), NULL, "directory of the register"},
    {"initial_nodes", CONFIG_INT, "0", 0, LIMIT_NODES, FIELD(initial_nodes),
     NULL,
     "storage processes to wait for before tablets are placed; 0: as many as "
     "cluster.replicas"},
    {"detect_after", CONFIG_DURATION, "800ms", 200, 60000, FIELD(detect_after),
     NULL, "a process silent for this long is down"},
    {"rereplicate_after", CONFIG_DURATION, "60s", 1000, 30ll * 86400000,
     FIELD(rereplicate_after), NULL,
     "a storage process down for this long is replaced where there is another"},
    {"balance_after", CONFIG_DURATION, "0s", 0, 86400000, FIELD(balance_after),
     NULL,
     "primaries are evened out, one a second, once all was whole for this "
     "long; 0: never"},
};

static enum status check(const struct config *c, struct err *err)
{
    const struct coordinator_config *own = c->own;
    if (own->initial_nodes != 0 && own->initial_nodes < c->cluster.replicas) {
        return err_set(err, ST_CONFIG,
                       "coordinator.initial_nodes: is below cluster.replicas");
    }
    return ST_OK;
}

const struct config_spec coordinator_config_spec = {
    "coordinator", options, sizeof(options) / sizeof(options[0]),
    sizeof(struct coordinator_config), check};
