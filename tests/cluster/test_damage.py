"""Bit rot (P8): the files of a stopped storage process are damaged, one place
at a time, and it is started again under a writer. What was damaged must be
found and said, mended from the others, and never served: the writer keeps a
ledger and reads all of it back.

PENN_FLIPS says how many damages there are (12), PENN_SEED which. A place that
nothing ever reads is harmless, and is shown to be so by its position."""
import collections
import os
import random
import re
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "lib"))
from penn import Failure, expect, get, run, wait_for  # noqa: E402
from store import SLOW, Store, Writer, program  # noqa: E402

import subprocess  # noqa: E402

FLIPS = int(os.environ.get("PENN_FLIPS", "12"))
SEED = int(os.environ.get("PENN_SEED", str(random.randrange(10 ** 6))))
BLOCK = 4096
HEAD = 104  # what the header of a segment takes of its first block

# What says that damage of a kind was found; of the log, with its range.
FOUND = {
    "store": r"event=damaged file=store$",
    "store.copy": r"event=damaged file=store.copy$",
    "wal-begin": r"event=note-damaged",
    "header": r"event=(header-damaged .*{file}|log-damaged)",
    "checkpoint": r"event=(checkpoint-damaged|checkpoints-lost|scrub-damaged)"
                  r" .*{file}",
    "checkpoint-before": r"event=(scrub-damaged|checkpoints-lost) .*{file}",
    "record": r"event=(log-damaged|log-recovered|damage-not-needed|"
              r"scrub-damaged)",
}

OPTIONS = {"storage": {"log_limit": "1M", "segment_size": "9M",
                       "scrub_interval": "1s", "scrub_rate": "256M"}}


class Files:
    """What stands where in a stopped data directory, as --inspect tells."""

    def __init__(self, store, name):
        self.dir = store.data(name)
        r = subprocess.run([program("penn-storaged"), "--inspect", self.dir,
                            "-v"], capture_output=True, text=True,
                           timeout=240 * SLOW)
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


def needed(files):
    """Records of entries that the checkpoints do not have, and that a later
    record proves to have been synced: else they are a torn tail (R16)."""
    seqs = {r["tablet"]: int(r["seq"]) for r in files.checkpoints(True)}
    proven = max(int(r["mark"]) for r in files.rows["record"])
    return [r for r in files.rows["record"] if r["kind"] == "entry"
            and int(r["name"].split(".")[1]) > seqs[r["tablet"]]
            and int(r["position"]) < proven]


def choose(files, kind, rng):
    """(path, first offset, length, what to add for a position) of what is to
    be damaged; None: there is no such thing."""
    def some(rows):
        return rng.choice(rows) if rows else None
    def whole(path):
        return path, 0, os.path.getsize(path), 0
    if kind in ("store", "store.copy"):
        return whole(os.path.join(files.dir, kind))
    if kind == "wal-begin":  # of each of its blocks, what is used
        path = os.path.join(files.dir, "shard-00", "wal-begin")
        return path, rng.choice((0, BLOCK)), 64, 0
    if kind == "record":  # but for its padding, which nothing ever reads
        row = some(needed(files))
        offset = row and int(row["offset"])
        return row and (files.path(row), offset, 80 + int(row.get("payload", 0)),
                int(row["position"]) - offset)
    if kind == "header":
        row = some([r for r in files.rows["segment"] if r["state"] == "live"])
        return row and (files.path(row), 0, HEAD, 0)
    row = some(files.checkpoints(kind == "checkpoint"))
    return row and whole(files.path(row))


def flip(path, offset, length, rng):
    at = offset + rng.randrange(length)
    with open(path, "r+b") as f:
        f.seek(at)
        old = f.read(1)[0]
        f.seek(at)
        f.write(bytes([old ^ (1 << rng.randrange(8))]))
    return at


def zero(path, offset, length, rng):
    at = (offset + rng.randrange(length)) // BLOCK * BLOCK
    with open(path, "r+b") as f:
        f.seek(at)
        had = f.read(BLOCK)
        if not had.strip(b"\0"):
            return None
        f.seek(at)
        f.write(bytes(len(had)))
    return at


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
    return a * BLOCK


def truncate(path, offset, length, rng):
    at = offset + rng.randrange(length)
    os.truncate(path, at)
    return at


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


def says(line, kind, path, place):
    """What in LINE says that this damage was found; None: nothing."""
    m = re.search(FOUND[kind].replace("{file}", os.path.basename(path)), line)
    if m is None or kind != "record":
        return m and m[0].split(" ")[0][6:]
    row = dict(p.split("=", 1) for p in line.split(" ") if "=" in p)
    if m[1] == "log-recovered":  # the last record: never proven, cut off
        torn = row["torn"] == "1" and int(row["end"]) < place[1]
        return "torn" if torn else None
    first = int(row.get("from", row.get("at", 0)))
    last = int(row.get("to", first + 1))
    return m[1] if first < place[1] and place[0] < last else None


def await_found(s, victim, at, damage):
    """What found it; or a newer file took its place, unread."""
    def found():
        for line in s.log(victim, at).splitlines():
            what = says(line, damage.kind, damage.path, damage.place)
            if what:
                return what
        return None if os.path.exists(damage.path) else "nothing: replaced"
    try:
        return wait_for(found, 15 * SLOW, "damage is found")
    except Failure:
        return None


Damage = collections.namedtuple("Damage", "kind path place text")  # [from, to)


def damage(s, victim, kind, way, rng):
    """Damages something of a stopped process; None: there was nothing."""
    files = Files(s, victim)
    expect(files.verdict["starts"] == "yes",
           f"{victim} was damaged before: {files.verdict}")
    chosen = choose(files, kind, rng)
    if chosen is None:
        return None
    path, offset, length, base = chosen
    at = way(path, offset, length, rng)
    text = (f"{kind} of {victim} ({os.path.basename(path)}): "
            f"{way.__name__} at {at}")
    if at is None:
        return None
    size = 1 if way is flip else BLOCK
    return Damage(kind, path, (base + at, base + at + size), text)


def one(s, kind, rng, table):
    """One damage; False if there was nothing to damage."""
    victim = rng.choice(s.storages())
    way = rng.choices(list(WAYS), list(WAYS.values()))[0]
    (s.stop if rng.random() < 0.5 else s.kill)(victim)
    d = damage(s, victim, kind, way, rng)
    log, began = s.log_size(victim), time.monotonic()
    s.start(victim)
    if d is None:
        return False
    found = await_found(s, victim, log, d)
    expect(found, f"{d.text}: not found\n{s.log(victim, log)[:2500]}")
    s.wait_whole(60)
    table.add(f"{kind} {way.__name__}", found, time.monotonic() - began)
    s.check()
    return True


def two_checkpoints(s):
    """Each tablet has two on each node. (Old ones go meanwhile: AWAY.)"""
    return all(sum(e.name.endswith(".ckpt") for e in os.scandir(
        os.path.join(s.data(n), "shard-00"))) >= 8 for n in s.storages())


def flips():
    rng, table = random.Random(SEED), Table()
    print(f"  seed {SEED}", flush=True)
    with Store(tablets=4, options=OPTIONS) as s, Writer(s, threads=2) as w:
        wait_for(lambda: two_checkpoints(s), 60 * SLOW, "two checkpoints")
        done = 0
        for i in range(10 * FLIPS):
            done += one(s, KINDS[i % len(KINDS)], rng, table)
            if done == FLIPS:
                break
            w.progress(2)
        expect(done >= FLIPS // 2, f"only {done} damages")
        stats = w.finish()
        expect(stats["violations"] == 0, f"{stats}")
        s.check()
        table.show()


def found_running(s, kind, rng):
    """Damages a file of a process that runs and is idle: the scrub finds it
    and mends it from memory, without a restart."""
    for _ in range(20):
        victim = rng.choice(s.storages())
        log = s.log_size(victim)
        d = damage(s, victim, kind, rng.choice((flip, zero)), rng)
        if d is None:
            continue
        found = await_found(s, victim, log, d)
        if found != "nothing: replaced":  # by a checkpoint still under way
            break
    expect(d and found == "scrub-damaged",
           f"{d and d.text}: found by {found}\n{s.log(victim, log)[:2500]}")
    wait_for(lambda: whole_on_disk(s, victim), 20 * SLOW, "it is mended")
    s.wait_whole()
    s.check()
    return d.text


def whole_on_disk(s, victim):
    """Nothing that a start needs is damaged."""
    rows = Files(s, victim).rows
    bad = [r for r in rows["checkpoint"] if r.get("whole") != "yes"]
    return not bad and not rows["damage"]


def a_value(files, rng):
    """The record of a large value, of one of the newest that only a place
    names: the checkpoints have its entry, no start replays it."""
    need = {r["position"] for r in needed(files)}
    rows = [r for r in files.rows["record"] if r["kind"] == "entry"
            and int(r["payload"]) > 3000 and r["position"] not in need]
    return rng.choice(rows[-40:]) if rows else None


def found_value(s, victim, log):
    """A damaged value is found, and its replica filled anew; or a newer one
    took its place, unread: by whom."""
    wait_for(lambda: int(Files(s, victim).verdict["damaged_values"]) == 0,
             60 * SLOW, "a damaged value is mended", pause=0.5)
    text = s.log(victim, log)
    if "event=condemned" not in text:
        return "nobody: replaced"
    return "the scrub" if "kind=value" in text else "a reader"


def values():
    """Values that stay on disk: what nobody replays is found by who reads it
    or by the scrub, and the replica is filled by the others."""
    rng, by = random.Random(SEED), collections.Counter()
    with Store(tablets=4, options=OPTIONS) as s, \
            Writer(s, threads=2, value_size=4000) as w:
        wait_for(lambda: two_checkpoints(s), 60 * SLOW, "two checkpoints")
        for _ in range(max(4, FLIPS // 10)):
            victim = rng.choice(s.storages())
            s.stop(victim)
            files, log = Files(s, victim), s.log_size(victim)
            row = a_value(files, rng)
            if row is not None:
                flip(files.path(row), int(row["offset"]) + 500, 2000, rng)
            live = int(Files(s, victim).verdict["damaged_values"]) > 0
            s.start(victim)
            by[found_value(s, victim, log) if live else "nobody: dead"] += 1
            s.wait_whole(60)
            s.check()
        w.finish()
        print("  values: found by " + ", ".join(
            f"{k} {v}" for k, v in by.items()), flush=True)


def passes(s, name):
    text = get(s.status_port(name), "/metrics")[1]
    text = text.decode() if isinstance(text, bytes) else text
    return int(re.search(r"penn_storage_scrub_passes_total (\d+)", text)[1])


def running():
    """The files of idle processes rot while they run."""
    rng = random.Random(SEED)
    with Store(tablets=4, options=OPTIONS) as s:
        with Writer(s, threads=2) as w:
            wait_for(lambda: two_checkpoints(s), 60 * SLOW, "two checkpoints")
            w.finish()
        wait_for(lambda: all(passes(s, n) > 0 for n in s.storages()),
                 20 * SLOW, "a pass ends")
        for kind in ("checkpoint", "checkpoint-before", "record"):
            print("  " + found_running(s, kind, rng), flush=True)
        for name in s.storages():
            s.stop(name)
            expect(Files(s, name).verdict["whole"] == "yes",
                   f"{name}: {Files(s, name).verdict}")
            s.start(name)
            s.wait_whole()


if __name__ == "__main__":
    sys.exit(run(flips, running, values))
