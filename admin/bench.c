/*
 * pennctl bench kv: what is asked for, and what is printed.
 */
#include "admin/bench.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char *const op_names[] = {"put", "get", "cput"};

static bool parse_op(const char *text, enum bench_op *out)
{
    for (int i = 0; i < 3; i++) {
        if (strcmp(text, op_names[i]) == 0) {
            *out = (enum bench_op)i;
            return true;
        }
    }
    return false;
}

/* Option NAME within bounds into *OUT, if it is there. */
static bool take_number(int *argc, char **argv, const char *name,
                        long long high, uint32_t *out)
{
    const char *text;
    long long v;
    if (!ctl_take_option(argc, argv, name, &text)) {
        return true;
    }
    if (!ctl_parse_number(text, 1, high, &v)) {
        (void)fprintf(stderr, "pennctl: %s is a number from 1 to %lld\n", name,
                      high);
        return false;
    }
    *out = (uint32_t)v;
    return true;
}

static bool parse(int argc, char **argv, struct bench_options *o)
{
    const char *op = "put";
    (void)ctl_take_option(&argc, argv, "--op", &op);
    (void)ctl_take_option(&argc, argv, "--disk", &o->disk);
    o->prepared = ctl_take_flag(&argc, argv, "--prepared");
    return take_number(&argc, argv, "--clients", LIMIT_CLIENT_OPS / 2,
                       &o->clients) &&
           take_number(&argc, argv, "--value-size", LIMIT_VALUE,
                       &o->value_size) &&
           take_number(&argc, argv, "--keys", 100000000, &o->keys) &&
           take_number(&argc, argv, "--seconds", 86400, &o->seconds) &&
           ctl_end_options(&argc, argv) && argc == 0 && parse_op(op, &o->op);
}

static double ms(uint64_t us)
{
    return (double)us / 1000.0;
}

static void add_latency(cJSON *root, const char *name,
                        const struct histogram *h)
{
    cJSON *o = cJSON_AddObjectToObject(root, name);
    cJSON_AddNumberToObject(o, "p50", ms(histogram_quantile(h, 0.5)));
    cJSON_AddNumberToObject(o, "p99", ms(histogram_quantile(h, 0.99)));
    cJSON_AddNumberToObject(o, "p999", ms(histogram_quantile(h, 0.999)));
    cJSON_AddNumberToObject(o, "max", ms(h->max));
}

static void print_json(const struct bench_options *o,
                       const struct bench_result *r)
{
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "op", op_names[o->op]);
    cJSON_AddNumberToObject(root, "clients", o->clients);
    cJSON_AddNumberToObject(root, "value_size", o->value_size);
    cJSON_AddNumberToObject(root, "keys", o->keys);
    cJSON_AddNumberToObject(root, "seconds", r->seconds);
    cJSON_AddNumberToObject(root, "operations", (double)r->operations);
    cJSON_AddNumberToObject(root, "operations_per_s",
                            (double)r->operations / r->seconds);
    cJSON_AddNumberToObject(root, "refused", (double)r->refused);
    cJSON_AddNumberToObject(root, "unknown", (double)r->unknown);
    cJSON_AddNumberToObject(root, "resends", (double)r->stats.resends);
    cJSON_AddNumberToObject(root, "sealing_seconds", r->sealing_seconds);
    add_latency(root, "latency_ms", &r->latency_us);
    if (o->disk != NULL) {
        cJSON *disk = cJSON_AddObjectToObject(root, "disk");
        cJSON_AddStringToObject(disk, "dir", o->disk);
        cJSON_AddNumberToObject(disk, "syncs_per_s",
                                (double)r->sync_us.count / r->disk_seconds);
        add_latency(disk, "latency_ms", &r->sync_us);
    }
    ctl_print_take(root);
}

static void print_latency(const char *name, const struct histogram *h)
{
    (void)printf("%-14s p50 %.3f ms  p99 %.3f ms  p99.9 %.3f ms  max %.3f ms\n",
                 name, ms(histogram_quantile(h, 0.5)),
                 ms(histogram_quantile(h, 0.99)),
                 ms(histogram_quantile(h, 0.999)), ms(h->max));
}

static void print_text(const struct bench_options *o,
                       const struct bench_result *r)
{
    (void)printf("%s, %u clients, %u bytes, %u keys, %.1f s\n", op_names[o->op],
                 (unsigned)o->clients, (unsigned)o->value_size,
                 (unsigned)o->keys, r->seconds);
    (void)printf("%-14s %" PRIu64 ", %.0f /s\n", "operations", r->operations,
                 (double)r->operations / r->seconds);
    (void)printf("%-14s %" PRIu64 " refused, %" PRIu64 " unknown, %" PRIu64
                 " sent again\n",
                 "errors", r->refused, r->unknown, r->stats.resends);
    print_latency("latency", &r->latency_us);
    if (o->disk != NULL) {
        (void)printf("%-14s %.0f fdatasync/s alone in %s\n", "disk",
                     (double)r->sync_us.count / r->disk_seconds, o->disk);
        print_latency("fdatasync", &r->sync_us);
    }
}

int ctl_cmd_bench_kv(struct ctl *c, int argc, char **argv)
{
    struct bench_options o = {
        .clients = 16,
        .value_size = 1024,
        .keys = 10000,
        .seconds = 10,
        .timeout_ms = c->timeout_ms,
    };
    struct err err = {""};
    if (!parse(argc, argv, &o)) {
        return ctl_misuse("bench kv");
    }
    struct bench_result *r = xcalloc(1, sizeof(*r));
    enum status s = bench_run(&o, &c->config, &c->log, r, &err);
    if (s != ST_OK) {
        (void)fprintf(stderr, "pennctl: %s\n", err.text);
        free(r);
        return ctl_exit_of(s);
    }
    if (c->json) {
        print_json(&o, r);
    } else {
        print_text(&o, r);
    }
    int code = r->operations > 0 ? CTL_DONE : CTL_UNREACHABLE;
    free(r);
    return code;
}
