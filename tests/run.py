#!/usr/bin/env python3
"""Runs the parts of the test suite, each in its time, and adds them up.

usage: run.py [--quick | --full] [--only PART[,PART]] [--list]

A part is a few commands on one build. A command's tests are counted from
what it prints: Check's summary, "N passed, N failed", or else its exit
status as one test."""
import argparse
import concurrent.futures
import glob
import os
import re
import subprocess
import sys
import tempfile
import time

SRC = os.path.abspath(os.path.join(os.path.dirname(__file__), ".."))
os.chdir(SRC)
QUICK, DEFAULT, FULL = 0, 1, 2

BUILDS = {
    "test": ["--enable-werror"],
    "asan": ["--enable-werror", "--enable-sanitizers=address,undefined",
             "CFLAGS=-O1 -g"],
    "tsan": ["--enable-werror", "--enable-sanitizers=thread",
             "CFLAGS=-O1 -g"],
}
THREADED = ("unit_env_uv", "unit_env_disk", "unit_kv_shell", "unit_kv_io",
            "unit_status_http", "unit_daemon", "unit_metrics", "unit_relay",
            "unit_account", "unit_http",
            "unit_smtp_server", "unit_beacon")


# Scripts that look at gaps and rates; those that take long begin first.
ALONE = ("test_failover.py", "test_bench.py", "test_ledger.py", "test_drip.py")
LONG = ("test_faults.py", "test_web.py")


class Tally:
    def __init__(self):
        self.passed = self.failed = 0
        self.failures = []


def say(text=""):
    print(text, flush=True)


def build(name):
    options = list(BUILDS[name])
    if subprocess.run(["which", "ccache"], capture_output=True).returncode == 0:
        options.append("CC=ccache gcc")
    folder = f"build/{name}"
    r = subprocess.run(["bash", "build-aux/build", folder, *options])
    if r.returncode == 0:
        r = subprocess.run(["make", "-s", "-C", folder, f"-j{os.cpu_count()}",
                            "check-programs"], capture_output=True, text=True)
        if r.returncode != 0:
            say(r.stdout[-3000:] + r.stderr[-3000:])
    return r.returncode == 0


def count(output, code):
    """(passed, failed) of a command's output."""
    checks = re.findall(r"Checks: (\d+), Failures: (\d+), Errors: (\d+)", output)
    if checks:
        total = sum(int(c[0]) for c in checks)
        bad = sum(int(c[1]) + int(c[2]) for c in checks)
        return total - bad, bad if bad or code == 0 else 1
    sums = re.findall(r"^(?:\w+: )?(\d+) passed, (\d+) failed", output, re.M)
    if sums:
        good, bad = sum(int(s[0]) for s in sums), sum(int(s[1]) for s in sums)
        return good, bad if bad or code == 0 else 1
    return (1, 0) if code == 0 else (0, 1)


def command(argv, env, seconds):
    """(output, exit status); its processes end with it."""
    with tempfile.TemporaryDirectory(prefix="penn-run-") as folder:
        full = dict(os.environ, TMPDIR=folder, **env)
        p = subprocess.Popen(argv, env=full, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, text=True,
                             errors="replace", stdin=subprocess.DEVNULL)
        try:
            out, _ = p.communicate(timeout=seconds)
            return out, p.returncode
        except subprocess.TimeoutExpired:
            p.terminate()
            try:
                out, _ = p.communicate(timeout=30)
            except subprocess.TimeoutExpired:
                p.kill()
                out, _ = p.communicate()
            return out + f"\nno end within {seconds} s", 124


def verdicts(output):
    """The lines of a failed command that say what failed."""
    return [x.strip() for x in output.splitlines()
            if re.search(r"FAILED: |:[EF]:|: [Aa]ssert|ERROR: \w+San", x)][:4]


def run_all(tally, jobs, width=1):
    """JOBS: (label, argv, env, seconds)."""
    def one(job):
        began = time.monotonic()
        out, code = command(*job[1:])
        return job[0], out, code, time.monotonic() - began

    with concurrent.futures.ThreadPoolExecutor(width) as pool:
        for label, out, code, took in pool.map(one, jobs):
            good, bad = count(out, code)
            tally.passed += good
            tally.failed += bad
            if bad:
                why = verdicts(out)
                tally.failures.append("\n    ".join([label, *why]))
                say(f"  FAILED {label} (exit {code}, {took:.1f} s)")
                say("    " + "\n    ".join(out.splitlines()[-60:]))
            else:
                notes = [x for x in out.splitlines() if x.startswith("  ")]
                say(f"  ok {label}: {good} ({took:.1f} s)")
                for line in notes[-12:]:
                    say("  " + line)


SANITIZE = {
    "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0:exitcode=99",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
    "TSAN_OPTIONS": "halt_on_error=1:exitcode=98:second_deadlock_stack=1",
}


def programs(build_name):
    return sorted(p for p in glob.glob(f"build/{build_name}/unit_*")
                  if os.access(p, os.X_OK) and "." not in os.path.basename(p))


def unit(tally, build_name, only=None):
    env = dict(SANITIZE, srcdir=SRC)
    jobs = [(os.path.basename(p), [os.path.abspath(p)], env, 900)
            for p in programs(build_name)
            if only is None or os.path.basename(p).startswith(only)]
    run_all(tally, jobs, width=os.cpu_count() or 2)


def sim(tally, build_name, seeds):
    first = int(os.environ.get("SEED", "1"))
    width = os.cpu_count() or 2
    each = (seeds + width - 1) // width
    program = os.path.abspath(f"build/{build_name}/sim")
    jobs = [(f"sim seeds {first + i * each}..{first + (i + 1) * each - 1}",
             [program, "--seed", str(first + i * each), "--runs", str(each)],
             SANITIZE, 3600) for i in range(width)]
    run_all(tally, jobs, width=width)


def scenarios(tally, level):
    """Each named course of events; each deliberate bug, which must be found."""
    program = os.path.abspath("build/test/sim")
    listed = subprocess.run([program, "--list"], capture_output=True,
                            text=True).stdout.split("\n")
    runs = {QUICK: "1", DEFAULT: "5", FULL: "200"}[level]
    jobs = [(f"scenario {x.split()[1]}",
             [program, "--scenario", x.split()[1], "--runs", runs], {}, 1800)
            for x in listed if x.startswith("scenario ")]
    jobs += [(f"bug {x.split()[1]}",
              [program, "--bug", x.split()[1], "--runs", "3000"], {}, 900)
             for x in listed if x.startswith("bug ")]
    run_all(tally, jobs, width=os.cpu_count() or 2)


def scripts(tally, build_name, names, env=None, seconds=1800):
    """Two at a time, most of their time being spent in waiting; but for those
    that hold the machine to a bound in time."""
    full = dict(SANITIZE, PENN_BUILD=os.path.abspath(f"build/{build_name}"),
                **(env or {}))
    jobs = {n: (f"{n} ({build_name})", [sys.executable, n], full, seconds)
            for n in names}
    alone = [n for n in names if os.path.basename(n) in ALONE]
    beside = sorted((n for n in names if n not in alone),
                    key=lambda n: os.path.basename(n) not in LONG)
    run_all(tally, [jobs[n] for n in beside], width=2)
    run_all(tally, [jobs[n] for n in alone])


# name, least level, builds, what it does (tally, level)
PARTS = [
    ("unit", QUICK, ["test"], lambda t, n: unit(t, "test")),
    ("tidy", QUICK, ["test"], lambda t, n: run_all(t, [(
        "tidy", [sys.executable, "tests/tidy/tidy.py", ".", "build/test",
                 *{QUICK: ["--quick"], DEFAULT: [], FULL: ["--all"]}[n]], {},
                 3000)])),
    ("man", QUICK, ["test"],
     lambda t, n: scripts(t, "test", ["tests/unit/check_man.py"])),
    ("sim", QUICK, ["test"],
     lambda t, n: sim(t, "test", {QUICK: 100, DEFAULT: 1000, FULL: 100000}[n])),
    ("scenarios", DEFAULT, ["test"], scenarios),
    ("cluster", DEFAULT, ["test"], lambda t, n: scripts(
        t, "test", sorted(glob.glob("tests/cluster/test_*.py")),
        {"PENN_KILLS": "200", "PENN_CHAOS": "600"} if n == FULL else {})),
    ("crash", DEFAULT, ["test"], lambda t, n: scripts(
        t, "test", sorted(glob.glob("tests/crash/test_*.py")),
        {"PENN_CRASH_POINTS": "20000", "PENN_CRASH_KILLS": "10"} if n == FULL else {})),
    ("e2e", DEFAULT, ["test"], lambda t, n: scripts(
        t, "test", sorted(glob.glob("tests/e2e/test_*.py")),
        {"PENN_ROUNDS": "20" if n == FULL else "5"})),
    ("asan-unit", DEFAULT, ["asan"], lambda t, n: unit(t, "asan")),
    ("asan-sim", DEFAULT, ["asan"],
     lambda t, n: sim(t, "asan", 2000 if n == FULL else 100)),
    ("asan-cluster", DEFAULT, ["asan"], lambda t, n: scripts(
        t, "asan", sorted(glob.glob("tests/cluster/test_*.py")),
        {} if n == FULL else {"PENN_SUBSET": "1", "PENN_KILLS": "3"})),
    ("tsan", DEFAULT, ["tsan"], lambda t, n: unit(t, "tsan", THREADED)),
]


def main():
    p = argparse.ArgumentParser(prog="run-tests")
    p.add_argument("--quick", action="store_true",
                   help="what takes under two minutes")
    p.add_argument("--full", action="store_true", help="everything: hours")
    p.add_argument("--only", default="", metavar="PART[,PART]",
                   help="these parts alone")
    p.add_argument("--list", action="store_true", help="name the parts")
    p.add_argument("--no-install", action="store_true",
                   help="install no packages")
    a = p.parse_args()
    level = QUICK if a.quick else FULL if a.full else DEFAULT
    wanted = [x for x in a.only.split(",") if x]
    if a.list:
        for name, least, builds, _ in PARTS:
            say(f"{name} (from --{('quick', 'default', 'full')[least]})")
        return 0
    tally, built, began = Tally(), {}, time.monotonic()
    for name, least, builds, run in PARTS:
        if (wanted and name not in wanted) or (not wanted and least > level):
            continue
        start = time.monotonic()
        say(f"== {name}")
        for b in builds:
            if b not in built:
                built[b] = build(b)
            if not built[b]:
                tally.failed += 1
                tally.failures.append(f"build {b}")
        if all(built[b] for b in builds):
            run(tally, level)
        say(f"== {name}: {time.monotonic() - start:.0f} s")
    if tally.failures:
        say("failed:\n  " + "\n  ".join(tally.failures))
    say(f"took {time.monotonic() - began:.0f} s")
    say(f"{tally.passed} passed, {tally.failed} failed")
    return 1 if tally.failed else 0


if __name__ == "__main__":
    sys.exit(main())
