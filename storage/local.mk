noinst_LIBRARIES += libstorage.a
libstorage_a_SOURCES = \
    storage/beacon.c storage/beacon.h \
    storage/beacon_table.c storage/beacon_table.h \
    storage/bugs.def storage/bugs.h \
    storage/checkpoint.h \
    storage/links.c storage/links.h \
    storage/node.h \
    storage/replica.c storage/replica.h storage/replica_impl.h \
    storage/replica_epoch.c \
    storage/replica_follow.c \
    storage/replica_lead.c \
    storage/replica_log.c \
    storage/replica_peers.c \
    storage/replica_read.c \
    storage/state.h \
    storage/store.h \
    storage/tree.h \
    storage/wal.h
