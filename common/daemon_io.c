/*
 * The life of a daemon; see daemon.h for its course.
 *
 * Two threads matter. The main thread owns loop and daemon. The signal
 * thread waits in sigtimedwait(), tells the loop through one uv_async, and
 * from SIGTERM on counts down; it needs nothing of the loop, so it also ends
 * a process whose loop hangs. When main is through, it wakes the thread by a
 * SIGUSR1 of its own and joins it.
 *
 * stages, by the main thread: STARTING -> RUNNING -> FINISHED.
 */
#include <config.h>

#include "common/daemon.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>

#include "common/privilege_io.h"
#include "common/status_http_io.h"

enum stage { STAGE_STARTING, STAGE_RUNNING, STAGE_FINISHED };

struct daemon_io {
    uv_loop_t loop;
    uv_async_t wake;
    struct status_http *status;
    uint64_t started_ns; /* uv_hrtime */
    bool ready, stopping, stopped;

    pthread_t signals;
    sigset_t set;
    _Atomic enum stage stage;
    atomic_bool want_stop, want_reload;
};

static double uptime_s(const struct daemon *d)
{
    return (double)(uv_hrtime() - d->io->started_ns) / 1e9;
}

/* ---- notices to people and supervisors ---- */

void daemon_ready(struct daemon *d)
{
    if (d->io->stopping || d->io->ready) {
        return;
    }
    d->io->ready = true;
    /* Also within start(): who has said so is stopped in order. */
    atomic_store(&d->io->stage, STAGE_RUNNING);
    if (d->io->status != NULL) {
        status_http_set_ready(d->io->status, true);
    }
    log_info(&d->log, "daemon", "ready", "version=%s", PACKAGE_VERSION);
    (void)sd_notify(0, "READY=1\nSTATUS=ready");
}

void daemon_not_ready(struct daemon *d)
{
    if (!d->io->ready) {
        return;
    }
    d->io->ready = false;
    if (d->io->status != NULL) {
        status_http_set_ready(d->io->status, false);
    }
    if (!d->io->stopping) {
        log_warn(&d->log, "daemon", "not-ready", "uptime_s=%.3f", uptime_s(d));
        (void)sd_notify(0, "STATUS=not ready");
    }
}

void daemon_stopped(struct daemon *d)
{
    d->io->stopped = true;
    uv_stop(d->loop);
}

_Noreturn void daemon_fatal(struct daemon *d, enum status why, const char *text)
{
    log_fatal(&d->log, "daemon", "fatal", "status=%s text=%s", status_name(why),
              log_quote(slice_of(text)));
    int code = daemon_exit_code(why);
    _exit(code != 0 ? code : EX_SOFTWARE);
}

static const char *state_name(const struct daemon *d)
{
    return d->io->stopping ? "stopping" : d->io->ready ? "ready" : "starting";
}

/* /status: what all have, then what the daemon adds. */
static void on_render(void *ctx, struct buf *out)
{
    struct daemon *d = ctx;
    cJSON *json = cJSON_CreateObject();
    (void)cJSON_AddStringToObject(json, "daemon", d->spec->program);
    (void)cJSON_AddStringToObject(json, "node", d->config.name);
    (void)cJSON_AddStringToObject(json, "version", PACKAGE_VERSION);
    (void)cJSON_AddStringToObject(json, "state", state_name(d));
    (void)cJSON_AddNumberToObject(json, "pid", getpid());
    (void)cJSON_AddNumberToObject(json, "uptime_s", uptime_s(d));
    if (d->spec->status != NULL) {
        d->spec->status(d, json);
    }
    char *text = cJSON_PrintUnformatted(json);
    buf_put_text(out, text != NULL ? text : "{}");
    free(text);
    cJSON_Delete(json);
}

/* ---- reload and stop, on the loop ---- */

static void set_log_level(struct daemon *d, const struct config *c)
{
    enum log_level level;
    if (log_level_parse(c->cluster.log_level, &level)) {
        log_set_level(&d->log, level);
    }
}

static void reload(struct daemon *d)
{
    struct config next;
    struct err err;
    struct config_source source = {d->config.path, d->config.name,
                                   d->spec->config};
    (void)sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%llu",
                     (unsigned long long)(uv_hrtime() / 1000));
    /* A name that was not asked for has no section of its own. */
    if (!d->config.named) {
        source.name = NULL;
    }
    enum status s = config_load(&source, &next, &err);
    if (s != ST_OK) {
        log_error(&d->log, "daemon", "reload-failed", "text=%s",
                  log_quote(slice_of(err.text)));
    } else {
        set_log_level(d, &next);
        if (d->spec->reload != NULL) {
            d->spec->reload(d, &next);
        }
        config_free(&next);
        log_info(&d->log, "daemon", "reloaded", "file=%s",
                 log_quote(slice_of(d->config.path)));
    }
    (void)sd_notify(0, "READY=1");
}

static void begin_stop(struct daemon *d)
{
    if (d->io->stopping || d->io->stopped) {
        return;
    }
    log_info(&d->log, "daemon", "stopping", "uptime_s=%.3f", uptime_s(d));
    (void)sd_notify(0, "STOPPING=1\nSTATUS=stopping");
    d->io->stopping = true;
    daemon_not_ready(d);
    d->spec->stop(d);
}

static void on_wake(uv_async_t *wake)
{
    struct daemon *d = wake->data;
    if (atomic_exchange(&d->io->want_reload, false) && !d->io->stopping) {
        reload(d);
    }
    if (atomic_load(&d->io->want_stop)) {
        begin_stop(d);
    }
}

/* ---- the signal thread ---- */

/* SIGTERM came: waits for the end of the process, and makes one if none
 * comes. */
static void count_down(struct daemon *d)
{
    int stop_ms = d->spec->stop_ms != 0 ? d->spec->stop_ms : LIMIT_STOP_MS;
    uint64_t end = uv_hrtime() + (uint64_t)stop_ms * 1000000;
    for (;;) {
        uint64_t now = uv_hrtime();
        if (now >= end) {
            log_fatal(&d->log, "daemon", "stop-timeout", "after_ms=%d",
                      stop_ms);
            _exit(EX_SOFTWARE);
        }
        struct timespec left = {(time_t)((end - now) / 1000000000),
                                (long)((end - now) % 1000000000)};
        (void)sigtimedwait(&d->io->set, NULL, &left);
        if (atomic_load(&d->io->stage) == STAGE_FINISHED) {
            return;
        }
    }
}

static void *signal_thread(void *arg)
{
    struct daemon *d = arg;
    for (;;) {
        int sig = sigwaitinfo(&d->io->set, NULL);
        enum stage stage = atomic_load(&d->io->stage);
        if (stage == STAGE_FINISHED) {
            return NULL;
        }
        if (sig == SIGTERM || sig == SIGINT) {
            if (stage == STAGE_STARTING) {
                log_info(&d->log, "daemon", "stopped", "while=starting");
                _exit(EX_OK);
            }
            atomic_store(&d->io->want_stop, true);
            (void)uv_async_send(&d->io->wake);
            count_down(d);
            return NULL;
        }
        if (sig == SIGHUP) {
            atomic_store(&d->io->want_reload, true);
            (void)uv_async_send(&d->io->wake);
        }
    }
}

static void start_signals(struct daemon *d)
{
    sigset_t *set = &d->io->set;
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGHUP);
    sigaddset(set, SIGUSR1);
    (void)sigaction(SIGPIPE, &ignore, NULL);
    (void)pthread_sigmask(SIG_BLOCK, set, NULL);
    int error = pthread_create(&d->io->signals, NULL, signal_thread, d);
    assert(error == 0);
}

static void stop_signals(struct daemon *d)
{
    atomic_store(&d->io->stage, STAGE_FINISHED);
    (void)pthread_kill(d->io->signals, SIGUSR1);
    (void)pthread_join(d->io->signals, NULL);
}

/* ---- the course ---- */

/* The option "status_listen", where the daemon has one; NULL if unset. */
static const char *status_address(const struct daemon *d)
{
    const struct config_spec *spec = d->spec->config;
    for (size_t i = 0; i < spec->count; i++) {
        const struct config_option *o = &spec->options[i];
        if (strcmp(o->name, "status_listen") == 0) {
            char *text;
            memcpy(&text, (char *)d->config.own + o->offset, sizeof(text));
            return text[0] != '\0' ? text : NULL;
        }
    }
    return NULL;
}

static enum status start_status(struct daemon *d, struct err *err)
{
    struct status_http_options o = {.address = status_address(d),
                                    .loop = d->loop,
                                    .log = &d->log,
                                    .metrics = d->metrics,
                                    .render = on_render,
                                    .ctx = d};
    return o.address != NULL ? status_http_start(&o, &d->io->status, err)
                             : ST_OK;
}

static void close_loop(struct daemon *d)
{
    status_http_stop(d->io->status);
    d->io->status = NULL;
    uv_close((uv_handle_t *)&d->io->wake, NULL);
    while (uv_run(d->loop, UV_RUN_DEFAULT) != 0) {
        /* a uv_stop() before the first run ends that run at once */
    }
    int error = uv_loop_close(d->loop);
    assert(error == 0);
}

/* From the loop's making to its end. */
static enum status run_loop(struct daemon *d, struct err *err)
{
    enum status s = start_status(d, err);
    if (s == ST_OK) {
        s = d->spec->start(d, err);
    }
    if (s == ST_OK) {
        atomic_store(&d->io->stage, STAGE_RUNNING);
        while (!d->io->stopped) {
            (void)uv_run(d->loop, UV_RUN_DEFAULT);
        }
        d->spec->finish(d);
    }
    close_loop(d);
    if (d->spec->release != NULL) {
        d->spec->release(d);
    }
    return s;
}

static int run(struct daemon *d)
{
    struct err err;
    struct privileges p = {.user = d->config.cluster.user,
                           .low_ports = d->spec->low_ports};
    enum status s = privileges_drop(&p, &d->log, &err);
    if (s == ST_OK) {
        int error = uv_loop_init(&d->io->loop);
        assert(error == 0);
        d->loop = &d->io->loop;
        error = uv_async_init(d->loop, &d->io->wake, on_wake);
        assert(error == 0);
        d->io->wake.data = d;
        d->io->started_ns = uv_hrtime();
        d->metrics = metrics_new(d->spec->metrics, d->spec->metric_count);
        start_signals(d);
        s = run_loop(d, &err);
        stop_signals(d);
        metrics_free(d->metrics);
    }
    if (s != ST_OK) {
        log_fatal(&d->log, "daemon", "start-failed", "status=%s text=%s",
                  status_name(s), log_quote(slice_of(err.text)));
        return daemon_exit_code(s);
    }
    log_info(&d->log, "daemon", "stopped", "uptime_s=%.3f", uptime_s(d));
    return EX_OK;
}

static int print(struct buf *out)
{
    bool ok = out->len == 0 || fwrite(out->data, out->len, 1, stdout) == 1;
    ok = fflush(stdout) == 0 && ok;
    buf_free(out);
    return ok ? EX_OK : EX_IOERR;
}

/* With the configuration loaded. */
static int act(struct daemon *d, enum daemon_mode mode)
{
    struct buf out = {0};
    if (mode == DAEMON_TEST) {
        return EX_OK;
    }
    if (mode == DAEMON_PRINT) {
        config_print(&d->config, &out);
        return print(&out);
    }
    log_init_stderr(&d->log, d->spec->program, d->config.name);
    set_log_level(d, &d->config);
    return run(d);
}

int daemon_main(const struct daemon_spec *spec, int argc, char **argv)
{
    struct daemon_args args;
    struct daemon_io io = {.status = NULL};
    struct daemon d = {.spec = spec, .io = &io};
    struct err err;
    struct buf out = {0};
    if (daemon_parse_args(argc, argv, &args, &err) != ST_OK) {
        (void)fprintf(stderr, "%s: %s\n", spec->program, err.text);
        return EX_USAGE;
    }
    if (args.mode == DAEMON_HELP) {
        daemon_usage(spec, &out);
        return print(&out);
    }
    if (args.mode == DAEMON_VERSION) {
        buf_printf(&out, "%s %s\n", spec->program, PACKAGE_VERSION);
        return print(&out);
    }
    struct config_source source = {args.file, args.name, spec->config};
    if (config_load(&source, &d.config, &err) != ST_OK) {
        (void)fprintf(stderr, "%s\n", err.text);
        return EX_CONFIG;
    }
    int code = act(&d, args.mode);
    config_free(&d.config);
    return code;
}
