/*
 * Snapshots (R17), served and fetched over the bulk lane with the ordinary
 * tablet scan. The server pins a snapshot, a reference to a root, for as long
 * as the reader comes back; the reader loads the pages into a fresh state,
 * writes that as its checkpoint, and only when it is on disk installs it. The
 * pages bring large values along: each becomes a record of its own in the
 * reader's log (WAL_VALUE), which no replay looks at, or, larger still, a blob
 * (shard_keep.c); the checkpoint has their places and is not written before
 * they are on disk. What there was no room for is asked for again. All fetches
 * together have only so many bytes of values on their way to the log: its other
 * users wait for its syncs.
 * One fetch runs at a time for a tablet; whatever goes wrong ends it, and the
 * primary, hearing where this replica stands, begins again. Where the disk had
 * no room for the checkpoint, the next fetch rests before it reads anything:
 * it would only find the same, and all of a tablet is much to send in vain.
 */
#include "storage/key.h"
#include "storage/shard_blobs.h"

#include <stdlib.h>
#include <string.h>

#define PIN_IDLE_US 30000000
#define REST_FIRST_US 1000000 /* after a full disk; twice as long each time */
#define REST_MOST_US 60000000
#define AGAIN_US 50000 /* a page that the log had no room for */
#define PACE_US 5000   /* the next page, while too much is on its way */
/* Bytes of values that are not on disk yet: no more are asked for; and, where
 * more come than was thought, taken. */
#define UNSYNCED_TO_ASK MIB(8)
#define UNSYNCED_MOST MIB(16)

struct fetch {
    struct shard *shard;
    struct tablet *tablet;
    struct replica from;
    uint64_t epoch;
    uint64_t snapshot;    /* as the server calls it */
    uint64_t begun_clock; /* the log's */
    struct state *state;
    struct name name;
    bool rests; /* nothing was asked yet: the disk was full last time */
    uint64_t values_end;     /* of the log's, where its last value ends */
    struct kept_blobs blobs; /* those on their way to the disk */
    /* The last cell that is loaded: what is asked for comes behind it. */
    bool has_after;
    struct buf after_partition, after_row, after_column;
    struct env_timer again; /* then it asks (again) */
    bool asked;             /* a page is on its way, ... */
    uint64_t expected;      /* ... with so many bytes of values, if it is like
                             * the one before */
    bool complete;          /* the checkpoint is written, or will be */
    bool named;             /* there may be such a file */
};

/* ---- serving ---- */

static void unpin(struct pinned *p)
{
    struct tablet *t = shard_tablet(p->client->shard, p->tablet);
    state_snapshot_free(p->snapshot);
    *p = (struct pinned){0};
    shard_blobs_release(t);
}

void catchup_unpin_idle(struct shard *s)
{
    int64_t now = env_now_us(s->env);
    for (uint32_t i = 0; i < SNAPSHOTS_MAX; i++) {
        struct pinned *p = &s->pinned[i];
        if (p->id != 0 && now - p->used_us > PIN_IDLE_US) {
            unpin(p);
        }
    }
}

static struct pinned *pin_new(struct shard *s, struct client *c,
                              struct tablet *t)
{
    struct pinned *free_one = NULL;
    catchup_unpin_idle(s);
    for (uint32_t i = 0; i < SNAPSHOTS_MAX && free_one == NULL; i++) {
        free_one = s->pinned[i].id == 0 ? &s->pinned[i] : NULL;
    }
    if (free_one == NULL) {
        return NULL;
    }
    *free_one = (struct pinned){
        .id = ++s->last_pin,
        .tablet = t->id,
        .snapshot = state_snapshot(replica_state(t->core)),
        .clock = wal_value_clock(s->wal),
        .client = c,
        .used_us = env_now_us(s->env),
    };
    if (c->peer.role == ROLE_STORAGE) {
        struct event e = {.kind = EVENT_PINNED};
        e.u.pinned = state_snapshot_name(free_one->snapshot);
        shard_step(s, t, &e);
        s->stats.snapshots_sent++;
    }
    return free_one;
}

static struct pinned *pin_find(struct shard *s, const struct client *c,
                               const struct msg_scan_tablet *m)
{
    for (uint32_t i = 0; i < SNAPSHOTS_MAX; i++) {
        struct pinned *p = &s->pinned[i];
        if (p->id == m->snapshot && p->id != 0 && p->client == c &&
            p->tablet == m->tablet) {
            return p;
        }
    }
    return NULL;
}

enum status catchup_snapshot(struct client *c, struct tablet *t,
                             const struct msg_scan_tablet *ask,
                             struct state_snapshot **out)
{
    struct shard *s = c->shard;
    if (replica_is_damaged(t->core)) {
        return ST_CORRUPT; /* R16 */
    }
    if (ask->snapshot == 0) {
        *out = state_snapshot(replica_state(t->core));
        return ST_OK;
    }
    struct pinned *p = pin_find(s, c, ask);
    if (p == NULL) {
        return ST_GONE;
    }
    p->used_us = env_now_us(s->env);
    *out = state_snapshot_retain(p->snapshot);
    if (ask->release) {
        unpin(p);
    }
    return ST_OK;
}

void catchup_count_page(struct client *c, const struct msg_tablet_page *page,
                        size_t bytes)
{
    struct shard *s = c->shard;
    s->stats.scans++;
    if (page->snapshot != 0 && c->peer.role == ROLE_STORAGE) {
        s->figures.catchup_sent += bytes;
    }
}

void catchup_on_scan(struct client *c, const struct wire_msg *m)
{
    struct shard *s = c->shard;
    struct wire_msg ask = *m;
    struct tablet *t = shard_tablet(s, m->u.scan_tablet.tablet);
    if (t == NULL) {
        shard_send_error(c, m->request, ST_NOT_FOUND, NULL);
        return;
    }
    if (replica_is_damaged(t->core)) {
        shard_send_error(c, m->request, ST_CORRUPT, t); /* R16 */
        return;
    }
    if (c->request_count >= LIMIT_CONN_REQUESTS) {
        shard_send_error(c, m->request, ST_BUSY, t);
        return;
    }
    if (m->u.scan_tablet.snapshot == SNAPSHOT_NEW) {
        struct pinned *p = pin_new(s, c, t);
        if (p == NULL) {
            shard_send_error(c, m->request, ST_BUSY, t);
            return;
        }
        ask.u.scan_tablet.snapshot = p->id;
    }
    requests_on_read(c, t, &ask);
}

void catchup_drop_client(struct client *c)
{
    for (uint32_t i = 0; i < SNAPSHOTS_MAX; i++) {
        if (c->shard->pinned[i].client == c) {
            unpin(&c->shard->pinned[i]);
        }
    }
}

/* ---- fetching ---- */

/* The blobs of what was fetched go at once, for each attempt brings its own;
 * but if there may be a file that names them, a restart would begin with it:
 * then they stay until a later checkpoint takes its place. */
static void free_state(struct fetch *f)
{
    struct tablet_blobs *b = &f->tablet->blobs;
    b->dies_unnamed = !f->named && !f->shard->fatal;
    b->dies_at = f->name.seq + 1;
    state_free(f->state);
    b->dies_unnamed = false;
    b->dies_at = 0;
}

static void free_fetch(struct fetch *f)
{
    f->tablet->fetch = NULL;
    env_timer_stop(f->shard->env, &f->again);
    kept_blobs_drop(&f->blobs);
    free_state(f);
    buf_free(&f->after_partition);
    buf_free(&f->after_row);
    buf_free(&f->after_column);
    free(f);
}

/* What F put into the log is named by no file, unless its checkpoint was
 * begun: else each attempt would take as much of the disk as the tablet, for
 * a learner makes few checkpoints that could give it back. If it made one
 * meanwhile (shard_checkpoint.c), another will tell that file's values from
 * F's. */
static void discard(struct fetch *f)
{
    struct shard *s = f->shard;
    struct tablet *t = f->tablet;
    bool mixed = !f->named && t->named_clock > f->begun_clock;
    free_fetch(f);
    if (!s->fatal) {
        t->checkpoint_wanted = t->checkpoint_wanted || mixed;
        wal_value_unnamed(s->wal, t->id, t->named_clock);
        wal_kept_release(s->wal, values_oldest(s));
    }
}

/* Ends F; the replica takes STATE, or NULL for a failure. */
static void end_fetch(struct fetch *f, struct state *state)
{
    struct event e = {.kind = EVENT_SNAPSHOT};
    struct shard *s = f->shard;
    struct tablet *t = f->tablet;
    if (!replica_installs(t->core, f->name, f->epoch)) {
        state = NULL; /* it comes too late */
    }
    e.u.snapshot.state = state;
    e.u.snapshot.name = f->name;
    e.u.snapshot.epoch = f->epoch;
    if (state == f->state) {
        f->state = NULL;
    }
    discard(f);
    if (s->fatal) {
        state_free(state);
        return;
    }
    if (state != NULL) {
        s->stats.snapshots_installed++;
    }
    shard_step(s, t, &e);
}

static bool ask_page(struct fetch *f)
{
    struct shard *s = f->shard;
    struct msg_scan_tablet m = {.tablet = f->tablet->id,
                                .snapshot = f->snapshot,
                                .has_after = f->has_after,
                                .after_partition =
                                    buf_slice(&f->after_partition),
                                .after_row = buf_slice(&f->after_row),
                                .after_column = buf_slice(&f->after_column)};
    buf_clear(&s->out);
    /* The request id names tablet and epoch: a late page finds no fetch. */
    wire_put_scan_tablet(&s->out, f->epoch << 16 | f->tablet->id, &m);
    f->asked =
        links_send(s->bulk, f->from.node, f->from.store, buf_slice(&s->out));
    return f->asked;
}

/* If not connected, it asks when it is. */
static void begin_fetch(struct fetch *f)
{
    struct shard *s = f->shard;
    f->rests = false;
    log_info(s->env->log, "catchup", "snapshot-asked",
             "tablet=%" PRIu32 " epoch=%" PRIu64 " from=%" PRIu32,
             f->tablet->id, f->epoch, f->from.node);
    (void)ask_page(f);
}

/* Sets the timer for the fetch that has rested longest. */
static void arm_rest(struct shard *s)
{
    int64_t now = env_now_us(s->env), next = INT64_MAX;
    for (uint32_t i = 0; i < s->tablet_count; i++) {
        const struct tablet *t = s->tablets[i];
        if (catchup_rests(t) && t->fetch_after_us < next) {
            next = t->fetch_after_us;
        }
    }
    if (next != INT64_MAX) {
        env_timer_start(s->env, &s->catchup_timer, next > now ? next - now : 0);
    }
}

static void on_rested(struct env_timer *timer)
{
    struct shard *s = timer->data;
    int64_t now = env_now_us(s->env);
    for (uint32_t i = 0; i < s->tablet_count; i++) {
        struct tablet *t = s->tablets[i];
        if (catchup_rests(t) && t->fetch_after_us <= now) {
            begin_fetch(t->fetch);
        }
    }
    arm_rest(s);
}

bool catchup_is_complete(const struct tablet *t)
{
    return t->fetch != NULL && t->fetch->complete;
}

bool catchup_rests(const struct tablet *t)
{
    return t->fetch != NULL && t->fetch->rests;
}

void catchup_init(struct shard *s)
{
    s->catchup_timer.fn = on_rested;
    s->catchup_timer.data = s;
}

void catchup_stop(struct shard *s)
{
    env_timer_stop(s->env, &s->catchup_timer);
}

static uint64_t unsynced(const struct shard *s)
{
    return wal_end(s->wal) - wal_synced(s->wal);
}

/* Whether the log is quick enough for another page of F's. */
static bool may_ask(const struct fetch *f)
{
    const struct shard *s = f->shard;
    uint64_t bytes = unsynced(s);
    for (uint32_t i = 0; i < s->tablet_count; i++) {
        const struct fetch *other = s->tablets[i]->fetch;
        bytes += other != NULL && other->asked ? other->expected : 0;
    }
    return f->expected == 0 || bytes <= UNSYNCED_TO_ASK;
}

/* Asks for the next page, now or when it may. */
static void ask(struct fetch *f)
{
    if (!may_ask(f)) {
        env_timer_start(f->shard->env, &f->again, PACE_US);
    } else if (!ask_page(f)) {
        end_fetch(f, NULL);
    }
}

static void on_again(struct env_timer *timer)
{
    ask(timer->data);
}

static void remember(struct buf *b, struct slice s)
{
    buf_clear(b);
    buf_put_slice(b, s);
}

static void remember_cell(struct fetch *f, const struct cell *c)
{
    f->has_after = true;
    remember(&f->after_partition, c->partition);
    remember(&f->after_row, c->row);
    remember(&f->after_column, c->column);
}

static void note_written(struct tablet *t, enum status st)
{
    if (st == ST_OK) {
        t->fetch_rest_us = 0;
    } else if (st == ST_NO_SPACE) {
        int64_t rest = 2 * t->fetch_rest_us;
        rest = rest < REST_FIRST_US ? REST_FIRST_US : rest;
        t->fetch_rest_us = rest < REST_MOST_US ? rest : REST_MOST_US;
        t->fetch_after_us = env_now_us(t->shard->env) + t->fetch_rest_us;
        log_error(t->shard->env->log, "catchup", "no-space",
                  "tablet=%" PRIu32 " action=try_again after_s=%" PRId64, t->id,
                  t->fetch_rest_us / 1000000);
    }
}

/* The blobs of the pages so far are synced, or one of them will not be. */
static void on_blobs(void *ctx, enum status st)
{
    struct fetch *f = ctx;
    if (st == ST_OK) {
        catchup_begin_writing(f->tablet);
    } else {
        note_written(f->tablet, st);
        end_fetch(f, NULL);
    }
}

void catchup_fetch(struct shard *s, struct tablet *t, struct replica from,
                   uint64_t epoch)
{
    catchup_abort(t);
    struct fetch *f = xcalloc(1, sizeof(*f));
    f->shard = s;
    f->tablet = t;
    f->from = from;
    f->epoch = epoch;
    f->snapshot = SNAPSHOT_NEW;
    f->begun_clock = wal_value_clock(s->wal);
    f->state = state_new();
    f->again.fn = on_again;
    f->again.data = f;
    state_on_place(f->state, shard_on_place, t);
    kept_blobs_init(&f->blobs, s, on_blobs, f);
    t->fetch = f;
    f->rests = env_now_us(s->env) < t->fetch_after_us;
    if (f->rests) {
        arm_rest(s);
    } else {
        begin_fetch(f);
    }
}

/* A snapshot is of a name that there can be in the epoch of the fetch. */
static bool name_is_good(const struct fetch *f, struct name n)
{
    return n.epoch > 0 && n.epoch <= f->epoch && n.seq > 0 &&
           n.seq <= UINT64_MAX / 2;
}

/* Puts the value of C into the log, where it may stay. */
static struct place keep_value(struct fetch *f, const struct cell *c)
{
    struct key k;
    struct wal_record r = {
        .kind = WAL_VALUE, .tablet = f->tablet->id, .payload = c->value};
    key_encode(&k, c->partition, c->row, c->column);
    f->values_end = wal_append(f->shard->wal, &r);
    return (struct place){.tag = VALUE_LOG,
                          .position = r.position + WAL_RECORD_HEAD,
                          .len = (uint32_t)c->value.len,
                          .digest = place_digest(key_slice(&k), c->value)};
}

static enum status keep_blob(struct fetch *f, const struct cell *c,
                             struct place *out)
{
    struct key k;
    key_encode(&k, c->partition, c->row, c->column);
    return kept_blobs_put(&f->blobs, key_slice(&k), c->value, out);
}

/* ST_BUSY, ST_NO_SPACE: the log does not take it now. */
static enum status load_cell(struct fetch *f, const struct cell *c)
{
    struct place place = {.tag = VALUE_INLINE};
    size_t len = c->value.len;
    enum status st = ST_OK;
    if (len > LIMIT_VALUE_LOGGED) {
        st = keep_blob(f, c, &place);
    } else if (len > LIMIT_VALUE_INLINE) {
        st = wal_room(f->shard->wal, len + WAL_RECORD_OVERHEAD);
        st = st == ST_OK && unsynced(f->shard) > UNSYNCED_MOST ? ST_BUSY : st;
        place = st == ST_OK ? keep_value(f, c) : place;
    }
    if (st != ST_OK) {
        return st;
    }
    f->shard->figures.catchup_received +=
        c->partition.len + c->row.len + c->column.len + len;
    return state_load_cell(f->state, c, &place);
}

static uint64_t large_bytes(const struct msg_tablet_page *page)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < page->cells_count; i++) {
        size_t len = page->cells[i].value.len;
        bytes += len > LIMIT_VALUE_INLINE ? len : 0;
    }
    return bytes;
}

/* As far as the log has room; what was loaded is remembered. */
static enum status load_page(struct fetch *f,
                             const struct msg_tablet_page *page)
{
    enum status st = ST_OK;
    uint32_t loaded = 0;
    f->asked = false;
    f->expected = large_bytes(page);
    while (loaded < page->cells_count && st == ST_OK) {
        st = load_cell(f, &page->cells[loaded]);
        loaded += st == ST_OK;
    }
    if (loaded > 0) {
        remember_cell(f, &page->cells[loaded - 1]);
    }
    if (st == ST_OK && !page->more) {
        st = state_load_clients(f->state, page->clients, f->name.seq);
    }
    return st;
}

/* A file that ends before what is here would be taken for the newest, and
 * those of more would go with it, though the log behind them is gone. */
static bool is_behind(const struct fetch *f)
{
    return f->name.seq < state_applied(replica_state(f->tablet->core)).seq;
}

static void refuse_older(struct fetch *f)
{
    log_info(f->shard->env->log, "catchup", "snapshot-older",
             "tablet=%" PRIu32 " from=%" PRIu32 " seq=%" PRIu64, f->tablet->id,
             f->from.node, f->name.seq);
    end_fetch(f, NULL);
}

static void finish_fetch(struct fetch *f)
{
    state_load_done(f->state, f->name);
    f->complete = true;
    catchup_begin_writing(f->tablet);
}

void catchup_begin_writing(struct tablet *t)
{
    if (t->fetch != NULL && t->fetch->complete && t->writer == NULL &&
        !t->shard->fatal && t->fetch->blobs.count == 0 &&
        wal_synced(t->shard->wal) >= t->fetch->values_end) {
        if (is_behind(t->fetch)) {
            refuse_older(t->fetch);
            return;
        }
        t->installing = true;
        t->fetch->named = true;
        checkpoint_begin_take(t->shard, t, state_snapshot(t->fetch->state));
    }
}

/* The fetched state's checkpoint is on disk, or could not be written. */
void catchup_on_written(struct tablet *t, enum status st)
{
    struct fetch *f = t->fetch;
    note_written(t, st);
    t->installing = false;
    if (f != NULL && f->complete) {
        f->named = st != ST_NO_SPACE; /* checkpoint.h */
        end_fetch(f, st == ST_OK ? f->state : NULL);
    }
}

static void refuse_page(struct fetch *f, const struct env_peer *p)
{
    log_warn(f->shard->env->log, "catchup", "bad-page",
             "tablet=%" PRIu32 " from=%" PRIu32, f->tablet->id, p->node);
    end_fetch(f, NULL);
}

/* A page was loaded, or as much of it as could be. */
static void go_on(struct fetch *f, const struct env_peer *p, enum status loaded,
                  bool more)
{
    if (loaded == ST_BUSY) {
        env_timer_start(f->shard->env, &f->again, AGAIN_US);
    } else if (loaded == ST_NO_SPACE) {
        note_written(f->tablet, loaded);
        end_fetch(f, NULL);
    } else if (loaded != ST_OK) {
        refuse_page(f, p);
    } else if (!more) {
        finish_fetch(f);
    } else {
        ask(f);
    }
}

void catchup_on_page(struct shard *s, const struct env_peer *p,
                     const struct wire_msg *m)
{
    uint32_t id = (uint32_t)(m->request & 0xffff);
    struct tablet *t = shard_tablet(s, id);
    struct fetch *f = t == NULL ? NULL : t->fetch;
    if (f == NULL || f->rests || f->complete || f->epoch != m->request >> 16 ||
        f->from.node != p->node) {
        return;
    }
    if (m->type != MSG_TABLET_PAGE) {
        end_fetch(f, NULL);
        return;
    }
    const struct msg_tablet_page *page = &m->u.tablet_page;
    if (f->snapshot == SNAPSHOT_NEW) {
        f->snapshot = page->snapshot;
        f->name = page->name;
    }
    if (!name_is_good(f, page->name) || page->snapshot != f->snapshot ||
        !name_equal(page->name, f->name) ||
        (page->more && page->cells_count == 0)) {
        refuse_page(f, p);
        return;
    }
    if (is_behind(f)) {
        refuse_older(f);
        return;
    }
    go_on(f, p, load_page(f, page), page->more != 0);
}

void catchup_on_up(struct shard *s, uint32_t node)
{
    for (uint32_t i = 0; i < s->tablet_count; i++) {
        struct fetch *f = s->tablets[i]->fetch;
        if (f != NULL && f->from.node == node && !f->rests &&
            f->snapshot == SNAPSHOT_NEW) {
            (void)ask_page(f);
        }
    }
}

void catchup_on_down(struct shard *s, uint32_t node)
{
    for (uint32_t i = 0; i < s->tablet_count; i++) {
        struct fetch *f = s->tablets[i]->fetch;
        if (f != NULL && f->from.node == node && !f->complete) {
            end_fetch(f, NULL);
        }
    }
}

void catchup_abort(struct tablet *t)
{
    if (t->fetch != NULL) {
        t->installing = false; /* its file, if one is written, stays */
        discard(t->fetch);
    }
}

void catchup_free_all(struct shard *s)
{
    for (uint32_t i = 0; i < s->tablet_count; i++) {
        if (s->tablets[i]->fetch != NULL) {
            free_fetch(s->tablets[i]->fetch);
        }
    }
}
