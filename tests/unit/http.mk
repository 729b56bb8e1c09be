# The gateway's HTTP side.
HTTP_LIBS = libgateway.a libcloud.a libkv.a libstorage.a libcommon.a \
    $(MHD_LIBS) $(GNUTLS_LIBS) $(GMIME_LIBS) $(CJSON_LIBS) $(SODIUM_LIBS) \
    $(XXHASH_LIBS) $(UV_LIBS) -lpthread

# A gateway without a cluster, for tests/e2e.
check_PROGRAMS += dev_gateway
dev_gateway_SOURCES = tests/support/dev_gateway.c \
    tests/support/local_kv.c tests/support/local_kv.h
dev_gateway_LDADD = $(HTTP_LIBS)
