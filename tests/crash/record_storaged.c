/*
 * penn-storaged, writing a trace. A promise is what leaves the process: that
 * an entry is on this disk (PREPARED, CUT_DONE, an answer to a client), that
 * an epoch is (whatever names it).
 */
#include <stdlib.h>
#include <xxhash.h>

#include "common/daemon.h"
#include "common/env_uv_io.h"
#include "storage/shard_impl.h"
#include "storage/storaged_io.h"
#include "tests/crash/record_io.h"

#define SEGMENT KIB(512) /* so that there is much turning over */
#define LOG_LIMIT MIB(1)

/* Of the same types as what they stand for, or this does not compile. */
#define WRAP(f) extern __typeof__(f) __real_##f, __wrap_##f
WRAP(env_uv_open);
WRAP(shard_open);
WRAP(storage_node_start);
WRAP(wal_append);
WRAP(replica_step);
WRAP(replica_replay);
WRAP(replica_recovered);
WRAP(state_apply);
WRAP(requests_reply);

static uint32_t at_hand; /* the tablet that is being stepped */

static void promise(uint32_t tablet, uint64_t epoch, struct name name)
{
    struct trace_promise p = {tablet, 0, epoch, name};
    record_note(TRACE_PROMISE, &p, sizeof(p));
}

static void heard_of_others(const struct wire_msg *m)
{
    static const struct name none;
    switch ((int)m->type) {
    case MSG_TAIL:
        promise(m->u.tail.tablet, m->u.tail.epoch, none);
        return;
    case MSG_PREPARE:
        promise(m->u.prepare.tablet, m->u.prepare.epoch, none);
        return;
    case MSG_TAIL_ASK:
        promise(m->u.tail_ask.tablet, m->u.tail_ask.epoch, none);
        return;
    case MSG_ECHO:
        for (uint32_t i = 0; i < m->u.echo.tablets_count; i++) {
            const struct tablet_epoch *t = &m->u.echo.tablets[i];
            promise(t->tablet, t->epoch, none);
        }
        return;
    default:
        return;
    }
}

static void heard(const struct wire_msg *m)
{
    if (m->type == MSG_PREPARED) {
        promise(m->u.prepared.tablet, m->u.prepared.epoch, m->u.prepared.name);
    } else if (m->type == MSG_CUT_DONE) {
        promise(m->u.cut_done.tablet, m->u.cut_done.epoch, m->u.cut_done.last);
    } else {
        heard_of_others(m);
    }
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

enum status __wrap_storage_node_start(const struct storage_node_options *o,
                                      struct storage_node **out,
                                      struct err *err)
{
    const char *bugs = getenv("PENN_CRASH_BUGS");
    struct storage_node_options mine = *o;
    mine.bugs = bugs == NULL ? 0 : (unsigned)strtoul(bugs, NULL, 0);
    mine.segment_size = SEGMENT;
    mine.log_limit = LOG_LIMIT;
    return __real_storage_node_start(&mine, out, err);
}

enum status __wrap_shard_open(const struct storage_node_options *o,
                              struct store *store, struct beacon_table *beacons,
                              struct shard **out, struct err *err)
{
    struct trace_identity id = {store->id, store->incarnation.counter};
    record_note(TRACE_IDENTITY, &id, sizeof(id));
    return __real_shard_open(o, store, beacons, out, err);
}

uint64_t __wrap_wal_append(struct wal *w, struct wal_record *r)
{
    struct trace_append a = {
        .tablet = r->tablet, .kind = r->kind, .name = r->name, .seq = r->seq};
    a.hash = XXH3_64bits(r->payload.data, r->payload.len);
    record_note(TRACE_APPEND, &a, sizeof(a));
    return __real_wal_append(w, r);
}

static void note_state(struct state *s)
{
    struct trace_state t = {at_hand, 0, state_applied(s), state_digest(s)};
    record_note(TRACE_STATE, &t, sizeof(t));
}

void __wrap_state_apply(struct state *s, struct name name, struct slice payload,
                        uint64_t position, struct applied *out)
{
    __real_state_apply(s, name, payload, position, out);
    note_state(s);
}

static void take_in_hand(const struct replica_core *r)
{
    struct tablet_report report;
    replica_report(r, &report);
    at_hand = report.tablet;
}

void __wrap_replica_recovered(struct replica_core *r, bool damaged)
{
    take_in_hand(r);
    __real_replica_recovered(r, damaged);
}

void __wrap_replica_step(struct replica_core *r, const struct event *e,
                         struct effects *fx)
{
    take_in_hand(r);
    if (e->kind == EVENT_SNAPSHOT && e->u.snapshot.state != NULL) {
        note_state(e->u.snapshot.state);
    }
    __real_replica_step(r, e, fx);
}

enum status __wrap_replica_replay(struct replica_core *r,
                                  const struct wal_record *record)
{
    at_hand = record->tablet;
    return __real_replica_replay(r, record);
}

/* A client hears it at once. */
void __wrap_requests_reply(struct shard *s, struct request *q, enum status why,
                           const struct applied *result)
{
    if (why == ST_OK) {
        const struct replica_core *core = q->tablet->core;
        promise(q->tablet->id, replica_config(core)->epoch,
                state_applied(replica_state(core)));
    }
    __real_requests_reply(s, q, why, result);
}

int main(int argc, char **argv)
{
    record_begin();
    return daemon_main(&storaged_spec, argc, argv);
}
