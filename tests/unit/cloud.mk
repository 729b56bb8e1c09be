# Accounts, mailboxes, mail.
CLOUD_FIXTURE = tests/unit/cloud_fixture.c tests/unit/cloud_fixture.h \
    tests/support/local_kv.c tests/support/local_kv.h
CLOUD_UNIT_LIBS = libcloud.a libkv.a libstorage.a libcommon.a $(UNIT_LIBS) \
    $(GMIME_LIBS) $(CJSON_LIBS) $(SODIUM_LIBS) $(XXHASH_LIBS)

check_PROGRAMS += unit_account
unit_account_SOURCES = tests/unit/test_account.c $(CLOUD_FIXTURE)
unit_account_LDADD = $(CLOUD_UNIT_LIBS)
TESTS += unit_account

check_PROGRAMS += unit_delivery
unit_delivery_SOURCES = tests/unit/test_delivery.c $(CLOUD_FIXTURE)
unit_delivery_LDADD = libgateway.a $(CLOUD_UNIT_LIBS)
TESTS += unit_delivery

check_PROGRAMS += unit_smtp_session
unit_smtp_session_SOURCES = tests/unit/test_smtp_session.c $(CLOUD_FIXTURE)
unit_smtp_session_LDADD = libgateway.a $(CLOUD_UNIT_LIBS)
TESTS += unit_smtp_session

check_PROGRAMS += unit_smtp_server
unit_smtp_server_SOURCES = tests/unit/test_smtp_server.c \
    tests/unit/free_port.h $(CLOUD_FIXTURE)
unit_smtp_server_LDADD = libgateway.a $(CLOUD_UNIT_LIBS)
TESTS += unit_smtp_server

check_PROGRAMS += unit_message
unit_message_SOURCES = tests/unit/test_message.c
unit_message_LDADD = libcloud.a libcommon.a $(UNIT_LIBS) $(GMIME_LIBS) \
    $(CJSON_LIBS) $(SODIUM_LIBS) $(XXHASH_LIBS)
TESTS += unit_message

check_PROGRAMS += unit_mailbox
unit_mailbox_SOURCES = tests/unit/test_mailbox.c $(CLOUD_FIXTURE)
unit_mailbox_LDADD = $(CLOUD_UNIT_LIBS)
TESTS += unit_mailbox
