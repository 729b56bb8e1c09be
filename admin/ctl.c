/*
 * What pennctl's commands share: the table, opening the store, exit statuses,
 * output.
 */
#include "admin/ctl.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sodium.h>

#include "cloud/text.h"

const struct ctl_command ctl_commands[] = {
#define COMMAND(words, needs, fn, arguments, help)                             \
    {words, needs, fn, arguments, help},
#include "admin/commands.def"
#undef COMMAND
    {NULL, CTL_NOTHING, NULL, NULL, NULL},
};

/* ---- finding a command ---- */

/* Number of words of ROW if ARGV begins with them, else 0. */
static int match(const char *words, int argc, char **argv)
{
    int n = 0;
    while (*words != '\0') {
        size_t len = strcspn(words, " ");
        if (n == argc || strlen(argv[n]) != len ||
            strncmp(argv[n], words, len) != 0) {
            return 0;
        }
        n++;
        words += len;
        words += strspn(words, " ");
    }
    return n;
}

const struct ctl_command *ctl_find(int argc, char **argv, int *used)
{
    const struct ctl_command *best = NULL;
    *used = 0;
    for (const struct ctl_command *k = ctl_commands; k->words != NULL; k++) {
        int n = match(k->words, argc, argv);
        if (n > *used) {
            best = k;
            *used = n;
        }
    }
    return best;
}

#define USAGE                                                                  \
    "usage: pennctl [--config FILE | --local DIR] [--json] [--watch] "         \
    "[--timeout SECONDS] COMMAND\n"

void ctl_usage_short(void)
{
    (void)fprintf(stderr, USAGE "pennctl --help lists the commands\n");
}

void ctl_usage(FILE *to)
{
    (void)fprintf(to, USAGE "\n");
    for (const struct ctl_command *k = ctl_commands; k->words != NULL; k++) {
        (void)fprintf(to, "  %s%s%s\n      %s\n", k->words,
                      k->arguments[0] != '\0' ? " " : "", k->arguments,
                      k->help);
    }
}

int ctl_misuse(const char *words)
{
    for (const struct ctl_command *k = ctl_commands; k->words != NULL; k++) {
        if (strcmp(k->words, words) == 0) {
            (void)fprintf(stderr, "usage: pennctl %s %s\n", k->words,
                          k->arguments);
        }
    }
    return CTL_USAGE;
}

/* ---- statuses ---- */

int ctl_exit_of(enum status s)
{
    switch ((unsigned)s) {
    case ST_OK:
    case ST_MORE:
        return CTL_DONE;
    case ST_UNREACHABLE:
    case ST_TIMEOUT:
    case ST_CLOSED:
    case ST_UNKNOWN_OUTCOME:
    case ST_UNKNOWN_CLIENT:
    case ST_STOPPING:
        return CTL_UNREACHABLE;
    case ST_CONFIG:
        return CTL_USAGE;
    default:
        return CTL_NO;
    }
}

int ctl_fail(const struct ctl *c, enum status s, const char *what)
{
    if (c->json) {
        cJSON *root = cJSON_CreateObject();
        cJSON *e = cJSON_AddObjectToObject(root, "error");
        cJSON_AddStringToObject(e, "code", status_name(s));
        cJSON_AddStringToObject(e, "message", status_text(s));
        ctl_print_take(root);
    }
    (void)fprintf(stderr, "pennctl: %s: %s\n", what, status_text(s));
    return ctl_exit_of(s);
}

/* ---- opening ---- */

static int load_config(struct ctl *c)
{
    char path[4096];
    struct err err = {""};
    if (c->local_dir != NULL) {
        int n = snprintf(path, sizeof(path), "%s/penncloud.conf", c->local_dir);
        if (n < 0 || (size_t)n >= sizeof(path)) {
            return CTL_USAGE;
        }
    }
    const char *file = c->local_dir != NULL     ? path
                       : c->config_file != NULL ? c->config_file
                                                : CONFIG_FILE_DEFAULT;
    struct config_source source = {.path = file};
    enum status s = config_load(&source, &c->config, &err);
    if (s != ST_OK) {
        (void)fprintf(stderr, "pennctl: %s\n", err.text);
        return CTL_USAGE;
    }
    return CTL_DONE;
}

static int open_store(struct ctl *c)
{
    struct err err = {""};
    struct kv_options o = {
        .coordinators =
            (const char *const *)c->config.cluster.coordinators.items,
        .key_file = c->config.cluster.key_file,
        .role = ROLE_CLIENT,
        .name = "pennctl",
        .log = &c->log,
    };
    enum status s = kv_open(&o, &c->kv, &err);
    if (s != ST_OK) {
        (void)fprintf(stderr, "pennctl: %s\n", err.text);
        return s == ST_UNREACHABLE ? CTL_UNREACHABLE : CTL_USAGE;
    }
    s = kv_wait_ready(c->kv, c->timeout_ms);
    return s == ST_OK ? CTL_DONE
                      : ctl_fail(c, ST_UNREACHABLE, "no coordinator answers");
}

static int open_cloud(struct ctl *c)
{
    struct err err = {""};
    struct cloud_options o = {
        .kv = c->kv,
        .log = &c->log,
        .domains = (const char *const *)c->config.cluster.domains.items,
    };
    enum status s = cloud_open(&o, &c->cloud, &err);
    if (s != ST_OK) {
        (void)fprintf(stderr, "pennctl: %s\n", err.text);
        return CTL_USAGE;
    }
    return CTL_DONE;
}

int ctl_open(struct ctl *c, enum ctl_needs needs)
{
    int code = CTL_DONE;
    if (needs >= CTL_CONFIG) {
        code = load_config(c);
    }
    if (code == CTL_DONE && needs >= CTL_STORE) {
        code = open_store(c);
    }
    if (code == CTL_DONE && needs >= CTL_CLOUD) {
        code = open_cloud(c);
    }
    return code;
}

void ctl_close(struct ctl *c)
{
    cloud_close(c->cloud);
    kv_close(c->kv);
    config_free(&c->config);
}

/* ---- asking ---- */

enum status ctl_ask(struct ctl *c, uint32_t node, struct buf *request_take,
                    enum msg_type type, struct arena *arena,
                    struct wire_msg *answer)
{
    enum status s =
        kv_call(c->kv, node, request_take, c->timeout_ms, arena, answer);
    buf_free(request_take);
    if (s == ST_OK && answer->type != type) {
        s = ST_UNSUPPORTED;
    }
    return s;
}

int ctl_repeat(struct ctl *c, int (*show)(struct ctl *c))
{
    int code = show(c);
    while (c->watch) {
        (void)fflush(stdout);
        (void)sleep(1);
        if (!c->json) {
            (void)fputs("\033[H\033[2J", stdout);
        }
        code = show(c);
    }
    return code;
}

/* ---- output ---- */

void ctl_print_take(cJSON *root)
{
    char *text = cJSON_PrintUnformatted(root);
    cJSON_Delete(root);
    if (text != NULL) {
        (void)puts(text);
        cJSON_free(text);
    }
}

const char *ctl_escape(struct slice s, struct buf *scratch)
{
    buf_clear(scratch);
    while (s.len > 0) {
        uint32_t code = 0;
        size_t n = text_utf8_step(s, &code);
        bool plain = n > 0 && code >= 0x20 && code != '\\' &&
                     !(code >= 0x7f && code < 0xa0);
        if (plain) {
            buf_put(scratch, s.data, n);
        } else {
            n = 1;
            buf_printf(scratch, "\\x%02x", s.data[0]);
        }
        s.data += n;
        s.len -= n;
    }
    return buf_cstr(scratch);
}

void ctl_json_bytes(cJSON *object, const char *name, struct slice s)
{
    if (text_utf8_valid(s) &&
        (s.len == 0 || memchr(s.data, '\0', s.len) == NULL)) {
        struct buf b = {0};
        buf_put_slice(&b, s);
        cJSON_AddStringToObject(object, name, buf_cstr(&b));
        buf_free(&b);
        return;
    }
    size_t size =
        sodium_base64_encoded_len(s.len, sodium_base64_VARIANT_ORIGINAL);
    char *text = xmalloc(size);
    sodium_bin2base64(text, size, s.data, s.len,
                      sodium_base64_VARIANT_ORIGINAL);
    cJSON *o = cJSON_AddObjectToObject(object, name);
    cJSON_AddStringToObject(o, "base64", text);
    free(text);
}

/* ---- arguments ---- */

static void remove_args(int *argc, char **argv, int at, int n)
{
    for (int i = at; i + n < *argc; i++) {
        argv[i] = argv[i + n];
    }
    *argc -= n;
}

bool ctl_take_option(int *argc, char **argv, const char *name,
                     const char **value)
{
    size_t len = strlen(name);
    for (int i = 0; i < *argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], name) == 0 && i + 1 < *argc) {
            *value = argv[i + 1];
            remove_args(argc, argv, i, 2);
            return true;
        }
        if (strncmp(argv[i], name, len) == 0 && argv[i][len] == '=') {
            *value = argv[i] + len + 1;
            remove_args(argc, argv, i, 1);
            return true;
        }
    }
    return false;
}

bool ctl_take_flag(int *argc, char **argv, const char *name)
{
    for (int i = 0; i < *argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], name) == 0) {
            remove_args(argc, argv, i, 1);
            return true;
        }
    }
    return false;
}

bool ctl_end_options(int *argc, char **argv)
{
    for (int i = 0; i < *argc; i++) {
        if (strcmp(argv[i], "--") == 0) {
            remove_args(argc, argv, i, 1);
            return true;
        }
        if (strncmp(argv[i], "--", 2) == 0) {
            (void)fprintf(stderr, "pennctl: %s: unknown option\n", argv[i]);
            return false;
        }
    }
    return true;
}

bool ctl_parse_number(const char *text, long long low, long long high,
                      long long *out)
{
    char *end;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || v < low || v > high) {
        return false;
    }
    *out = v;
    return true;
}
