"""Processes that die, hang and come back at chosen calls: within a rotation,
a checkpoint, recovery itself, the install of a snapshot. What was acknowledged
is there, and so it is after a power loss at any place of these lives.

PENN_CRASH_KILLS: how often each kind of place is tried (2)."""
import os
import random
import subprocess
import sys

sys.path.insert(0, os.path.dirname(__file__))
from traced import Traced  # noqa: E402
from penn import Failure, expect, run, wait_for  # noqa: E402
from store import SLOW, Writer  # noqa: E402

ROUNDS = int(os.environ.get("PENN_CRASH_KILLS", "2"))
SEED = int(os.environ.get("PENN_CRASH_SEED", "1"))

# Calls of a running process: of its log, of a rotation, of a checkpoint.
RUNNING = ["pwrite /wal-0", "fdatasync /wal-0", "pwrite /wal-begin",
           "fdatasync /wal-begin", "open /t0", "pwrite /t0", "rename /t0",
           "unlink /t0", "fsync shard-00"]
# ... of one that recovers.
STARTING = ["open .new-store", "pwrite .new-store", "rename store.copy",
            "mkdir shard-00", "open /wal-0", "pread /wal-0", "pread /t0",
            "pwrite /wal-0", "fdatasync /wal-0", "open .new-wal-begin",
            "rename wal-begin", "pread /wal-begin"]
# ... of one that takes a snapshot, which ends as a checkpoint.
INSTALLING = ["open /t0", "pwrite /t0", "fsync /t0", "rename /t0",
              "fsync shard-00"]


def note(text):
    print(f"  {text}", flush=True)


def ended(s, name, seconds=80):
    try:
        code = s.children[name].wait(seconds * SLOW)
    except subprocess.TimeoutExpired:
        return False
    expect(code == -9, f"{name}: exit {code}: {s.last_line(name)}")
    return True


def rounds(calls, kills, times=ROUNDS, share=0.5):
    """Numbers of rounds: each of CALLS so many TIMES, and on a slow machine,
    where a call may not come in time, more, until enough have died."""
    least = times * len(calls) * share
    for i in range(6 * times * len(calls)):
        if i < times * len(calls) or kills() < least:
            yield i
    expect(kills() >= least, "too few died")


def audit(s, w):
    s.wait_whole(60)
    w.progress()
    stats = w.finish()
    s.check()
    s.die_all()
    for name in s.storages():
        s.true(name)
        code, text = s.look(name, "--points", "150", "--seed", str(SEED))
        expect(code == 0, f"{name}: {text[-3000:]}")
    return stats


def running():
    draw = random.Random(SEED)
    with Traced() as s:
        s.start_all()
        with Writer(s, value_size=1500) as w:
            kills = 0
            for i in rounds(RUNNING, lambda: kills):
                name = f"storage-{1 + i % 3}"
                s.fault(name, f"{RUNNING[i % len(RUNNING)]} kill "
                        f"{draw.randrange(6)}")
                w.progress(10)
                kills += ended(s, name, 3)
                s.fault(name)
                if s.children[name].poll() is not None:
                    s.start(name)
                s.wait_whole()
            audit(s, w)
    note(f"{kills} kills at {len(RUNNING)} kinds of calls")


def recovery():
    draw = random.Random(SEED)
    with Traced() as s:
        s.start_all()
        with Writer(s, value_size=1500) as w:
            kills = 0
            for i in rounds(STARTING, lambda: kills):
                name = f"storage-{1 + i % 3}"
                s.die(name)
                for again in range(2):  # recovery of a broken recovery
                    what = STARTING[(i + again) % len(STARTING)]
                    s.fault(name, f"{what} kill {draw.randrange(3)}")
                    p = s.spawn(name)
                    wait_for(lambda: p.poll() is not None or s.ready(name),
                             20 * SLOW, f"{name} starts or dies")
                    if p.poll() is None:
                        break
                    expect(ended(s, name), "it died")
                    kills += 1
                s.fault(name)
                if s.children[name].poll() is not None:
                    s.start(name)
                w.progress(3)
                s.wait_whole()
            audit(s, w)
    note(f"{kills} kills within recovery")


def install():
    """Killed at each step of taking a snapshot, again and again."""
    with Traced() as s:
        s.start_all()
        victim = "storage-3"
        with Writer(s, value_size=4000) as w:
            kills = 0
            for i in rounds(INSTALLING, lambda: kills, 1, 1.0):
                what = INSTALLING[i % len(INSTALLING)]
                s.die(victim)
                w.progress(150)  # more than the others keep for it
                for skip in range(ROUNDS):
                    s.fault(victim, f"{what} kill {2 * skip}")
                    s.spawn(victim)
                    kills += ended(s, victim, 5)
                    s.fault(victim)
                    if s.children[victim].poll() is None:
                        break
                if s.children[victim].poll() is not None:
                    s.start(victim)
                s.wait_whole(60)
            text = s.log(victim)
            audit(s, w)
    expect("event=snapshot-asked" in text, "no snapshot was taken")
    note(f"{kills} kills while a snapshot was installed")


def epochs(s):
    """As another replica sees them."""
    return sum(r["epoch"]
               for r in s.status("storage-2")["storage"]["replicas"])


def hung(fault, down, seconds=4):
    """A disk that takes SECONDS for a call: DOWN says whether the others must
    do without the process meanwhile (R18); it comes back by itself."""
    with Traced() as s:
        s.start_all()
        name = "storage-1"
        with Writer(s, value_size=1500) as w:
            w.progress(20)
            before = epochs(s)
            w.mark()
            s.fault(name, f"{fault} delay:{seconds * 1000}")
            if down:
                wait_for(lambda: s.node_state(name) == "down", 10 * SLOW,
                         f"{fault}: it is done without")
            else:
                w.elapse(seconds + 1)
                expect(epochs(s) == before, f"{fault}: epochs changed")
            w.progress(20)
            gap = w.mark()["longest_ms"]
            audit(s, w)
            expect(gap < 3000 * SLOW, f"{fault}: longest gap {gap:.0f} ms")
            note(f"{fault} for {seconds} s: longest gap {gap:.0f} ms")


def hangs():
    hung("fdatasync /wal-0", True)
    hung("fsync /t0", False)
    if ROUNDS > 2:
        hung("pwrite /wal-0", True)
        hung("pwrite /t0", False)
        hung("fdatasync /wal-begin", False)


if __name__ == "__main__":
    run(running, recovery, install, hangs, subset=(recovery,))
