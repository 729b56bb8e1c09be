/*
 * The HTTP side of a gateway on a store in this process (local_kv.h): for the
 * tests of the web interface that need no cluster, and for working on it.
 *
 *   dev_gateway PORT WEB_DIR [NAME PASSWORD]...
 *
 * Makes the accounts, then takes mail on standard input until its end: blocks
 * of "RECIPIENT LENGTH\n" and LENGTH bytes, each answered by "ok\n" or
 * "failed STATUS\n". Prints "ready PORT" first.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cloud/delivery.h"
#include "gateway/http/server_io.h"
#include "tests/support/local_kv.h"

static int die(const char *what, const char *why)
{
    fprintf(stderr, "dev_gateway: %s: %s\n", what, why);
    exit(1);
}

static void take_mail(struct cloud *cloud, const char *name, size_t len)
{
    char *bytes = xmalloc(len + 1);
    if (fread(bytes, 1, len, stdin) != len)
        die("mail", "cut short");
    struct cloud_op op = cloud_op_make(cloud, 10000);
    struct delivery_recipient to = {.username = name, .folder = "inbox"};
    enum status s = delivery_run(&op, slice_make(bytes, len), &to, 1);
    if (s == ST_OK)
        printf("ok %s\n", to.uid);
    else
        printf("failed %s\n", status_name(s));
    fflush(stdout);
    free(bytes);
}

static void make_account(struct cloud *cloud, const char *name,
                         const char *password)
{
    struct cloud_op op = cloud_op_make(cloud, 10000);
    enum status s = account_create(&op, name, slice_of(password), "");
    if (s != ST_OK)
        die(name, status_text(s));
}

/* Reads "NAME LENGTH\n"; false at the end. */
static bool read_line(char name[ACCOUNT_NAME_MAX + 1], size_t *len)
{
    char line[128], *end;
    if (fgets(line, sizeof(line), stdin) == NULL)
        return false;
    size_t n = strcspn(line, " \n");
    if (line[n] != ' ' || n > ACCOUNT_NAME_MAX)
        return false;
    memcpy(name, line, n);
    name[n] = '\0';
    *len = strtoul(line + n + 1, &end, 10);
    return *end == '\n' && *len <= LIMIT_MESSAGE;
}

static void serve(struct http_server_options *o, struct cloud *cloud, int argc,
                  char **argv)
{
    struct http_server *server;
    struct err err;
    char name[ACCOUNT_NAME_MAX + 1];
    size_t len;
    for (int i = 3; i + 1 < argc; i += 2)
        make_account(cloud, argv[i], argv[i + 1]);
    if (http_server_start(o, &server, &err) != ST_OK)
        die("start", err.text);
    printf("ready %u\n", http_server_port(server));
    fflush(stdout);
    while (read_line(name, &len))
        take_mail(cloud, name, len);
    http_events_stop(http_app_options(o->app)->events);
    http_server_stop(server);
}

int main(int argc, char **argv)
{
    const char *const domains[] = {"penncloud.test", NULL};
    struct log log = {.daemon = "dev_gateway",
                      .node = "dev",
                      .level = LOG_LEVEL_INFO,
                      .fd = 2};
    struct kv *kv = local_kv_open();
    struct cloud *cloud;
    struct http_static *files;
    struct err err;
    char listen[64];
    if (argc < 3)
        die("usage", "dev_gateway PORT WEB_DIR [NAME PASSWORD]...");
    snprintf(listen, sizeof(listen), "127.0.0.1:%s", argv[1]);
    struct cloud_options co = {
        .kv = kv, .log = &log, .domains = domains, .hash_memory = KIB(64)};
    if (cloud_open(&co, &cloud, &err) != ST_OK)
        die("cloud", err.text);
    if (http_static_load(argv[2], &files, &err) != ST_OK)
        die("files", err.text);
    struct http_events *events = http_events_new(cloud, &log);
    struct http_app_options ao = {.cloud = cloud,
                                  .log = &log,
                                  .events = events,
                                  .timeout_ms = 10000,
                                  .signup = true,
                                  .login_burst = 10,
                                  .login_interval_ms = 30000};
    struct http_app *app = http_app_new(&ao);
    struct http_server_options so = {
        .app = app, .files = files, .log = &log, .listen = listen};
    serve(&so, cloud, argc, argv);
    http_app_free(app);
    http_events_free(events);
    http_static_free(files);
    cloud_close(cloud);
    kv_close(kv);
    return 0;
}
