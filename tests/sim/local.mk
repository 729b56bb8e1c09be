# The simulated cluster.
noinst_LIBRARIES += libsim.a
libsim_a_SOURCES = \
    tests/sim/sim_disk.c tests/sim/sim_disk.h \
    tests/sim/sim_disk_ops.c \
    tests/sim/sim_env.c tests/sim/sim_env.h \
    tests/sim/sim_files.h \
    tests/sim/sim_internal.h \
    tests/sim/sim_net.c tests/sim/sim_net.h \
    tests/sim/sim_net_faults.c \
    tests/sim/sim_pipe.h \
    tests/sim/sim_world.c tests/sim/sim_world.h
