/*
 * The scripted cluster of kv_world.h.
 */
#include "kv_world.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the map ---- */

static void fill_nodes(struct node_info *nodes, struct service *services)
{
    static const char *const names[] = {"s1:1", "s2:1", "s3:1"};
    for (uint32_t i = 0; i < WORLD_NODES; i++) {
        services[i].name = slice_of("rpc");
        services[i].address = slice_of(names[i]);
        nodes[i].node = i + 1;
        nodes[i].role = ROLE_STORAGE;
        nodes[i].state = NODE_UP;
        nodes[i].name = slice_of("storage");
        nodes[i].services = &services[i];
        nodes[i].services_count = 1;
    }
}

static void send_map(struct world *w, struct fake_conn *c)
{
    struct node_info nodes[WORLD_NODES] = {0};
    struct service services[WORLD_NODES] = {0};
    struct tablet_config tablets[WORLD_TABLETS] = {0};
    fill_nodes(nodes, services);
    uint64_t width = UINT64_MAX / WORLD_TABLETS + 1;
    for (uint32_t i = 0; i < WORLD_TABLETS; i++) {
        tablets[i].tablet = i + 1;
        tablets[i].hash_first = i * width;
        tablets[i].hash_last = i * width + (width - 1);
        tablets[i].epoch = w->epoch[i];
        tablets[i].primary.node = w->primary[i];
    }
    struct msg_map m = {
        .term = w->term,
        .version = w->version,
        .nodes = nodes,
        .nodes_count = WORLD_NODES,
        .tablets = tablets,
        .tablets_count = WORLD_TABLETS,
    };
    struct buf b = {0};
    wire_put_map(&b, 0, &m);
    fake_answer(c, &b);
    buf_free(&b);
}

static void answer_error(struct fake_conn *c, uint64_t request,
                         enum status status, const char *address,
                         uint64_t epoch)
{
    struct msg_error e = {
        .status = (uint16_t)status,
        .address = slice_of(address != NULL ? address : ""),
        .epoch = epoch,
    };
    struct buf b = {0};
    wire_put_error(&b, request, &e);
    fake_answer(c, &b);
    buf_free(&b);
}

static void answer_pong(struct fake_conn *c, uint64_t request)
{
    struct msg_pong pong = {0};
    struct buf b = {0};
    wire_put_pong(&b, request, &pong);
    fake_answer(c, &b);
    buf_free(&b);
}

static void on_coordinator(struct fake_host *h, struct fake_conn *c,
                           const struct wire_msg *m)
{
    struct world *w = h->data;
    if (m->type == MSG_PING) {
        answer_pong(c, m->request);
        return;
    }
    if (w->coordinator_error != ST_OK && h == w->coordinators[0]) {
        answer_error(c, m->request, w->coordinator_error, w->error_address, 0);
        return;
    }
    if (m->type == MSG_REPORTS_ASK) {
        struct msg_reports r = {.term = w->term};
        struct buf b = {0};
        wire_put_reports(&b, m->request, &r);
        fake_answer(c, &b);
        buf_free(&b);
        return;
    }
    assert(m->type == MSG_MAP_WATCH);
    w->asks++;
    if (w->mute_coordinators) {
        return;
    }
    bool known = false;
    for (uint32_t i = 0; i < w->watchers_count; i++) {
        known = known || w->watchers[i] == c;
    }
    if (!known) {
        assert(w->watchers_count < 64);
        w->watchers[w->watchers_count++] = c;
    }
    const struct msg_map_watch *ask = &m->u.map_watch;
    if (w->term > ask->term ||
        (w->term == ask->term && w->version > ask->version)) {
        send_map(w, c);
    }
}

void world_push(struct world *w)
{
    for (uint32_t i = 0; i < w->watchers_count; i++) {
        if (fake_conn_is_open(w->watchers[i])) {
            send_map(w, w->watchers[i]);
        }
    }
}

void world_move(struct world *w, uint32_t tablet, uint32_t primary)
{
    w->primary[tablet - 1] = primary;
    w->epoch[tablet - 1]++;
    w->version++;
    world_push(w);
}

/* ---- storage hosts ---- */

void world_result(struct seen *s, enum status status, uint64_t session)
{
    struct msg_result m = {0};
    m.result.status = (uint16_t)status;
    m.result.session = session;
    struct buf b = {0};
    wire_put_result(&b, s->request, &m);
    fake_answer(s->conn, &b);
    buf_free(&b);
}

void world_error(struct seen *s, enum status status, const char *address,
                 uint64_t epoch)
{
    answer_error(s->conn, s->request, status, address, epoch);
}

static void write_down(struct world *w, struct fake_conn *c,
                       const struct wire_msg *m, struct seen *out)
{
    *out = (struct seen){
        .host = fake_conn_host(c),
        .conn = c,
        .request = m->request,
        .type = m->type,
        .at_us = w->fake.now_us,
    };
    if (m->type == MSG_COMMAND) {
        const struct command *k = &m->u.command.command;
        out->tablet = m->u.command.tablet;
        out->kind = k->kind;
        out->session = k->session;
        out->number = k->number;
        out->oldest_open = k->oldest_open;
    } else if (m->type == MSG_WATCH) {
        out->tablet = m->u.watch.tablet;
        out->wait_ms = m->u.watch.wait_ms;
    } else if (m->type == MSG_GET) {
        out->tablet = m->u.get.tablet;
    }
}

static void answer_well(struct seen *s, const struct wire_msg *m)
{
    struct buf b = {0};
    struct msg_value value = {.found = 1, .value = slice_of("v")};
    struct msg_cells cells = {0};
    struct msg_changed changed = {.changed = 1, .found = 1};
    switch ((unsigned)m->type) {
    case MSG_COMMAND:
        world_result(s, ST_OK, 0);
        break;
    case MSG_GET:
        wire_put_value(&b, s->request, &value);
        break;
    case MSG_SCAN:
        wire_put_cells(&b, s->request, &cells);
        break;
    case MSG_WATCH:
        wire_put_changed(&b, s->request, &changed);
        break;
    default:
        world_error(s, ST_UNSUPPORTED, NULL, 0);
    }
    if (b.len > 0) {
        fake_answer(s->conn, &b);
    }
    buf_free(&b);
}

static void on_node(struct fake_host *h, struct fake_conn *c,
                    const struct wire_msg *m)
{
    struct world *w = h->data;
    if (m->type == MSG_PING) {
        w->pings++;
        answer_pong(c, m->request);
        return;
    }
    assert(w->seen_count < sizeof(w->seen) / sizeof(w->seen[0]));
    struct seen *s = &w->seen[w->seen_count++];
    write_down(w, c, m, s);
    bool introduce = m->type == MSG_COMMAND && s->kind == COMMAND_INTRODUCE;
    if (introduce && !w->hold_introduce) {
        world_result(s, ST_OK, ++w->session);
    } else if (introduce || w->mode == WORLD_SILENT) {
        return;
    } else if (w->mode == WORLD_ERROR) {
        world_error(s, w->error, w->error_address, w->error_epoch);
    } else {
        answer_well(s, m);
    }
}

static bool matches(const struct seen *s, enum msg_type type, uint8_t kind)
{
    return s->type == type && (kind == 0 || s->kind == kind);
}

uint32_t world_count(const struct world *w, enum msg_type type, uint8_t kind)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < w->seen_count; i++) {
        n += matches(&w->seen[i], type, kind);
    }
    return n;
}

struct seen *world_seen(struct world *w, enum msg_type type, uint8_t kind,
                        int n)
{
    int count = (int)world_count(w, type, kind);
    int at = n < 0 ? count + n : n;
    for (uint32_t i = 0; i < w->seen_count; i++) {
        if (matches(&w->seen[i], type, kind) && at-- == 0) {
            return &w->seen[i];
        }
    }
    fprintf(stderr, "world_seen: no request %d of %d\n", n, count);
    abort();
}

/* ---- the world ---- */

void world_init(struct world *w, int coordinators)
{
    static const char *const one[] = {"c1:1", NULL};
    static const char *const two[] = {"c1:1", "c2:1", NULL};
    static const char *const names[] = {NULL, "s1:1", "s2:1", "s3:1"};
    memset(w, 0, sizeof(*w));
    fake_init(&w->fake, 1);
    w->term = 1;
    w->version = 1;
    w->mode = WORLD_OK;
    for (int i = 0; i < 2; i++) {
        w->coordinators[i] = fake_add_host(&w->fake, two[i]);
        w->coordinators[i]->on_message = on_coordinator;
        w->coordinators[i]->data = w;
    }
    for (int i = 1; i <= WORLD_NODES; i++) {
        w->nodes[i] = fake_add_host(&w->fake, names[i]);
        w->nodes[i]->on_message = on_node;
        w->nodes[i]->data = w;
    }
    for (int i = 0; i < WORLD_TABLETS; i++) {
        w->primary[i] = 1;
        w->epoch[i] = 1;
    }
    struct kv_core_options o = {.coordinators = coordinators == 1 ? one : two};
    w->core = kv_core_new(&w->fake.env, &o);
    world_run(w, 5);
}

void world_fini(struct world *w)
{
    kv_core_free(w->core);
    fake_fini(&w->fake);
}

void world_run(struct world *w, int64_t ms)
{
    fake_run(&w->fake, ms * 1000);
}

/* ---- jobs ---- */

const char *world_partition(uint32_t tablet, int n)
{
    static _Thread_local char name[32];
    uint64_t width = UINT64_MAX / WORLD_TABLETS + 1;
    for (int i = 0;; i++) {
        snprintf(name, sizeof(name), "p%d", i);
        uint64_t hash = partition_hash(slice_of(name));
        if (hash / width == tablet - 1 && n-- == 0) {
            return name;
        }
    }
}

static void on_done(struct kv_op *op)
{
    struct job *j = op->data;
    assert(!j->done);
    j->done = true;
    j->done_us = j->world->fake.now_us;
    j->answer = op->answer != NULL ? op->answer->type : 0;
}

static void start(struct world *w, struct job *j, int64_t ms)
{
    j->world = w;
    j->op.timeout_us = ms * 1000;
    j->op.done = on_done;
    j->op.data = j;
    kv_core_start(w->core, &j->op);
    assert(!j->done);
}

/* Names that live as long as the test. */
static struct slice partition_slice(uint32_t tablet)
{
    static _Thread_local char names[WORLD_TABLETS + 1][32];
    if (names[tablet][0] == '\0') {
        (void)snprintf(names[tablet], sizeof(names[tablet]), "%s",
                       world_partition(tablet, 0));
    }
    return slice_of(names[tablet]);
}

void job_put(struct world *w, struct job *j, uint32_t tablet, int64_t ms)
{
    memset(j, 0, sizeof(*j));
    j->mutation = (struct mutation){
        .kind = MUTATION_PUT,
        .row = slice_of("r"),
        .column = slice_of("c"),
        .value = w->value,
    };
    j->command = (struct command){
        .kind = COMMAND_BATCH,
        .partition = partition_slice(tablet),
        .mutations = &j->mutation,
        .mutations_count = 1,
    };
    j->op.kind = KV_OP_COMMAND;
    j->op.in.command = &j->command;
    start(w, j, ms);
}

void job_get(struct world *w, struct job *j, uint32_t tablet, int64_t ms)
{
    memset(j, 0, sizeof(*j));
    j->op.kind = KV_OP_GET;
    j->op.in.get.partition = partition_slice(tablet);
    j->op.in.get.row = slice_of("r");
    j->op.in.get.column = slice_of("c");
    start(w, j, ms);
}

void job_settle(struct world *w, struct job *j, const struct job *of,
                int64_t ms)
{
    memset(j, 0, sizeof(*j));
    j->op.kind = KV_OP_SETTLE;
    j->op.in.settle = of->op.result.pending;
    start(w, j, ms);
}

void job_call(struct world *w, struct job *j, uint32_t node,
              const struct buf *frame, int64_t ms)
{
    memset(j, 0, sizeof(*j));
    j->op.kind = KV_OP_CALL;
    j->op.in.call.node = node;
    j->op.in.call.frame = frame;
    start(w, j, ms);
}
