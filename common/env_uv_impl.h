/*
 * What the files of the libuv env share; nobody else includes it. The design
 * stands at the head of env_uv_io.c.
 */
#ifndef COMMON_ENV_UV_IMPL_H
#define COMMON_ENV_UV_IMPL_H

#include <stdatomic.h>
#include <sys/queue.h>

#include "common/env_uv_io.h"
#include "common/seal.h"

struct env_uv;

/* Counters are written on the loop's thread alone and read on any. */
struct counters {
    _Atomic uint64_t conns_open, conns_unproven, accepted, connected, refused;
    _Atomic uint64_t handshake_failures, denied, invalid;
    _Atomic uint64_t bytes_in, bytes_out, frames_in, frames_out;
    _Atomic uint64_t disk_writes, disk_syncs, disk_errors, disk_bytes;
};
static inline void count_add(_Atomic uint64_t *c, uint64_t n)
{
    atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

/* ---- timers (env_uv_timer_io.c): a heap over one uv timer ---- */

struct timer_slot {
    int64_t at_us;
    uint64_t turn; /* equal times fire in the order of their starting */
    struct env_timer *t;
};
struct timers {
    uv_timer_t handle;
    struct timer_slot *heap;
    size_t count, cap;
    uint64_t turns;
    bool firing;
};

/* ---- connections (env_uv_net_io.c makes and ends them, env_uv_conn_io.c
 * moves their bytes) ---- */

enum conn_state {
    CONN_RESOLVING,
    CONN_CONNECTING,
    CONN_SHAKING, /* the seal's handshake */
    CONN_HELLO,   /* sealed; waits for the peer's HELLO */
    CONN_OPEN,
    CONN_FAILED, /* its user is still to hear on_close */
    CONN_CLOSED,
    CONN_STATES
};

#define DIAL_ADDRESSES 4
#define ENV_UV_READ_BUFFER KIB(256)
#define ENV_UV_LOCK_NAME "lock"

struct env_conn {
    struct env_uv *u;
    uv_tcp_t tcp;
    bool tcp_live; /* initialised, uv_close() not yet called */
    bool incoming;
    bool dirty; /* in u->dirty */
    enum conn_state state;
    enum lane lane;
    enum status why; /* of CONN_FAILED */
    unsigned refs;   /* handle, resolver, lists: freed at 0 */
    const struct env_conn_events *events;
    void *ctx, *data;
    struct seal *seal;
    struct buf in;  /* opened bytes that are no whole frame yet */
    struct buf out; /* frames not yet sealed, from OUT_AT on */
    size_t out_at;
    size_t in_flight; /* bytes that libuv has */
    struct env_timer deadline;
    struct env_peer peer;
    char address[LIMIT_ADDRESS + 1]; /* for logs; incoming: without port */
    /* Outgoing: where to try. */
    uv_getaddrinfo_t resolve;
    uv_connect_t connect;
    struct sockaddr_storage to[DIAL_ADDRESSES];
    unsigned to_count, to_next;
    uint16_t port;
    TAILQ_ENTRY(env_conn) all, stranger, failing_link;
    STAILQ_ENTRY(env_conn) dirty_link;
    bool is_stranger; /* in u->strangers */
};

struct listener {
    struct env_uv *u;
    uv_tcp_t tcp;
    const struct env_conn_events *events;
    void *ctx;
    SLIST_ENTRY(listener) link;
};

/* Lines that strangers can provoke: a few in a while. */
struct log_rate {
    int64_t since_us;
    unsigned lines, dropped;
};

TAILQ_HEAD(conn_list, env_conn);
STAILQ_HEAD(dirty_list, env_conn);

struct net {
    bool on;
    struct cluster_key key;
    const struct hello_self *self;
    uint32_t accept_roles;
    SLIST_HEAD(, listener) listeners;
    struct conn_list conns, strangers, failing; /* oldest first */
    struct dirty_list dirty;
    unsigned conn_count, stranger_count;
    uint8_t *read_buf; /* one for all: used within one callback */
    struct log_rate rate;
};

/* ---- disk (env_uv_disk_io.c blocking, env_uv_queue_io.c beside the loop) */

enum disk_kind { DISK_WRITE, DISK_PUBLISH, DISK_REMOVE };

struct disk_op {
    uv_work_t work;
    struct env_uv *u;
    struct env_io *io;
    enum disk_kind kind;
    enum status status;
    uint64_t asked; /* grows with each operation */
    /* DISK_WRITE */
    struct env_file *f;
    uint64_t offset;
    struct slice data;
    bool sync, sync_failed;
    /* DISK_PUBLISH, DISK_REMOVE */
    char *from, *to;
    TAILQ_ENTRY(disk_op) link;
};
TAILQ_HEAD(op_list, disk_op);

struct env_file {
    struct env_uv *u;
    int fd;
    int medium_fd; /* O_DIRECT; -1: reads go through the page cache */
    char *name;
    bool sync_failed;   /* R18: nothing more is written */
    bool closing;       /* closed by its user, operations still under way */
    struct op_list ops; /* the first one is running */
    TAILQ_ENTRY(env_file) link;
};

struct disk {
    int dir_fd, lock_fd; /* -1: no disk */
    TAILQ_HEAD(, env_file) files;
    struct op_list names; /* publish and remove, one after the other */
    bool names_busy;
    uint64_t asked;
    uint8_t *bounce;  /* aligned, for O_DIRECT */
    bool told_medium; /* that O_DIRECT is not to be had */
};

/* ---- the env ---- */

struct env_uv {
    struct env env; /* first: struct env * is struct env_uv * */
    uv_loop_t *loop;
    bool closing;
    unsigned holds; /* handles, connections, operations: gone at 0 */
    void (*closed)(void *ctx);
    void *closed_ctx;
    uv_prepare_t prepare;
    uv_check_t check;
    uv_idle_t idle;
    struct timers timers;
    struct net net;
    struct disk disk;
    struct counters counters;
};

static inline struct env_uv *env_uv_of(struct env *e)
{
    return (struct env_uv *)(void *)e;
}

/* Something begins or ends that the env must outlive. Ending the last one
 * of a closing env frees it. */
void env_uv_hold(struct env_uv *u);
void env_uv_release(struct env_uv *u);

void env_uv_timers_init(struct env_uv *u);
void env_uv_timers_fini(struct env_uv *u);
void env_uv_timer_start(struct env *e, struct env_timer *t, int64_t delay_us);
void env_uv_timer_stop(struct env *e, struct env_timer *t);

void env_uv_net_init(struct env_uv *u, const struct env_uv_options *o);
/* Closes all; what is left goes with the holds. */
void env_uv_net_fini(struct env_uv *u);
/* Frees memory once nothing holds the env. */
void env_uv_net_free(struct env_uv *u);
/* True while on_close is owed or bytes wait to be sealed. */
bool env_uv_net_pending(const struct env_uv *u);
/* Once before and once after the loop waits: tells of failures, writes. */
void env_uv_net_turn(struct env_uv *u);
struct env_conn *env_uv_connect(struct env *e, const char *address,
                                enum lane lane,
                                const struct env_conn_events *events,
                                void *ctx);
enum status env_uv_listen(struct env *e, const char *address,
                          const struct env_conn_events *events, void *ctx,
                          struct err *err);
void env_uv_conn_close(struct env_conn *c);
/* Ends C for reason WHY; its user hears of it in the next turn. */
void env_uv_conn_fail(struct env_conn *c, enum status why);
void env_uv_conn_unref(struct env_conn *c);
void env_uv_conn_move(struct env_conn *c, enum conn_state to);
/* C has shown who it is: it counts as a stranger no more. */
void env_uv_conn_known(struct env_conn *c);
/* May a line that strangers can provoke be written now? */
bool env_uv_may_log(struct env_uv *u);

/* TCP stands: handshake and reading begin. */
void env_uv_conn_start(struct env_conn *c);
void env_uv_conn_send(struct env_conn *c, struct slice frames);
size_t env_uv_conn_queued(const struct env_conn *c);
/* Seals what is queued and gives it to libuv, in portions. */
void env_uv_conn_flush(struct env_conn *c);

enum status env_uv_disk_init(struct env_uv *u, const char *data_dir,
                             struct err *err);
/* Closes files; those with operations under way close after them. */
void env_uv_disk_fini(struct env_uv *u);
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
void env_uv_file_publish(struct env *e, const char *from, const char *to,
                         struct env_io *io);
void env_uv_file_remove(struct env *e, const char *name, struct env_io *io);
/* Gives F's memory and descriptors back. */
void env_uv_file_free(struct env_file *f);
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
