noinst_LIBRARIES += libadmin.a
libadmin_a_SOURCES = \
    admin/local.c admin/local.h \
    admin/local_accounts.c \
    admin/local_layout.c \
    admin/local_process_io.c \
    admin/local_ready_io.c \
    admin/local_tls_io.c

# pennctl.
libadmin_a_SOURCES += \
    admin/bench.c admin/bench.h admin/bench_io.c \
    admin/commands.def \
    admin/ctl.c admin/ctl.h \
    admin/ctl_cells.c \
    admin/ctl_change.c \
    admin/ctl_check.c \
    admin/ctl_cluster.c \
    admin/ctl_local.c \
    admin/ctl_users.c \
    admin/histogram.c admin/histogram.h \
    admin/password_io.c admin/password_io.h
bin_PROGRAMS += pennctl
pennctl_SOURCES = admin/pennctl.c
pennctl_LDADD = libadmin.a libcloud.a libkv.a libcommon.a $(UV_LIBS) \
    $(SODIUM_LIBS) $(XXHASH_LIBS) $(CJSON_LIBS) $(GMIME_LIBS) $(CURL_LIBS) \
    $(GNUTLS_LIBS)
