/*
 * Process metrics, under the names that Prometheus' own clients use.
 */
#include "common/process_io.h"

#include <config.h>

#include <dirent.h>
#include <stdio.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static void put(struct buf *out, const char *name, const char *type,
                const char *help, double value)
{
    buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n%s %.17g\n", name, help, name,
               type, name, value);
}

static void put_memory(struct buf *out)
{
    unsigned long size, resident;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f == NULL) {
        return;
    }
    if (fscanf(f, "%lu %lu", &size, &resident) == 2) {
        put(out, "process_resident_memory_bytes", "gauge", "resident memory",
            (double)resident * (double)sysconf(_SC_PAGESIZE));
    }
    (void)fclose(f);
}

static void put_descriptors(struct buf *out)
{
    int count = 0;
    struct rlimit limit;
    DIR *dir = opendir("/proc/self/fd");
    if (dir != NULL) {
        // cppcheck-suppress readdirCalled
        while (readdir(dir) != NULL) {
            count++;
        }
        (void)closedir(dir);
        put(out, "process_open_fds", "gauge", "open descriptors",
            count - 3); /* ".", ".." and the directory itself */
    }
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        put(out, "process_max_fds", "gauge", "limit of descriptors",
            (double)limit.rlim_cur);
    }
}

static void put_times(struct buf *out)
{
    struct timespec cpu;
    if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu) == 0) {
        put(out, "process_cpu_seconds_total", "counter", "processor time",
            (double)cpu.tv_sec + (double)cpu.tv_nsec / 1e9);
    }
}

void process_metrics(struct buf *out)
{
    buf_put_text(out, "# HELP penn_build_info version of this program\n"
                      "# TYPE penn_build_info gauge\n"
                      "penn_build_info{version=\"" PACKAGE_VERSION "\"} 1\n");
    put_memory(out);
    put_descriptors(out);
    put_times(out);
}
