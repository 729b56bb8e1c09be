"""What the storage processes say of themselves: metrics that Prometheus takes
and that agree with what was done; and what penn-storaged --inspect says of a
data directory, whole, damaged or in use."""
import hashlib
import os
import random
import re
import shlex
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "lib"))
from penn import eventually, expect, get, run, wait_for  # noqa: E402
from store import MARKS, SLOW, Store, Writer, program  # noqa: E402

SAMPLE = re.compile(r'(\w+)(?:\{(\w+="[^"]*"(?:,\w+="[^"]*")*)\})? (\S+)')


def note(text):
    print(f"  {text}", flush=True)


def parse(text):
    """{(name, labels): value}; complains of what is not Prometheus' text
    format: samples of one family stand together below its HELP and TYPE, and
    a histogram's buckets grow up to its count."""
    found, kinds, family = {}, {}, None
    for line in text.splitlines():
        if line.startswith("# HELP "):
            continue
        if line.startswith("# TYPE "):
            _, _, family, kind = line.split(" ")
            expect(family not in kinds, f"{family} comes twice")
            kinds[family] = kind
            continue
        m = SAMPLE.fullmatch(line)
        expect(m, f"no sample: {line!r}")
        name, labels, value = m.groups()
        base = name
        if kinds.get(family) == "histogram":
            base = re.sub("_(bucket|sum|count)$", "", name)
        expect(base == family, f"{name} is below {family}")
        expect((name, labels) not in found, f"{line!r} comes twice")
        found[name, labels] = float(value)
    for family in (f for f, k in kinds.items() if k == "histogram"):
        check_histogram(found, family)
    return found


def check_histogram(found, family):
    rows = [(dict(x.split("=", 1) for x in labels.split(","))["le"].strip('"'),
             v) for (n, labels), v in found.items() if n == family + "_bucket"]
    plain = sorted((float(le.replace("+Inf", "inf")), v) for le, v in rows)
    expect(rows[-1][0] == "+Inf" and [float(x.replace("+Inf", "inf"))
           for x, _ in rows] == [x for x, _ in plain], f"{family}: order")
    counts = [v for _, v in plain]
    expect(counts == sorted(counts), f"{family}: {counts} do not grow")
    if (family + "_count", None) in found:
        expect(found[family + "_count", None] == counts[-1],
               f"{family}: count and last bucket differ")


def metrics(s, name):
    code, body = get(s.status_port(name), "/metrics")
    expect(code == 200, f"/metrics of {name}: {code}")
    found = parse(body.decode())
    return {(k[0].replace("penn_storage_", ""), k[1]): v
            for k, v in found.items()}


def of_tablets(found, name):
    return {int(re.fullmatch('tablet="(\\d+)"', labels).group(1)): v
            for (n, labels), v in found.items() if n == "tablet_" + name}


def figures():
    """A writer's work shows, and the tablets' rows agree with the totals and
    with /status; a checkpoint and a failover show."""
    with Store(options={"storage": {"log_limit": "1M"}}) as s:
        with Writer(s) as w:
            checkpoints_written(s, 2)
            w.finish()
        for name in s.storages():
            eventually(lambda n=name: check_one(s, n), 20 * SLOW)
        epochs = metrics(s, "storage-1")["epochs_entered_total", None]
        s.kill("storage-2")
        wait_for(lambda: metrics(s, "storage-1")["epochs_entered_total", None]
                 > epochs, 20 * SLOW, "the failover is counted")
        wait_for(lambda: all(v in (1, 2) for v in of_tablets(
            metrics(s, "storage-1"), "in_sync").values()), 20 * SLOW,
            "the in-sync sets shrink")


def checkpoints_written(s, count):
    """By each of them."""
    wait_for(lambda: all(metrics(s, n)["checkpoints_total", None] >= count
                         for n in s.storages()), 60 * SLOW,
             "checkpoints are written")


def check_one(s, name):
    """Of a process at rest; but for checkpoints, which it may still write."""
    m = metrics(s, name)
    expect(m["uncommitted_entries", None] == 0, f"{name} is at rest")
    status = {r["tablet"]: r for r in s.status(name)["storage"]["replicas"]}
    for column in ("cells", "cell_bytes", "memory_bytes", "checkpoint_bytes",
                   "log_bytes", "role", "epoch", "in_sync", "lag_entries"):
        expect(set(of_tablets(m, column)) == set(status), f"{column}: rows")
    expect(sum(of_tablets(m, "cells").values()) == m["cells", None] > 0,
           "cells of the tablets and in all")
    expect(sum(of_tablets(m, "cell_bytes").values()) == m["cell_bytes", None],
           "bytes of the tablets and in all")
    roles = {"none": 0, "learner": 1, "secondary": 2, "primary": 3}
    for tablet, r in status.items():
        expect(of_tablets(m, "epoch")[tablet] == r["epoch"], "epoch")
        expect(of_tablets(m, "role")[tablet] == roles[r["role"]], "role")
        expect(of_tablets(m, "in_sync")[tablet] == 3, "in-sync set")
    expect(m["disk_sync_seconds_count", None] == m["disk_syncs_total", None]
           > 20, f"each sync is in the histogram: "
           f"{m['disk_sync_seconds_count', None]} of "
           f"{m['disk_syncs_total', None]}")
    expect(0 < m["disk_sync_seconds_sum", None] < 1000, "their sum")
    expect(m["log_group_records_count", None] == m["log_groups_total", None],
           "each group is in the histogram")
    expect(m["log_group_bytes_sum", None] <= m["log_written_bytes_total", None],
           "bytes of groups")
    expect(0 < m["log_payload_bytes_total", None]
           < m["log_written_bytes_total", None], "payload is part of the log")
    expect(m["checkpoint_seconds_count", None] == m["checkpoints_total", None]
           > 0, "each checkpoint is in the histogram")
    on_disk = {}
    for f in os.listdir(os.path.join(s.data(name), "shard-00")):
        found = re.fullmatch(r"t(\d{8})\.([0-9a-f]{16})\.ckpt", f)
        if found:
            tablet, seq = int(found.group(1)), int(found.group(2), 16)
            size = os.path.getsize(os.path.join(s.data(name), "shard-00", f))
            on_disk[tablet] = max(on_disk.get(tablet, (0, 0)), (seq, size))
    told = {t: v for t, v in of_tablets(m, "checkpoint_bytes").items() if v}
    expect(told == {t: size for t, (_, size) in on_disk.items()},
           f"checkpoints: {told} on disk {on_disk}")
    expect(m["checkpoint_written_bytes_total", None] >= sum(told.values()),
           "bytes of checkpoints")
    note(f"{name}: {m['log_group_records_sum', None] / m['log_groups_total', None]:.1f} "
         f"records a group, {len(told)} checkpoints")


# ---- inspect ----

class Lines:
    """What --inspect said: exit code, and {first word: [pairs]}."""

    def __init__(self, folder, *args):
        r = subprocess.run([program("penn-storaged"), "--inspect", folder,
                            *args], capture_output=True, text=True,
                           timeout=240 * SLOW)
        self.code, self.text, self.err = r.returncode, r.stdout, r.stderr
        for mark in MARKS:
            expect(mark not in r.stderr, f"{folder}: {r.stderr[-3000:]}")
        expect(r.returncode in (0, 64, 65, 66, 74, 75, 77),
               f"exit {r.returncode}: {r.stderr}")
        self.rows = {}
        for line in r.stdout.splitlines():
            word, *pairs = shlex.split(line)
            self.rows.setdefault(word, []).append(
                dict(p.split("=", 1) for p in pairs if "=" in p))

    def all(self, word):
        return self.rows.get(word, [])

    def one(self, word):
        expect(len(self.all(word)) == 1, f"{word}: {self.all(word)}")
        return self.rows[word][0]

    def tablets(self):
        return {int(t["id"]): t for t in self.all("tablet")}


def prints(folder):
    """{file: (contents, size, times of change)} of a directory."""
    found = {}
    for where, folders, files in os.walk(folder):
        for name in files + folders:
            path = os.path.join(where, name)
            st = os.stat(path)
            digest = "" if name in folders else hashlib.sha256(
                open(path, "rb").read()).hexdigest()
            found[path] = (digest, st.st_size, st.st_mtime_ns, st.st_ctime_ns)
    return found


def seq_of(name):
    return int(name.split(".")[1])


def written_store(s, checkpoints=2):
    """A store with something in log and checkpoints, at rest; what its
    replicas say of themselves."""
    with Writer(s) as w:
        checkpoints_written(s, checkpoints)
        w.finish()
    wait_for(lambda: all(metrics(s, n)["uncommitted_entries", None] == 0
                         for n in s.storages()), 20 * SLOW, "it is at rest")
    return {n: ({r["tablet"]: r for r in s.status(n)["storage"]["replicas"]},
                metrics(s, n)) for n in s.storages()}


def explained():
    """The directories of killed processes hold what the processes said."""
    with Store(options={"storage": {"log_limit": "1M"}}) as s:
        facts = written_store(s)
        s.kill("coordinator-1")  # or it finds others for the first to go
        for name in s.storages():
            s.kill(name)
        for name in s.storages():
            check_explained(s, name, *facts[name])


def check_explained(s, name, replicas, m):
    before = prints(s.data(name))
    x = Lines(s.data(name), "-v")
    expect(prints(s.data(name)) == before, "inspecting changed the directory")
    expect(x.code == 0 and x.one("verdict")["whole"] == "yes", x.text[-2000:])
    expect(x.one("directory")["in_use"] == "no", "nobody uses it")
    own = x.one("store")
    expect((own["node"], own["starts"], own["store"], own["store.copy"])
           == (name[-1], "1", "whole", "whole"), f"store: {own}")
    tablets = x.tablets()
    expect(set(tablets) == set(replicas), "tablets")
    for tablet, r in replicas.items():
        t = tablets[tablet]
        expect(t["recovers"] == "whole" and int(t["epoch"]) == r["epoch"]
               and seq_of(t["last"]) == r["last"], f"{t} is not {r}")
        # What nobody wrote down yet as committed is found out again.
        expect(seq_of(t["committed"]) <= r["committed"], f"{t}: {r}")
        if t["uncommitted"] == "0":
            expect(int(t["cells"]) == of_tablets(m, "cells")[tablet]
                   and int(t["cell_bytes"])
                   == of_tablets(m, "cell_bytes")[tablet], f"{t}: cells")
    records = x.all("record")
    expect(len(records) == int(x.one("end")["records"]), "records")
    live = [g for g in x.all("segment") if g["state"] == "live"]
    for kind in ("entry", "epoch", "commit", "mark", "seal"):
        expect(sum(int(g.get(kind, 0)) for g in live)
               == sum(r["kind"] == kind for r in records), f"{kind}: counts")
    for tablet, t in tablets.items():
        expect(int(t["log_records"]) == sum(r.get("tablet") == str(tablet)
                                            for r in records), f"{t}")
    expect(int(live[-1]["last"]) == int(x.one("end")["position"]), "end")
    files = {f for f in os.listdir(os.path.join(s.data(name), "shard-00"))
             if f.endswith(".ckpt")}
    expect({c["file"] for c in x.all("checkpoint")} == files
           and all(c["whole"] == "yes" for c in x.all("checkpoint")),
           "checkpoints")
    note(f"{name}: {len(records)} records, {len(files)} checkpoints")


def damaged_log(folder, x):
    """A flipped bit in the middle of the log is named, with its place."""
    records = [r for r in Lines(folder, "-v").all("record")
               if r["kind"] == "entry"]
    r = records[len(records) // 2]
    flip(os.path.join(folder, "shard-00", r["file"]),
         int(r["offset"]) + int(r["bytes"]) // 2)
    x = Lines(folder)
    d = x.one("damage")
    expect(x.code == 65 and d["file"] == r["file"]
           and d["offset"] == r["offset"] and d["bytes"] == r["bytes"],
           f"{d} is not {r}")
    expect("log-damaged" in x.text, "what a start would log")


def damaged_checkpoint(folder, x):
    c = max(x.all("checkpoint"), key=lambda c: int(c["bytes"]))
    path = os.path.join(folder, "shard-00", c["file"])
    flip(path, int(c["bytes"]) // 2)
    x = Lines(folder)
    bad = [k for k in x.all("checkpoint") if k["whole"] == "no"]
    expect(x.code == 65 and [k["file"] for k in bad] == [c["file"]]
           and "bad block" in bad[0]["error"], f"{bad}")
    os.truncate(path, int(c["bytes"]) // 2)
    bad = [k for k in Lines(folder).all("checkpoint") if k["whole"] == "no"]
    expect("ends too early" in bad[0]["error"] or "bad block"
           in bad[0]["error"], f"{bad}")


def damaged_store(folder, x):
    flip(os.path.join(folder, "store.copy"), 50)
    x = Lines(folder)
    expect(x.code == 65 and x.one("store")["store.copy"] == "damaged"
           and x.one("store")["store"] == "whole" and x.tablets(), x.text)
    os.unlink(os.path.join(folder, "store"))
    x = Lines(folder)
    expect(x.code == 65 and "error" in x.one("store")
           and x.one("verdict")["starts"] == "no", x.text)


def no_folder(folder, x):
    shutil.rmtree(os.path.join(folder, "shard-00"))
    x = Lines(folder)
    expect(x.code == 65 and x.one("missing")["folder"] == "shard-00", x.text)


def torn_tail(folder, x):
    """A last write that did not end is cut off; it is damage only if the note
    beside the log has it that it was on disk."""
    last = [r for r in Lines(folder, "-v").all("record")][-1]
    flip(os.path.join(folder, "shard-00", last["file"]),
         int(last["offset"]) + 8)  # the check of the whole record
    x = Lines(folder)
    expect(int(x.one("log")["known"]) > int(last["position"])
           and x.code == 65 and x.one("damage")["from"] == last["position"],
           x.text[-1500:])
    os.unlink(os.path.join(folder, "shard-00", "wal-begin"))
    x = Lines(folder)
    end = x.one("end")
    expect(x.code == 0 and not x.all("damage") and end["torn"] == "yes"
           and end["cut_at"] == end["position"] == last["position"],
           x.text[-1500:])


def cut_segment(folder, x):
    g = [g for g in x.all("segment") if g["state"] == "live"][-1]
    os.truncate(os.path.join(folder, "shard-00", g["file"]), 8192)
    x = Lines(folder)
    expect(x.code == 65 and x.all("damage")
           and any(g.get("short") == "yes" for g in x.all("segment")),
           x.text[-1500:])
    expect(int(x.one("verdict")["condemned_tablets"]) > 0, "tablets suffer")
    os.unlink(os.path.join(folder, "shard-00", g["file"]))
    expect(Lines(folder).code == 65, "a segment that is gone")


def strange_files(folder, x):
    """What is none of ours is told; links and pipes are not followed."""
    shard = os.path.join(folder, "shard-00")
    open(os.path.join(shard, "letter.txt"), "w").close()
    expect(any(f["name"] == "letter.txt" for f in Lines(folder).all("file")),
           "a file of others")
    os.mkfifo(os.path.join(shard, "wal-000077.log"))
    x = Lines(folder)
    expect(x.code == 65 and "wal-000077.log" in x.one("log-unreadable")["error"],
           x.text[-1500:])
    os.unlink(os.path.join(shard, "wal-000077.log"))
    os.symlink("/dev/zero", os.path.join(shard, "t00000001.ffffffffffffffff.ckpt"))
    x = Lines(folder)
    expect(x.code == 65 and any(c["whole"] == "no"
                                for c in x.all("checkpoint")), x.text[-1500:])


def random_damage(folder, x):
    """Whatever is changed, it ends with a verdict."""
    rng = random.Random(20)
    paths = [p for p in prints(folder) if os.path.isfile(p)]
    used = int(x.one("end")["offset"])
    for _ in range(30 if SLOW == 1 else 10):
        path = rng.choice(paths)
        size = min(os.path.getsize(path), used)
        if size > 0:
            kept = open(path, "rb").read()
            flip(path, rng.randrange(size), rng.randrange(1, 256))
            expect(Lines(folder).one("verdict"), path)
            with open(path, "wb") as f:
                f.write(kept)


def flip(path, offset, bits=1):
    with open(path, "r+b") as f:
        f.seek(offset)
        byte = f.read(1)[0]
        f.seek(offset)
        f.write(bytes([byte ^ bits]))


def noted(folder):
    """The note beside the log knows all of it to be on disk."""
    x = Lines(folder, "-v")
    records = x.all("record")
    return records and int(x.one("log")["known"]) > int(records[-1]["position"])


def damages():
    """Each kind of damage is named; nothing makes it crash."""
    with Store(options={"storage": {"log_limit": "1M"}}) as s:
        written_store(s, checkpoints=8)
        wait_for(lambda: noted(s.data("storage-1")), 20 * SLOW,
                 "the end of the log is noted", pause=0.2)
        s.kill("storage-1")
        whole = Lines(s.data("storage-1"))
        for damage in (damaged_log, damaged_checkpoint, damaged_store,
                       no_folder, torn_tail, cut_segment, strange_files, random_damage):
            folder = s.path("copy")
            shutil.copytree(s.data("storage-1"), folder)
            damage(folder, whole)
            shutil.rmtree(folder)


def in_use():
    """Beside a running process it reads, says so, and disturbs nothing."""
    with Store() as s, Writer(s) as w:
        name = s.busiest()
        for _ in range(5):
            x = Lines(s.data(name))
            use = x.one("directory")
            expect(use["in_use"] == "yes" and int(use["pid"]) == s.pid(name)
                   and "caution" in use, f"{use}")
            expect(x.code in (0, 75) and x.tablets(), x.text[-1000:])
            w.progress()
        w.finish()
        s.check()
        expect(s.children[name].poll() is None, f"{name} lives")


def not_there():
    with Store(start=False) as s:
        x = Lines(s.path("nothing"))
        expect(x.code == 66 and len(x.err.splitlines()) == 1, x.err)
        x = Lines(s.conf)
        expect(x.code != 0 and len(x.err.splitlines()) == 1, x.err)
        x = Lines(s.path("data"))
        expect(x.code == 65 and "store.copy" in x.one("store")["error"], x.text)
        x = Lines(s.path("data"), "-x")
        expect(x.code == 64 and "usage" in x.err, x.err)


if __name__ == "__main__":
    run(figures, explained, damages, in_use, not_there,
        subset=(explained, damages))
