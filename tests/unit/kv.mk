# The store's client.
KV_FAKE = tests/unit/kv_fake.c tests/unit/kv_fake.h \
    tests/unit/kv_world.c tests/unit/kv_world.h
KV_UNIT_LIBS = libkv.a libcommon.a $(UNIT_LIBS) $(UV_LIBS) $(SODIUM_LIBS) \
    $(XXHASH_LIBS)

check_PROGRAMS += unit_kv_batch
unit_kv_batch_SOURCES = tests/unit/test_kv_batch.c
unit_kv_batch_LDADD = $(KV_UNIT_LIBS)
TESTS += unit_kv_batch

check_PROGRAMS += unit_kv_core
unit_kv_core_SOURCES = tests/unit/test_kv_core.c $(KV_FAKE)
unit_kv_core_LDADD = $(KV_UNIT_LIBS)
TESTS += unit_kv_core

check_PROGRAMS += unit_kv_exact
unit_kv_exact_SOURCES = tests/unit/test_kv_exact.c tests/unit/kv_fake.c \
    tests/unit/kv_fake.h
unit_kv_exact_LDADD = libstorage.a $(KV_UNIT_LIBS)
TESTS += unit_kv_exact

check_PROGRAMS += unit_kv_io
unit_kv_io_SOURCES = tests/unit/test_kv_io.c tests/unit/free_port.h
unit_kv_io_LDADD = libstorage.a $(KV_UNIT_LIBS)
TESTS += unit_kv_io

# pennctl.
ADMIN_UNIT_LIBS = libadmin.a libcloud.a $(KV_UNIT_LIBS) $(CJSON_LIBS) \
    $(GMIME_LIBS) $(CURL_LIBS) $(GNUTLS_LIBS)

check_PROGRAMS += unit_admin
unit_admin_SOURCES = tests/unit/test_admin.c
unit_admin_LDADD = $(ADMIN_UNIT_LIBS)
TESTS += unit_admin

check_PROGRAMS += unit_cloud_check
unit_cloud_check_SOURCES = tests/unit/test_cloud_check.c
unit_cloud_check_LDADD = $(ADMIN_UNIT_LIBS)
TESTS += unit_cloud_check
