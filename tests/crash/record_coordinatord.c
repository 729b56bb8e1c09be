/*
 * penn-coordinatord, writing a trace. A promise is what leaves the process: the
 * epochs of a map and its term must be in the register (R1, R22). The map's
 * version need not be: who is up is no configuration.
 */
#include <stdlib.h>
#include <xxhash.h>

#include "common/daemon.h"
#include "common/env_uv_io.h"
#include "coordinator/coordinator.h"
#include "coordinator/coordinatord_io.h"
#include "coordinator/register.h"
#include "tests/crash/record_io.h"

/* Of the same types as what they stand for, or this does not compile. */
#define WRAP(f) extern __typeof__(f) __real_##f, __wrap_##f
WRAP(env_uv_open);
WRAP(coordinator_new);
WRAP(register_create);
WRAP(register_write);
WRAP(register_write_now);

static void told(uint64_t term)
{
    struct trace_value v = {.promised = term};
    record_note(TRACE_TOLD, &v, sizeof(v));
}

static void promise(uint32_t tablet, uint64_t epoch)
{
    struct trace_promise p = {.tablet = tablet, .epoch = epoch};
    record_note(TRACE_PROMISE, &p, sizeof(p));
}

static void heard(const struct wire_msg *m)
{
    if (m->type == MSG_MAP) {
        told(m->u.map.term);
        for (uint32_t i = 0; i < m->u.map.tablets_count; i++) {
            promise(m->u.map.tablets[i].tablet, m->u.map.tablets[i].epoch);
        }
    } else if (m->type == MSG_HEARTBEAT_ACK) {
        told(m->u.heartbeat_ack.term);
    } else if (m->type == MSG_CHANGE_ACK) {
        promise(m->u.change_ack.tablet, m->u.change_ack.epoch);
    }
}

static void note(const struct generation *v)
{
    struct trace_value t = {v->promised, v->accepted, v->version,
                            XXH3_64bits(v->state.data, v->state.len)};
    record_note(TRACE_VALUE, &t, sizeof(t));
}

enum status __wrap_env_uv_open(const struct env_uv_options *o, struct env **out,
                               struct err *err)
{
    enum status s = __real_env_uv_open(o, out, err);
    if (s == ST_OK) {
        record_tap(*out, heard);
    }
    return s;
}

enum status __wrap_coordinator_new(struct env *env,
                                   const struct coordinator_options *o,
                                   struct coordinator **out, struct err *err)
{
    const char *bugs = getenv("PENN_CRASH_BUGS");
    struct coordinator_options mine = *o;
    mine.bugs = bugs == NULL ? 0 : (unsigned)strtoul(bugs, NULL, 0);
    return __real_coordinator_new(env, &mine, out, err);
}

enum status __wrap_register_create(struct env *env,
                                   const struct register_identity *id,
                                   const struct generation *first,
                                   struct generation_register **out,
                                   struct err *err)
{
    note(first);
    return __real_register_create(env, id, first, out, err);
}

enum status __wrap_register_write_now(struct generation_register *r,
                                      const struct generation *v,
                                      struct err *err)
{
    note(v);
    return __real_register_write_now(r, v, err);
}

void __wrap_register_write(struct generation_register *r,
                           const struct generation *v,
                           void (*done)(void *ctx, enum status status),
                           void *ctx)
{
    note(v);
    __real_register_write(r, v, done, ctx);
}

int main(int argc, char **argv)
{
    record_begin();
    return daemon_main(&coordinatord_spec, argc, argv);
}
