# The storage engine beside other stores: tests/bench/kv-compare. Its programs
# are none of the product's.
check_PROGRAMS += bench_load bench_floor bench_sync_delay bench_fill
bench_load_SOURCES = tests/bench/load.c tests/bench/load.h \
    tests/bench/grpc_load.c tests/bench/pg_load.c tests/bench/resp_load.c
bench_load_LDADD = libadmin.a libcommon.a $(XXHASH_LIBS)
bench_floor_SOURCES = tests/bench/floor.c
bench_floor_LDADD = libadmin.a -lpthread
bench_sync_delay_SOURCES = tests/bench/sync_delay.c
bench_fill_SOURCES = tests/bench/fill.c
bench_fill_LDADD = libkv.a libcommon.a $(UV_LIBS) $(SODIUM_LIBS) \
    $(XXHASH_LIBS) -lpthread

bench-programs: $(BUILT_SOURCES) $(sbin_PROGRAMS) $(bin_PROGRAMS) \
    bench_load$(EXEEXT) bench_floor$(EXEEXT) bench_sync_delay$(EXEEXT) \
    bench_fill$(EXEEXT)

# make bench BENCH='--only penncloud floor --seconds 1'
BENCH =
bench: bench-programs
	PENN_BUILD=$(abs_builddir) python3 $(srcdir)/tests/bench/kv-compare \
	    --doc $(abs_srcdir)/doc $(BENCH)
PHONY_TARGETS += bench bench-programs

# What a put costs as the data grows: make bench-flat BENCH='--cells 10000'
bench-flat: bench-programs
	PENN_BUILD=$(abs_builddir) python3 $(srcdir)/tests/bench/flat $(BENCH)
PHONY_TARGETS += bench-flat
EXTRA_DIST += tests/bench/flat tests/bench/kv-compare tests/bench/report.py \
    tests/bench/stores.py tests/cluster/test_bench.py \
    doc/kv-compare.md doc/kv-compare.svg

# What a kill -9 costs, and where the time goes.
bench-restart: bench-programs
	PENN_BUILD=$(abs_builddir) python3 $(srcdir)/tests/bench/restart $(BENCH)
PHONY_TARGETS += bench-restart
EXTRA_DIST += tests/bench/restart

# What disks write for values that are overwritten at random.
bench-amplify: bench-programs
	PENN_BUILD=$(abs_builddir) python3 $(srcdir)/tests/bench/amplify $(BENCH)
PHONY_TARGETS += bench-amplify
EXTRA_DIST += tests/bench/amplify

# What the tree and checkpoints cost: `make bench-tree`.
EXTRA_PROGRAMS += bench_tree bench_checkpoint
bench_tree_SOURCES = tests/bench/tree_bench.c
bench_tree_LDADD = libstorage.a libcommon.a $(XXHASH_LIBS)
bench_checkpoint_SOURCES = tests/bench/checkpoint_bench.c
bench_checkpoint_LDADD = libstorage.a libcommon.a $(UV_LIBS) $(SODIUM_LIBS) \
    $(XXHASH_LIBS)

bench-tree: bench_tree$(EXEEXT) bench_checkpoint$(EXEEXT)
	./bench_tree
	folder=`mktemp -d` && ./bench_checkpoint $$folder; rm -r $$folder
PHONY_TARGETS += bench-tree
