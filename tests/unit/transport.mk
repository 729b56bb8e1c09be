# The wire format, the sealed transport and the env over libuv.
TRANSPORT_LIBS = libcommon.a $(UNIT_LIBS) $(UV_LIBS) $(SODIUM_LIBS) \
    $(XXHASH_LIBS)

check_PROGRAMS += unit_env_uv
unit_env_uv_SOURCES = tests/unit/test_env_uv.c
unit_env_uv_LDADD = $(TRANSPORT_LIBS)
TESTS += unit_env_uv
