/*
 * The collector: values that cells still have are copied from segments that
 * are mostly dead to the end of the log, and the segments given back.
 *
 * A round. When a checkpoint was written (then the log lets go of segments),
 * the kept segments of which less than half is live are its victims, if what
 * they would give back is more than the checkpoints that it takes. Their
 * tablets' cells are walked in slices; each place in a victim is read beside
 * the loop, verified, and appended as WAL_VALUE; when that is on disk the cell
 * gets the new place, if it still has the old one. Then the tablets are
 * checkpointed: until then the old place is what a restart begins with, so
 * moving needs no record of its own, and a crash at any time costs only the
 * copies. When no checkpoint, snapshot or read can name them any more, the
 * victims are given back (wal_kept.c).
 *
 * What it costs. Rounds begin when kept segments take more than twice what is
 * live in the log, and some; for each byte that is given back at most one is
 * moved and one written by checkpoints. So they take at most about twice what
 * is live, or that and the size of the tablets' checkpoints, if these are
 * large. A round begins only when the log has grown by a segment since the
 * last: so one that could not empty its victims is no endless loop.
 *
 * Writers never wait for it: slices are short, with a pause between them;
 * bytes under way are bounded; and it appends only where others' records may
 * be, too (wal_has_room_to_move()). On a full disk the emptiest segment that
 * the rest of the log can take is emptied, out of the reserve, and then the
 * next.
 *
 * A value that does not read as its place says is damaged: if the cell still
 * has that place, it is repaired, or its replica is condemned (R16), as by any
 * other read; the segment is emptied by a later round. A
 * segment with values of a damaged replica, or of one that is being filled,
 * is no victim.
 */
#include "storage/shard_collect.h"

#include "storage/key.h"
#include "storage/shard_damage.h"
#include "storage/shard_impl.h"
#include "storage/shard_repair.h"

#include <stdlib.h>
#include <string.h>

#define VICTIMS_MAX 256
#define CELLS_A_STEP 64
#define STEPS_A_SLICE 16
#define SLICE_US 1000
#define PAUSE_US 2000
#define NO_ROOM_US 20000
#define FULL_US 1000000 /* on a full disk: when to look again */
#define SLACK 4         /* segments that may be dead, however little lives */
#define MOVES_AT_ONCE 16
#define BYTES_AT_ONCE MIB(1)

/* A value on its way. */
struct move {
    TAILQ_ENTRY(move) link;
    struct collector *c;
    struct env_io io;
    uint32_t tablet;
    struct place from, to;
    uint64_t end;   /* of its new record */
    uint8_t *bytes; /* NULL: not read yet, or appended */
    size_t key_len;
    uint8_t key[];
};
TAILQ_HEAD(moves, move);

struct concerned {
    uint32_t tablet;
    bool walk; /* something may be left to be moved */
};

struct collector {
    struct shard *shard;
    struct env_timer timer;
    bool armed, running, stopped;
    struct wal_kept *victims; /* by position */
    size_t victim_count;
    struct concerned *tablets; /* with something in a victim */
    size_t tablet_count;
    size_t at; /* of these, which one is walked */
    struct state_walk *walk;
    struct moves todo, reading, ready, appended;
    uint32_t under_way; /* moves that are not in TODO ... */
    uint64_t bytes;     /* ... and their values */
    /* Another round may begin when the log has grown to here; on a full disk,
     * when the last one has given something back, or after a while. */
    uint64_t next_at;
    uint64_t collected;
    int64_t begun_us;
};

static void arm(struct collector *c, int64_t delay_us)
{
    if (!c->armed && !c->stopped) {
        c->armed = true;
        env_timer_start(c->shard->env, &c->timer, delay_us);
    }
}

static int64_t pause_us(const struct collector *c)
{
    return wal_is_full(c->shard->wal) ? 0 : PAUSE_US;
}

/* ---- moving ---- */

static bool in_victim(const struct collector *c, uint64_t position)
{
    size_t lo = 0, hi = c->victim_count;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (c->victims[mid].begin <= position) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo > 0 && position < c->victims[lo - 1].end;
}

static void on_cell(void *ctx, struct slice key, const struct place *p)
{
    struct collector *c = ctx;
    if (p->tag != VALUE_LOG || !in_victim(c, p->position)) {
        return;
    }
    struct move *m = xcalloc(1, sizeof(*m) + key.len);
    m->c = c;
    m->tablet = c->tablets[c->at].tablet;
    m->from = *p;
    m->key_len = key.len;
    memcpy(m->key, key.data, key.len);
    TAILQ_INSERT_TAIL(&c->todo, m, link);
}

static void move_free(struct moves *list, struct move *m)
{
    TAILQ_REMOVE(list, m, link);
    free(m->bytes);
    free(m);
}

static void move_end(struct moves *list, struct move *m)
{
    struct collector *c = m->c;
    c->under_way--;
    c->bytes -= m->from.len;
    move_free(list, m);
    arm(c, pause_us(c));
}

/* True if M's cell still has the place that was read. */
static bool is_there(const struct tablet *t, const struct move *m)
{
    struct arena a = {0};
    struct key_parts k;
    struct cell_value v;
    bool there =
        t != NULL && key_decode(slice_make(m->key, m->key_len), &a, &k) &&
        state_get(replica_state(t->core), k.partition, k.row, k.column, &v) &&
        place_equal(&v.place, &m->from);
    arena_free(&a);
    return there;
}

/* Puts what was read and verified at the end of the log. */
static void append_ready(struct collector *c)
{
    struct wal *w = c->shard->wal;
    struct move *m;
    while ((m = TAILQ_FIRST(&c->ready)) != NULL &&
           wal_has_room_to_move(w, m->from.len + WAL_RECORD_OVERHEAD)) {
        struct wal_record r = {.kind = WAL_VALUE,
                               .tablet = m->tablet,
                               .payload = slice_make(m->bytes, m->from.len)};
        m->end = wal_append(w, &r);
        m->to = m->from;
        m->to.position = r.position + WAL_RECORD_HEAD;
        /* Until a cell names it, it must stay all the same. */
        wal_value_live(w, m->tablet, m->to.position, (int64_t)m->to.len);
        TAILQ_REMOVE(&c->ready, m, link);
        TAILQ_INSERT_TAIL(&c->appended, m, link);
        free(m->bytes);
        m->bytes = NULL;
    }
    if (m != NULL) {
        arm(c, NO_ROOM_US);
    }
}

static void on_read(struct env_io *io, enum status st)
{
    struct move *m = io->data;
    struct collector *c = m->c;
    struct shard *s = c->shard;
    struct tablet *t = shard_tablet(s, m->tablet);
    struct slice key = slice_make(m->key, m->key_len);
    if (st == ST_OK &&
        !place_verify(&m->from, key, slice_make(m->bytes, m->from.len))) {
        st = ST_CORRUPT;
    }
    if (st == ST_OK && !c->stopped) {
        TAILQ_REMOVE(&c->reading, m, link);
        TAILQ_INSERT_TAIL(&c->ready, m, link);
        append_ready(c);
        return;
    }
    bool damaged =
        st != ST_OK && st != ST_NO_MEMORY && !c->stopped && is_there(t, m);
    damaged = damaged && !repair_cell(t, key, &m->from, "collection");
    move_end(&c->reading, m);
    if (damaged) {
        s->figures.values_damaged++;
        shard_condemn(s, t, "a value in the log");
    }
}

static void begin_reads(struct collector *c)
{
    struct move *m;
    while ((m = TAILQ_FIRST(&c->todo)) != NULL &&
           c->under_way < MOVES_AT_ONCE &&
           (c->bytes == 0 || c->bytes + m->from.len <= BYTES_AT_ONCE)) {
        TAILQ_REMOVE(&c->todo, m, link);
        TAILQ_INSERT_TAIL(&c->reading, m, link);
        c->under_way++;
        c->bytes += m->from.len;
        m->bytes = xmalloc(m->from.len);
        m->io = (struct env_io){.done = on_read, .data = m};
        wal_value_read(c->shard->wal, m->from.position, m->from.len, m->bytes,
                       &m->io);
    }
}

void collect_on_synced(struct shard *s)
{
    struct collector *c = s->collector;
    struct move *m;
    while ((m = TAILQ_FIRST(&c->appended)) != NULL &&
           m->end <= wal_synced(s->wal)) {
        struct tablet *t = shard_tablet(s, m->tablet);
        if (t != NULL) {
            (void)state_move(replica_state(t->core),
                             slice_make(m->key, m->key_len), &m->from, &m->to);
        }
        wal_value_live(s->wal, m->tablet, m->to.position, -(int64_t)m->to.len);
        move_end(&c->appended, m);
    }
}

/* ---- walking ---- */

static void end_walk(struct collector *c)
{
    state_walk_free(c->walk);
    c->walk = NULL;
}

/* Begins with the next tablet that has something to be moved. */
static bool next_tablet(struct collector *c)
{
    for (; c->at < c->tablet_count; c->at++) {
        const struct concerned *of = &c->tablets[c->at];
        const struct tablet *t = shard_tablet(c->shard, of->tablet);
        if (of->walk && t != NULL && !replica_is_damaged(t->core)) {
            c->walk = state_walk_new(replica_state(t->core));
            return true;
        }
    }
    return false;
}

static void walk_step(struct collector *c)
{
    if (!state_walk_on(c->walk, CELLS_A_STEP, on_cell, c)) {
        end_walk(c);
        c->at++;
    }
}

void collect_on_state(struct shard *s, const struct tablet *t)
{
    struct collector *c = s->collector;
    if (c->walk != NULL && c->tablets[c->at].tablet == t->id) {
        end_walk(c); /* what the new state has is in no victim */
        c->at++;
    }
}

static void again_if_full(struct collector *c)
{
    if (!c->running && c->shard->host.full) {
        arm(c, FULL_US);
    }
}

static void end_round(struct collector *c)
{
    struct shard *s = c->shard;
    c->running = false;
    c->victim_count = 0;
    for (size_t i = 0; i < c->tablet_count; i++) {
        struct tablet *t = shard_tablet(s, c->tablets[i].tablet);
        if (t != NULL) {
            t->checkpoint_wanted = true;
        }
    }
    checkpoint_consider(s);
    again_if_full(c);
}

static void on_timer(struct env_timer *timer)
{
    struct collector *c = timer->data;
    int64_t begin = env_now_us(c->shard->env);
    c->armed = false;
    if (c->shard->fatal) {
        return;
    }
    if (!c->running) {
        collect_consider(c->shard);
        shard_relieve(c->shard);
        again_if_full(c);
        return;
    }
    append_ready(c);
    for (int i = 0; i < STEPS_A_SLICE && TAILQ_EMPTY(&c->todo) &&
                    (c->walk != NULL || next_tablet(c)) &&
                    env_now_us(c->shard->env) - begin < SLICE_US;
         i++) {
        walk_step(c);
    }
    begin_reads(c);
    bool walked = c->walk == NULL && c->at >= c->tablet_count;
    if (walked && TAILQ_EMPTY(&c->todo) && c->under_way == 0) {
        end_round(c);
    } else if (TAILQ_EMPTY(&c->todo) && !walked) {
        arm(c, pause_us(c));
    } /* else what is under way calls again */
}

/* ---- beginning ---- */

/* What is in it can be moved, and the tablets checkpointed. */
static bool can_be_emptied(const struct shard *s, size_t i,
                           const struct wal_kept *k)
{
    for (size_t n = 0; n < k->tablets; n++) {
        struct wal_kept_tablet of;
        wal_kept_get_tablet(s->wal, i, n, &of);
        const struct tablet *t = shard_tablet(s, of.tablet);
        if (t == NULL || t->fetch != NULL || replica_is_damaged(t->core)) {
            return false;
        }
    }
    return true;
}

static void add_tablet(struct collector *c, const struct wal_kept_tablet *of)
{
    size_t i = 0;
    while (i < c->tablet_count && c->tablets[i].tablet != of->tablet) {
        i++;
    }
    if (i == c->tablet_count) {
        c->tablets = xrealloc(c->tablets, (i + 1) * sizeof(*c->tablets));
        c->tablets[c->tablet_count++] =
            (struct concerned){.tablet = of->tablet};
    }
    c->tablets[i].walk = c->tablets[i].walk || of->live > 0;
}

static void add_victim(struct collector *c, size_t i, const struct wal_kept *k)
{
    c->victims[c->victim_count++] = *k;
    for (size_t n = 0; n < k->tablets; n++) {
        struct wal_kept_tablet of;
        wal_kept_get_tablet(c->shard->wal, i, n, &of);
        add_tablet(c, &of);
    }
}

static bool is_mostly_dead(const struct wal_kept *k)
{
    return 2 * k->live < k->end - k->begin;
}

/* Bytes that moving all of K appends, at most. */
static size_t cost_of(const struct wal_kept *k)
{
    return k->live + k->live / LIMIT_VALUE_INLINE * WAL_RECORD_OVERHEAD;
}

/* On a full disk: the emptiest one that what is left of the log takes. */
static void choose_one(struct collector *c)
{
    const struct shard *s = c->shard;
    struct wal_kept k, best = {.live = UINT64_MAX};
    size_t best_at = 0;
    for (size_t i = 0; i < wal_kept_count(s->wal); i++) {
        wal_kept_get(s->wal, i, &k);
        if (k.live < best.live && 4 * k.live < 3 * (k.end - k.begin) &&
            can_be_emptied(s, i, &k)) {
            best = k;
            best_at = i;
        }
    }
    if (best.live != UINT64_MAX &&
        wal_has_room_to_move(s->wal, cost_of(&best))) {
        add_victim(c, best_at, &best);
    }
}

static uint64_t checkpoint_cost(const struct collector *c)
{
    uint64_t cost = 0;
    for (size_t i = 0; i < c->tablet_count; i++) {
        const struct tablet *t = shard_tablet(c->shard, c->tablets[i].tablet);
        cost += t == NULL ? 0 : t->checkpoint_bytes;
    }
    return cost;
}

static void choose_all(struct collector *c)
{
    const struct shard *s = c->shard;
    struct wal_kept k;
    uint64_t gain = 0;
    for (size_t i = 0;
         i < wal_kept_count(s->wal) && c->victim_count < VICTIMS_MAX; i++) {
        wal_kept_get(s->wal, i, &k);
        if (is_mostly_dead(&k) && can_be_emptied(s, i, &k)) {
            add_victim(c, i, &k);
            gain += k.end - k.begin - k.live;
        }
    }
    if (gain < checkpoint_cost(c)) {
        c->victim_count = 0;
    }
}

static void begin_round(struct collector *c, uint64_t collected)
{
    struct shard *s = c->shard;
    c->tablet_count = 0;
    c->victim_count = 0;
    if (wal_is_full(s->wal)) {
        choose_one(c);
    } else {
        choose_all(c);
    }
    if (c->victim_count == 0) {
        return;
    }
    c->next_at = wal_end(s->wal) + (c->victims[0].end - c->victims[0].begin);
    c->collected = collected;
    c->begun_us = env_now_us(s->env);
    c->at = 0;
    c->running = true;
    s->figures.collections++;
    log_debug(s->env->log, "collect", "round", "segments=%zu first=%" PRIu64,
              c->victim_count, c->victims[0].begin);
    arm(c, 0);
}

static bool checkpoints_wanted(const struct shard *s)
{
    for (uint32_t i = 0; i < s->tablet_count; i++) {
        if (checkpoint_is_due(s->tablets[i])) {
            return true;
        }
    }
    return false;
}

static bool is_worth_it(const struct collector *c, const struct wal_stats *st)
{
    const struct shard *s = c->shard;
    struct wal_kept k;
    if (wal_kept_count(s->wal) == 0) {
        return false;
    }
    if (wal_is_full(s->wal)) {
        return st->collected != c->collected ||
               env_now_us(s->env) - c->begun_us >= FULL_US;
    }
    wal_kept_get(s->wal, 0, &k);
    return wal_end(s->wal) >= c->next_at &&
           st->kept_bytes > 2 * st->live + SLACK * (k.end - k.begin);
}

void collect_consider(struct shard *s)
{
    struct collector *c = s->collector;
    struct wal_stats st;
    if (s->fatal || c->stopped) {
        return;
    }
    wal_kept_release(s->wal, values_oldest(s));
    wal_get_stats(s->wal, &st);
    if (!c->running && !checkpoints_wanted(s) && is_worth_it(c, &st)) {
        begin_round(c, st.collected);
    }
}

void collect_soon(struct shard *s)
{
    arm(s->collector, 0);
}

/* ---- life ---- */

void collect_init(struct shard *s)
{
    struct collector *c = xcalloc(1, sizeof(*c));
    c->shard = s;
    c->timer.fn = on_timer;
    c->timer.data = c;
    c->victims = xcalloc(VICTIMS_MAX, sizeof(*c->victims));
    TAILQ_INIT(&c->todo);
    TAILQ_INIT(&c->reading);
    TAILQ_INIT(&c->ready);
    TAILQ_INIT(&c->appended);
    s->collector = c;
}

void collect_stop(struct shard *s)
{
    s->collector->stopped = true;
    env_timer_stop(s->env, &s->collector->timer);
}

void collect_free(struct shard *s)
{
    struct collector *c = s->collector;
    struct moves *lists[] = {&c->todo, &c->reading, &c->ready, &c->appended};
    collect_stop(s);
    for (size_t i = 0; i < 4; i++) {
        while (!TAILQ_EMPTY(lists[i])) {
            move_free(lists[i], TAILQ_FIRST(lists[i]));
        }
    }
    end_walk(c);
    free(c->victims);
    free(c->tablets);
    free(c);
    s->collector = NULL;
}
