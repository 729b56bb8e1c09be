noinst_LIBRARIES += libbalancer.a
libbalancer_a_SOURCES = \
    balancer/config.c balancer/config.h \
    balancer/core.c balancer/core.h \
    balancer/metrics.c balancer/metrics.h \
    balancer/peers.c balancer/peers.h \
    balancer/relay_io.c balancer/relay_io.h \
    balancer/resolver_io.c balancer/resolver_io.h \
    balancer/server_io.c balancer/server_io.h \
    balancer/services.def \
    balancer/watch.c balancer/watch.h
