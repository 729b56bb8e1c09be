/*
 * The real env: one libuv loop's clock, random, timers, network and disk.
 *
 * Timers are a heap of the users' own structs over one uv timer: starting and
 * stopping one allocates nothing, and a stopped one may be freed at once,
 * which a uv handle may not. Those without a delay fire at the end of the next
 * turn, whose input they have seen.
 *
 * Connections never call their user from within the user's call. What fails is
 * put into a list and told in the next turn; what is sent is collected and
 * sealed in the next turn: all frames of one turn of the loop are one write. A
 * turn is run by a prepare handle (after timers, before the loop waits) and by
 * a check handle (after the loop waited); where a turn leaves work behind, an
 * idle handle keeps the loop from waiting.
 *
 * Disk operations that must not stop the loop run in libuv's threads, one at a
 * time for each file, in the order in which they were asked for; small ones on
 * a quick disk run at once and are told of in the next turn.
 *
 * The end: env_uv_close() closes every handle; each handle, connection and
 * disk operation is a hold, and when the last one is gone so is the env. So
 * no callback of libuv ever meets freed memory.
 */
#include "common/env_uv_io.h"

#include <assert.h>
#include <signal.h>
#include <sodium.h>
#include <stdlib.h>
#include <time.h>

#include "common/env_uv_impl.h"

static int64_t now_us(struct env *e)
{
    struct timespec t;
    int r = clock_gettime(CLOCK_BOOTTIME, &t);
    assert(r == 0);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static int64_t wall_ms(struct env *e)
{
    struct timespec t;
    int r = clock_gettime(CLOCK_REALTIME, &t);
    assert(r == 0);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void fill_random(struct env *e, void *out, size_t len)
{
    randombytes_buf(out, len);
}

static void conn_set_data(struct env_conn *c, void *data)
{
    c->data = data;
}

static void *conn_data(const struct env_conn *c)
{
    return c->data;
}

static const struct env_ops ops = {
    .now_us = now_us,
    .wall_ms = wall_ms,
    .random = fill_random,
    .timer_start = env_uv_timer_start,
    .timer_stop = env_uv_timer_stop,
    .connect = env_uv_connect,
    .listen = env_uv_listen,
    .send = env_uv_conn_send,
    .send_take = env_uv_conn_send_take,
    .send_lent = env_uv_conn_send_lent,
    .close = env_uv_conn_close,
    .conn_queued = env_uv_conn_queued,
    .conn_set_data = conn_set_data,
    .conn_data = conn_data,
    .file_open = env_uv_file_open,
    .file_close = env_uv_file_close,
    .file_size = env_uv_file_size,
    .file_read = env_uv_file_read,
    .dir_list = env_uv_dir_list,
    .dir_make = env_uv_dir_make,
    .file_put = env_uv_file_put,
    .file_allocate = env_uv_file_allocate,
    .file_write_now = env_uv_file_write_now,
    .file_sync_now = env_uv_file_sync_now,
    .file_write = env_uv_file_write,
    .file_fetch = env_uv_file_fetch,
    .file_publish = env_uv_file_publish,
    .file_remove = env_uv_file_remove,
    .disk_free = env_uv_disk_left,
    .work = env_uv_work,
    .work_wait = env_uv_work_wait,
};

/* ---- turns ---- */

static void on_idle(uv_idle_t *h)
{
}

/* The loop is about to wait: what it did since it last looked. libuv has read
 * its clock, in whole milliseconds, when it did. */
static void note_turn(struct env_uv *u)
{
    int64_t us =
        (int64_t)(uv_hrtime() / 1000) - (int64_t)(u->turn_ms * 1000 + 1000);
    if (u->turn_ms != 0) {
        metric_add_us(&u->turn_times, us > 0 ? us : 0);
    }
    u->turn_ms = 0;
}

static void on_prepare(uv_prepare_t *h)
{
    struct env_uv *u = h->data;
    bool told = env_uv_disk_turn(u);
    env_uv_net_turn(u);
    env_uv_ahead_turn(u);
    env_uv_work_turn(u);
    bool soon = env_uv_timers_before_wait(u);
    /* Who runs the loop once waits for what was told here, too. */
    if (!u->closing &&
        (told || soon || env_uv_net_pending(u) || env_uv_disk_pending(u))) {
        (void)uv_idle_start(&u->idle, on_idle);
    } else {
        (void)uv_idle_stop(&u->idle);
    }
    note_turn(u);
}

static void on_check(uv_check_t *h)
{
    struct env_uv *u = h->data;
    u->turn_ms = uv_now(u->loop);
    (void)env_uv_disk_turn(u);
    env_uv_net_turn(u);
    if (env_uv_timers_after_wait(u)) {
        (void)env_uv_disk_turn(u);
        env_uv_net_turn(u);
    }
}

static void start_turns(struct env_uv *u)
{
    (void)uv_prepare_init(u->loop, &u->prepare);
    (void)uv_check_init(u->loop, &u->check);
    (void)uv_idle_init(u->loop, &u->idle);
    u->prepare.data = u->check.data = u->idle.data = u;
    (void)uv_prepare_start(&u->prepare, on_prepare);
    (void)uv_check_start(&u->check, on_check);
    env_uv_hold(u);
    env_uv_hold(u);
    env_uv_hold(u);
}

/* ---- open and close ---- */

/* A write to a connection that the peer has reset must be an error. */
static void ignore_sigpipe(void)
{
    struct sigaction now;
    if (sigaction(SIGPIPE, NULL, &now) == 0 && now.sa_handler == SIG_DFL) {
        now.sa_handler = SIG_IGN;
        (void)sigaction(SIGPIPE, &now, NULL);
    }
}

enum status env_uv_open(const struct env_uv_options *o, struct env **out,
                        struct err *err)
{
    if (sodium_init() < 0) {
        return err_set(err, ST_UNSUPPORTED, "libsodium does not start");
    }
    ignore_sigpipe();
    struct env_uv *u = xcalloc(1, sizeof(*u));
    u->env.ops = &ops;
    u->env.log = o->log;
    u->loop = o->loop;
    enum status s = env_uv_disk_init(u, o->data_dir, err);
    if (s != ST_OK) {
        free(u);
        return s;
    }
    env_uv_timers_init(u);
    env_uv_net_init(u, o);
    start_turns(u);
    *out = &u->env;
    return ST_OK;
}

void env_uv_hold(struct env_uv *u)
{
    u->holds++;
}

void env_uv_release(struct env_uv *u)
{
    assert(u->holds > 0);
    u->holds--;
    if (u->holds > 0 || !u->closing) {
        return;
    }
    void (*closed)(void *ctx) = u->closed;
    void *ctx = u->closed_ctx;
    env_uv_work_free(u->helpers);
    env_uv_disk_free(u);
    env_uv_net_free(u);
    free(u->timers.heap);
    free(u->timers.soon);
    free(u);
    if (closed != NULL) {
        closed(ctx);
    }
}

static void on_handle_closed(uv_handle_t *h)
{
    env_uv_release(h->data);
}

void env_uv_close(struct env *e, void (*closed)(void *ctx), void *ctx)
{
    struct env_uv *u = env_uv_of(e);
    assert(!u->closing);
    u->closing = true;
    u->closed = closed;
    u->closed_ctx = ctx;
    env_uv_net_fini(u);
    env_uv_timers_fini(u);
    env_uv_disk_fini(u);
    uv_close((uv_handle_t *)&u->prepare, on_handle_closed);
    uv_close((uv_handle_t *)&u->check, on_handle_closed);
    uv_close((uv_handle_t *)&u->idle, on_handle_closed);
}

/* ---- counters ---- */

static uint64_t count_get(const _Atomic uint64_t *c)
{
    return atomic_load_explicit(c, memory_order_relaxed);
}

void env_uv_get_stats(const struct env *e, struct env_uv_stats *out)
{
    const struct counters *c =
        &((const struct env_uv *)(const void *)e)->counters;
    *out = (struct env_uv_stats){
        .conns_open = count_get(&c->conns_open),
        .conns_unproven = count_get(&c->conns_unproven),
        .accepted = count_get(&c->accepted),
        .connected = count_get(&c->connected),
        .refused = count_get(&c->refused),
        .handshake_failures = count_get(&c->handshake_failures),
        .denied = count_get(&c->denied),
        .invalid = count_get(&c->invalid),
        .bytes_in = count_get(&c->bytes_in),
        .bytes_out = count_get(&c->bytes_out),
        .frames_in = count_get(&c->frames_in),
        .frames_out = count_get(&c->frames_out),
        .sealing_us = count_get(&c->sealing_ns) / 1000,
        .disk_writes = count_get(&c->disk_writes),
        .disk_syncs = count_get(&c->disk_syncs),
        .disk_syncs_here = count_get(&c->disk_syncs_here),
        .disk_errors = count_get(&c->disk_errors),
        .disk_bytes = count_get(&c->disk_bytes),
    };
}

void env_uv_get_figures(const struct env *e, struct env_uv_figures *out)
{
    const struct env_uv *u = (const struct env_uv *)(const void *)e;
    const struct env_conn *c;
    *out = (struct env_uv_figures){.sync_us = u->disk.sync_times,
                                   .turn_us = u->turn_times};
    TAILQ_FOREACH(c, &u->net.conns, all)
    {
        size_t queued = env_uv_conn_queued(c);
        out->queued_max = queued > out->queued_max ? queued : out->queued_max;
    }
}
