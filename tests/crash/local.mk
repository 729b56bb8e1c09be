# Crash tests: daemons that write a trace of what they do to their disk, and
# the program that looks at what a power loss anywhere in it would leave.
CRASH_CALLS = -Wl,--wrap=pwrite,--wrap=fdatasync,--wrap=fsync \
    -Wl,--wrap=open,--wrap=openat,--wrap=renameat,--wrap=unlinkat \
    -Wl,--wrap=mkdirat,--wrap=ftruncate,--wrap=fallocate \
    -Wl,--wrap=exit,--wrap=_exit,--wrap=pread,--wrap=preadv2 \
    -Wl,--wrap=env_uv_open
CRASH_LIBS = libcommon.a $(UV_LIBS) $(MHD_LIBS) $(CJSON_LIBS) $(SODIUM_LIBS) \
    $(XXHASH_LIBS) $(SYSTEMD_LIBS) -lpthread

check_PROGRAMS += crash_storaged crash_coordinatord crash
crash_storaged_SOURCES = tests/crash/record_storaged.c \
    tests/crash/fault_io.c tests/crash/fault_io.h \
    tests/crash/record_io.c tests/crash/record_io.h tests/crash/trace.h
crash_storaged_LDFLAGS = $(CRASH_CALLS) \
    -Wl,--wrap=shard_open,--wrap=storage_node_start,--wrap=wal_append \
    -Wl,--wrap=replica_step,--wrap=replica_replay,--wrap=state_apply \
    -Wl,--wrap=requests_reply,--wrap=replica_recovered
crash_storaged_LDADD = libstorage_bugs.a libkv.a $(CRASH_LIBS)
crash_coordinatord_SOURCES = tests/crash/record_coordinatord.c \
    tests/crash/fault_io.c tests/crash/fault_io.h \
    tests/crash/record_io.c tests/crash/record_io.h tests/crash/trace.h
crash_coordinatord_LDFLAGS = $(CRASH_CALLS) -Wl,--wrap=coordinator_new \
    -Wl,--wrap=register_create,--wrap=register_write \
    -Wl,--wrap=register_write_now
crash_coordinatord_LDADD = libcoordinator_bugs.a $(CRASH_LIBS)

crash_SOURCES = tests/crash/crash.c \
    tests/crash/disk.c tests/crash/disk.h \
    tests/crash/ledger.c tests/crash/ledger.h \
    tests/crash/recover.c tests/crash/recover.h \
    tests/crash/trace.c tests/crash/trace.h
crash_CPPFLAGS = $(AM_CPPFLAGS) -DPENN_BUGS
crash_LDADD = libsim.a libstorage_bugs.a libcoordinator_bugs.a libkv.a \
    libcommon.a $(XXHASH_LIBS)

EXTRA_DIST += tests/crash/test_crash.py tests/crash/test_disk_faults.py \
    tests/crash/test_read_faults.py \
    tests/crash/test_kills.py tests/crash/test_power.py \
    tests/crash/traced.py
