/*
 * The life cycle, on real processes: a demo daemon is forked for each test,
 * tells by sd_notify how far it is, and is sent signals.
 */
#include <check.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include <config.h>

#include "common/daemon.h"

/* ---- the demo daemon ---- */

struct demo_config {
    int64_t node;
    char *mode;
};

static const struct config_option options[] = {
    {"node", CONFIG_INT, "4", 1, 9, offsetof(struct demo_config, node), NULL,
     "number"},
    {"mode", CONFIG_STRING, "", 0, 0, offsetof(struct demo_config, mode), NULL,
     "how to behave"},
};

static const struct config_spec demo_config_spec = {
    "admin", options, 2, sizeof(struct demo_config), NULL};

static bool mode_is(const struct daemon *d, const char *mode)
{
    const struct demo_config *c = d->config.own;
    return strcmp(c->mode, mode) == 0;
}

static void report_limits(struct daemon *d)
{
    struct rlimit core, files;
    getrlimit(RLIMIT_CORE, &core);
    getrlimit(RLIMIT_NOFILE, &files);
    log_info(&d->log, "demo", "limits", "core=%d files=%d privs=%d",
             core.rlim_max == 0, files.rlim_cur == files.rlim_max,
             prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
}

static enum status demo_start(struct daemon *d, struct err *err)
{
    if (mode_is(d, "fail")) {
        return err_set(err, ST_CORRUPT, "the demo is damaged");
    }
    if (mode_is(d, "slow")) {
        log_info(&d->log, "demo", "blocking", "in=%s", "start");
        for (;;) {
            pause();
        }
    }
    report_limits(d);
    if (mode_is(d, "fatal")) {
        daemon_fatal(d, ST_IO, "fdatasync: broken");
    }
    daemon_ready(d);
    if (mode_is(d, "once")) {
        daemon_stopped(d);
    }
    return ST_OK;
}

static void demo_reload(struct daemon *d, const struct config *next)
{
    const struct demo_config *c = next->own;
    log_info(&d->log, "demo", "got", "mode=%s", log_quote(slice_of(c->mode)));
}

static void demo_stop(struct daemon *d)
{
    if (!mode_is(d, "hang")) {
        daemon_stopped(d);
    }
}

static void demo_finish(struct daemon *d)
{
    log_info(&d->log, "demo", "finished", "node=%s", d->config.name);
}

static const struct daemon_spec demo_spec = {
    .program = "penn-demo",
    .config = &demo_config_spec,
    .stop_ms = 1500,
    .start = demo_start,
    .reload = demo_reload,
    .stop = demo_stop,
    .finish = demo_finish,
};

/* ---- running it ---- */

struct fixture {
    char folder[64], file[96], notify[96];
    int notify_fd, log_fd;
    pid_t pid;
    char log[16384];
    size_t log_len;
};

static void write_config(struct fixture *f, const char *text)
{
    FILE *out = fopen(f->file, "w");
    ck_assert_ptr_nonnull(out);
    fputs(text, out);
    ck_assert_int_eq(fclose(out), 0);
}

static void set_up(struct fixture *f)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    memset(f, 0, sizeof(*f));
    snprintf(f->folder, sizeof(f->folder), "/tmp/penn-test-daemon-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(f->folder));
    snprintf(f->file, sizeof(f->file), "%s/c", f->folder);
    snprintf(f->notify, sizeof(f->notify), "%s/n", f->folder);
    f->notify_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    snprintf(un.sun_path, sizeof(un.sun_path), "%s", f->notify);
    ck_assert_int_eq(bind(f->notify_fd, (struct sockaddr *)&un, sizeof(un)), 0);
}

static void launch(struct fixture *f, const char *mode, char **args)
{
    char text[512];
    int fds[2];
    snprintf(text, sizeof(text),
             "[cluster]\ncoordinators = c:1\n[admin]\nmode = %s\n", mode);
    write_config(f, text);
    ck_assert_int_eq(pipe(fds), 0);
    f->pid = fork();
    if (f->pid == 0) {
        char *def[] = {"penn-demo", "-c", f->file, NULL};
        char **argv = args != NULL ? args : def;
        int argc = 0;
        while (argv[argc] != NULL) {
            argc++;
        }
        setenv("NOTIFY_SOCKET", f->notify, 1);
        dup2(fds[1], STDOUT_FILENO);
        dup2(fds[1], STDERR_FILENO);
        close(fds[0]);
        close(fds[1]);
        exit(daemon_main(&demo_spec, argc, argv));
    }
    close(fds[1]);
    f->log_fd = fds[0];
}

/* Waits for a message that contains WHAT. */
static void wait_notify(struct fixture *f, const char *what)
{
    char text[512] = "";
    while (strstr(text, what) == NULL) {
        struct pollfd p = {f->notify_fd, POLLIN, 0};
        ck_assert_msg(poll(&p, 1, 30000) == 1, "no %s", what);
        ssize_t n = recv(f->notify_fd, text, sizeof(text) - 1, 0);
        ck_assert_int_gt((int)n, 0);
        text[n] = '\0';
    }
}

static bool read_log(struct fixture *f)
{
    struct pollfd p = {f->log_fd, POLLIN, 0};
    ck_assert_msg(poll(&p, 1, 30000) == 1, "silent after: %s", f->log);
    ssize_t n =
        read(f->log_fd, f->log + f->log_len, sizeof(f->log) - 1 - f->log_len);
    ck_assert_int_ge((int)n, 0);
    f->log_len += (size_t)n;
    f->log[f->log_len] = '\0';
    return n > 0;
}

static void wait_log(struct fixture *f, const char *what)
{
    while (strstr(f->log, what) == NULL) {
        ck_assert_msg(read_log(f), "no %s in %s", what, f->log);
    }
}

/* The rest of its log, its exit status, and all cleaned up. */
static int end(struct fixture *f)
{
    int status;
    while (read_log(f)) {
    }
    ck_assert_int_eq(waitpid(f->pid, &status, 0), f->pid);
    close(f->log_fd);
    close(f->notify_fd);
    unlink(f->notify);
    unlink(f->file);
    rmdir(f->folder);
    ck_assert_msg(WIFEXITED(status), "signal %d", WTERMSIG(status));
    return WEXITSTATUS(status);
}

#define HAS(f, what)                                                           \
    ck_assert_msg(strstr((f).log, what) != NULL, "no %s in %s", what, (f).log)

START_TEST(stops_on_signals)
{
    struct fixture f;
    set_up(&f);
    launch(&f, "", NULL);
    wait_notify(&f, "READY=1");
    kill(f.pid, _i == 0 ? SIGTERM : SIGINT);
    wait_notify(&f, "STOPPING=1");
    ck_assert_int_eq(end(&f), EX_OK);
    HAS(f, "daemon=penn-demo node=admin-4 module=demo event=limits core=1 "
           "files=1 privs=1");
    HAS(f, "event=finished node=admin-4");
    HAS(f, "event=stopped");
}
END_TEST

START_TEST(hang_is_ended)
{
    struct fixture f;
    set_up(&f);
    launch(&f, "hang", NULL);
    wait_notify(&f, "READY=1");
    kill(f.pid, SIGTERM);
    ck_assert_int_eq(end(&f), EX_SOFTWARE);
    HAS(f, "level=fatal daemon=penn-demo node=admin-4 module=daemon "
           "event=stop-timeout after_ms=1500");
}
END_TEST

START_TEST(stops_while_starting)
{
    struct fixture f;
    set_up(&f);
    launch(&f, "slow", NULL);
    wait_log(&f, "event=blocking");
    kill(f.pid, SIGTERM);
    ck_assert_int_eq(end(&f), EX_OK);
    HAS(f, "event=stopped while=starting");
}
END_TEST

START_TEST(reloads)
{
    struct fixture f;
    set_up(&f);
    launch(&f, "", NULL);
    wait_notify(&f, "READY=1");
    write_config(&f, "[cluster]\ncoordinators = c:1\nlog_level = info\n"
                     "[admin]\nmode = other\n");
    kill(f.pid, SIGHUP);
    wait_notify(&f, "RELOADING=1");
    wait_notify(&f, "READY=1");
    wait_log(&f, "event=got mode=other");
    wait_log(&f, "event=reloaded");
    write_config(&f, "[cluster]\nrubbish\n");
    kill(f.pid, SIGHUP);
    wait_log(&f, "event=reload-failed");
    wait_log(&f, ":2: not");
    kill(f.pid, SIGUSR1); /* means nothing from outside */
    write_config(&f, "[cluster]\ncoordinators = c:1\nlog_level = error\n");
    kill(f.pid, SIGHUP);
    wait_notify(&f, "READY=1");
    wait_notify(&f, "READY=1");
    kill(f.pid, SIGTERM);
    ck_assert_int_eq(end(&f), EX_OK);
    ck_assert_ptr_null(strstr(f.log, "event=stopping"));
}
END_TEST

static const struct {
    const char *mode;
    int code;
    const char *line;
} ends[] = {
    {"fail", EX_DATAERR,
     "event=start-failed status=CORRUPT text=\"the demo is damaged\""},
    {"fatal", EX_IOERR, "event=fatal status=IO text=\"fdatasync: broken\""},
    {"once", EX_OK, "event=finished"},
};

START_TEST(ends_by_itself)
{
    struct fixture f;
    set_up(&f);
    launch(&f, ends[_i].mode, NULL);
    ck_assert_int_eq(end(&f), ends[_i].code);
    HAS(f, ends[_i].line);
}
END_TEST

static const struct {
    const char *args[4];
    int code;
    const char *text;
} uses[] = {
    {{"-V"}, EX_OK, "penn-demo " PACKAGE_VERSION "\n"},
    {{"--help"}, EX_OK, "admin.node\tint\t4\t1..9\tnumber\n"},
    {{"-h"}, EX_OK, "cluster.key_file\tpath\t"},
    {{"-x"}, EX_USAGE, "penn-demo: unknown argument: -x\n"},
    {{"-c"}, EX_USAGE, "penn-demo: -c: needs a value\n"},
    {{"-n", "A b"}, EX_USAGE, "penn-demo: -n: not a node's name: A b\n"},
    {{"-c", "/nowhere/c"}, EX_CONFIG, "/nowhere/c: No such file or directory"},
    {{"-c@", "-t"}, EX_OK, ""},
    {{"-c@", "-p"}, EX_OK, "[admin]\nnode = 4\nmode = m\n"},
    {{"-c@", "-n", "admin-7"},
     EX_CONFIG,
     "there is no section [admin admin-7]\n"},
};

START_TEST(arguments)
{
    struct fixture f;
    char path[128], *argv[8] = {"penn-demo"};
    set_up(&f);
    snprintf(path, sizeof(path), "-c%s", f.file);
    for (int i = 0; i < 4 && uses[_i].args[i] != NULL; i++) {
        bool is_path = strcmp(uses[_i].args[i], "-c@") == 0;
        argv[i + 1] = is_path ? path : (char *)uses[_i].args[i];
    }
    launch(&f, "m", argv);
    ck_assert_int_eq(end(&f), uses[_i].code);
    HAS(f, uses[_i].text);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("daemon");
    TCase *tc = tcase_create("daemon");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, stops_on_signals, 0, 2);
    tcase_add_test(tc, hang_is_ended);
    tcase_add_test(tc, stops_while_starting);
    tcase_add_test(tc, reloads);
    tcase_add_loop_test(tc, ends_by_itself, 0, sizeof(ends) / sizeof(ends[0]));
    tcase_add_loop_test(tc, arguments, 0, sizeof(uses) / sizeof(uses[0]));
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
