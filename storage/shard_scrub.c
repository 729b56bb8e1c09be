/*
 * The background scrub: what is wrong is found while the others still can
 * mend it, not when it is needed.
 *
 * Comparing (R19): each tablet's turn comes once an interval, spread evenly.
 * The primary's replica does the rest (replica_compare.c).
 *
 * A pass goes over everything here, in pieces of a size that holds up nobody,
 * and after each rests for as long as the rate wants; it begins an interval
 * after the last one began, or when that has ended; the first one soon. What it
 * finds:
 *
 *   a state in memory that is not       the replica is condemned; one that is
 *   what its digest says                all there is of its tablet must be
 *                                       read anew: the process stops (R18)
 *   a checkpoint that does not read,    written anew from the living state
 *     the newest
 *     the one before                    removed, and another one written
 *   a record of the log                 whoever needs the log from there or
 *                                       before is checkpointed, and then it is
 *                                       not needed any more; and values that
 *                                       stand there are repaired. Where
 *                                       neither is, it is none's concern
 *   a blob                              is repaired (shard_repair.c)
 *   a blob file, beside its blobs       its blobs are moved out, and it goes
 *
 * Files are read past the page cache, on the pool. Whatever a file was when it
 * was read, it may be gone or another one when that is over: only what is
 * still there counts.
 */
#include "storage/shard_scrub.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "storage/blobs_scrub.h"
#include "storage/checkpoint_verify.h"
#include "storage/shard_blobs.h"
#include "storage/shard_damage.h"
#include "storage/shard_repair.h"
#include "storage/wal_scrub.h"

#define SLICE KIB(64) /* of a state, at once: below a millisecond */
#define HURRY_SLICE KIB(512)
#define LEAST_US 1000 /* between two pieces */
#define CHECKPOINTS 2 /* there are at most so many of a tablet */

enum step { STEP_REST, STEP_WALK, STEP_FILE, STEP_LOG, STEP_BLOBS };

struct scrub {
    struct shard *s;
    struct env_timer compare, pace, hurry;
    uint32_t turn; /* index of the tablet that is compared next */
    int64_t pass_us;
    enum step step;
    uint32_t tablet; /* id of the one that WALK and FILE are at */
    size_t nth;      /* FILE: 0, the newest */
    struct state_verify *walk;
    struct checkpoint_verify *file;
    char name[CHECKPOINT_NAME_MAX];
    struct wal_scrub *log;
    struct blobs_scrub *blobs;
    size_t asked; /* bytes of the piece that is being read */
    struct env_io io, removal;
    bool reading, removing;
    bool stopped; /* freed once nothing is under way */
};

static void rest(struct scrub *u, uint64_t bytes)
{
    uint64_t us = bytes * 1000000 / u->s->o.scrub_rate;
    env_timer_start(u->s->env, &u->pace,
                    us > LEAST_US ? (int64_t)us : LEAST_US);
    u->s->stats.scrubbed_bytes += bytes;
}

static void found(struct scrub *u, const char *kind, uint64_t from, uint64_t to)
{
    struct shard *s = u->s;
    s->stats.scrub_damage++;
    log_error(s->env->log, "scrub", "scrub-damaged",
              "kind=%s from=%" PRIu64 " to=%" PRIu64 " file=%s", kind, from, to,
              u->name);
}

/* ---- comparing (R19) ---- */

static void arm_compare(struct scrub *u)
{
    uint32_t count = u->s->tablet_count;
    env_timer_start(u->s->env, &u->compare,
                    u->s->o.scrub_interval_us / (count == 0 ? 1 : count));
}

static void on_compare(struct env_timer *timer)
{
    struct scrub *u = timer->data;
    struct shard *s = u->s;
    u->turn = u->turn < s->tablet_count ? u->turn : 0;
    if (s->tablet_count > 0 && !s->fatal) {
        struct event e = {.kind = EVENT_COMPARE};
        shard_step(s, s->tablets[u->turn++], &e);
    }
    arm_compare(u);
}

/* ---- memory ---- */

/* T's state was walked. */
static void judge_state(struct shard *s, struct tablet *t, bool sound)
{
    struct event e = {.kind = EVENT_WALKED, .u.sound = sound};
    shard_step(s, t, &e);
    if (sound || s->fatal) {
        return;
    }
    s->stats.scrub_damage++;
    log_error(s->env->log, "scrub", "state-rotten", "tablet=%" PRIu32, t->id);
    shard_condemn(s, t, "the state in memory is not what its digest says");
    if (!replica_is_damaged(t->core)) {
        shard_fatal(s, ST_CORRUPT,
                    "a state in memory is not what its digest "
                    "says, and there is no other replica");
    }
}

static void on_hurry(struct env_timer *timer)
{
    struct scrub *u = timer->data;
    struct shard *s = u->s;
    bool more = false;
    for (uint32_t i = 0; i < s->tablet_count; i++) {
        struct tablet *t = s->tablets[i];
        if (t->disputed == NULL) {
            continue;
        }
        if (state_verify_on(t->disputed, HURRY_SLICE, NULL, NULL)) {
            more = true;
            continue;
        }
        bool sound = state_verify_sound(t->disputed);
        state_verify_free(t->disputed);
        t->disputed = NULL;
        judge_state(s, t, sound);
    }
    if (more && !s->fatal) {
        env_timer_start(s->env, &u->hurry, 0);
    }
}

void scrub_walk_now(struct shard *s, struct tablet *t)
{
    if (t->disputed == NULL && s->scrub != NULL) {
        t->disputed =
            state_verify_new_take(state_snapshot(replica_state(t->core)));
        env_timer_start(s->env, &s->scrub->hurry, 0);
    }
}

/* ---- a pass ---- */

/* The first tablet whose id is at least ID. */
static struct tablet *tablet_from(const struct shard *s, uint32_t id)
{
    for (uint32_t i = 0; i < s->tablet_count; i++) {
        if (s->tablets[i]->id >= id) {
            return s->tablets[i];
        }
    }
    return NULL;
}

static void on_walk(struct scrub *u)
{
    struct shard *s = u->s;
    struct tablet *t = tablet_from(s, u->tablet);
    if (t == NULL) {
        u->step = STEP_LOG;
        rest(u, 0);
        return;
    }
    if (u->walk == NULL) {
        u->tablet = t->id;
        u->walk = state_verify_new_take(state_snapshot(replica_state(t->core)));
    }
    if (!state_verify_on(u->walk, SLICE, NULL, NULL)) {
        bool sound = state_verify_sound(u->walk) || replica_is_damaged(t->core);
        state_verify_free(u->walk);
        u->walk = NULL;
        u->step = STEP_FILE;
        u->nth = 0;
        if (!sound) {
            judge_state(s, t, false);
        }
    }
    rest(u, SLICE);
}

static void next_file(struct scrub *u)
{
    checkpoint_verify_free(u->file);
    u->file = NULL;
    u->nth++;
    if (u->nth == CHECKPOINTS) {
        u->step = STEP_WALK;
        u->tablet++;
    }
}

/* Which of T's newest files is NAME now; CHECKPOINTS: none. */
static size_t find_name(struct scrub *u)
{
    char name[CHECKPOINT_NAME_MAX];
    struct shard *s = u->s;
    for (size_t n = 0; n < CHECKPOINTS; n++) {
        if (checkpoint_verify_name(s->env, s->folder, u->tablet, n, name) &&
            strcmp(name, u->name) == 0) {
            return n;
        }
    }
    return CHECKPOINTS;
}

/* It was stopped: goes once nothing is under way any more. */
static void free_if_idle(struct scrub *u)
{
    struct shard *s = u->s;
    if (!u->stopped || u->reading || u->removing) {
        return;
    }
    checkpoint_verify_free(u->file);
    wal_scrub_free(u->log);
    blobs_scrub_free(u->blobs);
    free(u);
    if (s != NULL) {
        s->scrub = NULL;
        shard_at_rest(s);
    }
}

static void on_removed(struct env_io *io, enum status st)
{
    struct scrub *u = io->data;
    u->removing = false;
    if (!u->stopped && st != ST_OK) {
        log_warn(u->s->env->log, "scrub", "remove-failed", "status=%s",
                 status_name(st));
    }
    free_if_idle(u);
}

static void mend_file(struct scrub *u, uint64_t at)
{
    struct shard *s = u->s;
    struct tablet *t = shard_tablet(s, u->tablet);
    size_t n = find_name(u);
    if (t == NULL || n == CHECKPOINTS) {
        return; /* another one took its place */
    }
    found(u, n == 0 ? "checkpoint" : "checkpoint-before", at, at);
    if (n > 0 && !u->removing) {
        char path[CHECKPOINT_NAME_MAX + STORE_FOLDER_MAX];
        (void)snprintf(path, sizeof(path), "%s/%s", s->folder, u->name);
        u->removing = true;
        s->env->ops->file_remove(s->env, path, &u->removal);
    }
    t->checkpoint_wanted = true;
    checkpoint_consider(s);
}

static void on_file(struct scrub *u)
{
    struct shard *s = u->s;
    enum status st;
    if (u->file == NULL) {
        if (!checkpoint_verify_name(s->env, s->folder, u->tablet, u->nth,
                                    u->name)) {
            u->nth = CHECKPOINTS - 1;
            next_file(u);
            rest(u, 0);
            return;
        }
        u->file = checkpoint_verify_new(s->env, s->folder, u->name, &st);
        if (u->file == NULL) {
            next_file(u);
            rest(u, 0);
            return;
        }
    }
    u->reading = true;
    u->asked = checkpoint_verify_ask(u->file, &u->io);
}

static void end_pass(struct scrub *u)
{
    struct shard *s = u->s;
    int64_t left = u->pass_us + s->o.scrub_interval_us - env_now_us(s->env);
    wal_scrub_free(u->log);
    u->log = NULL;
    blobs_scrub_free(u->blobs);
    u->blobs = NULL;
    u->step = STEP_REST;
    s->stats.scrub_passes++;
    env_timer_start(s->env, &u->pace, left > LEAST_US ? left : LEAST_US);
}

static void on_log(struct scrub *u)
{
    u->name[0] = '\0';
    if (u->log == NULL) {
        u->log = wal_scrub_new(u->s->wal);
    }
    u->asked = wal_scrub_ask(u->log, &u->io);
    u->reading = u->asked > 0;
    if (!u->reading) {
        u->step = STEP_BLOBS;
        rest(u, 0);
    }
}

static void on_blobs(struct scrub *u)
{
    if (u->blobs == NULL) {
        u->blobs = blobs_scrub_new(u->s->blobs->blobs);
    }
    u->asked = blobs_scrub_ask(u->blobs, &u->io);
    u->reading = u->asked > 0;
    if (!u->reading) {
        end_pass(u);
    }
}

static void mend_log(struct scrub *u, uint64_t from, uint64_t to)
{
    struct shard *s = u->s;
    bool needed = to > wal_needed(s->wal);
    repair_range(s, from, to, "scrub");
    for (uint32_t i = 0; i < s->tablet_count; i++) {
        struct tablet *t = s->tablets[i];
        uint64_t position;
        if (wal_needs(s->wal, t->id, &position) && position < to) {
            t->checkpoint_wanted = true;
        }
    }
    if (needed) {
        found(u, "log", from, to);
        wal_bury(s->wal, to);
        checkpoint_consider(s);
    }
}

/* Mending it has begun. */
static void tell_blobs(struct scrub *u, const struct blobs_damage *d)
{
    (void)snprintf(u->name, sizeof(u->name), "blobs-%06" PRIu64 ".log",
                   d->file);
    found(u, d->part, d->from, d->to);
}

static void take_piece(struct scrub *u, enum status read)
{
    uint64_t at = 0, to = 0;
    struct blobs_damage damage;
    if (u->step == STEP_BLOBS) {
        if (blobs_scrub_take(u->blobs, read, &damage) == ST_CORRUPT) {
            tell_blobs(u, &damage);
        }
        return;
    }
    if (u->step == STEP_LOG) {
        if (wal_scrub_take(u->log, read, &at, &to) == ST_CORRUPT) {
            mend_log(u, at, to);
        }
        return;
    }
    enum status st = checkpoint_verify_take(u->file, read, &at);
    if (st == ST_MORE) {
        return;
    }
    if (st == ST_CORRUPT) {
        mend_file(u, at);
    }
    next_file(u);
}

static void on_read(struct env_io *io, enum status read)
{
    struct scrub *u = io->data;
    u->reading = false;
    if (u->stopped) {
        free_if_idle(u);
        return;
    }
    if (u->s->fatal) {
        return;
    }
    take_piece(u, read);
    rest(u, u->asked);
}

static void on_pace(struct env_timer *timer)
{
    struct scrub *u = timer->data;
    if (u->s->fatal) {
        return;
    }
    switch (u->step) {
    case STEP_REST:
        u->pass_us = env_now_us(u->s->env);
        u->tablet = 0;
        u->step = STEP_WALK;
        rest(u, 0);
        return;
    case STEP_WALK:
        on_walk(u);
        return;
    case STEP_FILE:
        on_file(u);
        return;
    case STEP_LOG:
        on_log(u);
        return;
    case STEP_BLOBS:
        on_blobs(u);
        return;
    }
}

/* ---- life ---- */

void scrub_start(struct shard *s)
{
    struct scrub *u = xcalloc(1, sizeof(*u));
    u->s = s;
    u->compare.fn = on_compare;
    u->pace.fn = on_pace;
    u->hurry.fn = on_hurry;
    u->compare.data = u->pace.data = u->hurry.data = u;
    u->io.done = on_read;
    u->removal.done = on_removed;
    u->io.data = u->removal.data = u;
    s->scrub = u;
    if (s->o.scrub_interval_us > 0) {
        arm_compare(u);
    }
    if (s->o.scrub_interval_us > 0 && s->o.scrub_rate > 0) {
        /* Recovery read what it needed; much stands beside that. */
        env_timer_start(s->env, &u->pace, s->o.scrub_interval_us / 10);
    }
}

void scrub_stop(struct shard *s)
{
    struct scrub *u = s->scrub;
    if (u == NULL || u->stopped) {
        return;
    }
    env_timer_stop(s->env, &u->compare);
    env_timer_stop(s->env, &u->pace);
    env_timer_stop(s->env, &u->hurry);
    state_verify_free(u->walk);
    u->walk = NULL;
    for (uint32_t i = 0; i < s->tablet_count; i++) {
        state_verify_free(s->tablets[i]->disputed);
        s->tablets[i]->disputed = NULL;
    }
    u->stopped = true;
    free_if_idle(u);
}

void scrub_free(struct shard *s)
{
    struct scrub *u = s->scrub;
    scrub_stop(s);
    if (s->scrub != NULL) { /* the rest goes when its operation ends */
        s->scrub = NULL;
        u->s = NULL;
        if (!env_disk_alive(s->env)) {
            u->reading = u->removing = false;
            free_if_idle(u);
        }
    }
}
