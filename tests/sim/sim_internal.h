/*
 * What the parts of the simulation share: events, hosts, processes, envs,
 * connections, files. Tests include sim_env.h instead.
 */
#ifndef TESTS_SIM_SIM_INTERNAL_H
#define TESTS_SIM_SIM_INTERNAL_H

#include "tests/sim/sim_env.h"

/* ---- events ---- */

enum sim_event_state { EVENT_IDLE = 0, EVENT_QUEUED, EVENT_PARKED };

/* Embedded in what it belongs to. Parked: due, but its host is paused. */
struct sim_event {
    int64_t time;
    uint64_t seq;
    size_t index; /* in the heap */
    enum sim_event_state state;
    void (*fn)(struct sim_event *ev);
    void *ctx;
    struct sim_host *parked_at;
    struct sim_event *prev, *next; /* among the parked */
};

struct sim_listener {
    char address[LIMIT_ADDRESS + 1];
    struct sim_host *host;
    struct sim_env *env; /* NULL: nobody listens there at present */
    const struct env_conn_events *events;
    void *ctx;
    struct sim_listener *next;
};

#define SIM_HAS_BUG(w, name) (((w)->bugs >> SIM_BUG_##name) & 1u)

struct world {
    unsigned bugs;
    int64_t now;
    uint64_t seq, events, hash, frames, denied;
    struct sim_event **heap;
    size_t heap_len, heap_cap;
    struct sim_rng rng, test_rng;
    struct sim_host *hosts[SIM_HOSTS];
    size_t host_count;
    int depth; /* > 0: an event is being handled */
    bool stop;
    bool observing;             /* nobody is stopped meanwhile */
    struct sim_host *ran;       /* where the event at hand ran; NULL: nowhere */
    struct sim_process *dying;  /* to be freed when the event has ended */
    struct sim_process *buried; /* dead, without a program: freed at the end */
    void (*observe)(void *ctx, struct sim_host *h);
    void *observe_ctx;
    void (*trace)(void *ctx, int64_t time_us, const char *line);
    void *trace_ctx;
    struct world_call *calls;
    /* network */
    struct sim_listener *listeners;
    struct sim_pipe *pipes;
    uint64_t pipe_ids;
    bool cut[SIM_HOSTS][SIM_HOSTS];
    int64_t latency_us[SIM_HOSTS][SIM_HOSTS];
    struct sim_net_faults net;
    void (*tap)(void *ctx, struct sim_host *from, struct sim_host *to,
                const struct wire_msg *m);
    void *tap_ctx;
    struct arena arena;
};

void event_schedule(struct world *w, struct sim_event *ev, int64_t time);
void event_cancel(struct world *w, struct sim_event *ev);
/* Puts EV off if E cannot run now (paused, or busy); true if so. */
bool event_deferred(struct sim_event *ev, struct sim_env *e);
void world_release_parked(struct sim_host *h);
void world_mix(struct world *w, uint64_t kind, uint64_t value);

/* A line of trace; the arguments are not evaluated when nobody listens. */
#define TRACE(w, ...)                                                          \
    do {                                                                       \
        if ((w)->trace != NULL) {                                              \
            world_trace((w), __VA_ARGS__);                                     \
        }                                                                      \
    } while (0)

/* ---- hosts, processes, envs ---- */

struct sim_host {
    struct world *w;
    size_t index;
    char name[LIMIT_NAME + 1];
    struct sim_process *process;
    bool powered, paused;
    struct sim_event *parked_head, *parked_tail;
    int32_t drift_ppm;
    int64_t clock_offset_us, wall_offset_ms;
    uint32_t preempt_ppm;
    int64_t preempt_us;
    uint64_t steps, fail_at_step;
    bool fail_power;
    struct sim_disk *disk;
};

struct sim_process {
    struct sim_host *host;
    const struct sim_program *program;
    void *object;
    bool dead;
    struct sim_env *envs;
    struct sim_process *next; /* among the dying */
};

struct sim_timer {
    struct sim_event ev;
    struct sim_env *env;
    struct env_timer *user;
    struct sim_timer *prev, *next;
};

struct sim_env {
    struct env env; /* first: the user's pointer is to it */
    struct log log;
    struct world *w;
    struct sim_host *host;
    struct sim_process *process;
    struct hello_self self;
    char name[LIMIT_NAME + 1];
    struct sim_rng rng;
    int64_t busy_until; /* true time; it handles nothing before */
    int64_t last_post;
    struct sim_timer *timers;
    struct sim_post *posts;
    struct env_conn *conns;
    struct env_file *files;
    struct sim_op *ops, *ops_tail; /* under way, in order of asking */
    struct sim_env *next;
};

static inline struct sim_env *env_of(struct env *e)
{
    return (struct sim_env *)(void *)e;
}
/* True time at which what E does now happens. */
static inline int64_t env_true_now(const struct sim_env *e)
{
    return e->busy_until > e->w->now ? e->busy_until : e->w->now;
}
int64_t host_clock(const struct sim_host *h, int64_t true_us);
/* Ends the process; POWER: and what the disk had not synced. */
void host_die(struct sim_host *h, bool power);
/* Frees what died, once no event is being handled. */
void world_reap(struct world *w);
void world_free_buried(struct world *w);

/* ---- network ---- */

void net_env_died(struct sim_env *e, bool power);
void net_host_on(struct sim_host *h);
void net_world_free(struct world *w);
struct env_conn *net_connect(struct env *e, const char *address, enum lane lane,
                             const struct env_conn_events *events, void *ctx);
enum status net_listen(struct env *e, const char *address,
                       const struct env_conn_events *events, void *ctx,
                       struct err *err);
void net_send(struct env_conn *c, struct slice frames);
void net_close(struct env_conn *c);
size_t net_queued(const struct env_conn *c);
void net_set_data(struct env_conn *c, void *data);
void *net_data(const struct env_conn *c);
/* Frees connections that a dead process left. */
void net_env_free(struct sim_env *e);

/* ---- disk ---- */

void disk_new(struct sim_host *h);
void disk_free_all(struct sim_host *h);
/* The process died: what was under way is done in part or not at all; POWER:
 * unsynced data is lost in part. Before the program's memory goes. */
void disk_env_died(struct sim_env *e);
void disk_power_lost(struct sim_host *h);
void disk_env_free(struct sim_env *e);
/* Counts a step; true if the host died before it. */
bool host_step(struct sim_host *h);
/* The functions of struct env_ops that are about files. */
enum status disk_file_open(struct env *e, const char *name, unsigned flags,
                           struct env_file **out);
void disk_file_close(struct env_file *f);
enum status disk_file_size(struct env_file *f, uint64_t *out);
enum status disk_file_read(struct env_file *f, uint64_t offset, void *out,
                           size_t len, size_t *got);
enum status disk_dir_list(struct env *e, const char *folder,
                          void (*fn)(void *ctx, const char *name), void *ctx);
enum status disk_dir_make(struct env *e, const char *folder);
enum status disk_file_put(struct env *e, const char *name,
                          struct slice contents);
enum status disk_file_allocate(struct env_file *f, uint64_t size);
enum status disk_file_write_now(struct env_file *f, uint64_t offset,
                                struct slice data);
enum status disk_file_sync_now(struct env_file *f);
void disk_file_write(struct env_file *f, uint64_t offset, struct slice data,
                     bool sync, struct env_io *io);
void disk_file_fetch(struct env_file *f, uint64_t offset, void *out, size_t len,
                     struct env_io *io);
void disk_file_publish(struct env *e, const char *from, const char *to,
                       struct env_io *io);
void disk_file_remove(struct env *e, const char *name, struct env_io *io);
enum status disk_space_free(struct env *e, uint64_t *out);

#endif
