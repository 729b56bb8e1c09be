#include "tests/crash/fault_io.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FAULTS 32
#define FDS 65536
#define NAME_LEN 256

struct fault {
    char call[16], path[NAME_LEN], what[32];
    long skip, count;
    bool always;
};

static struct {
    pthread_mutex_t lock;
    struct fault at[FAULTS];
    size_t count;
    char *names[FDS];
    void (*die)(void);
} faults = {.lock = PTHREAD_MUTEX_INITIALIZER};

static const struct {
    const char *name;
    int number;
} errors[] = {{"EIO", EIO},
              {"ENOSPC", ENOSPC},
              {"EMFILE", EMFILE},
              {"EINTR", EINTR},
              {"EACCES", EACCES}};

void fault_read(void)
{
    const char *path = getenv("PENN_CRASH_FAULTS");
    FILE *f = path == NULL ? NULL : fopen(path, "re");
    char line[512];
    (void)pthread_mutex_lock(&faults.lock);
    faults.count = 0;
    while (f != NULL && faults.count < FAULTS &&
           fgets(line, sizeof(line), f) != NULL) {
        struct fault *x = &faults.at[faults.count];
        *x = (struct fault){.count = 1};
        if (sscanf(line, "%15s %255s %31s %ld %ld", x->call, x->path, x->what,
                   &x->skip, &x->count) >= 3) {
            x->always = x->count == 0;
            faults.count++;
        }
    }
    (void)pthread_mutex_unlock(&faults.lock);
    if (f != NULL) {
        (void)fclose(f);
    }
}

void fault_name(int fd, const char *name)
{
    (void)pthread_mutex_lock(&faults.lock);
    if (fd >= 0 && fd < FDS) {
        free(faults.names[fd]);
        faults.names[fd] = name[0] == '\0' ? NULL : strdup(name);
    }
    (void)pthread_mutex_unlock(&faults.lock);
}

void fault_on_kill(void (*die)(void))
{
    faults.die = die;
}

/* What is to happen to this call; "" if nothing. */
static void take(const char *call, const char *name, bool half, char out[32])
{
    out[0] = '\0';
    for (size_t i = 0; i < faults.count && name != NULL; i++) {
        struct fault *x = &faults.at[i];
        bool fits = strcmp(x->call, call) == 0 &&
                    (strcmp(x->path, ".") == 0 ? strcmp(name, ".") == 0
                                               : strstr(name, x->path) != NULL);
        if (!fits || half != (strcmp(x->what, "half") == 0)) {
            continue;
        }
        if (x->skip > 0) {
            x->skip--;
            return;
        }
        if (!x->always && x->count-- <= 0) {
            x->count = 0;
            continue;
        }
        memcpy(out, x->what, 32);
        return;
    }
}

static void wait_ms(long ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    while (nanosleep(&t, &t) != 0) {
    }
}

static bool perform(const char *what)
{
    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        if (strcmp(what, errors[i].name) == 0) {
            errno = errors[i].number;
            return true;
        }
    }
    if (strcmp(what, "kill") == 0) {
        faults.die();
    }
    if (strncmp(what, "delay:", 6) == 0) {
        wait_ms(strtol(what + 6, NULL, 10));
    }
    return false;
}

bool fault_fd(const char *call, int fd)
{
    char what[32] = "";
    (void)pthread_mutex_lock(&faults.lock);
    if (fd >= 0 && fd < FDS) {
        take(call, faults.names[fd], false, what);
    }
    (void)pthread_mutex_unlock(&faults.lock);
    return perform(what);
}

bool fault_path(const char *call, int dir, const char *path)
{
    char what[32] = "";
    (void)pthread_mutex_lock(&faults.lock);
    if (dir >= 0 && dir < FDS && faults.names[dir] != NULL) {
        take(call, path, false, what);
    }
    (void)pthread_mutex_unlock(&faults.lock);
    return perform(what);
}

size_t fault_half(int fd, size_t len)
{
    char what[32] = "";
    (void)pthread_mutex_lock(&faults.lock);
    if (fd >= 0 && fd < FDS && len > 1) {
        take("pwrite", faults.names[fd], true, what);
    }
    (void)pthread_mutex_unlock(&faults.lock);
    return what[0] != '\0' ? len / 2 : len;
}
