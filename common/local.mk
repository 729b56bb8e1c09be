noinst_LIBRARIES += libcommon.a
libcommon_a_SOURCES = \
    common/address.c common/address.h \
    common/address_io.c common/address_io.h \
    common/buf.c common/buf.h \
    common/config.c common/config.h \
    common/config_cluster.c common/config_io.c \
    common/config_value.c common/config_value.h \
    common/daemon.c common/daemon.h common/daemon_io.c \
    common/env.h common/env_send.h common/env_work.h \
    common/limits.h \
    common/log.c common/log.h common/log_io.c \
    common/messages.def \
    common/metrics.c common/metrics.h \
    common/privilege_io.c common/privilege_io.h \
    common/process_io.c common/process_io.h \
    common/proxy2.c common/proxy2.h \
    common/status.c common/status.def common/status.h \
    common/status_http_io.c common/status_http_io.h \
    common/wire.c common/wire.h

# The transport and the env over libuv.
libcommon_a_SOURCES += \
    common/env_uv_io.c common/env_uv_io.h common/env_uv_impl.h \
    common/env_uv_disk.h common/env_uv_net.h \
    common/env_uv_conn_io.c common/env_uv_listen_io.c \
    common/env_uv_net_io.c \
    common/env_uv_disk_io.c common/env_uv_file_io.c \
    common/env_uv_ahead_io.c common/env_uv_seldom_io.c \
    common/env_uv_queue_io.c common/env_uv_syncer_io.c \
    common/env_uv_timer_io.c \
    common/env_uv_work_io.c \
    common/hello.c common/hello.h common/roles.def \
    common/key.c common/key.h common/key_io.c \
    common/seal.c common/seal.h
libcommon_a_SOURCES += common/watch.c common/watch.h
libcommon_a_SOURCES += common/tablet_check.c common/tablet_check.h
