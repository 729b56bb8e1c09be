# Arriving mail.
libgateway_a_SOURCES += \
    gateway/smtp/conn_io.c \
    gateway/smtp/data.c gateway/smtp/data.h \
    gateway/smtp/line.c gateway/smtp/line.h \
    gateway/smtp/path.c gateway/smtp/path.h \
    gateway/smtp/perform.c gateway/smtp/perform.h \
    gateway/smtp/server_inside.h \
    gateway/smtp/server_io.c gateway/smtp/server_io.h \
    gateway/smtp/session.c gateway/smtp/session.h \
    gateway/smtp/session_inside.h gateway/smtp/session_verbs.c \
    gateway/smtp/trace.c gateway/smtp/trace.h \
    gateway/smtp/verbs.def
