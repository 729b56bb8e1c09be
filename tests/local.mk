include tests/unit/local.mk
include tests/sim/local.mk
