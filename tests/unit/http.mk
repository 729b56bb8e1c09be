# The gateway's HTTP side.
HTTP_LIBS = libgateway.a libcloud.a libkv.a libstorage.a libcommon.a \
    $(MHD_LIBS) $(GNUTLS_LIBS) $(GMIME_LIBS) $(CJSON_LIBS) $(SODIUM_LIBS) \
    $(XXHASH_LIBS) $(UV_LIBS) -lpthread

# A gateway without a cluster, for tests/e2e.
check_PROGRAMS += dev_gateway
dev_gateway_SOURCES = tests/support/dev_gateway.c \
    tests/support/local_kv.c tests/support/local_kv.h
dev_gateway_LDADD = $(HTTP_LIBS)

check_PROGRAMS += unit_http_request
unit_http_request_SOURCES = tests/unit/test_http_request.c
unit_http_request_LDADD = $(HTTP_LIBS) $(UNIT_LIBS)
TESTS += unit_http_request

check_PROGRAMS += unit_http_html
unit_http_html_SOURCES = tests/unit/test_http_html.c
unit_http_html_LDADD = $(HTTP_LIBS) $(UNIT_LIBS)
TESTS += unit_http_html

HTTP_FIXTURE = tests/unit/http_fixture.c tests/unit/http_fixture.h \
    $(CLOUD_FIXTURE)

check_PROGRAMS += unit_http_server
unit_http_server_SOURCES = tests/unit/test_http_server.c $(HTTP_FIXTURE)
unit_http_server_LDADD = $(HTTP_LIBS) $(UNIT_LIBS)
TESTS += unit_http_server

check_PROGRAMS += unit_http_api
unit_http_api_SOURCES = tests/unit/test_http_api.c $(HTTP_FIXTURE)
unit_http_api_LDADD = $(HTTP_LIBS) $(UNIT_LIBS)
TESTS += unit_http_api

check_PROGRAMS += unit_http_tls
unit_http_tls_SOURCES = tests/unit/test_http_tls.c $(HTTP_FIXTURE)
unit_http_tls_LDADD = $(HTTP_LIBS) $(UNIT_LIBS) $(CURL_LIBS)
TESTS += unit_http_tls

check_PROGRAMS += unit_compose
unit_compose_SOURCES = tests/unit/test_compose.c $(CLOUD_FIXTURE)
unit_compose_LDADD = $(CLOUD_UNIT_LIBS)
TESTS += unit_compose
