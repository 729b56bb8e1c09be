noinst_LIBRARIES += libcommon.a
libcommon_a_SOURCES = \
    common/buf.c common/buf.h \
    common/env.h \
    common/limits.h \
    common/log.h \
    common/messages.def \
    common/status.c common/status.def common/status.h \
    common/wire.c common/wire.h
