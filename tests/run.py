#!/usr/bin/env python3
"""Runs the parts of the test suite, each in its time, and adds them up.

usage: run.py [--quick | --full] [--only PART[,PART]] [--list]

A part is a few commands on one build. A command's tests are counted from
what it prints: Check's summary, "N passed, N failed", or else its exit
status as one test.

Most commands spend much of their time in waiting: so several go on at once, the
next part's while the last one's still do. What only computes, builds too, goes
on beside them and takes no processor that these want (SCHED_IDLE); it stands
still while, in the end, scripts that hold the machine to a bound in time run
one by one."""
import argparse
import collections
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
import traceback

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

# Scripts that hold gaps and rates to a bound; with sanitizers the first one's
# are so wide that it needs no quiet machine.
ALONE = ("test_failover.py", "test_bench.py", "test_drip.py",
         "test_browser.py")
ALONE_SANITIZED = ("test_bench.py",)
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
# Of so many shares a script, most of which is waiting, takes four; a program of
# units, which waits for disks and clocks, three.
SHARES, SCRIPT, UNIT = 6 * CORES, 4, 3

Job = collections.namedtuple("Job", "label argv env seconds shares alone",
                             defaults=(UNIT, False))


def longest_first(names):
    def rank(name):
        base = os.path.basename(name)
        return LONG.index(base) if base in LONG else len(LONG)
    return sorted(names, key=rank)


class Tally:
    def __init__(self):
        self.lock = threading.Lock()
        self.passed = self.failed = 0
        self.failures = []

    def add(self, good, bad, failures=()):
        with self.lock:
            self.passed += good
            self.failed += bad
            self.failures += failures


class Part:
    """A part in this run: when it began and ended, what its commands took of
    the processor."""

    def __init__(self, name, jobs):
        self.name, self.jobs, self.left = name, jobs, len(jobs)
        self.began = self.processor = 0
        self.lock = threading.Lock()

    def begin(self):
        with self.lock:
            self.began = self.began or time.monotonic()

    def end(self, processor):
        with self.lock:
            self.left -= 1
            self.processor += processor
            if self.left == 0:
                say(f"== {self.name}: {time.monotonic() - self.began:.0f} s, "
                    f"{self.processor:.0f} s of processor")


def say(text=""):
    sys.stdout.write(text + "\n")  # whole lines: several threads say things
    sys.stdout.flush()


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


def build(name, idle=False):
    options = list(BUILDS[name])
    if subprocess.run(["which", "ccache"], capture_output=True).returncode == 0:
        options.append("CC=ccache gcc")
    folder, began = f"build/{name}", time.monotonic()
    # What is not cached yet costs a third more where ccache preprocesses it.
    env, more = {"CCACHE_DEPEND": "1"}, ["check-programs"]
    if name == "tsan":
        env["PENN_TARGETS"] = ""  # configures only
        more = ["some-programs", "SOME=" + " ".join(THREADED)]
    out, code, took = command(["bash", "build-aux/build", folder, *options],
                              env, 7200, idle)
    if code == 0:
        out, code, more = command(["make", "-s", "-C", folder, f"-j{CORES}",
                                   *more], env, 7200, idle)
        took += more
    if code != 0:
        say(out[-6000:])
    say(f"== {folder} built: {time.monotonic() - began:.0f} s, "
        f"{took:.0f} s of processor")
    return code == 0


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
    """(output, exit status, seconds of processor); its processes end with
    it."""
    with tempfile.TemporaryDirectory(prefix="penn-run-") as folder:
        full = dict(os.environ, TMPDIR=folder, **env)
        # A group, not a session: in one of its own (autogroup) it would have
        # its share of the processors however idle it is.
        p = subprocess.Popen([*beside.prefix, *argv] if idle else argv,
                             env=full, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, text=True,
                             errors="replace", stdin=subprocess.DEVNULL,
                             process_group=0 if idle else None)
        if idle:
            beside.began(p)
        late = []

        def stop(number):
            late.append(number)
            os.kill(p.pid, number)

        limits = [threading.Timer(seconds, stop, [signal.SIGTERM]),
                  threading.Timer(seconds + 30, stop, [signal.SIGKILL])]
        for limit in limits:
            limit.start()
        try:
            out = p.stdout.read()
            # Not reaped before: its number is no other's when it is stopped.
            os.waitid(os.P_PID, p.pid, os.WEXITED | os.WNOWAIT)
            for limit in limits:
                limit.cancel()
                limit.join()
            _, status, usage = os.wait4(p.pid, 0)
            p.returncode = os.waitstatus_to_exitcode(status)
        finally:
            p.stdout.close()
            if idle:
                beside.ended(p)
        processor = usage.ru_utime + usage.ru_stime
        if late:
            return out + f"\nno end within {seconds} s", 124, processor
        return out, p.returncode, processor


def verdicts(output):
    """The lines of a failed command that say what failed."""
    return [x.strip() for x in output.splitlines()
            if re.search(r"FAILED: |:[EF]:|: [Aa]ssert|ERROR: \w+San", x)][:4]


def perform(tally, part, job, idle=False):
    """Runs JOB and says what came of it."""
    began = time.monotonic()
    part.begin()
    out, code, processor = command(job.argv, job.env, job.seconds, idle)
    took = time.monotonic() - began
    good, bad = count(out, code)
    if bad:
        why = verdicts(out)
        tally.add(good, bad, ["\n    ".join([job.label, *why])])
        say("\n    ".join([f"  FAILED {job.label} (exit {code}, {took:.1f} s)",
                           *out.splitlines()[-60:]]))
    else:
        notes = [x for x in out.splitlines() if x.startswith("  ")]
        tally.add(good, 0)
        say("\n  ".join([f"  ok {job.label}: {good} ({took:.1f} s)",
                         *notes[-12:]]))
    part.end(processor)


SANITIZE = {
    "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0:exitcode=99",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
    "TSAN_OPTIONS": "halt_on_error=1:exitcode=98:second_deadlock_stack=1",
}


def programs(build_name):
    return sorted(p for p in glob.glob(f"build/{build_name}/unit_*")
                  if os.access(p, os.X_OK) and "." not in os.path.basename(p))


def unit(build_name, only=None):
    # A test's own limit, of 60 s, is for what hangs and not for slow machines.
    env = dict(SANITIZE, srcdir=SRC, CK_TIMEOUT_MULTIPLIER="10")
    kind = "" if build_name == "test" else f" ({build_name})"
    return [Job(os.path.basename(p) + kind, [os.path.abspath(p)], env, 1800)
            for p in longest_first(programs(build_name))
            if only is None or os.path.basename(p) in only]


def sim(build_name, seeds):
    first = int(os.environ.get("SEED", "1"))
    each = (seeds + CORES - 1) // CORES
    program = os.path.abspath(f"build/{build_name}/sim")
    return [Job(f"sim seeds {first + i * each}..{first + (i + 1) * each - 1} "
                f"({build_name})",
                [program, "--seed", str(first + i * each), "--runs", str(each)],
                SANITIZE, 3600) for i in range(CORES)]


def scenarios(level):
    """Each named course of events; each deliberate bug, which must be found."""
    program = os.path.abspath("build/test/sim")
    listed = subprocess.run([program, "--list"], capture_output=True,
                            text=True).stdout.split("\n")
    runs = {QUICK: "1", DEFAULT: "5", FULL: "200"}[level]
    return [Job(f"scenario {x.split()[1]}",
                [program, "--scenario", x.split()[1], "--runs", runs], {}, 1800)
            for x in listed if x.startswith("scenario ")] + [
            Job(f"bug {x.split()[1]}",
                [program, "--bug", x.split()[1], "--runs", "3000"], {}, 900)
            for x in listed if x.startswith("bug ")]


def scripts(build_name, names, env=None, seconds=3600):
    full = dict(SANITIZE, PENN_BUILD=os.path.abspath(f"build/{build_name}"),
                **(env or {}))
    alone = ALONE if build_name == "test" else ALONE_SANITIZED
    return [Job(f"{n} ({build_name})", [sys.executable, n], full, seconds,
                SCRIPT, os.path.basename(n) in alone)
            for n in longest_first(names)]


def tidy(level):
    more = {QUICK: ["--quick"], DEFAULT: [], FULL: ["--all"]}[level]
    return [Job("tidy", [sys.executable, "tests/tidy/tidy.py", ".",
                         "build/test", *more], {}, 7200)]


# name, least level, build, its jobs at a level
PARTS = [
    ("tidy", QUICK, "test", tidy),
    ("sim", QUICK, "test",
     lambda n: sim("test", {QUICK: 100, DEFAULT: 900, FULL: 100000}[n])),
    ("scenarios", DEFAULT, "test", scenarios),
    ("unit", QUICK, "test", lambda n: unit("test")),
    ("man", QUICK, "test",
     lambda n: scripts("test", ["tests/unit/check_man.py"])),
    ("cluster", DEFAULT, "test", lambda n: scripts(
        "test", sorted(glob.glob("tests/cluster/test_*.py")),
        {"PENN_KILLS": "200", "PENN_CHAOS": "600"} if n == FULL else {})),
    ("crash", DEFAULT, "test", lambda n: scripts(
        "test", sorted(glob.glob("tests/crash/test_*.py")),
        {"PENN_CRASH_POINTS": "20000", "PENN_CRASH_KILLS": "10"}
        if n == FULL else {})),
    ("e2e", DEFAULT, "test", lambda n: scripts(
        "test", sorted(glob.glob("tests/e2e/test_*.py")),
        {"PENN_ROUNDS": "20" if n == FULL else "5"})),
    ("asan-unit", DEFAULT, "asan", lambda n: unit("asan")),
    ("asan-sim", DEFAULT, "asan",
     lambda n: sim("asan", 2000 if n == FULL else 100)),
    ("asan-cluster", DEFAULT, "asan", lambda n: scripts(
        "asan", sorted(glob.glob("tests/cluster/test_*.py")),
        {} if n == FULL else {"PENN_SUBSET": "1", "PENN_KILLS": "3"})),
    ("tsan", DEFAULT, "tsan", lambda n: unit("tsan", THREADED)),
]
COMPUTING = ("tidy", "sim", "scenarios", "asan-sim")  # nothing waits there


class Shares:
    """How much of the machine is taken."""

    def __init__(self):
        self.free, self.changed = SHARES, threading.Condition()

    def take(self, n):
        with self.changed:
            self.changed.wait_for(lambda: self.free >= n)
            self.free -= n

    def give(self, n):
        with self.changed:
            self.free += n
            self.changed.notify()


class Run:
    def __init__(self, level, tally):
        self.level, self.tally, self.shares = level, tally, Shares()
        self.front = concurrent.futures.ThreadPoolExecutor(SHARES)
        self.lane = concurrent.futures.ThreadPoolExecutor(1)
        self.builds, self.going, self.alone = {}, [], []

    def build_all(self, names):
        """The first at once, the others beside what that one is enough for."""
        for i, name in enumerate(names):
            self.builds[name] = (self.lane if i > 0 else self.front).submit(
                build, name, i > 0)
            if i == 0:
                concurrent.futures.wait([self.builds[name]])

    def built(self, name):
        if self.builds[name].result():
            return True
        self.tally.add(0, 1, [f"build {name}, needed by a part"])
        return False

    def in_front(self, job, part):
        try:
            perform(self.tally, part, job)
        finally:
            self.shares.give(job.shares)

    def compute(self, row):
        """In the lane: one part after the other, as wide as the machine."""
        name, _, build_name, jobs_of = row
        if self.built(build_name):
            jobs = jobs_of(self.level)
            part = Part(name, jobs)
            with concurrent.futures.ThreadPoolExecutor(CORES) as pool:
                for f in [pool.submit(perform, self.tally, part, job, True)
                          for job in jobs]:
                    f.result()

    def begin(self, row):
        """Begins a part's jobs as there is room, but for those that run
        alone."""
        name, _, build_name, jobs_of = row
        if not self.built(build_name):
            return
        jobs = jobs_of(self.level)
        self.alone += [job for job in jobs if job.alone]
        jobs = [job for job in jobs if not job.alone]
        part = Part(name, jobs)
        for job in jobs:
            self.shares.take(job.shares)
            self.going.append(self.front.submit(self.in_front, job, part))

    def one_by_one(self):
        part = Part("one by one", self.alone)
        beside.stand_still(True)
        try:
            for job in self.alone:
                perform(self.tally, part, job)
        finally:
            beside.stand_still(False)

    def all(self, rows):
        self.build_all(list(dict.fromkeys(row[2] for row in rows)))
        lane = [self.lane.submit(self.compute, row) for row in rows
                if row[0] in COMPUTING]
        for row in rows:
            if row[0] not in COMPUTING:
                self.begin(row)
        for f in self.going:
            f.result()
        self.one_by_one()
        for f in lane:
            f.result()


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
        Run(level, tally).all(
            [row for row in PARTS
             if (row[0] in wanted if wanted else row[1] <= level)])
    except BaseException:  # not to wait for what still goes on
        traceback.print_exc()
        beside.end_all(signal.SIGINT, None)
    if tally.failures:
        say("failed:\n  " + "\n  ".join(tally.failures))
    say(f"took {time.monotonic() - began:.0f} s")
    say(f"{tally.passed} passed, {tally.failed} failed")
    return 1 if tally.failed else 0


if __name__ == "__main__":
    sys.exit(main())
