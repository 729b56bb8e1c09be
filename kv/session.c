/*
 * R23 at the client: sessions and numbers, for each tablet its own.
 *
 * A client introduces itself to a tablet by an entry; the entry's seq is its
 * session. Numbers are dense from 1 in a session. Taking one and marking it
 * open is one step: kv_session_take(). It stays open until its outcome is
 * known or its caller gives up, and no more than LIMIT_CLIENT_WINDOW lie
 * between the oldest open and the newest: further operations queue here, in
 * the order of their coming.
 *
 * A session is lost when the tablet says UNKNOWN_CLIENT: it had too many
 * clients, or a late copy of an INTRODUCE made a session that we never heard
 * of. New numbers are then taken from a new session; an old number is never
 * sent under it. Only the answer to the latest INTRODUCE sent begins a
 * session, because every later copy that is applied replaces it.
 */
#include "kv/core_impl.h"

#include <assert.h>
#include <string.h>

#define INTRODUCE_TIMEOUT_US (3600 * 1000000ll)

void kv_session_init(struct kv_tablet *t)
{
    struct kv_session *s = &t->session;
    ring_init(&s->queue);
    s->next = s->oldest = 1;
}

static void on_introduced(struct kv_op *op);

static void introduce(struct kv_tablet *t)
{
    struct kv_session *s = &t->session;
    if (s->introducing || t->core->stopping) {
        return;
    }
    s->introducing = true;
    s->introduce = (struct kv_op){
        .kind = KV_OP_INTRODUCE,
        .timeout_us = INTRODUCE_TIMEOUT_US,
        .done = on_introduced,
        .data = t,
    };
    kv_core_start(t->core, &s->introduce);
}

/* Without a session if nobody waits for one any more, or at the end. */
static void on_introduced(struct kv_op *op)
{
    struct kv_tablet *t = op->data;
    t->session.introducing = false;
    kv_session_pump(t);
}

void kv_session_begin(struct kv_tablet *t, uint64_t session)
{
    struct kv_session *s = &t->session;
    s->session = session;
    s->next = s->oldest = 1;
    memset(s->open, 0, sizeof(s->open));
}

static bool has_room(const struct kv_session *s)
{
    return s->session != 0 && s->next - s->oldest < LIMIT_CLIENT_WINDOW;
}

static void take(struct kv_session *s, struct kv_op *op)
{
    bool *open = &s->open[s->next % LIMIT_CLIENT_WINDOW];
    assert(!*open);
    *open = true;
    op->p.session = s->session;
    op->p.number = s->next++;
}

bool kv_session_take(struct kv_op *op)
{
    struct kv_session *s = &op->p.tablet->session;
    if (has_room(s) && ring_empty(&s->queue)) {
        take(s, op);
        return true;
    }
    kv_op_move(op, OP_QUEUED);
    ring_append(&s->queue, &op->p.place);
    kv_op_arm(op, INT64_MAX);
    if (s->session == 0) {
        introduce(op->p.tablet);
    }
    return false;
}

void kv_session_pump(struct kv_tablet *t)
{
    struct kv_session *s = &t->session;
    while (!t->core->stopping && has_room(s) && !ring_empty(&s->queue)) {
        struct kv_op *op = RING_OF(s->queue.next, struct kv_op, p.place);
        take(s, op);
        kv_op_advance(op);
    }
    if (s->session == 0 && !ring_empty(&s->queue)) {
        introduce(t);
    }
}

void kv_session_close(struct kv_tablet *t, uint64_t session, uint64_t number)
{
    struct kv_session *s = &t->session;
    if (session != s->session || number < s->oldest || number >= s->next) {
        return;
    }
    s->open[number % LIMIT_CLIENT_WINDOW] = false;
    while (s->oldest < s->next && !s->open[s->oldest % LIMIT_CLIENT_WINDOW]) {
        s->oldest++;
    }
    kv_session_pump(t);
}

void kv_session_lost(struct kv_tablet *t, uint64_t session)
{
    struct kv_session *s = &t->session;
    if (s->session != session || session == 0) {
        return;
    }
    log_warn(t->core->env->log, "kv", "session-lost",
             "tablet=%u session=%llu open=%llu", (unsigned)t->id,
             (unsigned long long)session,
             (unsigned long long)(s->next - s->oldest));
    s->session = 0;
    kv_session_pump(t);
}
