#include "tests/crash/trace.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static void add(struct trace *t, const struct trace_record *r)
{
    if (t->count == t->cap) {
        t->cap = t->cap == 0 ? 4096 : 2 * t->cap;
        t->at = xrealloc(t->at, t->cap * sizeof(*t->at));
    }
    t->at[t->count++] = *r;
}

/* True up to a torn end. */
static bool split(struct trace *t, const uint8_t *data, size_t len)
{
    while (len >= sizeof(struct trace_head)) {
        struct trace_record r;
        memcpy(&r.h, data, sizeof(r.h));
        if (r.h.magic != TRACE_MAGIC) {
            return false;
        }
        data += sizeof(r.h);
        len -= sizeof(r.h);
        if (r.h.len > len) {
            break;
        }
        r.payload = slice_make(data, (size_t)r.h.len);
        add(t, &r);
        data += r.h.len;
        len -= (size_t)r.h.len;
    }
    return true;
}

static bool load_one(struct trace *t, const char *name)
{
    struct stat st;
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    bool good = fstat(fd, &st) == 0 && st.st_size > 0 &&
                t->map_count < sizeof(t->maps) / sizeof(t->maps[0]);
    if (good) {
        size_t len = (size_t)st.st_size;
        void *map = mmap(NULL, len, PROT_READ, MAP_PRIVATE, fd, 0);
        assert(map != MAP_FAILED);
        t->maps[t->map_count] = map;
        t->lens[t->map_count++] = len;
        good = split(t, map, len);
    }
    (void)close(fd);
    if (!good) {
        fprintf(stderr, "%s: is no trace\n", name);
        t->count = 0;
    }
    return good;
}

bool trace_load(struct trace *t, const char *path)
{
    *t = (struct trace){0};
    for (unsigned i = 0;; i++) {
        char name[4096];
        (void)snprintf(name, sizeof(name), "%s.%u", path, i);
        if (!load_one(t, name)) {
            break;
        }
    }
    if (t->count == 0) {
        fprintf(stderr, "%s.0: no trace\n", path);
        trace_free(t);
        return false;
    }
    return true;
}

void trace_free(struct trace *t)
{
    for (size_t i = 0; i < t->map_count; i++) {
        (void)munmap(t->maps[i], t->lens[i]);
    }
    free(t->at);
    *t = (struct trace){0};
}

void trace_get(const struct trace_record *r, void *out, size_t len)
{
    assert(r->payload.len == len);
    memcpy(out, r->payload.data, len);
}
