# The store's engine: tree, state, log, checkpoints, data directory.
ENGINE_UNIT = libstorage.a libsim.a libcommon.a $(UNIT_LIBS) $(XXHASH_LIBS)
check_PROGRAMS += unit_tree unit_state unit_wal unit_checkpoint unit_store
unit_tree_SOURCES = tests/unit/test_tree.c
unit_tree_LDADD = $(ENGINE_UNIT)
unit_state_SOURCES = tests/unit/test_state.c
unit_state_LDADD = $(ENGINE_UNIT)
unit_wal_SOURCES = tests/unit/test_wal.c
unit_wal_LDADD = $(ENGINE_UNIT)
unit_checkpoint_SOURCES = tests/unit/test_checkpoint.c
unit_checkpoint_LDADD = $(ENGINE_UNIT)
check_PROGRAMS += unit_load
unit_load_SOURCES = tests/unit/test_load.c
unit_load_LDADD = libstorage.a libcommon.a $(UNIT_LIBS) $(UV_LIBS) \
    $(SODIUM_LIBS) $(XXHASH_LIBS)
TESTS += unit_load
check_PROGRAMS += unit_descriptors
unit_descriptors_SOURCES = tests/unit/test_descriptors.c
unit_descriptors_LDADD = libstorage.a libcommon.a $(UNIT_LIBS) $(UV_LIBS) \
    $(SODIUM_LIBS) $(XXHASH_LIBS)
TESTS += unit_descriptors
unit_store_SOURCES = tests/unit/test_store.c
unit_store_LDADD = $(ENGINE_UNIT)
check_PROGRAMS += unit_place
unit_place_SOURCES = tests/unit/test_place.c
unit_place_LDADD = $(ENGINE_UNIT)
check_PROGRAMS += unit_state_places
unit_state_places_SOURCES = tests/unit/test_state_places.c
unit_state_places_LDADD = $(ENGINE_UNIT)
check_PROGRAMS += unit_value_cache
unit_value_cache_SOURCES = tests/unit/test_value_cache.c
unit_value_cache_LDADD = $(ENGINE_UNIT)
VALUE_RIG = tests/unit/value_rig.c tests/unit/value_rig.h \
    tests/unit/node_rig.c tests/unit/node_rig.h
check_PROGRAMS += unit_shard_values
unit_shard_values_SOURCES = tests/unit/test_shard_values.c $(VALUE_RIG)
unit_shard_values_LDADD = $(ENGINE_UNIT)
TESTS += unit_place unit_state_places unit_value_cache unit_shard_values
TESTS += unit_tree unit_state unit_wal unit_checkpoint unit_store
check_PROGRAMS += unit_wal_room
unit_wal_room_SOURCES = tests/unit/test_wal_room.c
unit_wal_room_LDADD = $(ENGINE_UNIT)
TESTS += unit_wal_room
check_PROGRAMS += unit_wal_value
unit_wal_value_SOURCES = tests/unit/test_wal_value.c
unit_wal_value_LDADD = $(ENGINE_UNIT)
TESTS += unit_wal_value
check_PROGRAMS += unit_wal_kept
unit_wal_kept_SOURCES = tests/unit/test_wal_kept.c
unit_wal_kept_LDADD = $(ENGINE_UNIT)
TESTS += unit_wal_kept
check_PROGRAMS += unit_collect
unit_collect_SOURCES = tests/unit/test_collect.c
unit_collect_LDADD = $(ENGINE_UNIT)
TESTS += unit_collect
check_PROGRAMS += unit_replica
unit_replica_SOURCES = tests/unit/test_replica.c tests/unit/replica_rig.c \
    tests/unit/replica_rig.h
unit_replica_LDADD = $(ENGINE_UNIT)
TESTS += unit_replica
check_PROGRAMS += unit_replica_room
unit_replica_room_SOURCES = tests/unit/test_replica_room.c \
    tests/unit/replica_rig.c tests/unit/replica_rig.h
unit_replica_room_LDADD = $(ENGINE_UNIT)
TESTS += unit_replica_room
check_PROGRAMS += unit_shard
unit_shard_SOURCES = tests/unit/test_shard.c
unit_shard_LDADD = $(ENGINE_UNIT)
TESTS += unit_shard
check_PROGRAMS += unit_forward
unit_forward_SOURCES = tests/unit/test_forward.c tests/unit/node_rig.c \
    tests/unit/node_rig.h
check_PROGRAMS += unit_hostile
unit_hostile_SOURCES = tests/unit/test_hostile.c tests/unit/node_rig.c \
    tests/unit/node_rig.h
unit_hostile_LDADD = $(ENGINE_UNIT)
TESTS += unit_hostile
unit_forward_LDADD = $(ENGINE_UNIT)
TESTS += unit_forward
check_PROGRAMS += unit_heartbeat
unit_heartbeat_SOURCES = tests/unit/test_heartbeat.c tests/unit/node_rig.c \
    tests/unit/node_rig.h
unit_heartbeat_LDADD = $(ENGINE_UNIT)
TESTS += unit_heartbeat
check_PROGRAMS += unit_replica_lease
unit_replica_lease_SOURCES = tests/unit/test_replica_lease.c \
    tests/unit/replica_rig.c tests/unit/replica_rig.h
unit_replica_lease_LDADD = $(ENGINE_UNIT)
TESTS += unit_replica_lease
check_PROGRAMS += unit_replica_dialogue
unit_replica_dialogue_SOURCES = tests/unit/test_replica_dialogue.c \
    tests/unit/replica_rig.c tests/unit/replica_rig.h
unit_replica_dialogue_LDADD = $(ENGINE_UNIT)
TESTS += unit_replica_dialogue
check_PROGRAMS += unit_inspect
unit_inspect_SOURCES = tests/unit/test_inspect.c
unit_inspect_LDADD = $(ENGINE_UNIT)
TESTS += unit_inspect
check_PROGRAMS += unit_replica_damage
unit_replica_damage_SOURCES = tests/unit/test_replica_damage.c \
    tests/unit/replica_rig.c tests/unit/replica_rig.h
unit_replica_damage_LDADD = $(ENGINE_UNIT)
TESTS += unit_replica_damage
check_PROGRAMS += unit_blobs
unit_blobs_SOURCES = tests/unit/test_blobs.c
unit_blobs_LDADD = $(ENGINE_UNIT)
TESTS += unit_blobs
check_PROGRAMS += unit_replica_compare
unit_replica_compare_SOURCES = tests/unit/test_replica_compare.c \
    tests/unit/replica_rig.c tests/unit/replica_rig.h
unit_replica_compare_LDADD = $(ENGINE_UNIT)
TESTS += unit_replica_compare
check_PROGRAMS += unit_scrub
unit_scrub_SOURCES = tests/unit/test_scrub.c
unit_scrub_LDADD = $(ENGINE_UNIT)
TESTS += unit_scrub
check_PROGRAMS += unit_blobs_scrub
unit_blobs_scrub_SOURCES = tests/unit/test_blobs_scrub.c
unit_blobs_scrub_LDADD = $(ENGINE_UNIT)
TESTS += unit_blobs_scrub
check_PROGRAMS += unit_blobs_spare
unit_blobs_spare_SOURCES = tests/unit/test_blobs_spare.c
unit_blobs_spare_LDADD = $(ENGINE_UNIT)
TESTS += unit_blobs_spare

check_PROGRAMS += unit_shard_repair
unit_shard_repair_SOURCES = tests/unit/test_shard_repair.c $(VALUE_RIG)
unit_shard_repair_LDADD = $(ENGINE_UNIT)
TESTS += unit_shard_repair

check_PROGRAMS += unit_shard_blobs
unit_shard_blobs_SOURCES = tests/unit/test_shard_blobs.c \
    tests/unit/node_rig.c tests/unit/node_rig.h
unit_shard_blobs_LDADD = $(ENGINE_UNIT)
TESTS += unit_shard_blobs
