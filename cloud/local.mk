noinst_LIBRARIES += libcloud.a
libcloud_a_SOURCES = \
    cloud/account.c cloud/account.h \
    cloud/account_change.c cloud/account_row.h \
    cloud/charset.c cloud/charset.h \
    cloud/check.c cloud/check.h \
    cloud/cloud.c cloud/cloud.h cloud/context.h \
    cloud/collect.c \
    cloud/compose.c cloud/compose.h \
    cloud/delivery.c cloud/delivery.h cloud/delivery_inside.h \
    cloud/delivery_one.c \
    cloud/json.c cloud/json.h \
    cloud/mail_address.c cloud/mail_address.h \
    cloud/mailbox.c cloud/mailbox.h cloud/mailbox_change.c \
    cloud/mailbox_store.c cloud/mailbox_store.h \
    cloud/message.c cloud/message.h cloud/message_inside.h \
    cloud/message_body.c cloud/message_header.c \
    cloud/mime.c cloud/mime.h \
    cloud/password.c cloud/password.h \
    cloud/session.c cloud/session.h \
    cloud/store.c cloud/store.h \
    cloud/text.c cloud/text.h \
    cloud/ulid.c cloud/ulid.h
