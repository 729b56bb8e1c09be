noinst_LIBRARIES += libkv.a
libkv_a_SOURCES = \
    kv/batch.c kv/batch.h \
    kv/callback.c kv/callback.h \
    kv/calls.c \
    kv/conn.c \
    kv/core.c kv/core.h kv/core_impl.h \
    kv/encode.c \
    kv/kv.h \
    kv/kv_io.c kv/kv_io.h \
    kv/link.c \
    kv/ring.h \
    kv/route.c \
    kv/send.c \
    kv/session.c
