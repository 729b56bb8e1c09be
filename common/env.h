/*
 * Everything that logic may not decide by itself: clock, random, timers,
 * network, disk. The daemons give an env over libuv (env_uv_io.c), the tests
 * a simulated one (tests/sim). Logic above it is deterministic: the same
 * answers from the env, the same run.
 *
 * One env is one loop: all callbacks come on that loop's thread, never from
 * inside the call that asked for them (the exceptions are marked), and all
 * functions are called on it (before the loop runs: on the thread that made
 * the env).
 */
#ifndef COMMON_ENV_H
#define COMMON_ENV_H

#include "common/log.h"
#include "common/wire.h"

struct env;
struct env_conn;
struct env_file;
struct env_work; /* env_work.h */

/* A one-shot timer, embedded by its user and zeroed before first use. */
struct env_timer {
    void (*fn)(struct env_timer *t);
    void *data; /* the user's */
    void *impl; /* the env's */
};

/* An asynchronous disk operation, embedded by its user and zeroed before
 * use; it and its data stay in place until done() is called. */
struct env_io {
    void (*done)(struct env_io *io, enum status status);
    void *data; /* the user's */
    void *impl; /* the env's */
    /* The user's: messages are due meanwhile that somebody waits for, so it
     * must not hold up the loop, however quick the disk is. */
    bool beside;
    /* The user's, of a write: small pieces of this will be written over, again
     * and again. */
    bool pieces;
};

/* Who is at the other end, as its HELLO said. */
struct env_peer {
    uint32_t node;
    uint8_t role; /* enum role */
    uint8_t lane; /* enum lane */
    struct id128 store;
    struct incarnation incarnation;
    uint64_t term;
    char name[LIMIT_NAME + 1];
};

/* What a user of connections hears. A connection is the env's; it is dead
 * after on_close returned or env_close() was called. on_close comes once for
 * each connection that its user did not close, also where it never opened
 * (incoming ones are not heard of before on_open). WHY is ST_UNREACHABLE
 * (never opened: nobody there, no answer, or closed by the peer before its
 * hello), ST_CLOSED (by the peer, or a reset), ST_BUSY (LIMIT_CONN_QUEUE),
 * ST_INVALID (bad bytes, or an address that is none), ST_DENIED (role),
 * ST_VERSION, ST_WRONG_CLUSTER, ST_UNAUTHENTICATED (no key). */
struct env_conn_events {
    void (*on_open)(void *ctx, struct env_conn *c, const struct env_peer *p);
    /* M and its slices live until this returns. Bad frames never get here:
     * the env logs, closes the connection and calls on_close. */
    void (*on_message)(void *ctx, struct env_conn *c, const struct wire_msg *m);
    void (*on_close)(void *ctx, struct env_conn *c, enum status why);
};

/* Bytes that somebody else reads for a while: DONE(CTX) says that he does no
 * more. */
struct env_lent {
    struct slice bytes;
    void (*done)(void *ctx);
    void *ctx;
};

#define ENV_CREATE 1u /* create if it is not there */
#define ENV_EXCL 2u   /* it must not be there */
#define ENV_READONLY 4u
#define ENV_MEDIUM 8u /* read from the medium, past the page cache (R16) */
/* It will be read from front to end, and nobody writes to it meanwhile, so the
 * disk may be asked for what follows. */
#define ENV_AHEAD 16u
/* With ENV_CREATE, which else syncs the folder: it is worth nothing before it
 * is published under another name. */
#define ENV_TEMPORARY 64u
/* Writes of whole blocks of 4 KiB, in the file and in memory, go past the page
 * cache where the file system lets them. */
#define ENV_DIRECT 32u
/* Only read, by file_fetch() and file_read(), and that now and then: there may
 * be more of these than a process may have descriptors, so it has one only
 * while it is in use, and some time beyond. Opening it need not show whether
 * there is such a file; its name must stay until it is closed. */
#define ENV_SELDOM 128u

struct env_ops {
    /* CLOCK_BOOTTIME in microseconds: monotonic, the only clock of logic. */
    int64_t (*now_us)(struct env *e);
    /* Wall clock in milliseconds since 1970: for people to read only. */
    int64_t (*wall_ms)(struct env *e);
    void (*random)(struct env *e, void *out, size_t len);

    /* Starts or restarts T to fire once, DELAY_US from now (>= 0). */
    void (*timer_start)(struct env *e, struct env_timer *t, int64_t delay_us);
    void (*timer_stop)(struct env *e, struct env_timer *t);

    /* Connects to "host:port". Never NULL; on_open or on_close follows. */
    struct env_conn *(*connect)(struct env *e, const char *address,
                                enum lane lane,
                                const struct env_conn_events *events,
                                void *ctx);
    /* Sets who hears of incoming connections (from on_open on). */
    enum status (*listen)(struct env *e, const char *address,
                          const struct env_conn_events *events, void *ctx,
                          struct err *err);
    /* Sends whole frames made by wire_put_*; copies what it needs; before
     * on_open it collects them. A peer that lets more than LIMIT_CONN_QUEUE
     * pile up is closed (ST_BUSY). In order and at most once on one
     * connection. */
    void (*send)(struct env_conn *c, struct slice frames);
    /* As send(), for much: takes the memory of FRAMES, which is empty then.
     * NULL: env_send.h. */
    void (*send_take)(struct env_conn *c, struct buf *frames);
    /* As send() of one frame, START and then REST, which is not copied: done()
     * comes once, perhaps from within. NULL: env_send.h. */
    void (*send_lent)(struct env_conn *c, struct slice start,
                      const struct env_lent *rest);
    void (*close)(struct env_conn *c);               /* no on_close follows */
    size_t (*conn_queued)(const struct env_conn *c); /* bytes not yet sent */
    void (*conn_set_data)(struct env_conn *c, void *data);
    void *(*conn_data)(const struct env_conn *c);

    /* Files are named relative to the data directory, flat or one folder
     * deep. These block: for start-up and for reads. */
    enum status (*file_open)(struct env *e, const char *name, unsigned flags,
                             struct env_file **out);
    void (*file_close)(struct env_file *f);
    enum status (*file_size)(struct env_file *f, uint64_t *out);
    /* Reads up to LEN bytes at OFFSET; *GOT is short only at the end. */
    enum status (*file_read)(struct env_file *f, uint64_t offset, void *out,
                             size_t len, size_t *got);
    /* Calls FN with each file's name, in order, in FOLDER ("" is the data
     * directory); folders, hidden files and the lock are left out. FN may
     * remove files. */
    enum status (*dir_list)(struct env *e, const char *folder,
                            void (*fn)(void *ctx, const char *name), void *ctx);
    /* ST_OK also if it is there already. */
    enum status (*dir_make)(struct env *e, const char *folder);
    /* The one way to replace a file: temporary, write, fsync, rename, fsync
     * of the directory. */
    enum status (*file_put)(struct env *e, const char *name,
                            struct slice contents);
    /* Grows the file to SIZE bytes of zeros that are written and durable, so
     * that overwriting them later changes no metadata. */
    enum status (*file_allocate)(struct env_file *f, uint64_t size);
    /* For start-up: writes DATA at OFFSET (whole, or a failure), then
     * fdatasync, all before it returns. */
    enum status (*file_write_now)(struct env_file *f, uint64_t offset,
                                  struct slice data);
    /* fdatasync alone: what was written before, by another process too. */
    enum status (*file_sync_now)(struct env_file *f);

    /* Asynchronous; done() comes on the loop. Writes DATA at OFFSET (whole,
     * or a failure), then, if SYNC, fdatasync. Operations on one file are
     * done in the order in which they were asked for. Once a sync of a file
     * has failed, every later write and sync of it is ST_IO, untried (R18). */
    void (*file_write)(struct env_file *f, uint64_t offset, struct slice data,
                       bool sync, struct env_io *io);
    /* fsyncs FROM's contents, renames it to TO, fsyncs the directory. */
    void (*file_publish)(struct env *e, const char *from, const char *to,
                         struct env_io *io);
    void (*file_remove)(struct env *e, const char *name, struct env_io *io);
    /* Reads LEN bytes at OFFSET into OUT, which is the env's until done(); in
     * no order with writes and other reads of the file, through the page
     * cache, or, of a file opened with ENV_MEDIUM, past it. ST_CORRUPT: the
     * file ends before; whatever is no ST_OK leaves any bytes in OUT. F may be
     * closed meanwhile. An env without a loop (readonly_env) calls done() from
     * within. */
    void (*file_fetch)(struct env_file *f, uint64_t offset, void *out,
                       size_t len, struct env_io *io);
    /* Bytes that the file system still has for us. */
    enum status (*disk_free)(struct env *e, uint64_t *out);

    /* For start-up: calls W's fn once, perhaps on another thread; what it
     * touches is its own until work_wait(), which must be called. */
    void (*work)(struct env *e, struct env_work *w);
    void (*work_wait)(struct env *e, struct env_work *w);
};

struct env {
    const struct env_ops *ops;
    struct log *log;
};

/* False once E's process is dead, which only a simulated one can outlive: then
 * no callback comes any more, and who has an operation under way need not wait
 * for it to give its memory back. For users of the disk. */
static inline bool env_disk_alive(struct env *e)
{
    struct env_file *f;
    enum status s = e->ops->file_open(e, "no-such-file", ENV_READONLY, &f);
    if (s == ST_OK) {
        e->ops->file_close(f);
    }
    return s != ST_STOPPING;
}

/* Readable calls. */
static inline int64_t env_now_us(struct env *e)
{
    return e->ops->now_us(e);
}
static inline int64_t env_wall_ms(struct env *e)
{
    return e->ops->wall_ms(e);
}
static inline void env_random(struct env *e, void *out, size_t len)
{
    e->ops->random(e, out, len);
}
static inline void env_timer_start(struct env *e, struct env_timer *t,
                                   int64_t delay_us)
{
    e->ops->timer_start(e, t, delay_us);
}
static inline void env_timer_stop(struct env *e, struct env_timer *t)
{
    e->ops->timer_stop(e, t);
}

#endif
