include tests/unit/local.mk
include tests/sim/local.mk
include tests/fuzz/local.mk
include tests/cluster/local.mk
include tests/crash/local.mk
include tests/e2e/local.mk
include tests/bench/local.mk

EXTRA_DIST += tests/run.py tests/tidy/tidy.py .clang-tidy .ci/run \
    tests/lib/penn.py tests/lib/store.py \
    tests/cluster/test_bad_input.py tests/cluster/test_balancer.py \
    tests/cluster/test_failover.py tests/cluster/test_faults.py tests/cluster/test_strace.py \
    tests/cluster/test_observe.py tests/cluster/test_pennctl.py \
    tests/cluster/test_collect.py tests/cluster/test_values.py \
    tests/e2e/ledger.py tests/e2e/test_ledger.py
