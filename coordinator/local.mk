# The coordinator.
noinst_LIBRARIES += libcoordinator.a
libcoordinator_a_SOURCES = \
    coordinator/bugs.def coordinator/bugs.h \
    coordinator/clients.c \
    coordinator/config.c coordinator/config.h \
    coordinator/configuration.c coordinator/configuration.h \
    coordinator/coordinator.c coordinator/coordinator.h \
    coordinator/coordinatord_io.c coordinator/coordinatord_io.h \
    coordinator/core.c coordinator/core.h \
    coordinator/core_change.c \
    coordinator/core_detect.c \
    coordinator/core_elect.c \
    coordinator/core_nodes.c \
    coordinator/core_parts.h \
    coordinator/core_place.c \
    coordinator/core_review.c \
    coordinator/core_state.h \
    coordinator/core_view.c \
    coordinator/metrics.def \
    coordinator/probe.c coordinator/probe.h \
    coordinator/register.c coordinator/register.h \
    coordinator/shell.h \
    coordinator/status.c coordinator/status.h

sbin_PROGRAMS += penn-coordinatord
penn_coordinatord_SOURCES = coordinator/main.c
penn_coordinatord_LDADD = libcoordinator.a libcommon.a $(UV_LIBS) \
    $(MHD_LIBS) $(CJSON_LIBS) $(SODIUM_LIBS) $(XXHASH_LIBS) $(SYSTEMD_LIBS)
