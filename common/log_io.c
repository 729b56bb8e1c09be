/*
 * Writes log lines: one write(2) each, so that lines of several threads and
 * processes never mix. A line that cannot be written is lost: there is nobody
 * to tell.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/log.h"

/* JOURNAL_STREAM is "device:inode" of what systemd connected (systemd.exec);
 * it is inherited, so it must be compared. */
static bool is_journal(int fd)
{
    const char *text = getenv("JOURNAL_STREAM");
    unsigned long long device, inode;
    struct stat st;
    return text != NULL && sscanf(text, "%llu:%llu", &device, &inode) == 2 &&
           fstat(fd, &st) == 0 && st.st_dev == device && st.st_ino == inode;
}

void log_init_stderr(struct log *out, const char *daemon, const char *node)
{
    bool journal = is_journal(STDERR_FILENO);
    *out = (struct log){
        .daemon = daemon,
        .node = node,
        .level = LOG_LEVEL_INFO,
        .fd = STDERR_FILENO,
        .journal = journal,
        .wall = !journal,
    };
}

void log_write(const struct log *log, enum log_level level, const char *module,
               const char *event, const char *format, ...)
{
    if (log == NULL || log->fd < 0 ||
        level > __atomic_load_n(&log->level, __ATOMIC_RELAXED)) {
        return;
    }
    int error = errno;
    char line[LIMIT_LOG_LINE];
    struct timespec now = {0, 0};
    if (log->wall) {
        (void)clock_gettime(CLOCK_REALTIME, &now);
    }
    va_list ap;
    va_start(ap, format);
    struct log_event e = {module, event, format, &ap};
    size_t len = log_format(log, level,
                            (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000,
                            &e, line, sizeof(line));
    va_end(ap);
    while (write(log->fd, line, len) < 0 && errno == EINTR) {
    }
    errno = error;
}
