"""Disk errors and full disks on the real thing, briefly: system calls of the
running daemons are made to fail by strace, and their data is on ext4 images
that are too small (root; skipped with a note where they cannot be mounted).
Longer courses are in test_faults.py, call by call in tests/crash/."""
import contextlib
import glob
import os
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
sys.path.insert(0, os.path.join(HERE, "..", "crash"))
from penn import Failure, expect, run, wait_for  # noqa: E402
from store import SLOW, Store, Writer  # noqa: E402
from test_faults import Strace, audit, none_ended, note  # noqa: E402
from test_power import Disk  # noqa: E402

EX_IOERR = 74
WRITES = "write,pwrite64,pwritev,writev"
MIB = 1 << 20


def disk_error():
    """R18: the process says why and stops; the others go on; started again,
    it is taken back."""
    with Store() as s, Writer(s) as w:
        for when, calls in ((1, "fdatasync"), (7, "fdatasync,pwrite64")):
            victim = s.busiest()
            at = s.log_size(victim)
            w.mark()
            with Strace(s, victim, f"error=EIO:when={when}", calls) as t:
                code = s.children[victim].wait(20 * SLOW)
                t.expect_hits()
            text = s.log(victim, at)
            expect(code == EX_IOERR, f"exit {code}: {text[-500:]}")
            expect("level=fatal" in text and "could not be written" in text,
                   f"it says why: {text[-500:]}")
            w.progress(20)
            gap = w.mark()["longest_ms"]
            s.start(victim)
            s.wait_whole()
            note(f"EIO of {calls}: longest gap {gap:.0f} ms")
        audit(s, w)


def no_space():
    """Writes of the blob log find no room, whatever the disk says is free: the
    process says so and goes on, others take its place; then it comes back."""
    with Store() as s, Writer(s, value_size=20000) as w:
        w.progress(5)
        victim = s.busiest()
        at = s.log_size(victim)
        w.mark()
        files = glob.glob(os.path.join(s.data(victim), "*", "blobs-*"))
        expect(files, "it has blobs")
        with Strace(s, victim, "error=ENOSPC:when=1+", WRITES, files) as t:
            s.wait_log(victim, "module=blobs event=disk-full", at, 20)
            wait_for(lambda: s.primaries(victim) == 0, 30 * SLOW,
                     "others are primary")
            w.progress(20)
            t.expect_hits()
        gap = w.mark()["longest_ms"]
        s.wait_log(victim, "module=blobs event=disk-has-room", at, 20)
        s.wait_whole(60)
        w.progress()
        none_ended(s)
        audit(s, w)
        note(f"ENOSPC of blobs: longest gap {gap:.0f} ms")


SMALL = {"storage": {"log_limit": "4M", "segment_size": "9M"}}


@contextlib.contextmanager
def small_disks(megabytes):
    """A store whose storage processes have each a file system of its own; None
    if they cannot be mounted."""
    with Store(tablets=4, options=SMALL, start=False) as s, \
            contextlib.ExitStack() as own:
        found = [own.enter_context(Disk(s, n, megabytes))
                 for n in s.storages()]
        own.callback(lambda: [s.kill(n) for n in s.storages()
                              if n in s.children])
        if not all(d.mounted for d in found):
            note(f"SKIPPED, cannot mount: "
                 f"{[d.why for d in found if not d.mounted][0]}")
            yield None
            return
        s.start_all()
        yield s


def kv(s, *args, timeout="2"):
    return s.pennctl("--timeout", timeout, "kv", *args, check=False)


def put(s, i, value):
    return kv(s, "put", f"p{i}", "r", "c", "--file", value)


def fill(s, value):
    """Puts until it is refused; how many were taken, and what was said."""
    for i in range(200):
        r = put(s, i, value)
        if r.returncode != 0:
            return i, r.stderr
    raise Failure("it is never full")


def full_disks():
    """Three small disks, filled by what clients put: refused in clear words,
    everything is still read; deleting is taken, and the space returns."""
    with small_disks(192) as s:
        if s is None:
            return
        value = s.path("value")
        content = os.urandom(4 * MIB)
        with open(value, "wb") as f:
            f.write(content)
        had, said = fill(s, value)
        expect("full" in said, f"says why: {said}")
        expect(had >= 5, f"only {had}")
        text = s.pennctl("status", check=False).stdout
        expect("disk full" in text, f"status: {text}")
        copy = s.path("copy")
        for i in range(had):
            with open(copy, "wb") as f:
                r = subprocess.run(
                    [os.path.join(os.environ.get("PENN_BUILD", "build"),
                                  "pennctl"), "--config", s.conf, "kv", "get",
                     f"p{i}", "r", "c"], stdout=f, stderr=subprocess.PIPE)
            expect(r.returncode == 0 and open(copy, "rb").read().startswith(
                content), f"{i} is there: {r.stderr}")
        for i in range(1, had):
            r = kv(s, "delete", f"p{i}", "r", "c", timeout="10")
            expect(r.returncode == 0, f"delete {i} of {had}: {r.stderr}")
        wait_for(lambda: put(s, 1, value).returncode == 0, 30 * SLOW,
                 "the space returns", pause=0.2)
        for i in range(2, had // 2):
            wait_for(lambda: put(s, i, value).returncode == 0, 30 * SLOW,
                     f"it takes {i} of {had}", pause=0.2)
        none_ended(s)
        s.check()
        note(f"192 MiB a disk: {had} values of 4 MiB, deleted, and again")


if __name__ == "__main__":
    if shutil.which("strace") is None:
        raise Failure("strace is missing: build-aux/install-packages test")
    run(disk_error, no_space, full_disks,
        subset=(full_disks,))
