/*
 * Names, ports and configuration of a one-machine cluster: the table of ports
 * that programs and scripts rely on.
 */
#include "admin/local.h"

#include <stdio.h>
#include <string.h>

#define COORDINATORS_MAX 5
#define NODES_MAX 16
#define GATEWAYS_MAX 9

enum status local_check_shape(const struct local_shape *s, struct err *err)
{
    if (s->coordinators != 1) {
        return err_set(err, ST_CONFIG,
                       "--coordinators %u: this version runs exactly 1",
                       s->coordinators);
    }
    if (s->nodes < 1 || s->nodes > NODES_MAX) {
        return err_set(err, ST_CONFIG, "--nodes %u: must be 1 to %d", s->nodes,
                       NODES_MAX);
    }
    if (s->gateways < 1 || s->gateways > GATEWAYS_MAX) {
        return err_set(err, ST_CONFIG, "--gateways %u: must be 1 to %d",
                       s->gateways, GATEWAYS_MAX);
    }
    if (s->port_base < 1024 || s->port_base > 64900) {
        return err_set(err, ST_CONFIG, "--port-base %u: must be 1024 to 64900",
                       s->port_base);
    }
    return ST_OK;
}

static void add(struct local *l, const char *kind, const char *binary,
                unsigned number, unsigned status_port)
{
    struct local_daemon *d = &l->daemons[l->count++];
    (void)snprintf(d->name, sizeof(d->name), "%s-%u", kind, number);
    d->kind = kind;
    d->binary = binary;
    d->status_port = status_port;
}

void local_list_daemons(struct local *l)
{
    unsigned b = l->shape.port_base;
    _Static_assert(COORDINATORS_MAX + NODES_MAX + GATEWAYS_MAX + 2 <=
                       LOCAL_DAEMONS_MAX,
                   "all fit");
    l->count = 0;
    for (unsigned i = 1; i <= l->shape.coordinators; i++) {
        add(l, "coordinator", "penn-coordinatord", i, b + 201 + 10 * i);
    }
    for (unsigned i = 1; i <= l->shape.nodes; i++) {
        add(l, "storage", "penn-storaged", i, b + 301 + 10 * i);
    }
    for (unsigned i = 1; i <= l->shape.gateways; i++) {
        add(l, "gateway", "penn-gatewayd", i, b + 104 + 10 * i);
    }
    add(l, "balancer", "penn-balancerd", 1, b + 81);
}

const struct local_daemon *local_find(const struct local *l, const char *name)
{
    for (unsigned i = 0; i < l->count; i++) {
        if (strcmp(l->daemons[i].name, name) == 0) {
            return &l->daemons[i];
        }
    }
    return NULL;
}

static void put_daemon(const struct local *l, unsigned number,
                       const struct local_daemon *d, struct buf *out)
{
    unsigned b = l->shape.port_base, n = 10 * number;
    buf_printf(out, "\n[%s %s]\nnode = %u\n", d->kind, d->name, number);
    buf_printf(out, "status_listen = 127.0.0.1:%u\n", d->status_port);
    if (strcmp(d->kind, "coordinator") == 0) {
        buf_printf(out, "listen = 127.0.0.1:%u\n", b + 200 + n);
        buf_printf(out, "initial_nodes = %u\n", l->shape.nodes);
        buf_printf(out, "data_dir = %s/data/%s\n", l->dir, d->name);
    } else if (strcmp(d->kind, "storage") == 0) {
        buf_printf(out, "listen = 127.0.0.1:%u\n", b + 300 + n);
        buf_printf(out, "beacon_listen = 127.0.0.1:%u\n", b + 302 + n);
        buf_printf(out, "data_dir = %s/data/%s\n", l->dir, d->name);
    } else if (strcmp(d->kind, "gateway") == 0) {
        buf_printf(out, "http_listen = 127.0.0.1:%u\n", b + 100 + n);
        buf_printf(out, "https_listen = 127.0.0.1:%u\n", b + 105 + n);
        buf_printf(out, "certificate = %s/tls/cert.pem\n", l->dir);
        buf_printf(out, "private_key = %s/tls/key.pem\n", l->dir);
        buf_printf(out, "smtp_listen = 127.0.0.1:%u\n", b + 101 + n);
        buf_printf(out, "proxy_protocol = yes\n");
        buf_printf(out, "hostname = mail.penncloud.test\n");
        buf_printf(out, "postmaster = demo\n");
        buf_printf(out, "web_dir = %s\n", l->webdir);
    } else {
        buf_printf(out, "http_listen = 127.0.0.1:%u\n", b + 80);
        buf_printf(out, "https_listen = 127.0.0.1:%u\n", b + 443);
        buf_printf(out, "smtp_listen = 127.0.0.1:%u\n", b + 25);
    }
}

void local_write_config(const struct local *l, struct buf *out)
{
    const struct local_shape *s = &l->shape;
    unsigned number = 0;
    const char *kind = "";
    buf_printf(out, "# port-base=%u coordinators=%u nodes=%u gateways=%u\n",
               s->port_base, s->coordinators, s->nodes, s->gateways);
    buf_printf(out,
               "# A cluster on one machine, written by pennctl(1) local up.\n"
               "# It may be edited; up starts what does not run.\n\n"
               "[cluster]\nkey_file = %s/cluster.key\ncoordinators =",
               l->dir);
    for (unsigned i = 1; i <= s->coordinators; i++) {
        buf_printf(out, "%s127.0.0.1:%u", i == 1 ? " " : ", ",
                   s->port_base + 200 + 10 * i);
    }
    buf_printf(out, "\ndomains = penncloud.test\nreplicas = %u\n",
               s->nodes < 3 ? s->nodes : 3);
    for (unsigned i = 0; i < l->count; i++) {
        number = strcmp(kind, l->daemons[i].kind) == 0 ? number + 1 : 1;
        kind = l->daemons[i].kind;
        put_daemon(l, number, &l->daemons[i], out);
    }
}

bool local_read_shape(struct slice text, struct local_shape *out)
{
    char line[128];
    struct local_shape s;
    size_t len = text.len < sizeof(line) - 1 ? text.len : sizeof(line) - 1;
    memcpy(line, text.data, len);
    line[len] = '\0';
    if (sscanf(line, "# port-base=%u coordinators=%u nodes=%u gateways=%u",
               &s.port_base, &s.coordinators, &s.nodes, &s.gateways) != 4) {
        return false;
    }
    *out = s;
    return true;
}
