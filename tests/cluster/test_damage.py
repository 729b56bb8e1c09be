"""Bit rot (P8): the files of a stopped storage process are damaged, one place
at a time, and it is started again under a writer. What was damaged must be
found and said, mended from the others, and never served: the writer keeps a
ledger and reads all of it back.

PENN_FLIPS says how many damages there are (14, one of each kind), PENN_SEED
which: to show many, run it with one seed after the other. A place that nothing ever reads is harmless: of records that is shown by
its position; of files of which only part is live, kept segments and the blob
log, by --inspect, and it is counted as a dead byte."""
import collections
import contextlib
import os
import random
import re
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "lib"))
from penn import Failure, expect, get, run, wait_for  # noqa: E402
from store import SLOW, Store, Writer, program  # noqa: E402

import subprocess  # noqa: E402

FLIPS = int(os.environ.get("PENN_FLIPS", "14"))
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
    "kept": r"event=(value-damaged .* kind=log by=(\w+)|values-lost|"
            r"log-damaged)",
    "kept-header": r"event=(header-damaged .*{file}|values-missing)",
    "kept-gone": r"event=values-missing",
    "blob": r"event=(scrub-damaged .*{file}|value-damaged .* kind=blob by="
            r"(\w+)|blob-file-damaged .*{file}|"
            r"blob-missing|blob-damaged .*{file})",
    "index": r"event=(walked|scrub-damaged) .*{file}",
}
FOUND["blob-head"] = FOUND["blob-header"] = FOUND["blob-index"] = FOUND["blob"]
PARTIAL = ("kept", "kept-header", "kept-gone", "blob", "blob-head", "blob-header",
           "blob-index")  # kinds of which only part is live
RUNNING = ("scrub-damaged", "value-damaged")

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
        expect(self.rows["verdict"],
               f"--inspect: exit {r.returncode}: {r.stderr[-1500:]}")
        self.verdict = self.rows["verdict"][0]
        self.code = r.returncode

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


    def hurt(self, path):
        """What of PATH, a file of values, is not what it was; empty: nothing
        that anybody needs."""
        name, v = os.path.basename(path), self.verdict
        return [x for x in (
            int(v["damaged_values"]) > 0 and "values",
            int(v["condemned_tablets"]) > 0 and "tablets",
            int(v["damaged_blob_files"]) > 0 and "files",
            any(r["file"] == name and r["index"] != "whole"
                for r in self.rows["blobs"]) and "index") if x]

    def strangers(self):
        """Files that no kind of damage is about."""
        known = re.compile(r"(store|store\.copy|lock|shard-00/("
                           r"wal-begin|wal-\d{6}\.log|blobs-\d{6}\.log|"
                           r"t\d{8}\.[0-9a-f]{16}\.ckpt)|(.*/)?[\w.-]+\.tmp)$")
        return [f for where, _, names in os.walk(self.dir) for f in (
            os.path.relpath(os.path.join(where, n), self.dir) for n in names)
            if not known.match(f)]


def of_value(files, kind, rng):
    """A part of a file of the blob log, or of a kept segment: mostly one on
    which a live value depends."""
    blob = kind.startswith("blob")
    rows = [r for r in files.rows["blobs" if blob else "segment"]
            if int(r.get("live" if blob else "live_values", 0)) > 0
            and r.get("state", "kept") == "kept"
            and (kind != "blob-index" or r["index"] == "whole")]
    if not rows:
        return None
    row = rng.choice(rows)
    path = files.path(row)
    end = int(row["bytes"]) if blob else os.path.getsize(path) - BLOCK
    if kind.endswith("-header"):
        return path, 0, 48 if blob else HEAD, 0
    if kind == "blob-index":
        return path, end, os.path.getsize(path) - end, 0
    live = [r for r in files.rows["value"] if r["file"] == row["file"]]
    if not live or (kind != "blob-head" and rng.random() < 0.3):
        return path, BLOCK, end - BLOCK, 0  # anywhere
    value = rng.choice(live)
    at = int(value["offset"])
    if kind == "blob-head":
        return path, at, 64, 0
    return path, at + (64 if blob else 0), int(value["bytes"]), 0


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
        return row and (files.path(row), offset,
                        80 + int(row.get("payload", 0)),
                        int(row["position"]) - offset)
    if kind in PARTIAL:
        return of_value(files, kind, rng)
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


def remove(path, _offset, _length, _rng):
    os.remove(path)
    return 0


KINDS = ("kept", "blob", "record", "checkpoint", "checkpoint-before", "store",
         "store.copy", "wal-begin", "header", "blob-head", "kept-header",
         "blob-index", "blob-header", "kept-gone")
WAYS = {flip: 14, zero: 3, swap: 2, truncate: 1}


class Table:
    """What was done, and what came of it."""

    def __init__(self):
        self.rows = collections.defaultdict(list)
        self.by = collections.Counter()

    def add(self, kind, found, by, seconds):
        self.rows[kind].append((found, seconds))
        self.by[by] += 1

    def show(self):
        for kind, rows in sorted(self.rows.items()):
            by = collections.Counter(found for found, _ in rows)
            times = sorted(s for _, s in rows)
            print(f"  {kind}: {len(rows)}; found by "
                  + ", ".join(f"{k} {v}" for k, v in by.most_common())
                  + f"; whole again after {times[len(times) // 2]:.1f} s, at "
                  f"most {times[-1]:.1f} s", flush=True)
        print("  all: " + ", ".join(f"{k} {v}" for k, v in
                                    self.by.most_common()), flush=True)


def finder(found, line):
    """At the start, by the scrub, by a read or by a collection (that of the
    blob log is called blobs): who FOUND it."""
    m = re.search(r" by=(\w+)", line)
    if found == "value-damaged" and m:
        return m[1].replace("blobs", "collection")
    if found == "blob-damaged":
        return "collection"
    return "scrub" if found == "scrub-damaged" else "start"


def says(line, damage):
    """What in LINE says that this damage was found; None: nothing."""
    kind, path, place = damage.kind, damage.path, damage.place
    kind = "index" if damage.hurt == ["index"] else kind
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
    """(what found it, who); or a newer file took its place, or a newer value
    that of the damaged ones, unread."""
    looks = [time.monotonic() + 1]

    def gone():
        if not os.path.exists(damage.path) and damage.kind != "kept-gone":
            return True
        if damage.kind not in PARTIAL or time.monotonic() < looks[0]:
            return False
        looks[0] = time.monotonic() + 1
        return not Files(s, victim).hurt(damage.path)

    def found():
        over = gone()  # first, so that what was said before is seen
        for line in s.log(victim, at).splitlines():
            what = says(line, damage)
            if what:
                return what, finder(what, line)
        return ("nothing: replaced", "nobody: replaced") if over else None
    try:
        return wait_for(found, 20 * SLOW, "damage is found")
    except Failure:
        return None


def await_mended(s, victim, damage):
    """No value is damaged on the disk any more, and no part of the file."""
    if damage.kind in PARTIAL:
        wait_for(lambda: not Files(s, victim).hurt(damage.path)
                 or set(Files(s, victim).hurt(damage.path)) == {"index"},
                 30 * SLOW, f"{damage.text}: it is mended", pause=0.2)


Damage = collections.namedtuple("Damage", "kind path place text hurt")


def damage(s, victim, kind, way, rng):
    """Damages something of a stopped process; None: there was nothing."""
    files = Files(s, victim)
    expect(files.verdict["starts"] == "yes" and not files.strangers(),
           f"{victim} was damaged before: {files.verdict} "
           f"{files.strangers()}")
    chosen = choose(files, kind, rng)
    if chosen is None:
        return None
    path, offset, length, base = chosen
    way = remove if kind == "kept-gone" else way
    at = way(path, offset, length, rng)
    text = (f"{kind} of {victim} ({os.path.basename(path)}): "
            f"{way.__name__} at {at}")
    if at is None:
        return None
    size = 1 if way is flip else BLOCK
    hurt = ["?"]
    if kind in PARTIAL:
        after = Files(s, victim)
        hurt = after.hurt(path)
        expect(after.code == 65 or not set(hurt) - {"index"},
               f"{text}: {hurt}, exit {after.code}")
        if not hurt and kind == "kept-header":
            hurt = ["header"]  # of which there is a copy
        expect("values" not in hurt or any(
            r["status"] != "OK" and r["partition"]
            for r in after.rows["value"]),
            f"{text}: --inspect does not say whose")
    return Damage(kind, path, (base + at, base + at + size), text, hurt)


@contextlib.contextmanager
def at_rest(writers, rest):
    """Nobody reads or writes, if REST."""
    for w in writers if rest else ():
        w.ask("hold")
    yield
    for w in writers if rest else ():
        w.ask("go")


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
    found, by = "nothing: dead byte", "nobody: dead byte"
    if d.hurt:
        said = await_found(s, victim, log, d)
        expect(said, f"{d.text}, {d.hurt}: not found\n"
               f"{s.log(victim, log)[:2500]}")
        found, by = said
    await_mended(s, victim, d)
    s.wait_whole(60)
    table.add(f"{kind} {way.__name__}", found, by, time.monotonic() - began)
    s.check()
    return True


def two_checkpoints(s):
    """Each tablet has two on each node. (Old ones go meanwhile: AWAY.)"""
    return all(sum(e.name.endswith(".ckpt") for e in os.scandir(
        os.path.join(s.data(n), "shard-00"))) >= 8 for n in s.storages())


def figures(s, name):
    """Its metrics without labels."""
    text = get(s.status_port(name), "/metrics")[1]
    text = text.decode() if isinstance(text, bytes) else text
    return {k: int(v) for k, v in re.findall(
        r"^penn_storage_(\w+) (\d+)$", text, re.M)}


def passes(s, name):
    return figures(s, name)["scrub_passes_total"]


def keeps(s, name):
    """It has values in kept segments, and in the blob log."""
    m = figures(s, name)
    return m["log_kept_live_bytes"] > 0 and m["blob_live_bytes"] > 0


def flips():
    rng, table = random.Random(SEED), Table()
    print(f"  seed {SEED}", flush=True)
    with Store(tablets=4, options=OPTIONS) as s, \
            Writer(s, threads=1, value_size=4000) as w, \
            Writer(s, threads=1, value_size=40000) as large:
        wait_for(lambda: two_checkpoints(s), 60 * SLOW, "two checkpoints")
        wait_for(lambda: all(keeps(s, n) for n in s.storages()), 60 * SLOW,
                 "values in segments that are kept, and blobs")
        done = 0
        for i in range(10 * FLIPS):
            kind = KINDS[i % len(KINDS)]
            partial = kind in PARTIAL
            rest = partial and rng.random() < 0.6
            # What it adds stays: it must not be more than catches up.
            with at_rest((large,), rest or not partial), at_rest((w,), rest):
                done += one(s, kind, rng, table)
            if done == FLIPS:
                break
            w.progress(2)
            large.progress(2)
        expect(done >= FLIPS // 2, f"only {done} damages")
        for stats in (w.finish(), large.finish()):
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
        said = await_found(s, victim, log, d)
        if said and said[0] != "nothing: replaced":
            break  # else by a checkpoint that was still under way
    expect(d and said and said[0] in RUNNING,
           f"{d and d.text}: found by {said}\n{s.log(victim, log)[:2500]}")
    wait_for(lambda: whole_on_disk(s, victim), 20 * SLOW, "it is mended")
    s.wait_whole()
    s.check()
    return d.text


def whole_on_disk(s, victim):
    """Nothing that a start needs is damaged."""
    rows = Files(s, victim).rows
    bad = [r for r in rows["checkpoint"] if r.get("whole") != "yes"]
    return not bad and not rows["damage"] \
        and all(r["status"] == "OK" for r in rows["value"])


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
    sys.exit(run(flips, running))
