/*
 * The disk's part of the libuv env, within it: env_uv_disk_io.c is the data
 * directory, env_uv_file_io.c what blocks, env_uv_ahead_io.c reads ahead,
 * env_uv_seldom_io.c bounds descriptors, env_uv_queue_io.c is what runs beside
 * the loop, env_uv_syncer_io.c a thread for syncs.
 */
#ifndef COMMON_ENV_UV_DISK_H
#define COMMON_ENV_UV_DISK_H

#include <sys/queue.h>

#include "common/env_uv_io.h"

struct env_uv;

#define ENV_UV_LOCK_NAME "lock"

enum disk_kind { DISK_WRITE, DISK_FETCH, DISK_PUBLISH, DISK_REMOVE };

struct disk_op {
    uv_work_t work;
    struct env_uv *u;
    struct env_io *io;
    enum disk_kind kind;
    enum status status;
    uint64_t asked; /* grows with each operation */
    /* DISK_WRITE, DISK_FETCH */
    struct env_file *f;
    uint64_t offset;
    /* DISK_FETCH */
    uint8_t *out;
    size_t len;
    bool in_thread;
    int fd; /* it reads this; -1: it opens FROM, and leaves it here */
    /* DISK_WRITE */
    struct slice data;
    bool sync, sync_failed;
    int64_t sync_us; /* that its fdatasync took */
    /* DISK_PUBLISH, DISK_REMOVE */
    bool running;
    char *from, *to; /* FROM: also of a DISK_FETCH of a file with SELDOM */
    TAILQ_ENTRY(disk_op) link;
    TAILQ_ENTRY(disk_op) done_link;
};
TAILQ_HEAD(op_list, disk_op);

struct env_file {
    struct env_uv *u;
    int fd;
    int medium_fd; /* O_DIRECT; -1: reads go through the page cache */
    int direct_fd; /* O_DIRECT for writes; -1: through the page cache */
    bool ahead;    /* read from front to end */
    bool seldom;   /* FD is -1 at times (env_uv_seldom_io.c) */
    char *name;
    bool sync_failed;   /* R18: nothing more is written */
    bool closing;       /* closed by its user, operations still under way */
    struct op_list ops; /* the first one is running */
    uint32_t fetches;   /* under way, in no order */
    TAILQ_ENTRY(env_file) link;
    TAILQ_ENTRY(env_file) by_use; /* SELDOM, while it has a descriptor */
};
TAILQ_HEAD(file_list, env_file);

struct ahead;  /* env_uv_ahead_io.c */
struct syncer; /* env_uv_syncer_io.c */

struct disk {
    int dir_fd, lock_fd; /* -1: no disk */
    struct file_list files;
    struct file_list seldom; /* have a descriptor; last used, last */
    uint32_t seldom_count;
    struct op_list names; /* publish and remove */
    unsigned names_running;
    struct op_list fetches; /* waiting for one of their threads */
    uint32_t fetching;      /* in threads */
    bool no_cached_reads;   /* the file system cannot read from memory alone */
    uint64_t asked;
    uint32_t under_way;  /* operations asked for and not told yet */
    struct op_list done; /* run on the loop, to be told in its next turn */
    int64_t sync_us;     /* what an fdatasync takes: its median, about */
    struct metric_histogram sync_times;
    uint32_t distrusted; /* so many must pass before one is waited for */
    uint8_t *bounce;     /* aligned, for O_DIRECT */
    struct ahead *ahead; /* NULL: nothing was read ahead lately */
    struct syncer *syncer;
    bool told_medium; /* that O_DIRECT is not to be had */
};

enum status env_uv_disk_init(struct env_uv *u, const char *data_dir,
                             struct err *err);
/* Closes the files that nobody has closed, once all operations under way are
 * told: who hears of one may close files itself. */
void env_uv_disk_fini(struct env_uv *u);
/* The last operation of a closing U was told. */
void env_uv_disk_at_rest(struct env_uv *u);
void env_uv_disk_free(struct env_uv *u);
enum status env_uv_file_open(struct env *e, const char *name, unsigned flags,
                             struct env_file **out);
void env_uv_file_close(struct env_file *f);
enum status env_uv_file_size(struct env_file *f, uint64_t *out);
enum status env_uv_file_read(struct env_file *f, uint64_t offset, void *out,
                             size_t len, size_t *got);
enum status env_uv_dir_list(struct env *e, const char *folder,
                            void (*fn)(void *ctx, const char *name), void *ctx);
enum status env_uv_dir_make(struct env *e, const char *folder);
enum status env_uv_file_put(struct env *e, const char *name,
                            struct slice contents);
enum status env_uv_file_allocate(struct env_file *f, uint64_t size);
enum status env_uv_file_write_now(struct env_file *f, uint64_t offset,
                                  struct slice data);
enum status env_uv_file_sync_now(struct env_file *f);
enum status env_uv_disk_left(struct env *e, uint64_t *out);
void env_uv_file_write(struct env_file *f, uint64_t offset, struct slice data,
                       bool sync, struct env_io *io);
void env_uv_file_fetch(struct env_file *f, uint64_t offset, void *out,
                       size_t len, struct env_io *io);
void env_uv_file_publish(struct env *e, const char *from, const char *to,
                         struct env_io *io);
void env_uv_file_remove(struct env *e, const char *name, struct env_io *io);
/* Tells of the operations that were run on the loop; true if there were any. */
bool env_uv_disk_turn(struct env_uv *u);
/* Whether there are some to be told of. */
bool env_uv_disk_pending(const struct env_uv *u);
/* The env closes: there will be no more turns. */
void env_uv_queue_fini(struct env_uv *u);
static inline bool env_uv_file_busy(const struct env_file *f)
{
    return f->fetches > 0 || !TAILQ_EMPTY(&f->ops);
}
/* F, with SELDOM, has the descriptor FD from now on, which it takes; or F has
 * one already, and FD is closed. Others may lose theirs for it. */
void env_uv_seldom_keep(struct env_file *f, int fd);
/* F is being used. */
void env_uv_seldom_used(struct env_file *f);
/* Sees to it that F has a descriptor. Blocks. */
enum status env_uv_seldom_open(struct env_file *f) MUST_CHECK;
/* F loses its descriptor, if it has one. */
void env_uv_seldom_close(struct env_file *f);
/* Gives F's memory and descriptors back. */
void env_uv_file_free(struct env_file *f);
/* Gives OP to the thread that waits for syncs: PERFORM there, then FINISH on
 * the loop. False if it has one. */
bool env_uv_syncer_take(struct env_uv *u, struct disk_op *op,
                        void (*perform)(struct disk_op *op),
                        void (*finish)(struct disk_op *op));
/* U closes, and no operation is under way. */
void env_uv_syncer_fini(struct env_uv *u);
/* As env_uv_file_read() of an ENV_AHEAD file: bytes read, -1 with errno. */
ssize_t env_uv_ahead_read(struct env_file *f, uint64_t offset, uint8_t *out,
                          size_t len);
/* F is read no more. */
void env_uv_ahead_forget(struct ahead *a, const struct env_file *f);
void env_uv_ahead_free(struct ahead *a);
/* Gives back what no file needs. */
void env_uv_ahead_turn(struct env_uv *u);
/* Marks F: nothing more is written to it (R18). */
void env_uv_sync_failed(struct env_file *f);
/* The data directory's descriptor; asserts that NAME is one of ours. */
int env_uv_dir_of(struct env_uv *u, const char *name);
/* Counts S if it is a failure of the disk itself, and returns it. */
enum status env_uv_disk_counted(struct env_uv *u, enum status s);

/* Blocking, any thread. Write whole; fdatasync; rename or remove with the
 * directory's fsync. Names are relative to DIR_FD. */
enum status env_uv_pwrite(int fd, uint64_t offset, struct slice data);
enum status env_uv_fdatasync(int fd);
enum status env_uv_rename(int dir_fd, const char *from, const char *to);
enum status env_uv_unlink(int dir_fd, const char *name);
/* fsync of the directory that NAME is in. */
enum status env_uv_sync_folder(int dir_fd, const char *name);

#endif
