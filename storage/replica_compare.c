/*
 * Comparing replicas (R19).
 *
 * Now and then a primary compares its state with the others' at one and the
 * same seq. It takes the last one that it has prepared, which nobody can have
 * passed, for nothing beyond what it has committed is applied anywhere; it
 * asks all to whom entries stream for their digest there, and each, itself too,
 * answers at the instant at which it has applied exactly that seq. A digest is
 * kept up to date by each change, so it costs nothing but the client table.
 *
 *   all alike                nothing
 *   some differ from what    those are told and condemn themselves (R16); a
 *   more than half have      primary that is one of them condemns itself
 *   two, and they differ     the primary walks its own state (shard_scrub.c):
 *                            if that is sound, the other one is wrong
 *   no majority of three     nobody is condemned; said loudly
 *
 * Only members of I and shadow members have a vote; learners are judged.
 * Everything is of one epoch: with the next it is forgotten, and begun again
 * when its time comes. Who does not answer in time has no vote.
 */
#include "storage/replica_impl.h"

#define COMPARE_PATIENCE_US INT64_C(10000000)

/* ---- answering ---- */

/* The state here is at the seq that is compared. */
void compare_on_applied(struct replica_core *r, struct effects *fx)
{
    struct compare *c = &r->compare;
    assert(state_applied(r->state).seq == c->seq);
    c->digest = state_digest(r->state);
    if (r->role == REPLICA_PRIMARY) {
        c->known = c->look = true;
        return;
    }
    fx_send(fx, r->config.primary, MSG_DIGEST_AT)->u.digest_at =
        (struct msg_digest_at){.tablet = r->tablet,
                               .epoch = r->config.epoch,
                               .name = state_applied(r->state),
                               .digest = c->digest};
    c->seq = 0;
}

void compare_on_ask(struct replica_core *r, const struct msg_digest_want *m,
                    struct effects *fx)
{
    uint64_t applied = state_applied(r->state).seq;
    r->compare = (struct compare){0};
    if (r->damaged || applied > m->seq || m->seq == 0) {
        return;
    }
    r->compare.seq = m->seq;
    if (applied == m->seq) {
        compare_on_applied(r, fx);
    }
}

/* ---- asking ---- */

void compare_begin(struct replica_core *r, int64_t now_us, struct effects *fx)
{
    uint64_t seq = log_last(r).seq;
    if (r->phase != PHASE_OPEN || r->damaged || seq == 0 ||
        r->compare.seq != 0) {
        return;
    }
    r->compare = (struct compare){.seq = seq, .since_us = now_us};
    for (uint32_t i = 0; i < r->peer_count; i++) {
        struct peer *p = &r->peers[i];
        p->digest_wanted = p->joined && p->phase == PEER_STREAMING;
        p->digest_known = false;
        if (p->digest_wanted) {
            fx_send(fx, p->id, MSG_DIGEST_WANT)->u.digest_want =
                (struct msg_digest_want){r->tablet, r->config.epoch, seq};
        }
    }
    if (state_applied(r->state).seq == seq) {
        compare_on_applied(r, fx);
    }
}

void compare_on_digest(struct replica_core *r, struct peer *p,
                       const struct msg_digest_at *m)
{
    if (p->digest_wanted && m->name.seq == r->compare.seq && m->name.seq != 0) {
        p->digest_known = true;
        p->digest = m->digest;
        r->compare.look = true;
    }
}

/* ---- judging ---- */

static bool votes(const struct peer *p)
{
    return p->digest_wanted && p->digest_known && p->kind != PEER_LEARNER;
}

static bool awaited(const struct replica_core *r)
{
    for (uint32_t i = 0; i < r->peer_count; i++) {
        const struct peer *p = &r->peers[i];
        if (p->digest_wanted && !p->digest_known && p->kind != PEER_LEARNER &&
            p->phase == PEER_STREAMING) {
            return true;
        }
    }
    return false;
}

/* How many have D; *VOTERS: of how many. */
static unsigned count_votes(const struct replica_core *r, struct id128 d,
                            unsigned *voters)
{
    unsigned same = id128_equal(r->compare.digest, d);
    *voters = 1;
    for (uint32_t i = 0; i < r->peer_count; i++) {
        const struct peer *p = &r->peers[i];
        *voters += votes(p);
        same += votes(p) && id128_equal(p->digest, d);
    }
    return same;
}

/* What more than half have; false if there is no such. */
static bool find_majority(const struct replica_core *r, struct id128 *out)
{
    unsigned voters;
    *out = r->compare.digest;
    if (2 * count_votes(r, *out, &voters) > voters) {
        return true;
    }
    for (uint32_t i = 0; i < r->peer_count; i++) {
        if (votes(&r->peers[i])) {
            *out = r->peers[i].digest;
            if (2 * count_votes(r, *out, &voters) > voters) {
                return true;
            }
        }
    }
    return false;
}

static void say(const struct replica_core *r, uint32_t node, struct id128 d,
                const char *outcome)
{
    char text[33];
    id128_format(d, text);
    log_error(r->host->log, "replica", "states-differ",
              "tablet=%" PRIu32 " epoch=%" PRIu64 " seq=%" PRIu64
              " node=%" PRIu32 " digest=%s outcome=%s",
              r->tablet, r->config.epoch, r->compare.seq, node, text, outcome);
}

/* Tells all who have another digest than RIGHT that they are wrong. */
static uint32_t tell_wrong(struct replica_core *r, struct id128 right,
                           struct effects *fx)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < r->peer_count; i++) {
        struct peer *p = &r->peers[i];
        if (!p->digest_wanted || !p->digest_known ||
            id128_equal(p->digest, right)) {
            continue;
        }
        count++;
        say(r, p->id.node, p->digest, "to-be-rebuilt");
        fx_send(fx, p->id, MSG_DIGEST_WRONG)->u.digest_wrong =
            (struct msg_digest_wrong){r->tablet, r->config.epoch,
                                      r->compare.seq};
    }
    return count;
}

static void end_comparison(struct replica_core *r, uint32_t differing,
                           struct effects *fx)
{
    struct effect *x = fx_add(fx, FX_COMPARED);
    x->differing = differing;
    r->compare = (struct compare){0};
}

static void judge(struct replica_core *r, struct effects *fx)
{
    struct compare *c = &r->compare;
    struct id128 right;
    unsigned voters;
    (void)count_votes(r, c->digest, &voters);
    if (find_majority(r, &right)) {
        uint32_t wrong = tell_wrong(r, right, fx);
        bool self = !id128_equal(c->digest, right);
        end_comparison(r, wrong + self, fx);
        if (self) {
            damage_condemn(r, "state differs from most replicas'", fx);
        }
        return;
    }
    if (voters == 2) {
        say(r, r->host->self.node, c->digest, "own-state-walked");
        c->disputed = true;
        fx_add(fx, FX_DISPUTED);
        return;
    }
    say(r, r->host->self.node, c->digest, "no-majority");
    end_comparison(r, voters, fx);
}

void compare_settle(struct replica_core *r, int64_t now_us, struct effects *fx)
{
    struct compare *c = &r->compare;
    bool late = c->seq != 0 && now_us - c->since_us >= COMPARE_PATIENCE_US;
    if (r->role != REPLICA_PRIMARY || c->disputed || !(c->look || late)) {
        return;
    }
    c->look = false;
    if (c->known && (late || !awaited(r))) {
        judge(r, fx);
    } else if (late) {
        r->compare = (struct compare){0};
    }
}

void compare_on_walked(struct replica_core *r, bool sound, struct effects *fx)
{
    struct compare *c = &r->compare;
    if (r->role != REPLICA_PRIMARY || !c->disputed) {
        return;
    }
    /* Where it is not, the shard condemns this replica. */
    end_comparison(r, sound ? tell_wrong(r, c->digest, fx) : 1, fx);
}
