noinst_LIBRARIES += libgateway.a
libgateway_a_SOURCES = \
    gateway/collector_io.c gateway/collector_io.h \
    gateway/config.c gateway/config.h \
    gateway/front.c gateway/front.h \
    gateway/gateway_io.c gateway/gateway_io.h \
    gateway/metrics.c gateway/metrics.def gateway/metrics.h \
    gateway/probe_io.c gateway/probe_io.h
include gateway/http/local.mk
include gateway/smtp/local.mk

sbin_PROGRAMS += penn-gatewayd
penn_gatewayd_SOURCES = gateway/main.c
penn_gatewayd_LDADD = libgateway.a libcloud.a libkv.a libcommon.a \
    $(UV_LIBS) $(MHD_LIBS) $(GNUTLS_LIBS) $(GMIME_LIBS) $(CJSON_LIBS) \
    $(SYSTEMD_LIBS) $(SODIUM_LIBS) $(XXHASH_LIBS) -lpthread
