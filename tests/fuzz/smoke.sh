#!/bin/sh
# smoke.sh SRCDIR SECONDS FUZZER...: runs each fuzzer for that long from its
# seeds, in the build directory; what it finds stays in fuzz-corpus/<fuzzer>,
# a crash in fuzz-corpus/<fuzzer>-crash-*.
set -eu
srcdir=$1 seconds=$2
shift 2
mkdir -p fuzz-corpus/fuzz_wire
./fuzz_seeds fuzz-corpus/fuzz_wire
for f in "$@"; do
    mkdir -p "fuzz-corpus/$f"
    seeds=
    if [ -d "$srcdir/tests/fuzz/seeds/$f" ]; then
        seeds=$srcdir/tests/fuzz/seeds/$f
    fi
    echo "$f: $seconds s"
    # No input may take longer than a second (P11).
    if ! "./$f" -max_total_time="$seconds" -timeout=1 -rss_limit_mb=1024 \
        -max_len=8192 -verbosity=0 -print_final_stats=1 \
        -artifact_prefix="fuzz-corpus/$f-" "fuzz-corpus/$f" \
        ${seeds:+"$seeds"} >"fuzz-corpus/$f.log" 2>&1; then
        tail -n 60 "fuzz-corpus/$f.log"
        exit 1
    fi
    grep -E 'number_of_executed_units|peak_rss_mb' "fuzz-corpus/$f.log"
done
