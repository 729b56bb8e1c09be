# Checks of the coordinator.
coordinator_rig = tests/unit/coordinator_rig.c tests/unit/coordinator_rig.h
coordinator_libs = libcoordinator.a libcommon.a $(UNIT_LIBS) $(UV_LIBS) \
    $(SODIUM_LIBS) $(XXHASH_LIBS)

check_PROGRAMS += unit_coordinator_core
unit_coordinator_core_SOURCES = tests/unit/test_coordinator_core.c \
    $(coordinator_rig)
unit_coordinator_core_LDADD = $(coordinator_libs)
TESTS += unit_coordinator_core

check_PROGRAMS += unit_coordinator_requests
unit_coordinator_requests_SOURCES = tests/unit/test_coordinator_requests.c \
    $(coordinator_rig)
unit_coordinator_requests_LDADD = $(coordinator_libs)
TESTS += unit_coordinator_requests

check_PROGRAMS += unit_coordinator_random
unit_coordinator_random_SOURCES = tests/unit/test_coordinator_random.c \
    $(coordinator_rig)
unit_coordinator_random_LDADD = $(coordinator_libs)
TESTS += unit_coordinator_random

check_PROGRAMS += unit_register
unit_register_SOURCES = tests/unit/test_register.c
unit_register_LDADD = libcoordinator.a libsim.a $(coordinator_libs)
TESTS += unit_register

check_PROGRAMS += unit_coordinator_shell
unit_coordinator_shell_SOURCES = tests/unit/test_coordinator_shell.c
unit_coordinator_shell_LDADD = libcoordinator.a libsim.a $(coordinator_libs)
TESTS += unit_coordinator_shell

check_PROGRAMS += unit_coordinator_hostile
unit_coordinator_hostile_SOURCES = tests/unit/test_coordinator_hostile.c
unit_coordinator_hostile_LDADD = $(coordinator_libs)
TESTS += unit_coordinator_hostile
