noinst_LIBRARIES += libcloud.a
libcloud_a_SOURCES = \
    cloud/account.h \
    cloud/mail_address.h \
    cloud/cloud.h \
    cloud/delivery.h \
    cloud/mailbox.h \
    cloud/message.h \
    cloud/session.h \
    cloud/ulid.c cloud/ulid.h
