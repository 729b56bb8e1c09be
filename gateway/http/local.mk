# The web side.
libgateway_a_SOURCES += \
    gateway/http/accept_io.c gateway/http/accept_io.h \
    gateway/http/api_compose.c \
    gateway/http/api_mail.c \
    gateway/http/api_session.c \
    gateway/http/app.c gateway/http/app.h \
    gateway/http/conns.c gateway/http/conns.h \
    gateway/http/errors.c gateway/http/errors.def gateway/http/errors.h \
    gateway/http/events_io.c gateway/http/events_io.h \
    gateway/http/exchange_io.c gateway/http/exchange_io.h \
    gateway/http/html.c gateway/http/html.h \
    gateway/http/html_tables.c gateway/http/html_tables.h \
    gateway/http/json.c gateway/http/json.h \
    gateway/http/openapi.c \
    gateway/http/pool_io.c gateway/http/pool_io.h \
    gateway/http/rate.c gateway/http/rate.h \
    gateway/http/request.c gateway/http/request.h \
    gateway/http/response.c gateway/http/response.h \
    gateway/http/route.c gateway/http/route.h gateway/http/routes.def \
    gateway/http/server_io.c gateway/http/server_io.h \
    gateway/http/static_io.c gateway/http/static_io.h \
    gateway/http/tls_io.c gateway/http/tls_io.h

# The API's description as a C string.
gateway/http/openapi_text.inc: gateway/http/openapi.json \
    gateway/http/local.mk
	$(AM_V_GEN)$(MKDIR_P) gateway/http && { \
	    echo 'static const char text[] =' && \
	    sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/^/"/' -e 's/$$/\\n"/' \
	    $(srcdir)/gateway/http/openapi.json && echo ';'; } > $@
gateway/http/openapi.$(OBJEXT): gateway/http/openapi_text.inc
BUILT_SOURCES += gateway/http/openapi_text.inc
CLEANFILES += gateway/http/openapi_text.inc
EXTRA_DIST += gateway/http/openapi.json

webdir = $(pkgdatadir)/web
dist_web_DATA = \
    gateway/web/api.js \
    gateway/web/app.css \
    gateway/web/app.js \
    gateway/web/base.css \
    gateway/web/compose.js \
    gateway/web/dom.js \
    gateway/web/favicon.svg \
    gateway/web/format.js \
    gateway/web/index.html \
    gateway/web/keys.js \
    gateway/web/list.js \
    gateway/web/live.js \
    gateway/web/logo.svg \
    gateway/web/mail.js \
    gateway/web/missing.html \
    gateway/web/password.js \
    gateway/web/reader.js \
    gateway/web/session.js \
    gateway/web/toast.js
