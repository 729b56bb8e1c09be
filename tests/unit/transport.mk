# The wire format, the sealed transport and the env over libuv.
TRANSPORT_LIBS = libcommon.a $(UNIT_LIBS) $(UV_LIBS) $(SODIUM_LIBS) \
    $(XXHASH_LIBS)

check_PROGRAMS += unit_env_uv
unit_env_uv_SOURCES = tests/unit/test_env_uv.c tests/unit/free_port.h
unit_env_uv_LDADD = $(TRANSPORT_LIBS)
TESTS += unit_env_uv

check_PROGRAMS += unit_seal
unit_seal_SOURCES = tests/unit/test_seal.c
unit_seal_LDADD = $(TRANSPORT_LIBS)
TESTS += unit_seal

check_PROGRAMS += unit_key
unit_key_SOURCES = tests/unit/test_key.c
unit_key_LDADD = $(TRANSPORT_LIBS)
TESTS += unit_key

check_PROGRAMS += unit_hello
unit_hello_SOURCES = tests/unit/test_hello.c
unit_hello_LDADD = $(TRANSPORT_LIBS)
TESTS += unit_hello

check_PROGRAMS += unit_env_disk
unit_env_disk_SOURCES = tests/unit/test_env_disk.c
unit_env_disk_LDADD = $(TRANSPORT_LIBS)
TESTS += unit_env_disk

check_PROGRAMS += unit_wire
unit_wire_SOURCES = tests/unit/test_wire.c tests/unit/wire_gen.c \
    tests/unit/wire_gen.h
unit_wire_LDADD = $(TRANSPORT_LIBS)
TESTS += unit_wire

check_PROGRAMS += unit_buf
unit_buf_SOURCES = tests/unit/test_buf.c
unit_buf_LDADD = $(TRANSPORT_LIBS)
TESTS += unit_buf
