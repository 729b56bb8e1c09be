/*
 * Exactly once, under everything at once: the client's core against a tablet
 * with the real state machine whose primary changes, whose log loses its
 * uncommitted tail or keeps part of it, whose connections break before and
 * after the answer, whose frames arrive late, and which forgets sessions.
 *
 * Each operation increments a cell of its own and one that all share. What
 * the client was told must be what is there when all late frames have come:
 * OK or settled as done: 1; refused, or settled as void: nothing; given up or
 * lost with its session: either, but never 2. The shared cell is the sum.
 */
#include <assert.h>
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kv/core.h"
#include "kv_fake.h"
#include "storage/state.h"

enum { HOSTS = 3, WORKERS = 24, OPS = 300, PENDING = 512, SEEDS = 60 };

enum truth { RUNNING, YES, NO, MAYBE };

/* An entry of the primary's log that is not committed. */
struct entry {
    struct fake_conn *conn;
    uint64_t request;
    struct buf payload;
};

struct exact;

struct worker {
    struct exact *x;
    struct kv_op op;
    struct command command;
    struct mutation mutations[2];
    char column[16];
    int number; /* of its operation */
    int settles;
    struct kv_result result;
};

struct exact {
    struct fake fake;
    struct kv_core *core;
    struct fake_host *coordinator, *hosts[HOSTS];
    struct fake_conn *watcher;
    struct state *state;
    uint64_t seq, epoch;
    int primary;
    bool calm;
    struct entry log[PENDING];
    int log_count;
    struct worker workers[WORKERS];
    enum truth truth[OPS];
    int started, ended;
    int yes, no, maybe, settled;
};

/* ---- the tablet ---- */

static void answer_result(struct fake_conn *c, uint64_t request,
                          const struct result *r)
{
    struct msg_result m = {.result = *r};
    struct buf b = {0};
    wire_put_result(&b, request, &m);
    fake_answer(c, &b);
    buf_free(&b);
}

static void answer_error(struct fake_conn *c, uint64_t request,
                         enum status status, const char *address,
                         uint64_t epoch)
{
    struct msg_error e = {
        .status = (uint16_t)status,
        .address = slice_of(address),
        .epoch = epoch,
    };
    struct buf b = {0};
    wire_put_error(&b, request, &e);
    fake_answer(c, &b);
    buf_free(&b);
}

static void apply(struct exact *x, struct slice payload, struct applied *out)
{
    struct name name = {.epoch = x->epoch, .seq = ++x->seq};
    state_apply(x->state, name, payload, 0, out);
}

static void pop(struct exact *x)
{
    buf_free(&x->log[0].payload);
    x->log_count--;
    memmove(&x->log[0], &x->log[1], (size_t)x->log_count * sizeof(x->log[0]));
}

static void commit_one(void *arg)
{
    struct exact *x = arg;
    if (x->log_count == 0) {
        return; /* it went with a failover */
    }
    struct applied out;
    apply(x, buf_slice(&x->log[0].payload), &out);
    struct fake_conn *c = x->log[0].conn;
    if (!x->calm && fake_random(&x->fake, 100) < 4) {
        fake_cut(fake_conn_host(c)); /* the answer is lost */
    }
    answer_result(c, x->log[0].request, &out.r);
    pop(x);
}

static void append(struct exact *x, struct fake_conn *c, uint64_t request,
                   const struct command *command)
{
    assert(x->log_count < PENDING);
    ck_assert_int_eq(state_check_command(command), ST_OK);
    struct entry *e = &x->log[x->log_count++];
    *e = (struct entry){.conn = c, .request = request};
    wire_encode_command(&e->payload, command);
    fake_after(&x->fake, fake_random(&x->fake, 30000), commit_one, x);
}

static void on_host(struct fake_host *h, struct fake_conn *c,
                    const struct wire_msg *m)
{
    static const enum status refusals[] = {ST_BUSY, ST_DEGRADED, ST_STOPPING,
                                           ST_STALE_EPOCH};
    struct exact *x = h->data;
    if (m->type == MSG_PING) {
        struct msg_pong pong = {0};
        struct buf b = {0};
        wire_put_pong(&b, m->request, &pong);
        fake_answer(c, &b);
        buf_free(&b);
        return;
    }
    assert(m->type == MSG_COMMAND);
    if (h != x->hosts[x->primary]) {
        answer_error(c, m->request, ST_NOT_PRIMARY,
                     x->hosts[x->primary]->address, x->epoch);
    } else if (!x->calm && fake_random(&x->fake, 100) < 10) {
        answer_error(c, m->request, refusals[fake_random(&x->fake, 4)], "",
                     x->epoch);
    } else if (!x->calm && fake_random(&x->fake, 100) < 3) {
        fake_cut(h); /* it got it, and nobody knows */
    } else {
        append(x, c, m->request, &m->u.command.command);
    }
}

/* A late copy of an INTRODUCE, or another client in its place. */
static void replace_session(struct exact *x)
{
    struct command k = {.kind = COMMAND_INTRODUCE,
                        .client = kv_core_client(x->core)};
    struct buf b = {0};
    struct applied out;
    wire_encode_command(&b, &k);
    apply(x, buf_slice(&b), &out);
    buf_free(&b);
}

/* ---- the coordinator ---- */

static void send_map(struct exact *x)
{
    struct service service[HOSTS];
    struct node_info nodes[HOSTS];
    memset(nodes, 0, sizeof(nodes));
    for (int i = 0; i < HOSTS; i++) {
        service[i].name = slice_of("rpc");
        service[i].address = slice_of(x->hosts[i]->address);
        nodes[i].node = (uint32_t)i + 1;
        nodes[i].role = ROLE_STORAGE;
        nodes[i].services = &service[i];
        nodes[i].services_count = 1;
    }
    struct tablet_config tablet = {
        .tablet = 7,
        .hash_last = UINT64_MAX,
        .epoch = x->epoch,
        .primary.node = (uint32_t)x->primary + 1,
    };
    struct msg_map m = {
        .term = 1,
        .version = x->epoch,
        .nodes = nodes,
        .nodes_count = HOSTS,
        .tablets = &tablet,
        .tablets_count = 1,
    };
    struct buf b = {0};
    wire_put_map(&b, 0, &m);
    fake_answer(x->watcher, &b);
    buf_free(&b);
}

static void on_coordinator(struct fake_host *h, struct fake_conn *c,
                           const struct wire_msg *m)
{
    struct exact *x = h->data;
    if (m->type != MSG_MAP_WATCH) {
        return;
    }
    x->watcher = c;
    if (m->u.map_watch.version < x->epoch) {
        send_map(x);
    }
}

/* A new primary: of the uncommitted tail some is kept, the rest is cut; who
 * waits for an answer is told "unknown", or nothing, or is cut off. */
static void fail_over(void *arg)
{
    struct exact *x = arg;
    if (x->calm) {
        return;
    }
    struct fake *f = &x->fake;
    int keep =
        x->log_count > 0 ? (int)fake_random(f, (uint32_t)x->log_count + 1) : 0;
    int old = x->primary;
    uint32_t manner = fake_random(f, 3);
    for (int i = 0; i < x->log_count; i++) {
        struct result r = {.status = ST_UNKNOWN_OUTCOME};
        if (manner == 0) {
            answer_result(x->log[i].conn, x->log[i].request, &r);
        }
    }
    if (manner == 1) {
        fake_cut(x->hosts[old]);
    }
    x->epoch++;
    x->primary = (int)fake_random(f, HOSTS);
    while (x->log_count > 0) {
        struct applied out;
        if (keep-- > 0) {
            apply(x, buf_slice(&x->log[0].payload), &out);
        }
        pop(x);
    }
    if (fake_random(f, 4) == 0) {
        replace_session(x);
    }
    if (fake_random(f, 3) > 0) {
        send_map(x); /* else a NOT_PRIMARY or an ask will tell */
    }
    fake_after(f, 50000 + fake_random(f, 400000), fail_over, x);
}

/* ---- workers ---- */

static void next_operation(void *arg);

static void on_settled(struct kv_op *op);

static void ended(struct worker *w, enum truth t)
{
    struct exact *x = w->x;
    x->truth[w->number] = t;
    x->ended++;
    x->yes += t == YES;
    x->no += t == NO;
    x->maybe += t == MAYBE;
    fake_after(&x->fake, fake_random(&x->fake, 20000), next_operation, w);
}

static void settle(void *arg)
{
    struct worker *w = arg;
    struct kv_pending pending = w->result.pending;
    memset(&w->op, 0, sizeof(w->op));
    w->op.kind = KV_OP_SETTLE;
    w->op.timeout_us = 20000 + fake_random(&w->x->fake, 800000);
    w->op.done = on_settled;
    w->op.data = w;
    w->op.in.settle = pending;
    kv_core_start(w->x->core, &w->op);
}

static void on_settled(struct kv_op *op)
{
    struct worker *w = op->data;
    struct exact *x = w->x;
    switch ((unsigned)op->status) {
    case ST_OK:
        x->settled++;
        ended(w, YES);
        break;
    case ST_VOID:
        x->settled++;
        ended(w, NO);
        break;
    case ST_UNKNOWN_OUTCOME:
        if (++w->settles < 6) {
            fake_after(&x->fake, 1000, settle, w);
        } else {
            kv_core_abandon(x->core, &w->result.pending);
            ended(w, MAYBE);
        }
        break;
    case ST_UNKNOWN_CLIENT:
    case ST_STOPPING:
        ended(w, MAYBE);
        break;
    default:
        ck_abort_msg("settle gave %s", status_name(op->status));
    }
}

static void on_run(struct kv_op *op)
{
    struct worker *w = op->data;
    struct exact *x = w->x;
    int64_t value = 0;
    switch ((unsigned)op->status) {
    case ST_OK:
        ck_assert(kv_result_value(&op->result, 0, &value));
        ck_assert_int_eq(value, 1);
        ended(w, YES);
        break;
    case ST_UNKNOWN_OUTCOME:
        w->result = op->result;
        w->settles = 0;
        if (op->give_up) {
            ended(w, MAYBE);
        } else {
            fake_after(&x->fake, fake_random(&x->fake, 100000), settle, w);
        }
        break;
    case ST_UNREACHABLE:
    case ST_BUSY:
    case ST_DEGRADED:
        ended(w, NO);
        break;
    default:
        ck_abort_msg("run gave %s", status_name(op->status));
    }
}

static void next_operation(void *arg)
{
    struct worker *w = arg;
    struct exact *x = w->x;
    if (x->started == OPS) {
        return;
    }
    w->number = x->started++;
    snprintf(w->column, sizeof(w->column), "op%d", w->number);
    for (int i = 0; i < 2; i++) {
        w->mutations[i] = (struct mutation){
            .kind = MUTATION_INCREMENT,
            .row = slice_of("r"),
            .column = slice_of(i == 0 ? w->column : "sum"),
            .delta = 1,
        };
    }
    w->command = (struct command){
        .kind = COMMAND_BATCH,
        .partition = slice_of("p"),
        .mutations = w->mutations,
        .mutations_count = 2,
    };
    memset(&w->op, 0, sizeof(w->op));
    w->op.kind = KV_OP_COMMAND;
    w->op.timeout_us = 10000 + fake_random(&x->fake, 700000);
    w->op.give_up = fake_random(&x->fake, 10) == 0;
    w->op.done = on_run;
    w->op.data = w;
    w->op.in.command = &w->command;
    kv_core_start(x->core, &w->op);
}

/* ---- the course ---- */

static void build(struct exact *x, uint64_t seed)
{
    static const char *const names[] = {"s1:1", "s2:1", "s3:1"};
    static const char *const coordinators[] = {"c1:1", NULL};
    memset(x, 0, sizeof(*x));
    fake_init(&x->fake, seed);
    x->coordinator = fake_add_host(&x->fake, "c1:1");
    x->coordinator->on_message = on_coordinator;
    x->coordinator->data = x;
    for (int i = 0; i < HOSTS; i++) {
        x->hosts[i] = fake_add_host(&x->fake, names[i]);
        x->hosts[i]->on_message = on_host;
        x->hosts[i]->data = x;
        x->hosts[i]->jitter_us = 1u << fake_random(&x->fake, 20);
    }
    x->state = state_new();
    x->epoch = 1;
    struct kv_core_options o = {.coordinators = coordinators};
    x->core = kv_core_new(&x->fake.env, &o);
    fake_after(&x->fake, 200000, fail_over, x);
    for (int i = 0; i < WORKERS; i++) {
        x->workers[i].x = x;
        next_operation(&x->workers[i]);
    }
}

static int64_t cell(struct exact *x, const char *column)
{
    struct cell_value found;
    char text[32];
    if (!state_get(x->state, slice_of("p"), slice_of("r"), slice_of(column),
                   &found)) {
        return 0;
    }
    struct slice v = found.bytes;
    assert(v.len < sizeof(text));
    memcpy(text, v.data, v.len);
    text[v.len] = '\0';
    return atoll(text);
}

static void check_truth(struct exact *x, uint64_t seed)
{
    int64_t sum = 0;
    for (int i = 0; i < x->started; i++) {
        char column[16];
        snprintf(column, sizeof(column), "op%d", i);
        int64_t v = cell(x, column);
        sum += v;
        const char *what = "seed %llu operation %d: told %d, is %lld";
        bool right = x->truth[i] == YES  ? v == 1
                     : x->truth[i] == NO ? v == 0
                                         : v == 0 || v == 1;
        ck_assert_msg(right, what, (unsigned long long)seed, i,
                      (int)x->truth[i], (long long)v);
    }
    ck_assert_int_eq(cell(x, "sum"), sum);
}

static void run_seed(uint64_t seed, int *totals)
{
    struct exact *x = malloc(sizeof(*x));
    build(x, seed);
    for (int i = 0; i < 600 && x->ended < OPS; i++) {
        fake_run(&x->fake, 200000);
    }
    ck_assert_int_eq(x->ended, OPS);
    x->calm = true;
    fake_run(&x->fake, 5000000);
    check_truth(x, seed);
    totals[0] += x->yes;
    totals[1] += x->no;
    totals[2] += x->maybe;
    totals[3] += x->settled;
    kv_core_free(x->core);
    state_free(x->state);
    while (x->log_count > 0) {
        pop(x);
    }
    fake_fini(&x->fake);
    free(x);
}

START_TEST(exactly_once)
{
    const char *one = getenv("SEED");
    int totals[4] = {0};
    if (one != NULL) {
        run_seed(strtoull(one, NULL, 10), totals);
    } else {
        for (uint64_t seed = 1; seed <= SEEDS; seed++) {
            run_seed(seed, totals);
        }
        /* Every kind of end was met often. */
        ck_assert_int_gt(totals[0], SEEDS * OPS / 4);
        ck_assert_int_gt(totals[1], SEEDS);
        ck_assert_int_gt(totals[2], SEEDS);
        ck_assert_int_gt(totals[3], SEEDS);
    }
    printf("done %d, not done %d, either %d, settled %d\n", totals[0],
           totals[1], totals[2], totals[3]);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("kv_exact");
    TCase *t = tcase_create("exact");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, exactly_once);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
