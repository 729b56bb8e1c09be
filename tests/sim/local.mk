# The simulated cluster: the world (libsim.a), and the program that runs the
# cluster in it. Storage is built once more with the deliberate bugs.
noinst_LIBRARIES += libsim.a
libsim_a_SOURCES = \
    tests/sim/history.c tests/sim/history.h \
    tests/sim/sim_bugs.def \
    tests/sim/sim_disk.c tests/sim/sim_disk.h \
    tests/sim/sim_disk_ops.c \
    tests/sim/sim_env.c tests/sim/sim_env.h \
    tests/sim/sim_files.h \
    tests/sim/sim_internal.h \
    tests/sim/sim_net.c tests/sim/sim_net.h \
    tests/sim/sim_net_faults.c \
    tests/sim/sim_pipe.h \
    tests/sim/sim_world.c tests/sim/sim_world.h

if HAVE_CHECK
check_PROGRAMS += unit_sim_env unit_history
unit_sim_env_SOURCES = tests/unit/test_sim_env.c
unit_sim_env_LDADD = libsim.a libcommon.a $(UNIT_LIBS) $(XXHASH_LIBS)
unit_history_SOURCES = tests/unit/test_history.c
unit_history_LDADD = libsim.a libcommon.a $(UNIT_LIBS) $(XXHASH_LIBS)
TESTS += unit_sim_env unit_history
endif

check_LIBRARIES += libstorage_bugs.a
libstorage_bugs_a_SOURCES = $(libstorage_a_SOURCES)
libstorage_bugs_a_CPPFLAGS = $(AM_CPPFLAGS) -DPENN_BUGS
check_LIBRARIES += libcoordinator_bugs.a
libcoordinator_bugs_a_SOURCES = $(libcoordinator_a_SOURCES)
libcoordinator_bugs_a_CPPFLAGS = $(AM_CPPFLAGS) -DPENN_BUGS

check_PROGRAMS += sim
sim_SOURCES = \
    tests/sim/bugs.c tests/sim/bugs.h \
    tests/sim/cluster.c tests/sim/cluster.h \
    tests/sim/cluster_check.c \
    tests/sim/nemesis.c \
    tests/sim/rot.c tests/sim/rot.h \
    tests/sim/run.c tests/sim/run.h \
    tests/sim/scenario.c tests/sim/scenario.h \
    tests/sim/scenarios.c \
    tests/sim/sim_main.c \
    tests/sim/words.h \
    tests/sim/words_expect.c \
    tests/sim/words_faults.c \
    tests/sim/words_rot.c \
    tests/sim/workload.c tests/sim/workload.h
sim_LDADD = libsim.a libstorage_bugs.a libcoordinator_bugs.a libkv.a libcommon.a \
    $(XXHASH_LIBS)

# make check-sim SEED=1 N=1000
SEED = 1
N = 300
check-sim: sim$(EXEEXT)
	./sim$(EXEEXT) --seed $(SEED) --runs $(N)
	./sim$(EXEEXT) --seed $(SEED) --runs 3 --scenario all
PHONY_TARGETS += check-sim
