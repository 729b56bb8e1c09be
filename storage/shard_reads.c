/*
 * Reads: what a request finds in the state, and the answer made of it.
 *
 * Where all values are in memory a read is answered at once. Else its cells
 * and places are kept while the values are fetched (shard_values.c), and the
 * answer is what the cells were at the looking up. R9 for that one: this
 * replica could serve when it looked, and it can, in the same epoch, when all
 * has been fetched. Then no other was primary in between, so what it found was
 * the newest when it looked, which lies between the question and the answer.
 *
 * A value that is not what its place says was moved, or is damaged: the cell
 * is looked up again. If it has another place the read begins anew; if it has
 * this one still the value is damaged. It is never served: the read waits while
 * it is fetched from another replica (shard_repair.c). Where that cannot be the
 * replica is condemned (R16), and the reader is told and asks again, soon
 * another one.
 *
 * Pages of a tablet (R17) need no lease: they only show what is committed.
 */
#include "storage/key.h"
#include "storage/shard_damage.h"
#include "storage/shard_impl.h"
#include "storage/shard_repair.h"

#include <string.h>

#define TELL_AGAIN_US 1000000

/* ---- looking up ---- */

static void look_up_cell(const struct state *state, struct values *v)
{
    struct cell_value found = {.bytes = {NULL, 0}};
    v->count =
        state_get(state, v->one.partition, v->one.row, v->one.column, &found);
    v->one.value = found.bytes;
    v->one_place = found.place;
}

static void look_up_get(const struct state *state, const struct msg_get *m,
                        struct values *v)
{
    v->one = (struct cell){m->partition, m->row, m->column, {NULL, 0}};
    look_up_cell(state, v);
}

/* False if the watched cell is still as seen. */
static bool look_up_watch(const struct state *state, const struct msg_watch *m,
                          bool over, struct values *v)
{
    struct key k;
    v->one = (struct cell){m->partition, m->row, m->column, {NULL, 0}};
    look_up_cell(state, v);
    key_encode(&k, m->partition, m->row, m->column);
    struct cell_value found = {v->one.value, v->one_place};
    v->changed =
        v->count != m->seen ||
        (v->count > 0 && !cell_value_is(&found, key_slice(&k), m->value));
    if (!v->changed) {
        v->count = 0; /* nothing is told of the value */
    }
    return v->changed || over;
}

static void look_up_scan(const struct state *state, const struct msg_scan *m,
                         struct values *v)
{
    struct msg_cells cells = {0};
    state_scan(state, m, &v->arena, &cells, &v->places);
    v->cells = cells.cells;
    v->count = cells.cells_count;
    v->more = cells.more != 0;
}

static enum status look_up_page(struct client *c, struct tablet *t,
                                const struct msg_scan_tablet *m,
                                struct values *v)
{
    v->page = arena_alloc(&v->arena, sizeof(*v->page));
    enum status st = catchup_snapshot(c, t, m, &v->snapshot);
    if (st == ST_OK) {
        state_snapshot_page(v->snapshot, m, &v->arena, v->page, &v->places);
        v->cells = v->page->cells;
        v->count = v->page->cells_count;
    }
    return st;
}

/* The value that another replica has lost, if it is here: what is vouched for
 * is its digest, not that it is the newest. */
static void look_up_asked(const struct state *state,
                          const struct msg_value_ask *m, struct values *v)
{
    v->one = (struct cell){m->partition, m->row, m->column, {NULL, 0}};
    look_up_cell(state, v);
    if (v->one_place.tag == VALUE_INLINE || v->one_place.len != m->length ||
        !id128_equal(v->one_place.digest, m->digest)) {
        v->count = 0;
        v->one_place.tag = VALUE_INLINE;
    }
}

/* What the read M finds. R9: ST_OK only if it may be looked for now; ST_BUSY:
 * wait; ST_MORE: a watch rests. */
static enum status look_up(struct client *c, struct tablet *t,
                           const struct wire_msg *m, bool over,
                           struct values *v)
{
    const struct state *state = replica_state(t->core);
    bool rests = false;
    if (m->type == MSG_SCAN_TABLET) {
        return look_up_page(c, t, &m->u.scan_tablet, v);
    }
    if (m->type == MSG_VALUE_ASK) {
        look_up_asked(state, &m->u.value_ask, v);
        return ST_OK;
    }
    if (m->type == MSG_GET) {
        look_up_get(state, &m->u.get, v);
    } else if (m->type == MSG_SCAN) {
        look_up_scan(state, &m->u.scan, v);
    } else {
        rests = !look_up_watch(state, &m->u.watch, over, v);
    }
    enum status st = replica_may_read(t->core, env_now_us(c->shard->env));
    shard_note_lease(t, st == ST_OK);
    return st == ST_OK && rests ? ST_MORE : st;
}

/* ---- answering ---- */

static void send_answer(struct client *c, enum msg_type type, uint64_t id,
                        const struct values *v)
{
    struct shard *s = c->shard;
    bool found = v->count > 0;
    struct slice value = found ? v->cells[0].value : slice_make(NULL, 0);
    buf_clear(&s->out);
    if (type == MSG_GET || type == MSG_VALUE_ASK) {
        struct msg_value m = {found, value};
        wire_put_value(&s->out, id, &m);
    } else if (type == MSG_SCAN) {
        struct msg_cells m = {v->more, v->cells, v->count};
        wire_put_cells(&s->out, id, &m);
    } else if (type == MSG_WATCH) {
        struct msg_changed m = {v->changed, found, value};
        wire_put_changed(&s->out, id, &m);
    } else {
        wire_put_tablet_page(&s->out, id, v->page);
        catchup_count_page(c, v->page, s->out.len);
    }
    s->stats.reads += type != MSG_SCAN_TABLET && type != MSG_VALUE_ASK;
    s->env->ops->send(c->conn, buf_slice(&s->out));
}

/* One client has no more read for it than it takes. */
static bool takes_more(const struct client *c)
{
    return c->shard->env->ops->conn_queued(c->conn) < LIMIT_READS_QUEUE;
}

enum status reads_try(struct client *c, struct tablet *t,
                      const struct wire_msg *m, bool over,
                      struct values **later)
{
    struct values v = {.shard = c->shard};
    v.cells = &v.one;
    v.places = &v.one_place;
    *later = NULL;
    if ((m->type == MSG_SCAN || m->type == MSG_SCAN_TABLET) &&
        values_full(c->shard)) {
        return ST_BUSY;
    }
    enum status st = look_up(c, t, m, over, &v);
    if (st == ST_OK && values_at_hand(&v)) {
        send_answer(c, m->type, m->request, &v);
    } else if (st == ST_OK && repair_under_way(t, &v)) {
        st = m->type == MSG_VALUE_ASK ? ST_CORRUPT : ST_BUSY;
    } else if (st == ST_OK) {
        *later = takes_more(c) ? values_begin_take(&v) : NULL;
        st = *later == NULL ? ST_BUSY : ST_OK;
    }
    if (*later == NULL) {
        state_snapshot_free(v.snapshot);
        arena_free(&v.arena);
    }
    return st;
}

/* ---- when all has come ---- */

/* The cell that could not be had is still at that place. */
static bool is_damaged(const struct tablet *t, const struct values *v)
{
    const struct cell *c = &v->cells[v->bad];
    struct cell_value now;
    return state_get(replica_state(t->core), c->partition, c->row, c->column,
                     &now) &&
           place_equal(&now.place, &v->places[v->bad]);
}

/* Not for each reader of the same: a store that has nobody to take over from
 * it is asked again and again. True if it was told. */
static bool tell_damage(const struct request *q, const struct values *v)
{
    const struct place *p = &v->places[v->bad];
    struct tablet *t = q->tablet;
    int64_t now = env_now_us(t->shard->env);
    t->shard->figures.values_damaged++;
    if (now < t->damage_next_us) {
        return false;
    }
    t->damage_next_us = now + TELL_AGAIN_US;
    log_error(q->tablet->shard->env->log, "shard", "value-damaged",
              "tablet=%" PRIu32 " position=%" PRIu64 " length=%" PRIu32
              " status=%s",
              q->tablet->id, p->position, p->len, status_name(v->status));
    return true;
}

/* Who asks for a lost value need not wait: it asks others, and again. */
static enum status on_damaged(const struct request *q, const struct values *v,
                              bool *condemn)
{
    const struct cell *c = &v->cells[v->bad];
    struct key k;
    key_encode(&k, c->partition, c->row, c->column);
    if (repair_cell(q->tablet, key_slice(&k), &v->places[v->bad], "read")) {
        return q->asked == MSG_VALUE_ASK ? ST_CORRUPT : ST_BUSY;
    }
    *condemn = tell_damage(q, v);
    return ST_CORRUPT;
}

static bool may_answer(const struct request *q)
{
    struct tablet *t = q->tablet;
    if (q->asked == MSG_VALUE_ASK) {
        return true;
    }
    if (q->asked == MSG_SCAN_TABLET) {
        return !replica_is_damaged(t->core);
    }
    bool leased = replica_may_read(t->core, env_now_us(t->shard->env)) == ST_OK;
    shard_note_lease(t, leased);
    return leased && replica_config(t->core)->epoch == q->epoch;
}

enum status reads_finish(struct request *q, const struct values *v,
                         bool *condemn)
{
    *condemn = false;
    if (v->status == ST_OK && may_answer(q)) {
        send_answer(q->client, q->asked, q->id, v);
        return ST_OK;
    }
    if (v->status == ST_CORRUPT || v->status == ST_GONE || v->status == ST_IO) {
        return is_damaged(q->tablet, v) ? on_damaged(q, v, condemn) : ST_BUSY;
    }
    return v->status == ST_OK ? ST_BUSY : v->status;
}
