#!/usr/bin/env python3
"""tests/bench/kv-compare and tests/bench/flat, as little of them as shows that
they measure: our store beside the floor; the other stores too, if they are
unpacked already. Times and rates are not judged here, but that what is counted
and slowed down is."""
import json
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
from penn import BUILD, SRC, expect, where  # noqa: E402

PEERS = os.path.join(SRC, "build", "peers")
ASAN = "asan" in os.path.basename(BUILD)
ROW = "put 256 B, 16 clients"
CELLS = 3000
DELAY_MS = 20


def compare(*args):
    r = subprocess.run(
        [sys.executable, os.path.join(SRC, "tests/bench/kv-compare"),
         "--seconds", "1", "--runs", "1", "--json", *args],
        capture_output=True, text=True, timeout=900,
        env=dict(os.environ, PENN_BUILD=BUILD))
    expect(r.returncode == 0, f"exit {r.returncode}: {r.stderr[-2000:]}")
    return json.loads(r.stdout)


def only(result, part, name, rows="rows"):
    (m,) = result[part][rows][ROW][name]
    return m


def ours_and_the_floor():
    """Each sync is counted, and takes as long as was said."""
    r = compare("--only", "penncloud-1", "floor", "--rows", ROW, "--added-ms",
                str(DELAY_MS), "--cells", "0")
    expect(r["plain"]["disk_alone"][0] > 0, "the disk alone")
    for name in ("penncloud-1", "floor"):
        expect(only(r, "plain", name)["rate"] > 0, f"{name} does something")
        slow = only(r, "delayed", name)
        expect(slow["rate"] > 0, f"{name} does something on a slow disk")
        expect(slow["p50_ms"] >= DELAY_MS,
               f"{name} answers in {slow['p50_ms']} ms on a slow disk")
    counted = only(r, "delayed", "floor", "counted")["records_per_sync"]
    expect(15 < counted < 17, f"a group of the floor has {counted} records")
    counted = only(r, "delayed", "penncloud-1")["records_per_sync"]
    expect(1 <= counted <= 17, f"a group of ours has {counted} records")


def cells_and_a_kill():
    r = compare("--only", "penncloud", "--rows", "nothing", "--cells",
                str(CELLS))
    m = r["memory"]["penncloud"]
    expect(m["full"] > m["empty"], f"cells take memory: {m}")
    expect(0 < m["get_s"] <= m["put_s"], f"it serves again: {m}")


def as_it_grows():
    """tests/bench/flat, at two sizes."""
    r = subprocess.run(
        [sys.executable, os.path.join(SRC, "tests/bench/flat"), "--cells",
         "1000", "3000", "--seconds", "1", "--tablets", "4", "--json"],
        capture_output=True, text=True, timeout=900,
        env=dict(os.environ, PENN_BUILD=BUILD))
    expect(r.returncode == 0, f"exit {r.returncode}: {r.stderr[-2000:]}")
    rows = json.loads(r.stdout)
    expect(len(rows) == 2 and rows[0]["cells"] >= 1000 and
           rows[1]["cells"] >= 3000, f"it grows: {rows}")
    for row in rows:
        expect(row["puts_per_s"] > 0 and row["p99_ms"] >= row["p50_ms"] > 0,
               f"puts are timed: {row}")
        expect(1 <= row["log_per_byte"] < 2, f"the log: {row}")
        for when in ("fill", "put"):
            t = row[when]
            expect(t["turns"] > t["above_5_ms"] >= 0 and
                   t["longest_at_most_ms"] > 0, f"turns are counted: {row}")


def the_others():
    """The protocols of bench_load, against the real servers."""
    r = compare("--only", "redis", "etcd", "postgres", "--rows", "256 B, 16",
                "--added-ms", "0", "--cells", "0", "--peers", PEERS)
    for name in ("redis", "etcd", "postgres"):
        for row, by in r["plain"]["rows"].items():
            expect(by[name][0]["rate"] > 0, f"{name}: {row}")


def refuses_nonsense():
    for argv, said in ((["bench_load", "resp", "1", "put", "--frogs", "2"],
                        "usage"),
                       (["bench_load", "resp", "1", "put"], "connect"),
                       (["bench_floor", "/nonexistent"], "nonexistent"),
                       (["bench_sync_delay", "x"], "usage")):
        r = subprocess.run([os.path.join(BUILD, argv[0]), *argv[1:]],
                           capture_output=True, text=True, timeout=60)
        expect(r.returncode in (1, 2) and said in r.stderr,
               f"{argv}: exit {r.returncode}: {r.stderr[-300:]}")


def main():
    passed = failed = 0
    tests = [refuses_nonsense, ours_and_the_floor, cells_and_a_kill,
             as_it_grows]
    if os.path.exists(os.path.join(PEERS, "stores")) and not ASAN:
        tests.append(the_others)
    # Not below TMPDIR, which may be closed to the user that PostgreSQL is.
    with tempfile.TemporaryDirectory(prefix="penn-bench-",
                                     dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        os.environ["TMPDIR"] = folder
        for test in tests:
            try:
                test()
                passed += 1
                print(f"  {test.__name__}")
            except Exception as e:  # whatever it was
                failed += 1
                print(f"FAILED {test.__name__}: {type(e).__name__}: {e}"
                      f"{where(e)}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
