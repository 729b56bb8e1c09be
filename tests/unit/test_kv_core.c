/*
 * The client's core against a scripted cluster: routing, re-sending (R24),
 * sessions and numbers (R23), and above all what it says at a deadline.
 */
#include "kv_world.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static struct world *w;

static void setup(void)
{
    w = malloc(sizeof(*w));
    world_init(w, 1);
}

static void setup_two(void)
{
    w = malloc(sizeof(*w));
    world_init(w, 2);
}

static void teardown(void)
{
    world_fini(w);
    free(w);
}

/* A session at TABLET, and nothing under way. */
static void introduce(uint32_t tablet)
{
    static struct job j;
    enum world_mode mode = w->mode;
    w->mode = WORLD_OK;
    job_put(w, &j, tablet, 1000);
    world_run(w, 10);
    ck_assert(j.done && j.op.status == ST_OK);
    w->mode = mode;
}

static uint32_t batches(void)
{
    return world_count(w, MSG_COMMAND, COMMAND_BATCH);
}

static struct seen *batch(int n)
{
    return world_seen(w, MSG_COMMAND, COMMAND_BATCH, n);
}

/* ---- reads and the way to the primary ---- */

START_TEST(get_answers)
{
    static struct job j;
    job_get(w, &j, 2, 1000);
    world_run(w, 5);
    ck_assert(j.done);
    ck_assert_int_eq(j.op.status, ST_OK);
    ck_assert_int_eq(j.answer, MSG_VALUE);
    ck_assert_uint_eq(world_seen(w, MSG_GET, 0, 0)->tablet, 2);
}
END_TEST

START_TEST(tablet_of_partition)
{
    for (uint32_t t = 1; t <= WORLD_TABLETS; t++) {
        struct job j;
        job_get(w, &j, t, 1000);
        world_run(w, 5);
        ck_assert_uint_eq(world_seen(w, MSG_GET, 0, -1)->tablet, t);
    }
    ck_assert_uint_eq(w->nodes[1]->opened, 1);
}
END_TEST

START_TEST(not_primary_hint_is_followed)
{
    static struct job j;
    w->mode = WORLD_ERROR;
    w->error = ST_NOT_PRIMARY;
    w->error_address = "s2:1";
    w->error_epoch = 2;
    job_get(w, &j, 1, 1000);
    world_run(w, 1);
    ck_assert_str_eq(world_seen(w, MSG_GET, 0, -1)->host->address, "s2:1");
    w->mode = WORLD_OK;
    world_run(w, 60);
    ck_assert(j.done && j.op.status == ST_OK);
}
END_TEST

START_TEST(stale_hint_is_ignored)
{
    static struct job j;
    w->mode = WORLD_ERROR;
    w->error = ST_NOT_PRIMARY;
    w->error_address = "s2:1";
    w->error_epoch = 1; /* the map's own epoch: one primary for ever */
    job_get(w, &j, 1, 100);
    world_run(w, 150);
    ck_assert(j.done);
    ck_assert_int_eq(j.op.status, ST_UNREACHABLE);
    ck_assert_uint_eq(w->nodes[2]->opened, 0);
    ck_assert_uint_gt(world_count(w, MSG_GET, 0), 2);
}
END_TEST

START_TEST(no_primary_waits_for_map)
{
    static struct job j;
    world_move(w, 1, 0);
    world_run(w, 5);
    job_get(w, &j, 1, 5000);
    world_run(w, 500);
    ck_assert(!j.done);
    world_move(w, 1, 3);
    world_run(w, 2);
    ck_assert(j.done && j.op.status == ST_OK);
}
END_TEST

START_TEST(older_map_is_ignored)
{
    static struct job j;
    w->version = 7;
    world_move(w, 1, 2);
    world_run(w, 5);
    w->version = 4;
    world_move(w, 1, 3);
    world_run(w, 5);
    job_get(w, &j, 1, 1000);
    world_run(w, 5);
    ck_assert_str_eq(world_seen(w, MSG_GET, 0, 0)->host->address, "s2:1");
    /* A newer term counts whatever its version. */
    w->term = 2;
    w->version = 0;
    world_move(w, 1, 3);
    world_run(w, 5);
    job_get(w, &j, 1, 1000);
    world_run(w, 5);
    ck_assert_str_eq(world_seen(w, MSG_GET, 0, 1)->host->address, "s3:1");
}
END_TEST

START_TEST(pushed_map_moves_pending_at_once)
{
    static struct job j, g;
    introduce(1);
    w->mode = WORLD_SILENT;
    job_put(w, &j, 1, 5000);
    job_get(w, &g, 1, 5000);
    world_run(w, 50);
    uint64_t number = batch(-1)->number;
    ck_assert_uint_eq(batches(), 2);
    world_move(w, 1, 2);
    world_run(w, 1);
    ck_assert_uint_eq(batches(), 3);
    ck_assert_str_eq(batch(-1)->host->address, "s2:1");
    ck_assert_uint_eq(batch(-1)->number, number);
    ck_assert_str_eq(world_seen(w, MSG_GET, 0, -1)->host->address, "s2:1");
    world_result(batch(-1), ST_OK, 0);
    world_run(w, 1);
    ck_assert(j.done && j.op.status == ST_OK);
    /* The first copy's late answer is no news. */
    world_result(batch(1), ST_CONFLICT, 0);
    world_run(w, 1);
}
END_TEST

START_TEST(same_primary_in_new_epoch_is_not_sent_again)
{
    static struct job j;
    introduce(1);
    w->mode = WORLD_SILENT;
    job_put(w, &j, 1, 5000);
    world_run(w, 50);
    world_move(w, 1, 1);
    world_run(w, 50);
    ck_assert_uint_eq(batches(), 2);
}
END_TEST

START_TEST(killed_primary_then_map)
{
    static struct job j;
    introduce(1);
    w->mode = WORLD_SILENT;
    job_put(w, &j, 1, 5000);
    world_run(w, 5);
    fake_kill(w->nodes[1]);
    world_run(w, 250);
    w->mode = WORLD_OK;
    world_move(w, 1, 3);
    world_run(w, 2);
    ck_assert(j.done && j.op.status == ST_OK);
    ck_assert_uint_eq(batch(-1)->number, batch(1)->number);
}
END_TEST

START_TEST(restarted_primary_is_found_again)
{
    static struct job j;
    fake_kill(w->nodes[1]);
    job_get(w, &j, 1, 5000);
    world_run(w, 1000);
    ck_assert(!j.done);
    w->nodes[1]->up = true;
    world_run(w, 60);
    ck_assert(j.done && j.op.status == ST_OK);
}
END_TEST

START_TEST(silence_asks_then_sends_again)
{
    static struct job j;
    introduce(1);
    w->mode = WORLD_SILENT;
    job_put(w, &j, 1, 5000);
    uint32_t asks = w->asks;
    world_run(w, 190);
    ck_assert_uint_eq(w->asks, asks);
    world_run(w, 20);
    ck_assert_uint_eq(w->asks, asks + 1);
    ck_assert_uint_eq(batches(), 2);
    world_run(w, 400);
    ck_assert_uint_eq(batches(), 3);
    ck_assert_uint_eq(batch(1)->number, batch(2)->number);
    ck_assert_uint_ne(batch(1)->request, batch(2)->request);
    /* Either copy's answer will do. */
    world_result(batch(1), ST_CONFLICT, 0);
    world_run(w, 1);
    ck_assert(j.done && j.op.status == ST_CONFLICT);
}
END_TEST

START_TEST(deaf_connection_is_opened_anew)
{
    static struct job j;
    job_get(w, &j, 1, 9000);
    world_run(w, 5);
    w->nodes[1]->deaf = true;
    job_get(w, &j, 1, 9000);
    world_run(w, 2500);
    w->nodes[1]->deaf = false;
    world_run(w, 1100);
    ck_assert_uint_ge(w->nodes[1]->opened, 2);
    ck_assert(j.done && j.op.status == ST_OK);
}
END_TEST

START_TEST(slow_primary_is_pinged_not_cut)
{
    static struct job j;
    introduce(1);
    w->mode = WORLD_SILENT;
    job_put(w, &j, 1, 9000);
    world_run(w, 8000);
    ck_assert_uint_ge(w->pings, 3);
    ck_assert_uint_eq(w->nodes[1]->opened, 1);
    world_result(batch(-1), ST_OK, 0);
    world_run(w, 1);
    ck_assert(j.done && j.op.status == ST_OK);
}
END_TEST

/* ---- deadlines: what is said of a command ---- */

START_TEST(never_sent_is_unreachable)
{
    static struct job j;
    fake_kill(w->nodes[1]);
    job_put(w, &j, 1, 300);
    world_run(w, 310);
    ck_assert(j.done);
    ck_assert_int_eq(j.op.status, ST_UNREACHABLE);
    ck_assert_uint_eq(j.op.result.pending.number, 0);
}
END_TEST

START_TEST(no_map_is_unreachable)
{
    static struct job j;
    struct world *v = malloc(sizeof(*v));
    world_init(v, 1);
    kv_core_free(v->core);
    fake_kill(v->coordinators[0]);
    static const char *const c[] = {"c1:1", NULL};
    struct kv_core_options o = {.coordinators = c};
    v->core = kv_core_new(&v->fake.env, &o);
    job_put(v, &j, 1, 300);
    world_run(v, 310);
    ck_assert(j.done && j.op.status == ST_UNREACHABLE);
    world_fini(v);
    free(v);
}
END_TEST

/* However the deadline falls between the tries: who is always refused, and
 * hears so 5 ms later, knows that nothing happened. */
START_TEST(refused_to_the_last_is_definite)
{
    static struct job j;
    introduce(1);
    w->mode = WORLD_SILENT;
    for (int64_t ms = 300; ms < 360; ms++) {
        int answered = (int)batches();
        job_put(w, &j, 1, ms);
        while (!j.done) {
            world_run(w, 1);
            while (answered < (int)batches() &&
                   batch(answered)->at_us + 5000 <= w->fake.now_us)
                world_error(batch(answered++), ST_DEGRADED, NULL, 0);
        }
        ck_assert_msg(j.op.status == ST_DEGRADED, "%lld ms: %s", (long long)ms,
                      status_name(j.op.status));
        ck_assert_int_eq(answered, (int)batches());
    }
}
END_TEST

START_TEST(refused_before_the_log_is_definite)
{
    static const enum status statuses[] = {ST_DEGRADED, ST_BUSY, ST_NO_SPACE};
    static struct job j;
    introduce(1);
    w->mode = WORLD_ERROR;
    w->error = statuses[_i];
    job_put(w, &j, 1, 300);
    world_run(w, 310);
    ck_assert(j.done);
    ck_assert_int_eq(j.op.status, statuses[_i]);
    ck_assert_uint_gt(batches(), 5);
    /* Its number is closed. */
    w->mode = WORLD_OK;
    job_put(w, &j, 1, 300);
    world_run(w, 5);
    ck_assert_uint_eq(batch(-1)->oldest_open, batch(-1)->number);
}
END_TEST

START_TEST(degraded_introduce_is_told)
{
    static struct job j;
    w->hold_introduce = true;
    job_put(w, &j, 1, 300);
    world_run(w, 5);
    world_error(world_seen(w, MSG_COMMAND, COMMAND_INTRODUCE, 0), ST_DEGRADED,
                NULL, 0);
    world_run(w, 310);
    ck_assert(j.done && j.op.status == ST_DEGRADED);
}
END_TEST

START_TEST(refused_for_good_ends_at_once)
{
    static const enum status statuses[] = {ST_INVALID, ST_TOO_LARGE, ST_DENIED,
                                           ST_UNSUPPORTED};
    static struct job j;
    introduce(1);
    w->mode = WORLD_ERROR;
    w->error = statuses[_i];
    job_put(w, &j, 1, 3000);
    world_run(w, 5);
    ck_assert(j.done && j.op.status == statuses[_i]);
    ck_assert_uint_eq(batches(), 2);
}
END_TEST

/* Every way to leave a copy loose: then a refusal of a later one proves
 * nothing. */
enum loosener { LOOSE_SILENT, LOOSE_CLOSED, LOOSE_IO, LOOSE_RESULT, LOOSE_N };

START_TEST(loose_copy_is_unknown)
{
    static struct job j;
    introduce(1);
    w->mode = WORLD_SILENT;
    job_put(w, &j, 1, 2000);
    world_run(w, 5);
    ck_assert_uint_eq(batches(), 2);
    struct seen first = *batch(1);
    switch (_i) {
    case LOOSE_SILENT:
        world_run(w, 610);
        break;
    case LOOSE_CLOSED:
        fake_cut(w->nodes[1]);
        break;
    case LOOSE_IO:
        world_error(&first, ST_IO, NULL, 0);
        break;
    case LOOSE_RESULT: /* a deposed primary's word */
        world_result(&first, ST_UNKNOWN_OUTCOME, 0);
        break;
    }
    w->mode = WORLD_ERROR;
    w->error = ST_DEGRADED;
    world_run(w, 2000);
    ck_assert(j.done);
    ck_assert_uint_gt(batches(), 2);
    ck_assert_int_eq(j.op.status, ST_UNKNOWN_OUTCOME);
    ck_assert_uint_eq(j.op.result.pending.tablet, 1);
    ck_assert_uint_eq(j.op.result.pending.session, first.session);
    ck_assert_uint_eq(j.op.result.pending.number, first.number);
    /* Its number stays open. */
    static struct job k;
    w->mode = WORLD_OK;
    job_put(w, &k, 1, 1000);
    world_run(w, 5);
    ck_assert_uint_eq(batch(-1)->number, first.number + 1);
    ck_assert_uint_eq(batch(-1)->oldest_open, first.number);
}
END_TEST

START_TEST(late_refusal_of_first_copy_counts)
{
    static struct job j;
    introduce(1);
    w->mode = WORLD_SILENT;
    job_put(w, &j, 1, 1000);
    world_run(w, 700);
    ck_assert_uint_eq(batches(), 3);
    /* Both copies were refused before the log: no effect, surely. */
    world_error(batch(1), ST_NOT_PRIMARY, NULL, 0);
    world_error(batch(2), ST_DEGRADED, NULL, 0);
    w->mode = WORLD_ERROR;
    w->error = ST_DEGRADED;
    world_run(w, 400);
    ck_assert(j.done && j.op.status == ST_DEGRADED);
}
END_TEST

START_TEST(unknown_then_abandoned)
{
    static struct job j, k;
    introduce(1);
    w->mode = WORLD_SILENT;
    job_put(w, &j, 1, 100);
    world_run(w, 110);
    ck_assert(j.done && j.op.status == ST_UNKNOWN_OUTCOME);
    kv_core_abandon(w->core, &j.op.result.pending);
    kv_core_abandon(w->core, &j.op.result.pending);
    job_put(w, &k, 1, 100);
    world_run(w, 5);
    ck_assert_uint_eq(batch(-1)->oldest_open, batch(-1)->number);
}
END_TEST

START_TEST(given_up_closes_its_number)
{
    static struct job j, k;
    introduce(1);
    w->mode = WORLD_SILENT;
    job_put(w, &j, 1, 100);
    j.op.give_up = true;
    world_run(w, 110);
    ck_assert(j.done && j.op.status == ST_UNKNOWN_OUTCOME);
    job_put(w, &k, 1, 100);
    world_run(w, 5);
    ck_assert_uint_eq(batch(-1)->oldest_open, batch(-1)->number);
}
END_TEST

/* ---- settle ---- */

static void make_unknown(struct job *j)
{
    introduce(1);
    w->mode = WORLD_SILENT;
    job_put(w, j, 1, 100);
    world_run(w, 110);
    ck_assert(j->done && j->op.status == ST_UNKNOWN_OUTCOME);
}

START_TEST(settle_makes_known)
{
    static const enum status outcomes[] = {ST_OK, ST_VOID, ST_CONFLICT,
                                           ST_BOUND};
    static struct job j, s, k;
    make_unknown(&j);
    job_settle(w, &s, &j, 1000);
    world_run(w, 5);
    struct seen *ask = world_seen(w, MSG_COMMAND, COMMAND_SETTLE, 0);
    ck_assert_uint_eq(ask->number, j.op.result.pending.number);
    ck_assert_uint_eq(ask->session, j.op.result.pending.session);
    world_result(ask, outcomes[_i], 0);
    world_run(w, 1);
    ck_assert(s.done && s.op.status == outcomes[_i]);
    job_put(w, &k, 1, 100);
    world_run(w, 5);
    ck_assert_uint_eq(batch(-1)->oldest_open, batch(-1)->number);
}
END_TEST

START_TEST(settle_without_answer_may_be_asked_again)
{
    static struct job j, s;
    make_unknown(&j);
    job_settle(w, &s, &j, 300);
    world_run(w, 310);
    ck_assert(s.done && s.op.status == ST_UNKNOWN_OUTCOME);
    ck_assert_uint_eq(s.op.result.pending.number, j.op.result.pending.number);
    w->mode = WORLD_OK;
    job_settle(w, &s, &j, 300);
    world_run(w, 5);
    ck_assert(s.done && s.op.status == ST_OK);
}
END_TEST

START_TEST(settle_is_not_refused_definitely)
{
    static struct job j, s;
    make_unknown(&j);
    w->mode = WORLD_ERROR;
    w->error = ST_DEGRADED;
    job_settle(w, &s, &j, 300);
    world_run(w, 310);
    ck_assert(s.done && s.op.status == ST_UNKNOWN_OUTCOME);
}
END_TEST

START_TEST(settle_of_lost_session)
{
    static struct job j, s, k;
    make_unknown(&j);
    job_put(w, &k, 1, 1000);
    world_run(w, 5);
    world_result(batch(-1), ST_UNKNOWN_CLIENT, 0);
    world_run(w, 5);
    uint32_t settles = world_count(w, MSG_COMMAND, COMMAND_SETTLE);
    job_settle(w, &s, &j, 300);
    world_run(w, 5);
    ck_assert(s.done && s.op.status == ST_UNKNOWN_CLIENT);
    ck_assert_uint_eq(world_count(w, MSG_COMMAND, COMMAND_SETTLE), settles);
}
END_TEST

START_TEST(settle_learns_that_session_is_lost)
{
    static struct job j, s, k;
    make_unknown(&j);
    job_settle(w, &s, &j, 300);
    world_run(w, 5);
    world_result(world_seen(w, MSG_COMMAND, COMMAND_SETTLE, 0),
                 ST_UNKNOWN_CLIENT, 0);
    world_run(w, 5);
    ck_assert(s.done && s.op.status == ST_UNKNOWN_CLIENT);
    w->mode = WORLD_OK;
    job_put(w, &k, 1, 300);
    world_run(w, 5);
    ck_assert(k.done && k.op.status == ST_OK);
    ck_assert_uint_eq(batch(-1)->session, j.op.result.pending.session + 1);
    ck_assert_uint_eq(batch(-1)->number, 1);
}
END_TEST

/* ---- sessions and numbers ---- */

START_TEST(numbers_are_dense)
{
    static struct job jobs[20];
    for (int i = 0; i < 20; i++) {
        job_put(w, &jobs[i], 1, 1000);
    }
    world_run(w, 10);
    ck_assert_uint_eq(world_count(w, MSG_COMMAND, COMMAND_INTRODUCE), 1);
    for (int i = 0; i < 20; i++) {
        ck_assert(jobs[i].done && jobs[i].op.status == ST_OK);
        ck_assert_uint_eq(batch(i)->number, (uint64_t)i + 1);
        ck_assert_uint_eq(batch(i)->session, 1);
        ck_assert_uint_eq(batch(i)->oldest_open, 1);
    }
    /* Another tablet has numbers of its own. */
    static struct job j;
    job_put(w, &j, 2, 1000);
    world_run(w, 10);
    ck_assert_uint_eq(batch(-1)->number, 1);
    ck_assert_uint_eq(batch(-1)->session, 2);
}
END_TEST

START_TEST(window_queues_the_rest)
{
    enum { MORE = 40, ALL = LIMIT_CLIENT_WINDOW + MORE };
    static struct job jobs[ALL];
    introduce(1);
    w->mode = WORLD_SILENT;
    for (int i = 0; i < ALL; i++) {
        job_put(w, &jobs[i], 1, 100000);
    }
    world_run(w, 10);
    ck_assert_uint_eq(batches(), 1 + LIMIT_CLIENT_WINDOW);
    /* Later ones do not help while the oldest is open ... */
    world_result(batch(2), ST_OK, 0);
    world_run(w, 10);
    ck_assert_uint_eq(batches(), 1 + LIMIT_CLIENT_WINDOW);
    /* ... and then two numbers are free at once. */
    world_result(batch(1), ST_OK, 0);
    world_run(w, 10);
    ck_assert_uint_eq(batches(), 3 + LIMIT_CLIENT_WINDOW);
    ck_assert_uint_eq(batch(-1)->oldest_open, batch(1)->number + 2);
    ck_assert_uint_lt(batch(-1)->number,
                      batch(-1)->oldest_open + LIMIT_CLIENT_WINDOW);
}
END_TEST

START_TEST(unsent_in_window_queue_is_definite)
{
    enum { ALL = LIMIT_CLIENT_WINDOW };
    static struct job jobs[ALL];
    static struct job j;
    introduce(1);
    w->mode = WORLD_SILENT;
    for (int i = 0; i < ALL; i++) {
        job_put(w, &jobs[i], 1, 100000);
    }
    job_put(w, &j, 1, 100);
    world_run(w, 110);
    ck_assert(j.done && j.op.status == ST_UNREACHABLE);
}
END_TEST

START_TEST(lost_session_runs_anew_what_was_sent_once)
{
    static struct job j;
    introduce(1);
    w->mode = WORLD_SILENT;
    job_put(w, &j, 1, 1000);
    world_run(w, 5);
    w->mode = WORLD_OK;
    world_result(batch(1), ST_UNKNOWN_CLIENT, 0);
    world_run(w, 5);
    ck_assert(j.done && j.op.status == ST_OK);
    ck_assert_uint_eq(batches(), 3);
    ck_assert_uint_eq(batch(2)->session, batch(1)->session + 1);
    ck_assert_uint_eq(batch(2)->number, 1);
}
END_TEST

START_TEST(lost_session_never_sends_anew_what_may_have_happened)
{
    static struct job j, s;
    introduce(1);
    w->mode = WORLD_SILENT;
    job_put(w, &j, 1, 9000);
    world_run(w, 700);
    ck_assert_uint_eq(batches(), 3);
    w->mode = WORLD_OK;
    world_result(batch(2), ST_UNKNOWN_CLIENT, 0);
    world_run(w, 1000);
    ck_assert(j.done && j.op.status == ST_UNKNOWN_OUTCOME);
    ck_assert_uint_eq(batches(), 3);
    job_settle(w, &s, &j, 100);
    world_run(w, 5);
    ck_assert(s.done && s.op.status == ST_UNKNOWN_CLIENT);
}
END_TEST

START_TEST(only_the_latest_introduce_counts)
{
    static struct job j;
    w->hold_introduce = true;
    job_put(w, &j, 1, 5000);
    world_run(w, 700);
    ck_assert_uint_eq(world_count(w, MSG_COMMAND, COMMAND_INTRODUCE), 2);
    world_result(world_seen(w, MSG_COMMAND, COMMAND_INTRODUCE, 0), ST_OK, 5);
    world_run(w, 5);
    ck_assert_uint_eq(batches(), 0);
    world_result(world_seen(w, MSG_COMMAND, COMMAND_INTRODUCE, 1), ST_OK, 9);
    world_run(w, 5);
    ck_assert(j.done && j.op.status == ST_OK);
    ck_assert_uint_eq(batch(0)->session, 9);
}
END_TEST

START_TEST(introduce_ends_with_its_last_user)
{
    static struct job j;
    w->hold_introduce = true;
    job_put(w, &j, 1, 300);
    world_run(w, 2000);
    uint32_t n = world_count(w, MSG_COMMAND, COMMAND_INTRODUCE);
    world_run(w, 5000);
    ck_assert_uint_eq(world_count(w, MSG_COMMAND, COMMAND_INTRODUCE), n);
    w->hold_introduce = false;
    introduce(1);
}
END_TEST

/* ---- watches ---- */

START_TEST(watch_takes_turns)
{
    static struct job j;
    w->mode = WORLD_SILENT;
    j.op.kind = KV_OP_WATCH;
    j.op.in.watch.partition = slice_of(world_partition(1, 0));
    j.op.timeout_us = 25000000;
    j.world = w;
    j.op.data = &j;
    static struct job g;
    job_get(w, &g, 1, 1); /* borrows its done() */
    world_run(w, 5);
    j.op.done = g.op.done;
    kv_core_start(w->core, &j.op);
    world_run(w, 5);
    struct seen *s = world_seen(w, MSG_WATCH, 0, 0);
    ck_assert_uint_gt(s->wait_ms, 9000);
    ck_assert_uint_le(s->wait_ms, 10000);
    /* Nothing changed in its turn: asked again for the rest. */
    struct msg_changed none = {0};
    struct buf b = {0};
    world_run(w, 10000);
    wire_put_changed(&b, s->request, &none);
    fake_answer(s->conn, &b);
    buf_free(&b);
    world_run(w, 5);
    ck_assert_uint_eq(world_count(w, MSG_WATCH, 0), 2);
    world_run(w, 20000);
    ck_assert(j.done && j.op.status == ST_TIMEOUT);
}
END_TEST

/* ---- coordinators ---- */

START_TEST(works_on_without_coordinator)
{
    static struct job j;
    fake_kill(w->coordinators[0]);
    world_run(w, 5000);
    introduce(2);
    job_get(w, &j, 1, 1000);
    world_run(w, 5);
    ck_assert(j.done && j.op.status == ST_OK);
    /* And hears of it again when it is back. */
    w->version++;
    w->primary[0] = 3;
    w->coordinators[0]->up = true;
    world_run(w, 300);
    ck_assert_uint_eq(kv_core_map(w->core)->version, w->version);
}
END_TEST

START_TEST(second_coordinator_is_tried)
{
    fake_kill(w->coordinators[0]);
    world_run(w, 600);
    w->version++;
    world_push(w);
    world_run(w, 600);
    ck_assert_uint_eq(kv_core_map(w->core)->version, w->version);
    fake_kill(w->coordinators[1]);
    w->coordinators[0]->up = true;
    w->version++;
    world_run(w, 600);
    ck_assert_uint_eq(kv_core_map(w->core)->version, w->version);
}
END_TEST

START_TEST(standby_coordinator_points_to_the_active_one)
{
    static struct job j;
    struct buf b = {0};
    struct msg_reports_ask ask = {0};
    wire_put_reports_ask(&b, 0, &ask);
    w->coordinator_error = ST_NOT_PRIMARY;
    w->error_address = "c2:1";
    fake_cut(w->coordinators[0]);
    fake_cut(w->coordinators[1]);
    world_run(w, 100);
    job_call(w, &j, 0, &b, 1000);
    world_run(w, 500);
    ck_assert(j.done && j.op.status == ST_OK);
    ck_assert_int_eq(j.answer, MSG_REPORTS);
    buf_free(&b);
}
END_TEST

START_TEST(standby_without_hint_makes_no_storm)
{
    w->coordinator_error = ST_NOT_PRIMARY;
    fake_kill(w->coordinators[1]);
    fake_cut(w->coordinators[0]);
    uint32_t opened = w->coordinators[0]->opened;
    world_run(w, 10000);
    ck_assert_uint_lt(w->coordinators[0]->opened - opened, 200);
    w->coordinator_error = ST_OK;
    w->version++;
    world_run(w, 1000);
    ck_assert_uint_eq(kv_core_map(w->core)->version, w->version);
}
END_TEST

/* ---- the rest ---- */

START_TEST(call_to_node)
{
    static struct job j, k;
    struct buf b = {0};
    struct msg_digest_ask ask = {.tablet = 3};
    wire_put_digest_ask(&b, 77, &ask);
    job_call(w, &j, 3, &b, 1000);
    job_call(w, &k, 99, &b, 100);
    world_run(w, 150);
    /* The scripted host does not know it; that is its answer. */
    ck_assert(j.done && j.op.status == ST_UNSUPPORTED);
    ck_assert_str_eq(world_seen(w, MSG_DIGEST_ASK, 0, 0)->host->address,
                     "s3:1");
    ck_assert(k.done && k.op.status == ST_UNREACHABLE);
    buf_free(&b);
}
END_TEST

START_TEST(large_goes_on_the_bulk_lane)
{
    static struct job j, g;
    uint8_t *big = calloc(1, LIMIT_VALUE + 1);
    introduce(1);
    w->value = slice_make(big, KIB(16) - 512);
    job_put(w, &j, 1, 1000);
    world_run(w, 5);
    ck_assert_int_eq(fake_conn_lane(batch(-1)->conn), LANE_REQUEST);
    w->value = slice_make(big, LIMIT_VALUE);
    job_put(w, &j, 1, 1000);
    world_run(w, 5);
    ck_assert_int_eq(fake_conn_lane(batch(-1)->conn), LANE_BULK);
    ck_assert(j.done && j.op.status == ST_OK);
    job_get(w, &g, 1, 1000);
    world_run(w, 5);
    ck_assert_int_eq(fake_conn_lane(world_seen(w, MSG_GET, 0, -1)->conn),
                     LANE_REQUEST);
    w->value = slice_make(big, LIMIT_VALUE + 1);
    uint32_t n = batches();
    job_put(w, &j, 1, 1000);
    world_run(w, 5);
    ck_assert(j.done && j.op.status == ST_TOO_LARGE);
    ck_assert_uint_eq(batches(), n);
    free(big);
}
END_TEST

/* A disk that takes a second for 4 MiB must not be given them twice. */
START_TEST(large_is_not_sent_again_at_once)
{
    static struct job j;
    uint8_t *big = calloc(1, LIMIT_VALUE);
    introduce(1);
    w->mode = WORLD_SILENT;
    w->value = slice_make(big, LIMIT_VALUE);
    uint32_t n = batches();
    job_put(w, &j, 1, 20000);
    world_run(w, 5000);
    ck_assert_uint_eq(batches(), n + 1);
    world_run(w, 4000);
    ck_assert_uint_eq(batches(), n + 2);
    world_result(batch(-1), ST_OK, 0);
    world_run(w, 1);
    ck_assert(j.done && j.op.status == ST_OK);
    free(big);
}
END_TEST

START_TEST(free_ends_everything)
{
    static struct job sent, unsent, get;
    introduce(1);
    w->mode = WORLD_SILENT;
    job_put(w, &sent, 1, 9000);
    job_get(w, &get, 1, 9000);
    world_run(w, 5);
    w->hold_introduce = true;
    job_put(w, &unsent, 2, 9000);
    world_run(w, 5);
    kv_core_free(w->core);
    w->core = NULL;
    ck_assert(sent.done && sent.op.status == ST_UNKNOWN_OUTCOME);
    ck_assert(unsent.done && unsent.op.status == ST_STOPPING);
    ck_assert(get.done && get.op.status == ST_STOPPING);
}
END_TEST

START_TEST(many_operations_share_a_connection)
{
    enum { ALL = 2000 };
    static struct job jobs[ALL];
    w->mode = WORLD_SILENT;
    for (int i = 0; i < ALL; i++) {
        job_get(w, &jobs[i], 1, 60000);
    }
    world_run(w, 5);
    ck_assert_uint_eq(world_count(w, MSG_GET, 0), 512);
    w->mode = WORLD_OK;
    fake_cut(w->nodes[1]);
    world_run(w, 60);
    for (int i = 0; i < ALL; i++) {
        ck_assert(jobs[i].done && jobs[i].op.status == ST_OK);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("kv_core");
    TCase *t = tcase_create("core");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, get_answers);
    tcase_add_test(t, tablet_of_partition);
    tcase_add_test(t, not_primary_hint_is_followed);
    tcase_add_test(t, stale_hint_is_ignored);
    tcase_add_test(t, no_primary_waits_for_map);
    tcase_add_test(t, older_map_is_ignored);
    tcase_add_test(t, pushed_map_moves_pending_at_once);
    tcase_add_test(t, same_primary_in_new_epoch_is_not_sent_again);
    tcase_add_test(t, killed_primary_then_map);
    tcase_add_test(t, restarted_primary_is_found_again);
    tcase_add_test(t, silence_asks_then_sends_again);
    tcase_add_test(t, deaf_connection_is_opened_anew);
    tcase_add_test(t, slow_primary_is_pinged_not_cut);
    tcase_add_test(t, never_sent_is_unreachable);
    tcase_add_test(t, no_map_is_unreachable);
    tcase_add_loop_test(t, refused_before_the_log_is_definite, 0, 3);
    tcase_add_test(t, refused_to_the_last_is_definite);
    tcase_add_test(t, degraded_introduce_is_told);
    tcase_add_loop_test(t, refused_for_good_ends_at_once, 0, 4);
    tcase_add_loop_test(t, loose_copy_is_unknown, 0, LOOSE_N);
    tcase_add_test(t, late_refusal_of_first_copy_counts);
    tcase_add_test(t, unknown_then_abandoned);
    tcase_add_test(t, given_up_closes_its_number);
    tcase_add_loop_test(t, settle_makes_known, 0, 4);
    tcase_add_test(t, settle_without_answer_may_be_asked_again);
    tcase_add_test(t, settle_is_not_refused_definitely);
    tcase_add_test(t, settle_of_lost_session);
    tcase_add_test(t, settle_learns_that_session_is_lost);
    tcase_add_test(t, numbers_are_dense);
    tcase_add_test(t, window_queues_the_rest);
    tcase_add_test(t, unsent_in_window_queue_is_definite);
    tcase_add_test(t, lost_session_runs_anew_what_was_sent_once);
    tcase_add_test(t, lost_session_never_sends_anew_what_may_have_happened);
    tcase_add_test(t, only_the_latest_introduce_counts);
    tcase_add_test(t, introduce_ends_with_its_last_user);
    tcase_add_test(t, watch_takes_turns);
    tcase_add_test(t, works_on_without_coordinator);
    tcase_add_test(t, call_to_node);
    tcase_add_test(t, large_goes_on_the_bulk_lane);
    tcase_add_test(t, large_is_not_sent_again_at_once);
    tcase_add_test(t, free_ends_everything);
    tcase_add_test(t, many_operations_share_a_connection);
    suite_add_tcase(s, t);
    t = tcase_create("coordinators");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup_two, teardown);
    tcase_add_test(t, second_coordinator_is_tried);
    tcase_add_test(t, standby_coordinator_points_to_the_active_one);
    tcase_add_test(t, standby_without_hint_makes_no_storm);
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    SRunner *r = srunner_create(suite());
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
