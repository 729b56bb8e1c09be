"""What the storage processes say of themselves: metrics that Prometheus takes
and that agree with what was done."""
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "lib"))
from penn import expect, get, run, wait_for  # noqa: E402
from store import SLOW, Store, Writer  # noqa: E402

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
            wait_for(lambda: metrics(s, "storage-1")["checkpoints_total", None]
                     >= 2, 60 * SLOW, "checkpoints are written")
            w.finish()
        for name in s.storages():
            check_one(s, name)
        epochs = metrics(s, "storage-1")["epochs_entered_total", None]
        s.kill("storage-2")
        wait_for(lambda: metrics(s, "storage-1")["epochs_entered_total", None]
                 > epochs, 20 * SLOW, "the failover is counted")
        wait_for(lambda: all(v in (1, 2) for v in of_tablets(
            metrics(s, "storage-1"), "in_sync").values()), 20 * SLOW,
            "the in-sync sets shrink")


def check_one(s, name):
    wait_for(lambda: metrics(s, name)["uncommitted_entries", None] == 0,
             20 * SLOW, f"{name} is at rest")
    m = metrics(s, name)
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
           > 100, "each sync is in the histogram")
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


if __name__ == "__main__":
    run(figures)
