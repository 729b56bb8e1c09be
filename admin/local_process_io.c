/*
 * Starting, finding and ending the daemons of a one-machine cluster. A daemon
 * gets a session of its own, its log as standard output and error, and no
 * other descriptor. Its pid file is written by us, who know the pid; that
 * the process behind it is still ours shows its command line, which names
 * both this directory's configuration and the daemon.
 */
#include "admin/local.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/key.h"

#define PATH_SIZE (LOCAL_PATH_MAX + 64)

static void path_of(const struct local *l, const char *folder, const char *name,
                    const char *suffix, char *out)
{
    (void)snprintf(out, PATH_SIZE, "%s/%s/%s%s", l->dir, folder, name, suffix);
}

/* ---- files ---- */

static bool read_text(const char *path, struct buf *out)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n;
    if (fd < 0) {
        return false;
    }
    do {
        uint8_t *to = buf_reserve(out, 4096);
        n = to == NULL ? 0 : read(fd, to, 4096);
        out->len += n > 0 ? (size_t)n : 0;
    } while (n > 0 || (n < 0 && errno == EINTR));
    (void)close(fd);
    return n == 0;
}

enum status local_write_file(const char *path, struct slice text,
                             struct err *err)
{
    char temporary[PATH_SIZE + 8];
    (void)snprintf(temporary, sizeof(temporary), "%s.tmp", path);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, text.data, text.len) != (ssize_t)text.len ||
        fsync(fd) != 0 || rename(temporary, path) != 0) {
        enum status s = status_from_errno(errno);
        if (fd >= 0) {
            (void)close(fd);
        }
        return err_set(err, s, "%s: %s", path, strerror(errno));
    }
    (void)close(fd);
    return ST_OK;
}

static enum status make_folder(const char *path, struct err *err)
{
    if (mkdir(path, 0700) != 0 && errno != EEXIST) {
        return err_set(err, status_from_errno(errno), "%s: %s", path,
                       strerror(errno));
    }
    return ST_OK;
}

/* ---- the directory ---- */

static enum status take_lock(const struct local *l, int *lock, struct err *err)
{
    char path[PATH_SIZE];
    path_of(l, "run", "lock", "", path);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || flock(fd, LOCK_EX) != 0) {
        if (fd >= 0) {
            (void)close(fd);
        }
        return err_set(err, status_from_errno(errno), "%s: %s", path,
                       strerror(errno));
    }
    *lock = fd;
    return ST_OK;
}

static enum status make_folders(const struct local *l, struct err *err)
{
    static const char *const names[] = {"", "run", "log", "data", "tls"};
    enum status s = ST_OK;
    for (size_t i = 0; i < 5 && s == ST_OK; i++) {
        char path[PATH_SIZE];
        path_of(l, names[i], "", "", path);
        for (size_t end = strlen(path); end > 1 && path[end - 1] == '/';) {
            path[--end] = '\0';
        }
        s = make_folder(path, err);
    }
    return s;
}

static bool same_shape(const struct local_shape *a, const struct local_shape *b)
{
    return a->port_base == b->port_base && a->nodes == b->nodes &&
           a->gateways == b->gateways && a->coordinators == b->coordinators;
}

static enum status make_files(struct local *l, struct err *err)
{
    char conf[PATH_SIZE], key[PATH_SIZE];
    struct buf text = {0};
    path_of(l, "", "penncloud.conf", "", conf);
    path_of(l, "", "cluster.key", "", key);
    local_write_config(l, &text);
    /* Before anything is written, so that other ports can be chosen yet. */
    enum status s = local_check_ports(buf_cstr(&text), err);
    if (s == ST_OK) {
        s = key_create(key, err);
        s = s == ST_EXISTS ? ST_OK : s;
    }
    if (s == ST_OK) {
        s = local_write_file(conf, buf_slice(&text), err);
    }
    buf_free(&text);
    return s;
}

/* Asked for: NULL, or what the command line said; zeros are "as it is". */
static void fill_shape(struct local_shape *s, const struct local_shape *asked,
                       const struct local_shape *have)
{
    *s = *have;
    s->port_base = asked->port_base != 0 ? asked->port_base : s->port_base;
    s->nodes = asked->nodes != 0 ? asked->nodes : s->nodes;
    s->gateways = asked->gateways != 0 ? asked->gateways : s->gateways;
    s->coordinators =
        asked->coordinators != 0 ? asked->coordinators : s->coordinators;
}

static enum status settle_shape(struct local *l,
                                const struct local_shape *asked, bool make,
                                struct err *err)
{
    static const struct local_shape usual = {8000, 1, 3, 2};
    char conf[PATH_SIZE];
    struct buf text = {0};
    struct local_shape have;
    path_of(l, "", "penncloud.conf", "", conf);
    bool there = read_text(conf, &text);
    bool ours = there && local_read_shape(buf_slice(&text), &have);
    buf_free(&text);
    if (there && !ours) {
        return err_set(err, ST_CONFIG,
                       "%s/penncloud.conf: was not written by pennctl local",
                       l->dir);
    }
    if (!there && !make) {
        return err_set(err, ST_NOT_FOUND, "%s: no cluster here", l->dir);
    }
    fill_shape(&l->shape, asked, there ? &have : &usual);
    enum status s = local_check_shape(&l->shape, err);
    if (s == ST_OK && there && !same_shape(&l->shape, &have)) {
        return err_set(err, ST_CONFIG,
                       "%s/penncloud.conf: has port base %u, %u storage "
                       "processes, %u gateways; edit it or choose another "
                       "directory",
                       l->dir, have.port_base, have.nodes, have.gateways);
    }
    if (s == ST_OK) {
        local_list_daemons(l);
    }
    return s == ST_OK && !there ? make_files(l, err) : s;
}

enum status local_prepare(struct local *l, const struct local_shape *asked,
                          bool make, int *lock, struct err *err)
{
    struct stat st;
    enum status s = ST_OK;
    if (!make && stat(l->dir, &st) != 0) {
        return err_set(err, ST_NOT_FOUND, "%s: no cluster here", l->dir);
    }
    s = make_folders(l, err);
    if (s == ST_OK) {
        s = take_lock(l, lock, err);
    }
    if (s == ST_OK) {
        s = settle_shape(l, asked, make, err);
    }
    return s == ST_OK && make ? local_make_certificate(l, err) : s;
}

/* ---- processes ---- */

/* True if PID's command line has "-c <our configuration>" and "-n NAME". */
static bool is_ours(const struct local *l, const struct local_daemon *d,
                    int pid)
{
    char path[64], conf[PATH_SIZE];
    struct buf line = {.max = 65536};
    bool has_conf = false, has_name = false;
    (void)snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
    path_of(l, "", "penncloud.conf", "", conf);
    if (read_text(path, &line)) {
        const char *text = buf_cstr(&line);
        for (size_t at = 0; at < line.len; at += strlen(text + at) + 1) {
            has_conf |= strcmp(text + at, conf) == 0;
            has_name |= strcmp(text + at, d->name) == 0;
        }
    }
    buf_free(&line);
    return has_conf && has_name;
}

int local_pid(const struct local *l, const struct local_daemon *d)
{
    char path[PATH_SIZE];
    struct buf text = {.max = 8192};
    int pid = 0;
    path_of(l, "run", d->name, ".pid", path);
    if (read_text(path, &text)) {
        pid = atoi(buf_cstr(&text));
    }
    buf_free(&text);
    return pid > 1 && is_ours(l, d, pid) ? pid : 0;
}

/* In the child: only async-signal-safe calls. Exec closes TELL; if it fails,
 * errno goes there. */
_Noreturn static void become(char *const argv[], int log, int null, int tell)
{
    sigset_t none;
    (void)setsid();
    if (chdir("/") != 0) {
        _exit(126);
    }
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)dup2(null, 0);
    (void)dup2(log, 1);
    (void)dup2(log, 2);
    (void)syscall(SYS_close_range, 3, ~0U, CLOSE_RANGE_CLOEXEC);
    (void)execv(argv[0], argv);
    int why = errno;
    ssize_t n = write(tell, &why, sizeof(why));
    _exit(n < 0 ? 126 : 127);
}

/* Forks and waits until the child has become its program. */
static int launch(char *const argv[], const char *log_path, pid_t *pid)
{
    int tell[2] = {-1, -1}, why = 0;
    int log = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    *pid = -1;
    if (log < 0 || null < 0 || pipe2(tell, O_CLOEXEC) != 0) {
        why = errno;
    } else if ((*pid = fork()) == 0) {
        become(argv, log, null, tell[1]);
    } else if (*pid < 0) {
        why = errno;
    }
    if (tell[1] >= 0) {
        (void)close(tell[1]);
    }
    if (*pid > 0) {
        ssize_t n = read(tell[0], &why, sizeof(why));
        why = n == (ssize_t)sizeof(why) ? why : 0;
    }
    const int fds[] = {log, null, tell[0]};
    for (size_t i = 0; i < 3; i++) {
        if (fds[i] >= 0) {
            (void)close(fds[i]);
        }
    }
    return why;
}

enum status local_spawn(const struct local *l, const struct local_daemon *d,
                        struct err *err)
{
    char program[PATH_SIZE], conf[PATH_SIZE], log_path[PATH_SIZE],
        pid_path[PATH_SIZE], pid_text[16], name[sizeof(d->name)];
    (void)snprintf(program, sizeof(program), "%s/%s", l->bindir, d->binary);
    (void)snprintf(name, sizeof(name), "%s", d->name);
    path_of(l, "", "penncloud.conf", "", conf);
    path_of(l, "log", d->name, ".log", log_path);
    path_of(l, "run", d->name, ".pid", pid_path);
    char c[] = "-c", n[] = "-n";
    char *argv[] = {program, c, conf, n, name, NULL};
    pid_t pid;
    int why = launch(argv, log_path, &pid);
    if (why != 0) {
        return err_set(err, status_from_errno(why), "%s: %s", program,
                       strerror(why));
    }
    int len = snprintf(pid_text, sizeof(pid_text), "%d\n", (int)pid);
    return local_write_file(pid_path, slice_make(pid_text, (size_t)len), err);
}

enum status local_end(const struct local *l, const struct local_daemon *d,
                      int signal, int timeout_ms)
{
    char path[PATH_SIZE];
    int pid = local_pid(l, d);
    path_of(l, "run", d->name, ".pid", path);
    if (pid == 0) {
        (void)unlink(path);
        return ST_NOT_FOUND;
    }
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0 || kill(pid, signal) != 0) {
        enum status s = status_from_errno(errno);
        if (fd >= 0) {
            (void)close(fd);
        }
        return s;
    }
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int ready = poll(&p, 1, timeout_ms);
    (void)close(fd);
    if (ready != 1) {
        return ST_TIMEOUT;
    }
    (void)unlink(path);
    return ST_OK;
}

void local_last_log(const struct local *l, const struct local_daemon *d,
                    char *out, size_t size)
{
    char path[PATH_SIZE], tail[1024];
    path_of(l, "log", d->name, ".log", path);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = 0;
    out[0] = '\0';
    if (fd < 0) {
        return;
    }
    off_t end = lseek(fd, 0, SEEK_END);
    off_t from = end > (off_t)sizeof(tail) ? end - (off_t)sizeof(tail) : 0;
    n = pread(fd, tail, sizeof(tail) - 1, from);
    (void)close(fd);
    if (n <= 0) {
        return;
    }
    tail[n] = '\0';
    while (n > 0 && tail[n - 1] == '\n') {
        tail[--n] = '\0';
    }
    const char *line = strrchr(tail, '\n');
    (void)snprintf(out, size, "%s", line == NULL ? tail : line + 1);
}
