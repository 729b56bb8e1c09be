/*
 * A shard on a full disk: who is told, and what is taken all the same
 * (wal_room.c has the borders of the reserve). What frees room leads to
 * checkpoints and collection at once, so that it does come back.
 */
#include "storage/shard_collect.h"
#include "storage/shard_impl.h"

/* The others learn it by our echoes, the coordinator by the next
 * heartbeat. */
void shard_tell_full(struct shard *s)
{
    bool before = s->host.full;
    s->host.full = wal_is_full(s->wal) || shard_blobs_full(s);
    enum disk_room room =
        wal_has_room_to_free(s->wal, 0) ? DISK_FULL : DISK_SPENT;
    beacon_table_set_full(s->host.beacons, s->host.full ? room : DISK_HAS_ROOM);
    if (s->host.full && !before) {
        collect_soon(s); /* that may make room */
        checkpoint_soon(s);
    }
}

/* Replicas to which nothing happens, as when others are full, still keep what
 * they could send. */
void shard_relieve(struct shard *s)
{
    for (uint32_t i = 0; i < s->tablet_count && s->host.full; i++) {
        struct event e = {.kind = EVENT_TICK};
        shard_step(s, s->tablets[i], &e);
    }
    if (s->host.full) {
        checkpoint_release_all(s);
    }
    checkpoint_consider(s);
}

enum status shard_room(void *ctx, size_t bytes, enum need need)
{
    struct shard *s = ctx;
    enum status st = wal_room(s->wal, bytes);
    bool reserve = false;
    st = st == ST_OK && shard_blobs_full(s) ? ST_NO_SPACE : st;
    switch (st == ST_NO_SPACE ? need : NEED_ROOM) {
    case NEED_ROOM:
        break;
    case NEED_FREES:
        reserve = wal_has_room_to_free(s->wal, bytes);
        break;
    case NEED_SETTLES:
        reserve = wal_has_room(s->wal, bytes);
        break;
    }
    return reserve ? ST_OK : st;
}
