"""Power loss at every place: real daemons write a trace of what they do to
their disks (record_io.h) while a writer works and processes are killed and
come back, and `crash` looks at what a power loss anywhere in it could leave.
Then the same with planted bugs, each of which it must find.

PENN_CRASH_POINTS: how many places are looked at (2000)."""
import contextlib
import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(__file__))
from traced import Traced, is_storage  # noqa: E402
from penn import Failure, expect, run  # noqa: E402
from store import SLOW, Writer, program  # noqa: E402

POINTS = int(os.environ.get("PENN_CRASH_POINTS", "2000"))
SEED = os.environ.get("PENN_CRASH_SEED", "1")
STORAGE_BUGS = [x.split("(")[1].split(",")[0] for x in open(os.path.join(
    os.path.dirname(__file__), "..", "..", "storage", "bugs.def"))
    if x.startswith("BUG(")]
COORDINATOR_BUGS = [x.split("(")[1].split(",")[0] for x in open(os.path.join(
    os.path.dirname(__file__), "..", "..", "coordinator", "bugs.def"))
    if x.startswith("BUG(")]


def note(text):
    print(f"  {text}", flush=True)


def cut_off(s, w):
    """The primary appends what nobody else gets, for they die just before it:
    when it comes back after them its log is cut (R12 d)."""
    victim = s.busiest()
    others = [n for n in s.storages() if n != victim]
    for name in others + [victim]:
        s.children[name].send_signal(signal.SIGUSR1)
    for name in others + [victim]:
        s.ended(name)
    for name in others:
        s.start(name)
    w.elapse(1)
    s.start(victim)
    s.wait_whole()


def live(s):
    """A life with all in it: rotation and checkpoints, deaths and recoveries,
    catch-up by log and by snapshot, cuts, a clean stop."""
    s.start_all()
    with Writer(s, threads=6, value_size=1500) as w:
        w.progress(60)
        for _ in range(2):
            victim = s.busiest()
            s.die(victim)
            w.progress(20)
            s.start(victim)
            s.wait_whole()
        for _ in range(2):
            cut_off(s, w)
        s.die("storage-2")
        w.progress(150)  # beyond what the others keep for it
        s.start("storage-2")
        s.wait_whole()
        w.progress(20)
        expect(s.stop("storage-3") == 0, "a clean stop")
        s.start("storage-3")
        s.die("coordinator-1")
        s.start("coordinator-1")
        s.wait_whole()
        w.progress(20)
        s.die_all()


def halves(s, name, points, *options):
    """Two processes share the work."""
    kind = "storage" if is_storage(name) else "coordinator"
    others = [s.trace(n) for n in s.storages() if n != name]
    ps = [subprocess.Popen(
        [program("crash"), "--points", str(points), "--seed", SEED, "--part",
         f"{i}/2", *options, kind, s.trace(name),
         *(others if is_storage(name) else [])],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for i in range(2)]
    texts = [p.communicate(timeout=3600)[0] for p in ps]
    for p, text in zip(ps, texts):
        expect(p.returncode == 0, f"{name}: {text[-3000:]}")
    return texts


def power_loss():
    with Traced() as s:
        began = time.monotonic()
        live(s)
        note(f"traced for {time.monotonic() - began:.1f} s")
        for name, points in (("storage-1", POINTS * 4 // 10),
                             ("storage-2", POINTS * 3 // 10),
                             ("storage-3", POINTS * 2 // 10),
                             ("coordinator-1", POINTS // 10)):
            began = time.monotonic()
            s.true(name)
            texts = halves(s, name, points)
            note(f"{name}: {time.monotonic() - began:.1f} s, "
                 + "; ".join(t.splitlines()[0].strip() for t in texts))


def found(s, names, points=1000):
    """The line that says what was found, on one of NAMES at least: which of
    them had to do with it is chance."""
    for name in names:
        code, text = s.look(name, "--points", str(points), "--seed", SEED)
        if code == 1:
            return f"{name}: {text.splitlines()[0]}"
    raise Failure(f"not found: {text[-500:]}")


def short_life(s):
    """With a bug in it, it may come to a stand."""
    s.start_all()
    with Writer(s, threads=4, value_size=900) as w:
        with contextlib.suppress(Failure):
            w.progress(40, 4)
            s.die(s.busiest())
            w.progress(40, 4)
        s.die_all()


def mask(names, name):
    return str(1 << names.index(name))


PLANTED = [
    ("no-sync", {"plant": "no-sync"}, "storage-1"),
    ("no-root-sync", {"plant": "no-root-sync"}, "storage-1"),
    ("no-shard-sync", {"plant": "no-shard-sync"}, "storage-1"),
    ("no-publish-sync", {"plant": "no-publish-sync"}, "storage-1"),
    ("short-write", {"plant": "short-write"}, "storage-1"),
    ("ack_before_sync", {"bugs": mask(STORAGE_BUGS, "ack_before_sync")},
     "storage-1"),
    ("epoch_not_durable", {"bugs": mask(STORAGE_BUGS, "epoch_not_durable")},
     "storage-1"),
    ("no-sync of the coordinator", {"plant": "no-sync"}, "coordinator-1"),
    ("announce_before_durable",
     {"bugs": mask(COORDINATOR_BUGS, "announce_before_durable")},
     "coordinator-1"),
]


def show(what, how, name):
    """Within three lives: some bugs need a moment that not each life has."""
    for life in range(3):
        with Traced(**how) as s:
            short_life(s)
            try:
                names = s.storages() if is_storage(name) else [name]
                note(f"{what}: {found(s, names)}")
                return
            except Failure:
                if life == 2:
                    raise


def planted():
    for what, how, name in PLANTED:
        show(what, how, name)


if __name__ == "__main__":
    run(power_loss, planted, subset=(power_loss,))
