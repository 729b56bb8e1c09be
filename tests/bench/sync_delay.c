/*
 * bench_sync_delay: runs a program on a slower disk, and counts its syncs.
 *
 *   bench_sync_delay CONTROL COMMAND [ARGUMENT...]
 *
 * CONTROL is a file of struct control, which others may read and write while
 * the program runs: each fdatasync, fsync, syncfs, and pwritev2 with RWF_DSYNC
 * or RWF_SYNC of the program, its threads and children is counted, and begins
 * delay_us later. (Writes to files opened with O_DSYNC are not seen; of what
 * is compared here nobody makes any.)
 *
 * How: the kernel's seccomp notification hands these calls, and no others, to
 * a supervisor, which lets them go on when their time has come. That works
 * for programs that make system calls without the C library (etcd), where a
 * preloaded library cannot, and is cheaper than a tracer. The command keeps
 * this process' id; the supervisor is a grandchild, which ends when the last
 * of those that it watches has ended.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif
#define WAITING_MAX 4096 /* threads in a sync at the same time */

struct control {
    uint64_t delay_us;
    uint64_t syncs;
    uint64_t supervisor; /* its pid */
};

struct waiting {
    uint64_t id;
    int64_t due_ns;
};

/* Those delayed, a ring: all wait equally long, so the first is due first. */
struct supervisor {
    int notify;
    volatile struct control *control;
    struct waiting ring[WAITING_MAX];
    unsigned first, count;
};

static void give_up(const char *what)
{
    (void)fprintf(stderr, "bench_sync_delay: %s: %s\n", what, strerror(errno));
    _exit(127);
}

static int64_t now_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* ---- the supervisor ---- */

static void let_go(struct supervisor *s, uint64_t id)
{
    struct seccomp_notif_resp r = {.id = id,
                                   .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};
    /* It may have been killed meanwhile: ENOENT. */
    (void)ioctl(s->notify, SECCOMP_IOCTL_NOTIF_SEND, &r);
}

static void take(struct supervisor *s)
{
    struct seccomp_notif n;
    memset(&n, 0, sizeof(n));
    if (ioctl(s->notify, SECCOMP_IOCTL_NOTIF_RECV, &n) != 0) {
        return;
    }
    uint64_t delay_us = s->control->delay_us;
    s->control->syncs++;
    if ((delay_us == 0 && s->count == 0) || s->count == WAITING_MAX) {
        let_go(s, n.id);
        return;
    }
    unsigned at = (s->first + s->count++) % WAITING_MAX;
    s->ring[at].id = n.id;
    s->ring[at].due_ns = now_ns() + (int64_t)delay_us * 1000;
}

static void supervise(struct supervisor *s)
{
    (void)prctl(PR_SET_TIMERSLACK, 1);
    for (;;) {
        struct pollfd p = {.fd = s->notify, .events = POLLIN};
        int64_t now = now_ns();
        while (s->count > 0 && s->ring[s->first].due_ns <= now) {
            let_go(s, s->ring[s->first].id);
            s->first = (s->first + 1) % WAITING_MAX;
            s->count--;
        }
        int64_t left = s->count > 0 ? s->ring[s->first].due_ns - now : 0;
        struct timespec t = {left / 1000000000, left % 1000000000};
        if (ppoll(&p, 1, s->count > 0 ? &t : NULL, NULL) < 0 &&
            errno != EINTR) {
            give_up("ppoll");
        }
        if (p.revents & POLLIN) {
            take(s);
        } else if (p.revents & (POLLHUP | POLLERR)) {
            _exit(0);
        }
    }
}

static int receive_fd(int from)
{
    union {
        struct cmsghdr head;
        char space[CMSG_SPACE(sizeof(int))];
    } c;
    char byte;
    struct iovec v = {&byte, 1};
    struct msghdr m = {.msg_iov = &v,
                       .msg_iovlen = 1,
                       .msg_control = &c,
                       .msg_controllen = sizeof(c)};
    int fd;
    if (recvmsg(from, &m, MSG_CMSG_CLOEXEC) != 1 || CMSG_FIRSTHDR(&m) == NULL) {
        _exit(1); /* the other side says why */
    }
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(fd));
    return fd;
}

static void send_fd(int to, int fd)
{
    union {
        struct cmsghdr head;
        char space[CMSG_SPACE(sizeof(int))];
    } c = {.head = {.cmsg_len = CMSG_LEN(sizeof(int)),
                    .cmsg_level = SOL_SOCKET,
                    .cmsg_type = SCM_RIGHTS}};
    char byte = 0;
    struct iovec v = {&byte, 1};
    struct msghdr m = {.msg_iov = &v,
                       .msg_iovlen = 1,
                       .msg_control = &c,
                       .msg_controllen = sizeof(c)};
    memcpy(CMSG_DATA(&c.head), &fd, sizeof(fd));
    if (sendmsg(to, &m, 0) != 1) {
        give_up("sendmsg");
    }
}

/* In a grandchild of its own session, which nobody waits for. */
static void start_supervisor(int pair[2], struct control *control)
{
    pid_t child = fork();
    if (child < 0) {
        give_up("fork");
    }
    if (child > 0) {
        (void)waitpid(child, NULL, 0);
        return;
    }
    if (setsid() < 0 || fork() != 0) {
        _exit(0);
    }
    static struct supervisor s;
    (void)close(pair[0]);
    s.notify = receive_fd(pair[1]);
    (void)close(pair[1]);
    s.control = control;
    control->supervisor = (uint64_t)getpid();
    supervise(&s);
}

/* ---- the command ---- */

/* The notifications' descriptor; from here on this process is watched. */
static int install_filter(void)
{
#if defined(__x86_64__)
    const uint32_t arch = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
    const uint32_t arch = AUDIT_ARCH_AARCH64;
#else
#error "an architecture whose audit number is not known here"
#endif
    const uint32_t number = offsetof(struct seccomp_data, nr);
    const uint32_t flags = offsetof(struct seccomp_data, args[5]);
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, arch, 0, 7),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, number),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_fdatasync, 6, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_fsync, 5, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_syncfs, 4, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pwritev2, 0, 2),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, flags),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, RWF_DSYNC | RWF_SYNC, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
    };
    struct sock_fprog program = {sizeof(code) / sizeof(*code), code};
    /* A signal must not make a thread begin its wait anew. */
    unsigned long best = SECCOMP_FILTER_FLAG_NEW_LISTENER |
                         SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
        give_up("no_new_privs");
    }
    long fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, best, &program);
    if (fd < 0 && errno == EINVAL) {
        fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
                     SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
    }
    if (fd < 0) {
        give_up("seccomp");
    }
    return (int)fd;
}

static struct control *map_control(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0 || ftruncate(fd, sizeof(struct control)) != 0) {
        give_up(path);
    }
    void *p = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE,
                   MAP_SHARED, fd, 0);
    if (p == MAP_FAILED) {
        give_up("mmap");
    }
    (void)close(fd);
    return p;
}

int main(int argc, char **argv)
{
    int pair[2];
    if (argc < 3) {
        (void)fprintf(stderr, "usage: bench_sync_delay CONTROL COMMAND...\n");
        return 2;
    }
    struct control *control = map_control(argv[1]);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
        give_up("socketpair");
    }
    start_supervisor(pair, control);
    (void)close(pair[1]);
    int notify = install_filter();
    send_fd(pair[0], notify);
    (void)close(pair[0]);
    (void)close(notify);
    execvp(argv[2], argv + 2);
    give_up(argv[2]);
}
