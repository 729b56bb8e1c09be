# Check programs, one a module: unit_<module>.
if HAVE_CHECK
UNIT_LIBS = $(CHECK_LIBS)
include tests/unit/transport.mk
include tests/unit/kv.mk
include tests/unit/cloud.mk
include tests/unit/coordinator.mk
include tests/unit/http.mk
include tests/unit/engine.mk



check_PROGRAMS += unit_config
unit_config_SOURCES = tests/unit/test_config.c
unit_config_LDADD = libcommon.a $(UNIT_LIBS) $(UV_LIBS)
TESTS += unit_config

check_PROGRAMS += unit_log
unit_log_SOURCES = tests/unit/test_log.c
unit_log_LDADD = libcommon.a $(UNIT_LIBS) $(UV_LIBS)
TESTS += unit_log

check_PROGRAMS += unit_metrics
unit_metrics_SOURCES = tests/unit/test_metrics.c
unit_metrics_LDADD = libcommon.a $(UNIT_LIBS) $(UV_LIBS)
TESTS += unit_metrics

check_PROGRAMS += unit_status_http
unit_status_http_SOURCES = tests/unit/test_status_http.c
unit_status_http_LDADD = libcommon.a $(UNIT_LIBS) $(UV_LIBS) $(MHD_LIBS) \
    $(CURL_LIBS)
TESTS += unit_status_http

check_PROGRAMS += unit_daemon
unit_daemon_SOURCES = tests/unit/test_daemon.c
unit_daemon_LDADD = libcommon.a $(UNIT_LIBS) $(UV_LIBS) $(MHD_LIBS) \
    $(CJSON_LIBS) $(SYSTEMD_LIBS)
TESTS += unit_daemon

check_PROGRAMS += unit_balancer
unit_balancer_SOURCES = tests/unit/test_balancer.c
unit_balancer_LDADD = libbalancer.a libcommon.a $(UNIT_LIBS) $(UV_LIBS) \
    $(XXHASH_LIBS) $(CJSON_LIBS)
TESTS += unit_balancer

check_PROGRAMS += unit_relay
unit_relay_SOURCES = tests/unit/test_relay.c
unit_relay_LDADD = libbalancer.a libcommon.a $(UNIT_LIBS) $(UV_LIBS) \
    $(XXHASH_LIBS) $(CJSON_LIBS)
TESTS += unit_relay


check_PROGRAMS += unit_tablet_check
unit_tablet_check_SOURCES = tests/unit/test_tablet_check.c
unit_tablet_check_LDADD = libcommon.a $(UNIT_LIBS) $(XXHASH_LIBS)
TESTS += unit_tablet_check

check_PROGRAMS += unit_watch
unit_watch_SOURCES = tests/unit/test_watch.c
unit_watch_LDADD = libsim.a libcommon.a $(UNIT_LIBS) \
    $(XXHASH_LIBS)
TESTS += unit_watch
endif
