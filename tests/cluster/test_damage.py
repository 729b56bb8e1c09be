"""Bit rot (P8): the files of a stopped storage process are damaged, one place
at a time, and it is started again under a writer. What was damaged must be
found and said, mended from the others, and never served: the writer keeps a
ledger and reads all of it back.

PENN_FLIPS says how many damages there are (12), PENN_SEED which. A place that
nothing ever reads is harmless, and is shown to be so by its position."""
import collections
import os
import random
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "lib"))
from penn import Failure, expect, run, wait_for  # noqa: E402
from store import SLOW, Store, Writer, program  # noqa: E402

import subprocess  # noqa: E402

FLIPS = int(os.environ.get("PENN_FLIPS", "12"))
SEED = int(os.environ.get("PENN_SEED", str(random.randrange(10 ** 6))))
BLOCK = 4096
HEAD = 128  # of a segment: what its header takes of the first block

# What says that damage was found, by what finds it.
FOUND = ("event=damaged", "event=log-damaged", "event=chain-broken",
         "event=tail-lost", "event=checkpoint-damaged",
         "event=checkpoints-lost", "event=condemned", "event=note-damaged",
         "event=header-damaged", "event=scrub-damaged",
         "event=log-torn", "event=register")

OPTIONS = {"storage": {"log_limit": "1M", "segment_size": "9M",
                       "scrub_interval": "1s", "scrub_rate": "256M"}}


class Files:
    """What stands where in a stopped data directory, as --inspect tells."""

    def __init__(self, store, name):
        self.dir = store.data(name)
        r = subprocess.run([program("penn-storaged"), "--inspect", self.dir,
                            "-v"], capture_output=True, text=True, timeout=60)
        self.rows = collections.defaultdict(list)
        for line in r.stdout.splitlines():
            word, *pairs = line.split(" ")
            self.rows[word].append(dict(p.split("=", 1) for p in pairs
                                        if "=" in p))
        self.verdict = self.rows["verdict"][0]

    def path(self, row):
        return os.path.join(self.dir, "shard-00", row["file"])

    def checkpoints(self, newest):
        """One for each tablet: its newest, or the one before."""
        by_tablet = collections.defaultdict(list)
        for row in self.rows["checkpoint"]:
            by_tablet[row["tablet"]].append((int(row["seq"]), row))
        for rows in by_tablet.values():
            rows.sort(key=lambda x: x[0], reverse=True)
        at = 0 if newest else 1
        return [rows[at][1] for rows in by_tablet.values() if len(rows) > at]


def a_record(files, rng):
    """(path, offset, length) of a record that a start reads; its padding,
    which nothing covers and nothing reads, left out."""
    row = rng.choice(files.rows["record"])
    length = 80 + int(row.get("payload", 0))
    return files.path(row), int(row["offset"]), length


def choose(files, kind, rng):
    """(path, first offset, length) of what is to be damaged."""
    def whole(path):
        return path, 0, os.path.getsize(path)
    if kind in ("store", "store.copy"):
        return whole(os.path.join(files.dir, kind))
    if kind == "wal-begin":  # of each of its blocks, what is used
        path = os.path.join(files.dir, "shard-00", "wal-begin")
        return path, rng.choice((0, BLOCK)), 64
    if kind == "record":
        return a_record(files, rng)
    if kind == "header":
        row = rng.choice([r for r in files.rows["segment"]
                          if r["state"] == "live"])
        return files.path(row), 0, HEAD
    rows = files.checkpoints(kind == "checkpoint")
    return whole(files.path(rng.choice(rows)))


def flip(path, offset, length, rng):
    at = offset + rng.randrange(length)
    with open(path, "r+b") as f:
        f.seek(at)
        old = f.read(1)[0]
        f.seek(at)
        f.write(bytes([old ^ (1 << rng.randrange(8))]))
    return f"bit at {at}"


def zero(path, offset, length, rng):
    at = (offset + rng.randrange(length)) // BLOCK * BLOCK
    with open(path, "r+b") as f:
        f.seek(at)
        had = f.read(BLOCK)
        if not had.strip(b"\0"):
            return None
        f.seek(at)
        f.write(bytes(len(had)))
    return f"block zeroed at {at}"


def swap(path, offset, length, rng):
    """Two blocks of what is in use change places."""
    blocks = (offset + length) // BLOCK - offset // BLOCK
    if blocks < 2:
        return None
    a = offset // BLOCK + rng.randrange(blocks)
    b = offset // BLOCK + rng.randrange(blocks)
    with open(path, "r+b") as f:
        def block(i, data=None):
            f.seek(i * BLOCK)
            return f.write(data) if data else f.read(BLOCK)
        x, y = block(a), block(b)
        if x == y or len(x) != len(y):
            return None
        block(a, y)
        block(b, x)
    return f"blocks swapped at {a * BLOCK} and {b * BLOCK}"


def truncate(path, offset, length, rng):
    at = offset + rng.randrange(length)
    os.truncate(path, at)
    return f"cut to {at}"


KINDS = ("record", "checkpoint", "checkpoint-before", "store", "store.copy",
         "wal-begin", "header")
WAYS = {flip: 14, zero: 3, swap: 2, truncate: 1}


class Table:
    """What was done, and what came of it."""

    def __init__(self):
        self.rows = collections.defaultdict(list)

    def add(self, kind, found, seconds):
        self.rows[kind].append((found, seconds))

    def show(self):
        for kind, rows in sorted(self.rows.items()):
            by = collections.Counter(found for found, _ in rows)
            times = sorted(s for _, s in rows)
            print(f"  {kind}: {len(rows)}; found by "
                  + ", ".join(f"{k} {v}" for k, v in by.most_common())
                  + f"; whole again after {times[len(times) // 2]:.1f} s, at "
                  f"most {times[-1]:.1f} s", flush=True)


def await_found(s, victim, at, seconds, path):
    """What found it; or a newer file took its place, unread."""
    def found():
        text = s.log(victim, at)
        return next((e[6:] for e in FOUND if e in text),
                    None if os.path.exists(path) else "nothing: replaced")
    try:
        return wait_for(found, seconds * SLOW, "damage is found")
    except Failure:
        return None


def one(s, w, kind, rng, table):
    """One damage; False if there was nothing to damage."""
    victim = rng.choice(s.storages())
    (s.stop if rng.random() < 0.5 else s.kill)(victim)
    files = Files(s, victim)
    expect(files.verdict["starts"] == "yes",
           f"{victim} was damaged before: {files.verdict}")
    path, offset, length = choose(files, kind, rng)
    way = rng.choices(list(WAYS), list(WAYS.values()))[0]
    did = way(path, offset, length, rng)
    text = f"{kind} of {victim} ({os.path.basename(path)}): {did}"
    log, began = s.log_size(victim), time.monotonic()
    s.start(victim)
    s.wait_whole(60)
    took = time.monotonic() - began
    if did is None:
        return False
    found = await_found(s, victim, log, 10, path)
    expect(found, f"{text}: not found\n{s.log(victim, log)[-1500:]}")
    table.add(f"{kind} {way.__name__}", found, took)
    s.check()
    return True


def flips():
    rng, table = random.Random(SEED), Table()
    print(f"  seed {SEED}", flush=True)
    with Store(tablets=4, options=OPTIONS) as s, Writer(s, threads=2) as w:
        wait_for(lambda: all(len(list(os.scandir(
            os.path.join(s.data(n), "shard-00")))) >= 12
            for n in s.storages()), 60 * SLOW, "each has two checkpoints")
        done = 0
        for i in range(10 * FLIPS):
            done += one(s, w, KINDS[i % len(KINDS)], rng, table)
            if done == FLIPS:
                break
            w.progress(2)
        stats = w.finish()
        expect(stats["violations"] == 0, f"{stats}")
        s.check()
        table.show()


if __name__ == "__main__":
    sys.exit(run(flips))
