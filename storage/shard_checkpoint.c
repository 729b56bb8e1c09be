/*
 * When a tablet is checkpointed and what the log may forget then. While the
 * log is longer than its limit, the tablet that needs its oldest position is
 * checkpointed, one at a time; once the file is published the tablet needs
 * only what came after it.
 *
 * By the time the log has grown by its limit, each tablet that was written has
 * been checkpointed once, so all of the data may have been. The limit is
 * therefore never below a quarter of the data that checkpoints hold (values on
 * disk they only name): for each byte in the log at
 * most about four go into checkpoints, however much there is.
 *
 * What is in the log a restart must replay, which takes longer than reading the
 * same from a checkpoint. So when clients have written nothing for a while and
 * the log is more than half of what it may be, it is brought down to a quarter:
 * each tablet is checkpointed at most once for a quarter of the limit that was
 * written, which doubles what goes into checkpoints, where there are pauses.
 *
 * On a full disk the log is too long however short it is, as long as it has a
 * segment that could be used again: what is let go of is the only room there
 * may be for a long time.
 *
 * One that fails, as on a full disk, is tried again after a second: the log
 * grows meanwhile as long as it can, and reads and other tablets go on.
 */
#include "storage/shard_collect.h"
#include "storage/shard_impl.h"

#include <stdio.h>

#define RETRY_US 1000000
#define LOG_SHARE 4 /* of the data, the log may always be this part */
#define REST_US 300000

static void release(struct shard *s, struct tablet *t)
{
    uint64_t position =
        replica_checkpointed(t->core, t->checkpoint, t->checkpoint_epoch);
    if (t->void_seq != 0 && t->void_position < position) {
        position = t->void_position; /* what it has begun anew without */
    }
    wal_release(s->wal, t->id, position);
    shard_blobs_release(t);
}

/* Said once, until one succeeds or fails for another reason. */
static void on_failed(struct shard *s, const struct tablet *t, enum status st)
{
    if (st != s->checkpoint_told) {
        log_error(s->env->log, "checkpoint", "failed",
                  "tablet=%" PRIu32 " status=%s", t->id, status_name(st));
    }
    s->checkpoint_told = st;
    if (s->stopping) {
        return;
    }
    s->checkpoint_waits = true;
    env_timer_start(s->env, &s->checkpoint_timer, RETRY_US);
}

static void on_retry(struct env_timer *timer)
{
    struct shard *s = timer->data;
    s->checkpoint_waits = false;
    checkpoint_consider(s);
}

void shard_release(struct shard *s)
{
    for (uint32_t i = 0; i < s->tablet_count; i++) {
        release(s, s->tablets[i]);
    }
}

void checkpoint_soon(struct shard *s)
{
    if (!s->checkpoint_waits && !s->stopping) {
        s->checkpoint_waits = true;
        env_timer_start(s->env, &s->checkpoint_timer, 0);
    }
}

/* ---- when nothing is written ---- */

static uint64_t log_most(const struct shard *s)
{
    return s->log_limit > s->log_allowed ? s->log_limit : s->log_allowed;
}

static uint64_t payload(const struct shard *s)
{
    struct wal_stats w;
    wal_get_stats(s->wal, &w);
    return w.payload;
}

static void on_rest(struct env_timer *timer)
{
    struct shard *s = timer->data;
    uint64_t now = payload(s);
    if (now != s->rest_payload) {
        s->rest_payload = now;
        env_timer_start(s->env, timer, REST_US);
        return;
    }
    s->rest_watched = false;
    s->rests = wal_size(s->wal) > log_most(s) / 2;
    checkpoint_consider(s);
}

void checkpoint_watch_rest(struct shard *s)
{
    s->rest_watched = true;
    s->rests = false;
    s->rest_payload = payload(s);
    env_timer_start(s->env, &s->rest_timer, REST_US);
}

void checkpoint_on_synced(struct shard *s)
{
    if (!s->rest_watched && !s->stopping && payload(s) != s->rest_payload) {
        checkpoint_watch_rest(s);
    }
    checkpoint_consider(s);
}

void checkpoint_init(struct shard *s)
{
    s->rest_timer.fn = on_rest;
    s->rest_timer.data = s;
    s->checkpoint_timer.fn = on_retry;
    s->checkpoint_timer.data = s;
}

void checkpoint_stop(struct shard *s)
{
    env_timer_stop(s->env, &s->checkpoint_timer);
    env_timer_stop(s->env, &s->rest_timer);
}

uint64_t checkpoint_file_bytes(struct shard *s, const char *file)
{
    char path[CHECKPOINT_NAME_MAX + STORE_FOLDER_MAX];
    struct env_file *f;
    uint64_t size = 0;
    (void)snprintf(path, sizeof(path), "%s/%s", s->folder, file);
    if (s->env->ops->file_open(s->env, path, ENV_READONLY, &f) == ST_OK) {
        if (s->env->ops->file_size(f, &size) != ST_OK) {
            size = 0;
        }
        s->env->ops->file_close(f);
    }
    return size;
}

static void note_written(struct shard *s, struct tablet *t, const char *file)
{
    t->checkpoint_us = env_now_us(s->env);
    t->checkpoint_bytes = checkpoint_file_bytes(s, file);
    s->stats.checkpoints++;
    s->figures.checkpoint_bytes += t->checkpoint_bytes;
    metric_add_us(&s->figures.checkpoint_us,
                  t->checkpoint_us - t->writing_since_us);
}

static void on_written(void *ctx, enum status st, const char *file)
{
    struct tablet *t = ctx;
    struct shard *s = t->shard;
    t->writer = NULL;
    if (st != ST_OK) {
        t->checkpoint_wanted = t->checkpoint_wanted || t->writing_wanted;
        /* A write that did not fit made no file (checkpoint.h): nothing of
         * that snapshot is named. */
        t->named_clock = st == ST_NO_SPACE ? t->named_before : t->named_clock;
        on_failed(s, t, st);
    } else {
        s->checkpoint_told = ST_OK;
        log_debug(s->env->log, "checkpoint", "written",
                  "tablet=%" PRIu32 " seq=%" PRIu64 " file=%s", t->id,
                  t->writing.seq, file);
        note_written(s, t, file);
    }
    if (st == ST_OK) {
        wal_value_checkpointed(s->wal, t->id, t->writing_clock);
        catchup_unpin_idle(s);
        wal_kept_release(s->wal, values_oldest(s));
        t->checkpoint = t->writing;
        t->void_seq = t->writing.seq >= t->void_seq ? 0 : t->void_seq;
        t->checkpoint_epoch = t->writing_epoch;
    }
    if (s->stopping) {
        shard_at_rest(s);
        return;
    }
    if (t->installing) {
        catchup_on_written(t, st);
        shard_blobs_release(t);
    } else if (st == ST_OK && !replica_is_damaged(t->core)) {
        release(s, t);
    }
    catchup_begin_writing(t);
    collect_consider(s);
    checkpoint_consider(s);
}

void checkpoint_begin_take(struct shard *s, struct tablet *t,
                           struct state_snapshot *snapshot)
{
    assert(t->writer == NULL);
    struct buf config = {0};
    wire_encode_tablet_config(&config, replica_config(t->core));
    struct checkpoint_job job = {
        .env = s->env,
        .folder = s->folder,
        .ids = {s->store->cluster, s->store->id, s->store->node, t->id},
        .config = buf_slice(&config),
        .done = on_written,
        .ctx = t,
    };
    t->writing_wanted = t->checkpoint_wanted;
    t->checkpoint_wanted = false;
    t->writing = state_snapshot_name(snapshot);
    t->writing_since_us = env_now_us(s->env);
    t->writing_clock = wal_value_clock(s->wal);
    t->named_before = t->named_clock;
    if (state_snapshot_cells(snapshot) > 0) {
        t->named_clock = t->writing_clock;
    }
    t->writing_epoch = replica_config(t->core)->epoch;
    t->writer = checkpoint_write_take(&job, snapshot);
    buf_free(&config);
}

/* A damaged replica makes none: its log is what says that it is damaged, and
 * a checkpoint would let go of it (R16). One that waits for its snapshot does:
 * that may be long, and all others need the log meanwhile. */
static bool may_checkpoint(const struct tablet *t)
{
    return t->writer == NULL && !catchup_is_complete(t) &&
           !replica_is_damaged(t->core);
}

/* It would be what a restart takes. */
static bool is_newest(const struct tablet *t)
{
    uint64_t applied = state_applied(replica_state(t->core)).seq;
    return applied >= t->checkpoint.seq && applied >= t->void_seq;
}

/* Never below the newest there is, which a rebuilt replica or an abandoned
 * snapshot may have left: a restart takes the highest one, and would not find
 * the epoch that only the lower one knows (R3). */
static bool worth_it(const struct tablet *t)
{
    struct name applied = state_applied(replica_state(t->core));
    return may_checkpoint(t) && is_newest(t) &&
           (applied.seq > t->checkpoint.seq ||
            replica_config(t->core)->epoch > t->checkpoint_epoch);
}

bool checkpoint_running(const struct shard *s)
{
    for (uint32_t i = 0; i < s->tablet_count; i++) {
        if (s->tablets[i]->writer != NULL) {
            return true;
        }
    }
    return false;
}

/* True if that gave something back. */
static bool release_idle(struct shard *s, struct tablet *t, uint64_t before)
{
    uint32_t id;
    uint64_t position;
    release(s, t);
    return !wal_oldest_tablet(s->wal, &id, &position) || position > before;
}

void checkpoint_release_all(struct shard *s)
{
    for (uint32_t i = 0; i < s->tablet_count && !s->fatal; i++) {
        if (may_checkpoint(s->tablets[i])) {
            release(s, s->tablets[i]);
        }
    }
}

static uint64_t data_bytes(const struct shard *s)
{
    uint64_t data = 0;
    for (uint32_t i = 0; i < s->tablet_count; i++) {
        struct state_counts n;
        state_count(replica_state(s->tablets[i]->core), &n);
        data += n.bytes - n.placed; /* these it does not write */
    }
    return data;
}

/* The data is counted again only when the log has grown by what was allowed
 * when it was last counted. */
static bool log_too_long(struct shard *s)
{
    uint64_t size = wal_size(s->wal);
    if (wal_wants_relief(s->wal)) {
        return true;
    }
    if (size > s->log_limit && size > s->log_allowed) {
        s->log_allowed = data_bytes(s) / LOG_SHARE;
    }
    return size > (s->rests ? log_most(s) / 4 : log_most(s));
}

/* The last one is damaged on disk, say (shard_scrub.c), or values have moved
 * (shard_collect.c); also the same again. */
bool checkpoint_is_due(const struct tablet *t)
{
    return t->checkpoint_wanted && !catchup_is_complete(t) &&
           !replica_is_damaged(t->core) && is_newest(t) &&
           state_applied(replica_state(t->core)).seq > 0;
}

static void begin_wanted(struct shard *s)
{
    for (uint32_t i = 0; i < s->tablet_count; i++) {
        struct tablet *t = s->tablets[i];
        if (checkpoint_is_due(t) && t->writer == NULL) {
            checkpoint_begin_take(s, t, state_snapshot(replica_state(t->core)));
            return;
        }
    }
}

/* Dead blobs wait for a checkpoint that does not name them (R6). */
static bool consider_blobs(struct shard *s)
{
    struct tablet *t = shard_blobs_wants_checkpoint(s);
    if (t == NULL || checkpoint_running(s) || !worth_it(t)) {
        return false;
    }
    checkpoint_begin_take(s, t, state_snapshot(replica_state(t->core)));
    return true;
}

/* T has less than the newest file: it was begun anew, or the snapshot in that
 * file was not installed. It waits for the next, perhaps for long; what it
 * needs of the log until then, its RESET and its configuration, is put at the
 * log's end again. */
static void renew(struct shard *s, struct tablet *t, uint64_t position)
{
    struct event e = {.kind = EVENT_RENEW, .u.voids = t->void_seq != 0};
    if (!is_newest(t) && !wal_is_newest(s->wal, position)) {
        shard_step(s, t, &e);
    }
}

/* The tablet that needs the oldest position may have nothing for a new
 * checkpoint: what it needs is a note of a commit that its checkpoint has, or
 * stood in the log when the process started. Then it needs it no more; else
 * one idle tablet would keep the log of all others. */
void checkpoint_consider(struct shard *s)
{
    uint32_t id;
    uint64_t position;
    if (s->fatal || s->checkpoint_waits || consider_blobs(s)) {
        return;
    }
    if (!checkpoint_running(s)) {
        begin_wanted(s);
    }
    while (!s->fatal && !s->checkpoint_waits && log_too_long(s) &&
           wal_oldest_tablet(s->wal, &id, &position)) {
        struct tablet *t = shard_tablet(s, id);
        if (t == NULL) {
            wal_release(s->wal, id, UINT64_MAX);
        } else if (worth_it(t)) {
            if (!checkpoint_running(s)) {
                checkpoint_begin_take(s, t,
                                      state_snapshot(replica_state(t->core)));
            }
            return;
        } else if (!may_checkpoint(t)) {
            return;
        } else if (!release_idle(s, t, position)) {
            renew(s, t, position);
            return;
        }
    }
}
