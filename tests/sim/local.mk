# The simulated cluster.
noinst_LIBRARIES += libsim.a
libsim_a_SOURCES = \
    tests/sim/history.c tests/sim/history.h \
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
