# libFuzzer targets: configure --enable-fuzzers CC=clang. Another one is a
# program in noinst_PROGRAMS and a word in FUZZERS; it is linked with
# $(FUZZ_LINK), and its seeds, if any, lie in tests/fuzz/seeds/<name>.
FUZZERS =
FUZZ_SECONDS = 20
EXTRA_DIST += tests/fuzz/smoke.sh
if ENABLE_FUZZERS
FUZZ_LINK = $(AM_LDFLAGS) -fsanitize=fuzzer

noinst_PROGRAMS += fuzz_wire fuzz_seal fuzz_seeds
FUZZERS += fuzz_wire fuzz_seal
fuzz_wire_SOURCES = tests/fuzz/fuzz_wire.c tests/fuzz/fuzz.h \
    tests/unit/wire_gen.c tests/unit/wire_gen.h
fuzz_wire_LDFLAGS = $(FUZZ_LINK)
fuzz_wire_LDADD = libcommon.a $(XXHASH_LIBS)
fuzz_seal_SOURCES = tests/fuzz/fuzz_seal.c tests/fuzz/fuzz.h
fuzz_seal_LDFLAGS = $(FUZZ_LINK)
fuzz_seal_LDADD = libcommon.a $(SODIUM_LIBS) $(XXHASH_LIBS)
noinst_PROGRAMS += fuzz_proxy2 fuzz_config
FUZZERS += fuzz_proxy2 fuzz_config
fuzz_proxy2_SOURCES = tests/fuzz/fuzz_proxy2.c tests/fuzz/fuzz.h
fuzz_proxy2_LDFLAGS = $(FUZZ_LINK)
fuzz_proxy2_LDADD = libcommon.a $(XXHASH_LIBS)
fuzz_config_SOURCES = tests/fuzz/fuzz_config.c tests/fuzz/fuzz.h
fuzz_config_LDFLAGS = $(FUZZ_LINK)
fuzz_config_LDADD = libcommon.a $(XXHASH_LIBS)
fuzz_seeds_SOURCES = tests/fuzz/fuzz_seeds.c tests/unit/wire_gen.c \
    tests/unit/wire_gen.h
fuzz_seeds_LDADD = libcommon.a $(XXHASH_LIBS)

noinst_PROGRAMS += fuzz_smtp fuzz_message
FUZZERS += fuzz_smtp fuzz_message
FUZZ_CLOUD_LIBS = libcloud.a libkv.a libcommon.a $(GMIME_LIBS) \
    $(CJSON_LIBS) $(UV_LIBS) $(SODIUM_LIBS) $(XXHASH_LIBS)
fuzz_smtp_SOURCES = tests/fuzz/fuzz_smtp.c tests/fuzz/fuzz.h
fuzz_smtp_LDFLAGS = $(FUZZ_LINK)
fuzz_smtp_LDADD = libgateway.a $(FUZZ_CLOUD_LIBS)
fuzz_message_SOURCES = tests/fuzz/fuzz_message.c tests/fuzz/fuzz.h
fuzz_message_LDFLAGS = $(FUZZ_LINK)
fuzz_message_LDADD = $(FUZZ_CLOUD_LIBS)

noinst_PROGRAMS += fuzz_html fuzz_http
FUZZERS += fuzz_html fuzz_http
fuzz_html_SOURCES = tests/fuzz/fuzz_html.c tests/fuzz/fuzz.h
fuzz_html_LDFLAGS = $(FUZZ_LINK)
fuzz_html_LDADD = libgateway.a libcommon.a $(XXHASH_LIBS)
fuzz_http_SOURCES = tests/fuzz/fuzz_http.c tests/fuzz/fuzz.h
fuzz_http_LDFLAGS = $(FUZZ_LINK)
fuzz_http_LDADD = libgateway.a $(FUZZ_CLOUD_LIBS) $(MHD_LIBS) $(GNUTLS_LIBS)

fuzz-smoke: $(FUZZERS) fuzz_seeds
	sh $(srcdir)/tests/fuzz/smoke.sh $(srcdir) $(FUZZ_SECONDS) $(FUZZERS)
else
fuzz-smoke:
	@echo "fuzz-smoke needs: configure --enable-fuzzers CC=clang" >&2; false
endif
PHONY_TARGETS += fuzz-smoke
EXTRA_DIST += tests/fuzz/seeds
