/*
 * Single damaged values are repaired from the other replicas (R16), instead of
 * filling a whole tablet anew.
 *
 * Whoever meets one (a read, the scrub, a collection, recovery) tells its key
 * and its place, or only where the damage is; then all cells are walked, in
 * slices, for those that have something there. Each value is asked for, by its
 * key, length and digest, from all replicas of the tablet in turn: members of
 * I first, then who is eligible, then learners. The digest alone decides what
 * is taken: so it matters neither which epoch the other one is in, nor whether
 * it is behind or ahead, nor what it says. What came is written anew: into the
 * log as WAL_VALUE, and the cell gets the new place when that is on disk, as
 * the collector does it; or as the blob of the same name. A cell that has
 * another value meanwhile, or none, needs no repair.
 *
 * Nobody has it: the one asked may be behind, or be damaged as well, or not be
 * connected. So the round begins again, later and later. Only when all other
 * members of I have said, several times and over some seconds, that their cell
 * has another value, then the states differ: the replica is condemned, and
 * filled from them. It is as well, at once, when more than LIMIT_REPAIRS of its
 * values are damaged. It is not while one of them has it and cannot read it
 * either: then the rest of the tablet is better served here than nowhere, and
 * who is away may bring the value back.
 *
 * Meanwhile reads of that value wait, or are refused retryably (BUSY): wrong
 * bytes are given to nobody.
 *
 * Bounded: LIMIT_REPAIRS for a tablet; AT_ONCE in memory; SOUGHT_MAX places
 * that are searched for. What is beyond is found again by the next pass.
 */
#include "storage/shard_repair.h"

#include <stdlib.h>
#include <string.h>

#include "storage/key.h"
#include "storage/shard_blobs.h"
#include "storage/shard_damage.h"
#include "storage/state_verify.h"

#define AT_ONCE 4         /* asked for, or on their way to the disk */
#define ANSWER_US 2000000 /* so long an answer is waited for */
#define TICK_US 10000
#define AGAIN_US 100000 /* after the first round; then twice as long ... */
#define AGAIN_MOST_US 5000000
#define ROUNDS 6 /* some seconds, in which all of I had another value */
#define SOUGHT_MAX 256
#define SLICE KIB(64) /* of a state, at once */
#define SLICE_US 1000
#define SOUGHT_AGAIN_US 1000000
#define SOUGHT_TIMES 5 /* the next pass of the scrub will tell of it again */
#define PEERS_MAX (3 * LIMIT_REPLICAS)

enum step {
    STEP_WAITS,  /* for its turn, or until DUE */
    STEP_ASKED,  /* until DUE */
    STEP_READY,  /* has its bytes, waits for room */
    STEP_WRITTEN /* not on disk yet */
};

struct repair {
    TAILQ_ENTRY(repair) link;
    struct repairs *all;
    uint32_t tablet;
    struct place place;
    struct buf key; /* encoded */
    enum step step;
    int64_t begun_us, due_us, rest_us;
    /* The round: who is next; members of I that have another value; some one
     * could not say. */
    uint32_t turn, others;
    bool unsure;
    uint32_t rounds; /* in which nobody was unsure */
    uint32_t asked;  /* node */
    bool asked_member;
    uint64_t number; /* of the request */
    struct buf value;
    uint64_t end; /* of its new record in the log, at TO; or ... */
    struct place to;
    struct blob_in *in; /* ... its new blob */
};

/* Damage whose cells are not known. */
struct sought {
    uint64_t from, to;   /* of the log; TO 0: a blob */
    struct blob_ref ref; /* that one */
    const char *by;
    uint32_t times; /* searched for */
};

struct repairs {
    struct shard *s;
    struct env_timer timer;
    bool armed, stopped;
    TAILQ_HEAD(, repair) list;
    uint32_t count;
    uint64_t last_number;

    struct sought sought[SOUGHT_MAX];
    uint32_t sought_count;
    uint32_t searching; /* of these, what the walk looks for */
    int64_t search_us;  /* not before */
    struct state_verify *walk;
    uint32_t tablet;       /* that is walked */
    struct tablet *to_end; /* it has too many */
};

static void arm(struct repairs *p, int64_t delay_us)
{
    if (!p->armed && !p->stopped) {
        p->armed = true;
        env_timer_start(p->s->env, &p->timer, delay_us);
    }
}

/* ---- one value ---- */

static void repair_end(struct repair *r)
{
    struct repairs *p = r->all;
    struct shard *s = p->s;
    if (r->end != 0 && !p->stopped) {
        wal_value_live(s->wal, r->tablet, r->to.position, -(int64_t)r->to.len);
    }
    blobs_drop(r->in);
    TAILQ_REMOVE(&p->list, r, link);
    p->count--;
    buf_free(&r->key);
    buf_free(&r->value);
    free(r);
}

static bool has_others(const struct repairs *p, uint32_t tablet)
{
    const struct repair *r;
    TAILQ_FOREACH(r, &p->list, link)
    {
        if (r->tablet == tablet) {
            return true;
        }
    }
    return false;
}

/* R is on disk again. Until there is a checkpoint with its new place a restart
 * begins with the old one. */
static void mended(struct repair *r)
{
    struct repairs *p = r->all;
    struct shard *s = p->s;
    struct tablet *t = shard_tablet(s, r->tablet);
    bool logged = r->place.tag == VALUE_LOG;
    log_warn(s->env->log, "repair", "value-repaired",
             "tablet=%" PRIu32 " from=%" PRIu32 " length=%" PRIu32
             " kind=%s ms=%" PRId64,
             r->tablet, r->asked, r->place.len, logged ? "log" : "blob",
             (env_now_us(s->env) - r->begun_us) / 1000);
    s->figures.values_repaired++;
    repair_end(r);
    if (logged && t != NULL && !has_others(p, t->id)) {
        t->checkpoint_wanted = true;
        checkpoint_soon(s);
    }
}

static void rest(struct repair *r)
{
    r->rest_us = r->rest_us == 0                  ? AGAIN_US
                 : 2 * r->rest_us < AGAIN_MOST_US ? 2 * r->rest_us
                                                  : AGAIN_MOST_US;
    r->due_us = env_now_us(r->all->s->env) + r->rest_us;
    r->turn = 0;
    r->others = 0;
    r->unsure = false;
    r->step = STEP_WAITS;
}

/* ---- writing ---- */

static void on_blob(void *ctx, enum status st)
{
    struct repair *r = ctx;
    r->in = NULL;
    if (st == ST_OK) {
        mended(r);
    } else {
        r->step = STEP_READY; /* tried again when there is room */
    }
}

static void write_blob(struct repair *r)
{
    struct shard *s = r->all->s;
    struct blob_ref ref = blob_of_place(&r->place);
    struct blob_sink sink = {.on_done = on_blob, .ctx = r};
    ref.seed = place_seed(buf_slice(&r->key));
    enum status st = blobs_begin(s->blobs->blobs, &ref, &sink, &r->in);
    if (st == ST_EXISTS) {
        mended(r); /* it came by another way */
        return;
    }
    if (st != ST_OK) {
        return;
    }
    struct blob_bytes *bytes = blob_bytes_new(ref.len);
    memcpy(blob_bytes_data(bytes), r->value.data, ref.len);
    r->step = STEP_WRITTEN;
    blobs_put(r->in, bytes);
    blob_bytes_unref(bytes);
}

static void write_record(struct repair *r)
{
    struct wal *w = r->all->s->wal;
    struct wal_record record = {.kind = WAL_VALUE,
                                .tablet = r->tablet,
                                .payload = buf_slice(&r->value)};
    if (!wal_has_room_to_move(w, r->value.len + WAL_RECORD_OVERHEAD)) {
        return;
    }
    r->end = wal_append(w, &record);
    r->to = r->place;
    r->to.position = record.position + WAL_RECORD_HEAD;
    r->step = STEP_WRITTEN;
    /* Until the cell names it, it must stay all the same. */
    wal_value_live(w, r->tablet, r->to.position, (int64_t)r->to.len);
}

static void write_value(struct repair *r)
{
    if (r->place.tag == VALUE_LOG) {
        write_record(r);
    } else {
        write_blob(r);
    }
}

void repair_on_synced(struct shard *s)
{
    struct repairs *p = s->repairs;
    struct repair *r, *next;
    for (r = TAILQ_FIRST(&p->list); r != NULL; r = next) {
        next = TAILQ_NEXT(r, link);
        struct tablet *t = shard_tablet(s, r->tablet);
        if (r->end == 0 || r->end > wal_synced(s->wal)) {
            continue;
        }
        if (t != NULL && state_move(replica_state(t->core), buf_slice(&r->key),
                                    &r->place, &r->to)) {
            mended(r);
        } else {
            repair_end(r); /* it has another value by now */
        }
    }
}

/* ---- asking ---- */

struct peers {
    struct replica at[PEERS_MAX];
    uint32_t count, members; /* these first */
};

static void add_peers(struct peers *out, const struct shard *s,
                      const struct replica *list, uint32_t count)
{
    for (uint32_t i = 0; i < count && out->count < PEERS_MAX; i++) {
        if (!replica_equal(list[i], s->host.self)) {
            out->at[out->count++] = list[i];
        }
    }
}

static void peers_of(const struct tablet *t, struct peers *out)
{
    const struct tablet_config *c = replica_config(t->core);
    *out = (struct peers){.count = 0};
    add_peers(out, t->shard, c->in_sync, c->in_sync_count);
    out->members = out->count;
    add_peers(out, t->shard, c->eligible, c->eligible_count);
    add_peers(out, t->shard, c->learners, c->learners_count);
}

static bool send_ask(struct repair *r, const struct replica *to)
{
    struct repairs *p = r->all;
    struct shard *s = p->s;
    struct arena a = {0};
    struct key_parts k;
    bool good = key_decode(buf_slice(&r->key), &a, &k);
    assert(good); /* a cell has it */
    struct msg_value_ask m = {.tablet = r->tablet,
                              .partition = k.partition,
                              .row = k.row,
                              .column = k.column,
                              .length = r->place.len,
                              .digest = r->place.digest};
    r->number = ++p->last_number | REPAIR_BIT;
    buf_clear(&s->out);
    wire_put_value_ask(&s->out, r->number, &m);
    arena_free(&a);
    return s->bulk != NULL &&
           links_send(s->bulk, to->node, to->store, buf_slice(&s->out));
}

/* All have been asked, and nobody has it. */
static void end_round(struct repair *r, const struct peers *peers)
{
    struct repairs *p = r->all;
    struct shard *s = p->s;
    struct tablet *t = shard_tablet(s, r->tablet);
    bool differs =
        !r->unsure && peers->members > 0 && r->others >= peers->members;
    r->rounds = differs ? r->rounds + 1 : 0;
    if (r->rounds < ROUNDS) {
        rest(r);
        return;
    }
    log_error(s->env->log, "repair", "value-nowhere",
              "tablet=%" PRIu32 " length=%" PRIu32 " asked=%" PRIu32, t->id,
              r->place.len, peers->count);
    repair_end(r);
    shard_condemn(s, t, "a damaged value that no other replica has");
}

/* Asks who is next; may end R. */
static void ask_next(struct repair *r)
{
    struct peers peers;
    peers_of(shard_tablet(r->all->s, r->tablet), &peers);
    while (r->turn < peers.count) {
        uint32_t i = r->turn++;
        if (send_ask(r, &peers.at[i])) {
            r->asked = peers.at[i].node;
            r->asked_member = i < peers.members;
            r->due_us = env_now_us(r->all->s->env) + ANSWER_US;
            r->step = STEP_ASKED;
            return;
        }
        r->unsure = r->unsure || i < peers.members;
    }
    end_round(r, &peers);
}

static struct repair *find_number(struct repairs *p, uint64_t number,
                                  uint32_t node)
{
    struct repair *r;
    TAILQ_FOREACH(r, &p->list, link)
    {
        if (r->step == STEP_ASKED && r->number == number && r->asked == node) {
            return r;
        }
    }
    return NULL;
}

/* The digest decides. */
static bool is_right(const struct repair *r, struct slice value)
{
    return place_verify(&r->place, buf_slice(&r->key), value);
}

static bool is_wanted(const struct repair *r)
{
    const struct tablet *t = shard_tablet(r->all->s, r->tablet);
    return t != NULL && !replica_is_damaged(t->core) &&
           state_has_place(replica_state(t->core), buf_slice(&r->key),
                           &r->place);
}

void repair_on_answer(struct shard *s, const struct env_peer *from,
                      const struct wire_msg *m)
{
    struct repair *r = find_number(s->repairs, m->request, from->node);
    if (r == NULL || s->fatal) {
        return; /* late */
    }
    if (!is_wanted(r)) {
        repair_end(r);
        return;
    }
    bool found = m->type == MSG_VALUE && m->u.value.found;
    if (found && is_right(r, m->u.value.value)) {
        buf_put_slice(&r->value, m->u.value.value);
        r->step = STEP_READY;
        write_value(r);
        return;
    }
    if (found) {
        log_warn(s->env->log, "repair", "answer-refused",
                 "tablet=%" PRIu32 " from=%" PRIu32 " length=%zu", r->tablet,
                 from->node, m->u.value.value.len);
    }
    if (r->asked_member && m->type == MSG_VALUE && !found) {
        r->others++;
    } else {
        r->unsure = r->unsure || r->asked_member;
    }
    ask_next(r);
}

/* ---- a turn ---- */

static void tend(struct repair *r, int64_t now_us, uint32_t *under_way)
{
    if (r->step == STEP_WRITTEN) {
        return;
    }
    if (!is_wanted(r)) {
        repair_end(r);
    } else if (r->step == STEP_READY) {
        write_value(r);
    } else if (r->step == STEP_ASKED && now_us >= r->due_us) {
        r->unsure = r->unsure || r->asked_member;
        ask_next(r);
    } else if (r->step == STEP_WAITS && now_us >= r->due_us &&
               *under_way < AT_ONCE) {
        (*under_way)++;
        ask_next(r);
    }
}

static void tend_all(struct repairs *p)
{
    struct repair *r, *next;
    int64_t now = env_now_us(p->s->env);
    uint32_t under_way = 0;
    TAILQ_FOREACH(r, &p->list, link)
    {
        under_way += r->step != STEP_WAITS;
    }
    for (r = TAILQ_FIRST(&p->list); r != NULL && !p->s->fatal; r = next) {
        next = TAILQ_NEXT(r, link);
        tend(r, now, &under_way);
    }
}

/* ---- what is damaged ---- */

static uint32_t count_of(const struct repairs *p, uint32_t tablet)
{
    const struct repair *r;
    uint32_t count = 0;
    TAILQ_FOREACH(r, &p->list, link)
    {
        count += r->tablet == tablet;
    }
    return count;
}

static struct repair *find_cell(const struct repairs *p, uint32_t tablet,
                                struct slice key, const struct place *at)
{
    struct repair *r;
    TAILQ_FOREACH(r, &p->list, link)
    {
        if (r->tablet == tablet && place_equal(&r->place, at) &&
            slice_equal(buf_slice(&r->key), key)) {
            return r;
        }
    }
    return NULL;
}

bool repair_cell(struct tablet *t, struct slice key, const struct place *at,
                 const char *by)
{
    struct shard *s = t->shard;
    struct repairs *p = s->repairs;
    struct peers peers;
    if (find_cell(p, t->id, key, at) != NULL) {
        return true;
    }
    peers_of(t, &peers);
    if (peers.count == 0 || p->stopped || replica_is_damaged(t->core) ||
        count_of(p, t->id) >= LIMIT_REPAIRS) {
        return false;
    }
    s->figures.values_damaged++;
    log_error(s->env->log, "repair", "value-damaged",
              "tablet=%" PRIu32 " position=%" PRIu64 " length=%" PRIu32
              " kind=%s by=%s",
              t->id, at->position, at->len,
              at->tag == VALUE_LOG ? "log" : "blob", by);
    struct repair *r = xcalloc(1, sizeof(*r));
    r->all = p;
    r->tablet = t->id;
    r->place = *at;
    r->begun_us = env_now_us(s->env);
    buf_put_slice(&r->key, key);
    TAILQ_INSERT_TAIL(&p->list, r, link);
    p->count++;
    arm(p, 0);
    return true;
}

bool repair_under_way(const struct tablet *t, const struct values *v)
{
    const struct repairs *p = t->shard->repairs;
    const struct repair *r;
    TAILQ_FOREACH(r, &p->list, link)
    {
        for (uint32_t i = 0; r->tablet == t->id && i < v->count; i++) {
            if (place_equal(&r->place, &v->places[i])) {
                return true;
            }
        }
    }
    return false;
}

bool repair_has_blob(const struct tablet *t, const struct blob_ref *ref)
{
    const struct repair *r;
    TAILQ_FOREACH(r, &t->shard->repairs->list, link)
    {
        if (r->tablet == t->id && r->place.tag == VALUE_BLOB &&
            id128_equal(r->place.blob, ref->id)) {
            return true;
        }
    }
    return false;
}

uint64_t repair_count(const struct shard *s)
{
    return s->repairs->count;
}

/* ---- searching ---- */

static void seek(struct repairs *p, const struct sought *x)
{
    if (p->sought_count == SOUGHT_MAX || p->stopped) {
        return;
    }
    p->sought[p->sought_count++] = *x;
    arm(p, 0);
}

void repair_blob(struct shard *s, const struct blob_ref *ref, const char *by)
{
    struct repairs *p = s->repairs;
    for (uint32_t i = p->searching; i < p->sought_count; i++) {
        if (p->sought[i].to == 0 && id128_equal(p->sought[i].ref.id, ref->id)) {
            return;
        }
    }
    seek(p, &(struct sought){.ref = *ref, .by = by});
}

void repair_range(struct shard *s, uint64_t from, uint64_t to, const char *by)
{
    seek(s->repairs, &(struct sought){.from = from, .to = to, .by = by});
}

static bool stands_in(const struct place *at, const struct sought *x)
{
    if (x->to == 0) {
        return at->tag == VALUE_BLOB && id128_equal(at->blob, x->ref.id);
    }
    return at->tag == VALUE_LOG && at->position < x->to &&
           at->position + at->len > x->from;
}

static void look_at(void *ctx, struct slice key, const struct place *at)
{
    struct repairs *p = ctx;
    struct tablet *t = shard_tablet(p->s, p->tablet);
    for (uint32_t i = 0; i < p->searching && p->to_end == NULL; i++) {
        if (!stands_in(at, &p->sought[i])) {
            continue;
        }
        if (state_has_place(replica_state(t->core), key, at) &&
            !repair_cell(t, key, at, p->sought[i].by)) {
            p->to_end = t; /* not from within the walk */
        }
        return;
    }
}

struct match {
    const struct blob_ref *ref;
    bool found;
};

static void match_entry(void *ctx, const struct blob_ref *ref)
{
    struct match *x = ctx;
    x->found = x->found || id128_equal(ref->id, x->ref->id);
}

static bool is_dead(const struct tablet *t, const struct blob_ref *ref)
{
    const struct tablet_blobs *b = &t->blobs;
    for (uint32_t i = 0; i < b->dead_count; i++) {
        uint32_t at = (b->dead_head + i) & (b->dead_cap - 1);
        if (id128_equal(b->dead[at].ref.id, ref->id)) {
            return true;
        }
    }
    return false;
}

/* No cell has it, but an entry that may still be applied, or sent, or an old
 * checkpoint: it is looked for again. A new checkpoint lets go of it. */
static bool is_held(struct repairs *p, const struct blob_ref *ref)
{
    struct match x = {.ref = ref};
    for (uint32_t i = 0; i < p->s->tablet_count && !x.found; i++) {
        struct tablet *t = p->s->tablets[i];
        replica_each_blob(t->core, match_entry, &x);
        x.found = x.found || is_dead(t, ref);
        t->checkpoint_wanted = t->checkpoint_wanted || x.found;
    }
    return x.found;
}

static bool is_repaired(const struct repairs *p, const struct sought *x)
{
    const struct repair *r;
    TAILQ_FOREACH(r, &p->list, link)
    {
        if (stands_in(&r->place, x)) {
            return true;
        }
    }
    return blobs_has(p->s->blobs->blobs, &x->ref);
}

static void end_search(struct repairs *p)
{
    uint32_t left = 0;
    for (uint32_t i = 0; i < p->sought_count; i++) {
        struct sought *x = &p->sought[i];
        bool again = i >= p->searching;
        if (!again && x->to == 0 && ++x->times < SOUGHT_TIMES &&
            !is_repaired(p, x) && is_held(p, &x->ref)) {
            again = true;
            p->search_us = env_now_us(p->s->env) + SOUGHT_AGAIN_US;
        }
        if (again) {
            p->sought[left++] = *x;
        }
    }
    p->sought_count = left;
    p->searching = 0;
    checkpoint_soon(p->s);
}

static struct tablet *tablet_from(const struct shard *s, uint32_t id)
{
    for (uint32_t i = 0; i < s->tablet_count; i++) {
        if (s->tablets[i]->id >= id &&
            !replica_is_damaged(s->tablets[i]->core)) {
            return s->tablets[i];
        }
    }
    return NULL;
}

static void end_walk(struct repairs *p)
{
    state_verify_free(p->walk);
    p->walk = NULL;
    p->tablet++;
}

/* A slice of the search. */
static void search(struct repairs *p)
{
    if (p->searching == 0) {
        p->searching = p->sought_count;
        p->tablet = 0;
    }
    if (p->walk == NULL) {
        struct tablet *t = tablet_from(p->s, p->tablet);
        if (t == NULL) {
            end_search(p);
            return;
        }
        p->tablet = t->id;
        p->walk = state_verify_new_take(state_snapshot(replica_state(t->core)));
    }
    if (!state_verify_on(p->walk, SLICE, look_at, p) || p->to_end != NULL) {
        end_walk(p);
    }
    if (p->to_end != NULL) {
        struct tablet *t = p->to_end;
        p->to_end = NULL;
        shard_condemn(p->s, t, "damaged values that cannot be repaired");
    }
}

/* ---- time and life ---- */

static void on_timer(struct env_timer *timer)
{
    struct repairs *p = timer->data;
    p->armed = false;
    if (p->s->fatal) {
        return;
    }
    bool due = env_now_us(p->s->env) >= p->search_us;
    if (p->sought_count > 0 && due) {
        search(p);
    }
    tend_all(p);
    if (p->sought_count > 0 && due) {
        arm(p, SLICE_US);
    } else if (p->count > 0 || p->sought_count > 0) {
        arm(p, TICK_US);
    }
}

void repair_init(struct shard *s)
{
    struct repairs *p = xcalloc(1, sizeof(*p));
    p->s = s;
    p->timer = (struct env_timer){.fn = on_timer, .data = p};
    TAILQ_INIT(&p->list);
    s->repairs = p;
}

void repair_stop(struct shard *s)
{
    struct repairs *p = s->repairs;
    if (p->stopped) {
        return;
    }
    p->stopped = true;
    env_timer_stop(s->env, &p->timer);
    while (!TAILQ_EMPTY(&p->list)) {
        repair_end(TAILQ_FIRST(&p->list));
    }
    state_verify_free(p->walk);
    p->walk = NULL;
}

void repair_free(struct shard *s)
{
    repair_stop(s);
    free(s->repairs);
    s->repairs = NULL;
}
