# What the tests of real processes need besides the daemons.
check_PROGRAMS += cluster_writer cluster_stranger cluster_values
cluster_writer_SOURCES = tests/cluster/writer.c tests/cluster/writer.h \
    tests/cluster/writer_run.c
cluster_writer_LDADD = libkv.a libcommon.a $(UV_LIBS) $(SODIUM_LIBS) \
    $(XXHASH_LIBS) -lpthread
cluster_values_SOURCES = tests/cluster/values.c
cluster_values_LDADD = libkv.a libcommon.a $(UV_LIBS) $(SODIUM_LIBS) \
    $(XXHASH_LIBS) -lpthread
cluster_stranger_SOURCES = tests/cluster/stranger.c
cluster_stranger_LDADD = libcommon.a $(UV_LIBS) $(SODIUM_LIBS) $(XXHASH_LIBS)
