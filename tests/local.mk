include tests/unit/local.mk
include tests/sim/local.mk
include tests/fuzz/local.mk
include tests/cluster/local.mk
include tests/e2e/local.mk
