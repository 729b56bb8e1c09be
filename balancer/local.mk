noinst_LIBRARIES += libbalancer.a
libbalancer_a_SOURCES = \
    balancer/balancerd_io.c balancer/balancerd_io.h \
    balancer/config.c balancer/config.h \
    balancer/core.c balancer/core.h \
    balancer/metrics.c balancer/metrics.h \
    balancer/peers.c balancer/peers.h \
    balancer/relay_io.c balancer/relay_io.h \
    balancer/resolver_io.c balancer/resolver_io.h \
    balancer/server_io.c balancer/server_io.h \
    balancer/services.def

sbin_PROGRAMS += penn-balancerd
penn_balancerd_SOURCES = balancer/main.c
penn_balancerd_LDADD = libbalancer.a libcommon.a $(UV_LIBS) $(MHD_LIBS) \
    $(CJSON_LIBS) $(SYSTEMD_LIBS) $(SODIUM_LIBS) $(XXHASH_LIBS)
