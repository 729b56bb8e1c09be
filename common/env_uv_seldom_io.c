/*
 * Files that are read now and then (ENV_SELDOM), of which there may be many
 * more than a process may have descriptors: old segments of the log, sealed
 * files of the blob log. SELDOM_MAX of them have one, those that were used
 * last; the others are opened again when they are read, by the thread that
 * reads. A file that is being read keeps its descriptor, so there may be a few
 * more for a while.
 *
 * A thread opens for its operation alone and leaves the descriptor there; the
 * loop gives it to the file, or, if another operation was first, closes it.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "common/env_uv_impl.h"

#define SELDOM_MAX 32u

void env_uv_seldom_close(struct env_file *f)
{
    struct disk *d = &f->u->disk;
    if (f->seldom && f->fd >= 0) {
        TAILQ_REMOVE(&d->seldom, f, by_use);
        d->seldom_count--;
        (void)close(f->fd);
        f->fd = -1;
    }
}

void env_uv_seldom_used(struct env_file *f)
{
    struct disk *d = &f->u->disk;
    if (f->seldom && f->fd >= 0) {
        TAILQ_REMOVE(&d->seldom, f, by_use);
        TAILQ_INSERT_TAIL(&d->seldom, f, by_use);
    }
}

void env_uv_seldom_keep(struct env_file *f, int fd)
{
    struct disk *d = &f->u->disk;
    struct env_file *x, *next;
    assert(f->seldom && fd >= 0);
    if (f->fd >= 0) {
        (void)close(fd);
        return;
    }
    f->fd = fd;
    TAILQ_INSERT_TAIL(&d->seldom, f, by_use);
    d->seldom_count++;
    for (x = TAILQ_FIRST(&d->seldom); x != f && d->seldom_count > SELDOM_MAX;
         x = next) {
        next = TAILQ_NEXT(x, by_use);
        if (x->fetches == 0) {
            env_uv_seldom_close(x);
        }
    }
}

enum status env_uv_seldom_open(struct env_file *f)
{
    if (!f->seldom || f->fd >= 0) {
        return ST_OK;
    }
    int fd = openat(f->u->disk.dir_fd, f->name, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return env_uv_disk_counted(f->u, status_from_errno(errno));
    }
    env_uv_seldom_keep(f, fd);
    return ST_OK;
}
