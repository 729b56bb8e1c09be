#!/usr/bin/env python3
"""Runs the parts of the test suite, each in its time, and adds them up.

usage: run.py [--quick | --full] [--only PART[,PART]] [--list]

A part is a few commands on one build. A command's tests are counted from
what it prints: Check's summary, "N passed, N failed", or else its exit
status as one test.

Parts that only compute go on beside the others, which spend much of their time
in waiting, and take no processor that these want (SCHED_IDLE); they stand
still while one holds the machine to a bound in time."""
import argparse
import concurrent.futures
import glob
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
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
# All that is built for ThreadSanitizer.
THREADED = ("unit_env_uv", "unit_env_disk", "unit_load", "unit_kv_io",
            "unit_status_http", "unit_daemon", "unit_metrics", "unit_relay", "unit_account",
            "unit_http_api", "unit_http_server", "unit_http_tls",
            "unit_smtp_server")

# Scripts that look at gaps and rates.
ALONE = ("test_failover.py", "test_bench.py", "test_ledger.py", "test_drip.py",
         "test_browser.py")
# What takes long begins first, the longest of all foremost.
LONG = ("unit_tree", "unit_wal", "unit_http_server", "unit_delivery",
        "unit_http_api", "unit_message", "unit_collect", "unit_wal_kept",
        "unit_blobs", "unit_value_cache", "unit_env_uv", "unit_state",
        "unit_register", "unit_smtp_session", "unit_smtp_server", "unit_seal",
        "test_web.py", "test_faults.py", "test_mail.py", "test_disk_faults.py",
        "test_chaos.py", "test_kills.py", "test_blobs.py", "test_crash.py",
        "test_pennctl.py", "test_damage.py", "test_observe.py",
        "test_bad_input.py", "test_collect.py", "test_values.py")
CORES = os.cpu_count() or 2


def longest_first(names):
    def rank(name):
        base = os.path.basename(name)
        return LONG.index(base) if base in LONG else len(LONG)
    return sorted(names, key=rank)


class Tally:
    def __init__(self):
        self.passed = self.failed = 0
        self.failures = []
        self.lines = None  # of a part beside others: said at its end

    def say(self, text):
        if self.lines is None:
            say(text)
        else:
            self.lines.append(text)

    def add(self, other):
        self.passed += other.passed
        self.failed += other.failed
        self.failures += other.failures


def say(text=""):
    print(text, flush=True)


class Beside:
    """Commands that only take what nobody else wants."""

    def __init__(self):
        self.lock = threading.Lock()
        self.groups = set()
        self.still = False
        self.prefix = ["nice", "-n", "19"]
        idle = ["chrt", "--idle", "0"]
        try:
            if subprocess.run([*idle, "true"], capture_output=True,
                              check=False).returncode == 0:
                self.prefix += idle
        except OSError:
            pass  # then only nice

    def tell(self, number):
        for group in list(self.groups):
            try:
                os.killpg(group, number)
            except ProcessLookupError:
                pass

    def began(self, p):
        with self.lock:
            self.groups.add(p.pid)
            if self.still:
                self.tell(signal.SIGSTOP)

    def ended(self, p):
        with self.lock:
            self.groups.discard(p.pid)

    def end(self):
        """Without the lock: in a handler of signals, too."""
        self.tell(signal.SIGKILL)

    def end_all(self, number, _):
        """We are told to end, and end what would else stand still for ever."""
        self.end()
        os._exit(128 + number)

    def stand_still(self, still):
        with self.lock:
            self.still = still
            self.tell(signal.SIGSTOP if still else signal.SIGCONT)


beside = Beside()


def build(name):
    options = list(BUILDS[name])
    if subprocess.run(["which", "ccache"], capture_output=True).returncode == 0:
        options.append("CC=ccache gcc")
    folder, began = f"build/{name}", time.monotonic()
    env, more = dict(os.environ), ["check-programs"]
    if name == "tsan":
        env["PENN_TARGETS"] = ""  # configures only
        more = ["some-programs", "SOME=" + " ".join(THREADED)]
    r = subprocess.run(["bash", "build-aux/build", folder, *options], env=env)
    if r.returncode == 0:
        r = subprocess.run(["make", "-s", "-C", folder, f"-j{CORES}", *more],
                           capture_output=True, text=True)
        if r.returncode != 0:
            say(r.stdout[-3000:] + r.stderr[-3000:])
    say(f"  {folder} built in {time.monotonic() - began:.0f} s")
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


def command(argv, env, seconds, idle=False):
    """(output, exit status); its processes end with it."""
    with tempfile.TemporaryDirectory(prefix="penn-run-") as folder:
        full = dict(os.environ, TMPDIR=folder, **env)
        p = subprocess.Popen([*beside.prefix, *argv] if idle else argv,
                             env=full, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, text=True,
                             errors="replace", stdin=subprocess.DEVNULL,
                             start_new_session=idle)
        if idle:
            beside.began(p)
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
        finally:
            if idle:
                beside.ended(p)


def verdicts(output):
    """The lines of a failed command that say what failed."""
    return [x.strip() for x in output.splitlines()
            if re.search(r"FAILED: |:[EF]:|: [Aa]ssert|ERROR: \w+San", x)][:4]


def run_all(tally, jobs, width=1):
    """JOBS: (label, argv, env, seconds)."""
    def one(job):
        began = time.monotonic()
        out, code = command(*job[1:], idle=tally.lines is not None)
        return job[0], out, code, time.monotonic() - began

    with concurrent.futures.ThreadPoolExecutor(width) as pool:
        for label, out, code, took in pool.map(one, jobs):
            good, bad = count(out, code)
            tally.passed += good
            tally.failed += bad
            if bad:
                why = verdicts(out)
                tally.failures.append("\n    ".join([label, *why]))
                tally.say(f"  FAILED {label} (exit {code}, {took:.1f} s)")
                tally.say("    " + "\n    ".join(out.splitlines()[-60:]))
            else:
                notes = [x for x in out.splitlines() if x.startswith("  ")]
                tally.say(f"  ok {label}: {good} ({took:.1f} s)")
                for line in notes[-12:]:
                    tally.say("  " + line)


SANITIZE = {
    "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0:exitcode=99",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
    "TSAN_OPTIONS": "halt_on_error=1:exitcode=98:second_deadlock_stack=1",
}


def programs(build_name):
    return sorted(p for p in glob.glob(f"build/{build_name}/unit_*")
                  if os.access(p, os.X_OK) and "." not in os.path.basename(p))


def unit(tally, build_name, only=None):
    # A test's own limit, of 60 s, is for what hangs and not for slow machines.
    env = dict(SANITIZE, srcdir=SRC, CK_TIMEOUT_MULTIPLIER="10")
    jobs = [(os.path.basename(p), [os.path.abspath(p)], env, 1800)
            for p in longest_first(programs(build_name))
            if only is None or os.path.basename(p) in only]
    run_all(tally, jobs, width=CORES)


def sim(tally, build_name, seeds):
    first = int(os.environ.get("SEED", "1"))
    width = CORES
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
    run_all(tally, jobs, width=CORES)


def scripts(tally, build_name, names, env=None, seconds=3600):
    """Two at a time, most of their time being spent in waiting; but for those
    that hold the machine to a bound in time."""
    full = dict(SANITIZE, PENN_BUILD=os.path.abspath(f"build/{build_name}"),
                **(env or {}))
    jobs = {n: (f"{n} ({build_name})", [sys.executable, n], full, seconds)
            for n in names}
    alone = [n for n in names if os.path.basename(n) in ALONE]
    run_all(tally, [jobs[n] for n in longest_first(names) if n not in alone],
            width=2)
    beside.stand_still(True)
    try:
        run_all(tally, [jobs[n] for n in alone])
    finally:
        beside.stand_still(False)


# name, least level, builds, what it does (tally, level); first what can go on
# beside all the others
PARTS = [
    ("tidy", QUICK, ["test"], lambda t, n: run_all(t, [(
        "tidy", [sys.executable, "tests/tidy/tidy.py", ".", "build/test",
                 *{QUICK: ["--quick"], DEFAULT: [], FULL: ["--all"]}[n]], {},
                 7200)])),
    ("sim", QUICK, ["test"],
     lambda t, n: sim(t, "test", {QUICK: 100, DEFAULT: 600, FULL: 100000}[n])),
    ("scenarios", DEFAULT, ["test"], scenarios),
    ("unit", QUICK, ["test"], lambda t, n: unit(t, "test")),
    ("man", QUICK, ["test"],
     lambda t, n: scripts(t, "test", ["tests/unit/check_man.py"])),
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
COMPUTING = ("tidy", "sim", "scenarios", "asan-sim")  # nothing waits there


def timed(name, run, tally, level):
    start = time.monotonic()
    tally.say(f"== {name}")
    run(tally, level)
    tally.say(f"== {name}: {time.monotonic() - start:.0f} s")


def timed_beside(name, run, level):
    tally = Tally()
    tally.lines = []
    timed(name, run, tally, level)
    say("\n".join(tally.lines))
    return tally


def run_parts(parts, level, tally):
    """Those that compute go on beside the others, one after the other."""
    built, going = {}, []
    apart = any(name not in COMPUTING for name, _, _ in parts)
    with concurrent.futures.ThreadPoolExecutor(1) as lane:
        for name, builds, run in parts:
            for b in builds:
                if b not in built:
                    built[b] = build(b)
                if not built[b]:
                    tally.failed += 1
                    tally.failures.append(f"build {b}")
            if not all(built[b] for b in builds):
                continue
            if apart and name in COMPUTING:
                going.append(lane.submit(timed_beside, name, run, level))
            else:
                timed(name, run, tally, level)
        for g in going:
            tally.add(g.result())


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
    unknown = set(wanted) - {x[0] for x in PARTS}
    if unknown:
        p.error("no such part: " + ", ".join(sorted(unknown)))
    if a.list:
        for name, least, builds, _ in PARTS:
            say(f"{name} (from --{('quick', 'default', 'full')[least]})")
        return 0
    signal.signal(signal.SIGTERM, beside.end_all)
    tally, began = Tally(), time.monotonic()
    try:
        run_parts([(name, builds, run) for name, least, builds, run in PARTS
                   if (name in wanted if wanted else least <= level)],
                  level, tally)
    except BaseException:
        beside.end()
        raise
    if tally.failures:
        say("failed:\n  " + "\n  ".join(tally.failures))
    say(f"took {time.monotonic() - began:.0f} s")
    say(f"{tally.passed} passed, {tally.failed} failed")
    return 1 if tally.failed else 0


if __name__ == "__main__":
    sys.exit(main())
