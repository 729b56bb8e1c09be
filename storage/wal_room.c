/*
 * Whether there is room for a record before it is appended: so that nothing
 * waits in memory for a segment that a full disk does not give.
 *
 * Room is what the tail still takes and the spare segments, all of which are
 * on the disk already. A new spare one is made long before it is needed:
 * always one, and a second when the tail is half full. While the disk gives
 * none, what is left is given out by need:
 *
 *   first half    commands that this process takes as primary (wal_room())
 *   to 1/4        of these only what deletes, or introduces clients who may
 *                 (wal_has_room_to_free()): its like makes room again
 *   to 1/8        what other primaries send, which they took before they knew,
 *                 and what settles outcomes (wal_has_room())
 *   the rest      the log's own: epochs, commits, cuts
 *
 * of a segment's room, counted from what would be left afterwards. When less
 * than the half is left, or a command was refused, the log is full and says so
 * (on_full), so that nothing more is sent to it. While the disk gives segments,
 * but not fast enough, commands are put off (ST_BUSY), and what others send
 * waits in memory.
 *
 * While there are kept segments (wal_kept.c) one more spare segment is made
 * ready, and all this is counted from a whole segment's room on, which is for
 * what moves live values out of one of them (wal_has_room_to_move()): so a disk
 * that is full of dead values can be relieved of one segment after the other.
 */
#include "storage/wal_private.h"

#define NO_ROOM (-1)

uint64_t wal_segment_room(const struct wal *w)
{
    return w->o.segment_size - 2 * WAL_BLOCK - WAL_RECORD_HEAD;
}

static uint64_t usable_spares(const struct wal *w)
{
    uint64_t count = 0;
    for (size_t i = 0; i < w->spare.count; i++) {
        count += w->spare.at[i].size == w->o.segment_size &&
                 w->spare.at[i].file != NULL &&
                 wal_segment_usable(w, &w->spare.at[i]);
    }
    return count;
}

/* What is left for records once BYTES more are appended. */
static int64_t left_after(struct wal *w, uint64_t bytes)
{
    uint64_t room = wal_segment_room(w);
    uint64_t tail = wal_waits(w) ? 0 : wal_tail_room(w);
    uint64_t spares = usable_spares(w);
    if (bytes <= tail) {
        return (int64_t)(tail - bytes + spares * room);
    }
    /* Records go one after another, and none spans two segments: what fits
     * one fits behind the tail's end, and of more, two segments in a row are
     * filled more than half. */
    uint64_t taken = bytes <= room ? 1 : 2 * ((bytes + room - 1) / room);
    if (wal_waits(w) || spares < taken) {
        return NO_ROOM;
    }
    uint64_t rest = taken == 1 ? room - bytes : 0;
    return (int64_t)(rest + (spares - taken) * room);
}

/* For moving values; nobody else's. */
static int64_t for_moving(const struct wal *w)
{
    return w->kept.count > 0 && w->maker.no_space ? (int64_t)wal_segment_room(w)
                                                  : 0;
}

static int64_t reserve(const struct wal *w)
{
    return (int64_t)(wal_segment_room(w) / 2) + for_moving(w);
}

static void set_full(struct wal *w, bool full)
{
    if (full == w->full || w->failed) {
        return;
    }
    w->full = full;
    if (full) {
        log_error(w->env->log, "wal", "disk-full",
                  "segment_size=%llu action=refuse_writes",
                  (unsigned long long)w->o.segment_size);
    } else {
        log_info(w->env->log, "wal", "disk-has-room", "action=take_writes");
    }
    if (w->o.on_full != NULL) {
        w->o.on_full(w->o.ctx, full);
    }
}

/* Once full it is so for all, until there is a whole segment's room again: a
 * command that is refused for its size must not wait for smaller ones to fill
 * the rest, for there may be none. */
void wal_check_full(struct wal *w)
{
    int64_t least = reserve(w);
    if (w->full) {
        least = (int64_t)wal_segment_room(w) + for_moving(w);
    }
    set_full(w, w->maker.no_space && left_after(w, 0) < least);
}

enum status wal_room(struct wal *w, size_t bytes)
{
    if (w->failed || w->stopping) {
        return ST_STOPPING;
    }
    if (w->queued + bytes > WAL_QUEUE_MAX) {
        return ST_BUSY;
    }
    if (!w->full && left_after(w, bytes) >= reserve(w)) {
        return ST_OK;
    }
    w->more_wanted = true;
    wal_segments_tend(w);
    if (!w->maker.no_space) {
        return ST_BUSY;
    }
    set_full(w, true);
    return ST_NO_SPACE;
}

static bool leaves(struct wal *w, size_t bytes, int64_t least)
{
    if (w->failed || w->stopping || w->queued + bytes > WAL_QUEUE_MAX) {
        return false;
    }
    return !w->maker.no_space || left_after(w, bytes) >= least;
}

static int64_t for_own(const struct wal *w)
{
    return (int64_t)(wal_segment_room(w) / 8);
}

bool wal_has_room(struct wal *w, size_t bytes)
{
    return leaves(w, bytes, for_own(w) + for_moving(w));
}

bool wal_has_room_to_free(struct wal *w, size_t bytes)
{
    return leaves(w, bytes, 2 * for_own(w) + for_moving(w));
}

bool wal_has_room_to_move(struct wal *w, size_t bytes)
{
    return leaves(w, bytes, for_own(w));
}

bool wal_is_full(const struct wal *w)
{
    return w->full;
}

bool wal_wants_relief(const struct wal *w)
{
    return w->full && w->live.count > 1;
}

bool wal_wants_segment(struct wal *w)
{
    uint64_t spares = w->spare.count;
    uint64_t least = WAL_SPARE_MIN + (w->kept.count > 0 ? 1 : 0);
    if (spares > least) {
        w->more_wanted = false;
    }
    bool more = w->more_wanted || wal_waits(w) ||
                wal_tail_room(w) < wal_segment_room(w) / 2;
    return wal_waits(w) || spares < least + (more ? 1 : 0);
}
