"""Disks that fail, hang and fill, under a writer: a process that cannot vouch
for its disk stops and says so (R18), one whose disk is full says so and takes
no part; the cluster goes on and nothing is lost.

Faults come from strace, which makes system calls fail, and from a small tmpfs
mounted over a data directory (root)."""
import contextlib
import os
import shutil
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "lib"))
from penn import Failure, expect, run, wait_for  # noqa: E402
from store import SLOW, Store, Writer  # noqa: E402

SYNCS = "fdatasync,fsync"
# LeakSanitizer cannot work under ptrace.
NO_LEAKS = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "")
            .replace("detect_leaks=1", "detect_leaks=0")}


def note(text):
    print(f"  {text}", flush=True)


class Strace:
    """Injects into a running process until it ends or is let go."""

    def __init__(self, store, name, inject, calls=SYNCS, files=()):
        """Only calls on FILES, if there are any."""
        self.out = store.path("strace." + name)
        only = [x for f in files for x in ("-P", f)]
        self.p = subprocess.Popen(
            ["strace", "-f", "-q", "-o", self.out, "-p", str(store.pid(name)),
             *only, "-e", f"trace={calls}", "-e", f"inject={calls}:{inject}"],
            stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.p.poll() is None:
            self.p.send_signal(signal.SIGTERM)
        try:
            self.p.wait(2)
        except subprocess.TimeoutExpired:  # it is within a delay
            self.p.kill()
            self.p.wait()
        self.p.stderr.close()

    def expect_hits(self):
        wait_for(lambda: "(INJECTED)" in open(self.out).read(), 5,
                 "strace injects")


def under_strace(inject, calls=SYNCS):
    """A program's wrapping that injects from its start; the tracer is a
    grandchild, so the pid is the daemon's own."""
    return ["strace", "-D", "-f", "-q", "--seccomp-bpf", "-o", "/dev/null",
            "-e", f"trace={calls}", "-e", f"inject={calls}:{inject}"]


def audit(s, w):
    s.wait_whole()
    w.progress()
    stats = w.finish()
    s.check()
    return stats


def failed_sync():
    """R18: one EIO of a sync, and the process stops, for good; as primary and
    as secondary, while it writes its log."""
    with Store() as s, Writer(s) as w:
        for _ in range(2):
            victim = s.busiest()
            at = s.log_size(victim)
            w.mark()
            with Strace(s, victim, "error=EIO:when=1") as t:
                code = s.ended(victim)
                t.expect_hits()
            text = s.log(victim, at)
            expect(code == 74, f"exit {code}, not EX_IOERR: {text[-500:]}")
            expect("level=fatal" in text and "could not be written" in text,
                   f"it says why: {text[-500:]}")
            w.progress(20)
            gap = w.mark()["longest_ms"]
            s.start(victim)
            s.wait_whole()
        stats = audit(s, w)
        note(f"EIO of a sync: longest gap {gap:.0f} ms, "
             f"{stats['unknown']} unknown")


def failed_write():
    """EIO and a short write of the log."""
    with Store() as s, Writer(s) as w:
        victim = s.busiest()
        with Strace(s, victim, "error=EIO:when=1", "pwrite64,pwritev") as t:
            code = s.ended(victim)
            t.expect_hits()
        expect(code == 74, f"exit {code}: {s.last_line(victim)}")
        w.progress(20)
        s.start(victim)
        s.wait_whole()
        audit(s, w)


def failed_sync_of_coordinator():
    with Store() as s, Writer(s) as w:
        with Strace(s, "coordinator-1", "error=EIO:when=1") as t:
            s.kill("storage-1")  # something to decide
            code = s.ended("coordinator-1")
            t.expect_hits()
        expect(code == 74, f"exit {code}: {s.last_line('coordinator-1')}")
        s.start("coordinator-1")
        w.progress(20)
        s.start("storage-1")
        audit(s, w)


def slow_syncs():
    """P6: each sync 50 ms slower; nobody is taken for dead."""
    delay = under_strace("delay_enter=50000")
    with Store(start=False) as s:
        for name in s.names():
            s.spawn(name, wrap=delay if name.startswith("storage") else (),
                    env=NO_LEAKS)
        s.wait_whole(60)
        with Writer(s, threads=8) as w:
            w.progress(5)
            epochs, w0 = s.epochs(), w.mark()
            w.elapse(8)
            w1 = w.mark()
            expect(s.epochs() == epochs, "a slow disk changed epochs")
            audit(s, w)
            rate = ((w1["acknowledged"] - w0["acknowledged"])
                    / (w1["seconds"] - w0["seconds"]))
            note(f"syncs slowed by 50 ms: {rate:.0f} writes/s, longest gap "
                 f"{w1['longest_ms']:.0f} ms, no failover")


def hung_sync():
    """R18: a process never vouches for a disk that stands still; when that
    comes back, so does the process, by itself."""
    with Store() as s, Writer(s) as w:
        victim = s.busiest()
        w.mark()
        with Strace(s, victim, "delay_enter=600000000:when=1"):
            wait_for(lambda: s.node_state(victim) == "down", 20 * SLOW,
                     "the coordinator does without it")
            w.progress(50)
            gap = w.mark()["longest_ms"]
        audit(s, w)
        note(f"a sync that hangs: longest gap {gap:.0f} ms")
        expect(gap < 4000 * SLOW, f"longest gap {gap} ms")


class SmallDisk:
    """A tmpfs as a node's data directory, from before its first start."""

    def __init__(self, store, name, size):
        self.path = store.data(name)
        os.makedirs(self.path, 0o700, exist_ok=True)
        r = subprocess.run(["mount", "-t", "tmpfs", "-o",
                            f"size={size},mode=0700", "penn-test", self.path],
                           capture_output=True, text=True)
        self.mounted = r.returncode == 0
        self.why = r.stderr.strip()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.mounted:
            subprocess.run(["umount", "-l", self.path], check=True)

    def fill(self):
        """Another's file takes what is left."""
        with open(os.path.join(self.path, "ballast"), "wb", 0) as f:
            with contextlib.suppress(OSError):
                while True:
                    f.write(bytes(1 << 16))

    def free(self):
        os.unlink(os.path.join(self.path, "ballast"))


SMALL = {"storage": {"log_limit": "4M", "segment_size": "9M"}}


@contextlib.contextmanager
def small_disks(names, size="192M"):
    """A whole store; the data of NAMES is on small disks of their own, which
    are given, or nothing where they cannot be mounted."""
    with Store(options=SMALL, start=False) as s, contextlib.ExitStack() as own:
        disks = [own.enter_context(SmallDisk(s, n, size)) for n in names]
        own.callback(lambda: [s.kill(n) for n in names if n in s.children])
        if not all(d.mounted for d in disks):
            note(f"SKIPPED, cannot mount: {disks[0].why}")
            yield s, []
            return
        s.start_all()
        yield s, disks


def read_all(w):
    """Every cell can be read, and holds what it must."""
    w.ask("hold")
    had = w.stats()
    now = w.ask("read")
    expect(now["violations"] == 0 and now["reads"] > had["reads"],
           f"reads go on: {now}")


def takes_none(w, seconds):
    had = w.stats()
    w.elapse(seconds)
    now = w.stats()
    return (now["acknowledged"] - had["acknowledged"]
            == now["settled"] - had["settled"])


def all_known(stats):
    return stats["unknown"] == (stats["settled"] + stats["voided"]
                                + stats["lost"])


def none_ended(s):
    for name in s.names():
        expect(s.children[name].poll() is None,
               f"{name} ended: {s.last_line(name)}")


def full_disk():
    """P9: one node's disk is full, which is primary of some tablets: others
    take over, and go on without it; when there is room again, it comes back
    by itself."""
    victim = "storage-2"
    with small_disks([victim]) as (s, disks):
        if not disks:
            return
        with Writer(s, value_size=4000) as w:
            w.progress(5)
            expect(s.primaries(victim) > 0, "it is primary")
            at = s.log_size(victim)
            w.mark()
            disks[0].fill()
            s.wait_log(victim, "event=disk-full", at, 90)
            wait_for(lambda: s.primaries(victim) == 0, 30 * SLOW,
                     "others are primary")
            wait_for(lambda: "storage-2: disk full" in s.pennctl(
                "status", check=False).stdout, 5, "pennctl status names it")
            expect(s.status(victim)["storage"]["disk_full"], "so does /status")
            w.progress(50)
            gap = w.mark()["longest_ms"]
            expect(gap < 3000 * SLOW, f"longest gap {gap} ms")
            read_all(w)
            at = s.log_size(victim)
            disks[0].free()
            s.wait_log(victim, "event=disk-has-room", at)
            s.wait_whole(60)
            w.ask("go")
            none_ended(s)
            stats = audit(s, w)
            note(f"full disk: longest gap {gap:.0f} ms, "
                 f"{stats['refused']} refused, {stats['unknown']} unknown")


def full_disks():
    """P9: all disks are full: writes are refused, reads go on, and when
    there is room again all goes on by itself; no process has ended."""
    names = [f"storage-{i}" for i in (1, 2, 3)]
    with small_disks(names) as (s, disks):
        if not disks:
            return
        with Writer(s, value_size=4000, timeout_ms=3000) as w:
            w.progress(5)
            for d in disks:
                d.fill()
            wait_for(lambda: w.stats()["refused"] > 0, 90 * SLOW,
                     "writes are refused", pause=0.1)
            # Those on their way may still be taken; then none is, and each
            # is refused at its deadline. One whose answer is on its way just
            # then is unknown, but it can be settled: on the reserve.
            wait_for(lambda: takes_none(w, 4), 30 * SLOW, "no write is taken")
            before = w.ask("hold")  # figures that fit each other
            w.ask("go")
            wait_for(lambda: w.stats()["refused"] >= before["refused"] + 8,
                     30 * SLOW, "writes are refused again", pause=0.1)
            wait_for(lambda: all_known(w.stats()), 30 * SLOW,
                     "what is unknown becomes known", pause=0.1)
            after = w.ask("hold")
            expect(after["acknowledged"] - before["acknowledged"]
                   == after["settled"] - before["settled"],
                   f"none is taken: {before}, {after}")
            text = s.pennctl("status", check=False).stdout
            expect("writes are refused: disk full on storage-" in text,
                   f"pennctl status names it: {text}")
            read_all(w)
            for d in disks:
                d.free()
            # What is unknown must become known now; the writer says if not.
            w.ask("go")
            w.progress(20)
            w.ask("hold")
            s.wait_whole(60)
            w.ask("go")
            none_ended(s)
            stats = audit(s, w)
            note(f"all disks full: {stats['refused']} refused, "
                 f"{stats['unknown']} unknown")


def full_disk_of_coordinator():
    """What the coordinator writes has its place since its first start: on a
    full disk it goes on, decides, and starts again."""
    with small_disks(["coordinator-1"], "96M") as (s, disks):
        if not disks:
            return
        with Writer(s) as w:
            w.progress()
            disks[0].fill()
            epochs = s.epochs()
            victim = s.busiest()
            s.kill(victim)
            w.progress(20)
            s.start(victim)
            s.wait_whole()
            expect(s.epochs() > epochs, "it decided")
            s.kill("coordinator-1")
            w.progress()
            s.start("coordinator-1")
            s.wait_whole()
            s.kill(s.busiest())
            w.progress(20)
            expect(s.stop("coordinator-1") == 0, "a clean stop")
            s.start("coordinator-1")
            disks[0].free()
            for name in s.storages():
                if s.children[name].poll() is not None:
                    s.start(name)
            audit(s, w)


if __name__ == "__main__":
    if shutil.which("strace") is None:
        raise Failure("strace is missing: build-aux/install-packages test")
    run(failed_sync, failed_write, failed_sync_of_coordinator, slow_syncs,
        hung_sync, full_disk, full_disks, full_disk_of_coordinator,
        subset=(failed_sync, full_disk))
