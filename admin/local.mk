noinst_LIBRARIES += libadmin.a
libadmin_a_SOURCES = \
    admin/local.c admin/local.h \
    admin/local_accounts.c \
    admin/local_layout.c \
    admin/local_process_io.c \
    admin/local_ready_io.c
