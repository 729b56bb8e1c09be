noinst_LIBRARIES += libstorage.a
libstorage_a_SOURCES = \
    storage/beacon.c storage/beacon.h \
    storage/beacon_table.c storage/beacon_table.h \
    storage/blob_command.c storage/blob_command.h \
    storage/blobs.c storage/blobs.h storage/blobs_private.h \
    storage/blobs_collect.c \
    storage/blobs_file.c \
    storage/blobs_index.c \
    storage/blobs_read.c \
    storage/blobs_recover.c \
    storage/blobs_scrub.c storage/blobs_spare.c storage/blobs_scrub.h \
    storage/blobs_write.c \
    storage/bugs.def storage/bugs.h \
    storage/checkpoint.c storage/checkpoint.h \
    storage/checkpoint_load.c storage/checkpoint_private.h \
    storage/checkpoint_parts.c \
    storage/checkpoint_verify.c storage/checkpoint_verify.h \
    storage/inspect.c storage/inspect.h \
    storage/inspect_io.c storage/inspect_io.h \
    storage/key.c storage/key.h \
    storage/client_table.c storage/client_table.h \
    storage/config.c storage/config.h \
    storage/links.c storage/links.h \
    storage/metrics.def storage/tablet_metrics.def \
    storage/node.c storage/node.h \
    storage/place.c storage/place.h \
    storage/readonly_env_io.c storage/readonly_env_io.h \
    storage/replica.c storage/replica.h storage/replica_impl.h \
    storage/replica_compare.c \
    storage/replica_damage.c \
    storage/replica_epoch.c \
    storage/replica_follow.c \
    storage/replica_lead.c \
    storage/replica_log.c \
    storage/replica_peers.c \
    storage/replica_read.c \
    storage/shard.c storage/shard.h storage/shard_impl.h \
    storage/shard_blobs.c storage/shard_blobs.h \
    storage/shard_busy.c \
    storage/shard_incoming.c \
    storage/shard_keep.c \
    storage/shard_upload.c \
    storage/shard_catchup.c \
    storage/shard_checkpoint.c \
    storage/shard_collect.c storage/shard_collect.h \
    storage/shard_cluster.c \
    storage/shard_damage.c storage/shard_damage.h \
    storage/shard_figures.c \
    storage/shard_forward.c \
    storage/shard_net.c \
    storage/shard_reads.c \
    storage/shard_repair.c storage/shard_repair.h \
    storage/shard_requests.c \
    storage/shard_room.c \
    storage/shard_values.c \
    storage/shard_scrub.c storage/shard_scrub.h \
    storage/shard_verify.c \
    storage/state.c storage/state.h storage/state_private.h \
    storage/state_apply.c \
    storage/state_check.c \
    storage/state_clients.c \
    storage/state_part.c \
    storage/state_places.c \
    storage/state_scan.c \
    storage/state_verify.c storage/state_verify.h \
    storage/store.c storage/store.h \
    storage/value_cache.c storage/value_cache.h \
    storage/tree.c storage/tree.h storage/tree_private.h \
    storage/tree_block.c storage/tree_build.c \
    storage/tree_iter.c storage/tree_node.c \
    storage/storaged_io.c storage/storaged_io.h \
    storage/wal.c storage/wal.h storage/wal_private.h storage/wal_witness.h \
    storage/wal_begin.c \
    storage/wal_find.c \
    storage/wal_kept.c \
    storage/wal_need.c \
    storage/wal_read.c \
    storage/wal_record.c \
    storage/wal_recover.c storage/wal_recover.h \
    storage/wal_room.c \
    storage/wal_scrub.c storage/wal_scrub.h \
    storage/wal_segment.c storage/wal_segment.h \
    storage/wal_value.c

sbin_PROGRAMS += penn-storaged
penn_storaged_SOURCES = storage/main.c
penn_storaged_LDADD = libstorage.a libkv.a libcommon.a $(UV_LIBS) \
    $(MHD_LIBS) $(CJSON_LIBS) $(SODIUM_LIBS) $(XXHASH_LIBS) $(SYSTEMD_LIBS)
