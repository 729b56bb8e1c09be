"""Values of 4 MiB, which go to the blob logs ahead of their entries, while
primaries and secondaries die in the middle of them. Afterwards every byte that
was acknowledged is there, the replicas are equal, and what nobody refers to is
gone."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "lib"))
from penn import expect, get, run, wait_for  # noqa: E402
from store import Store, Writer  # noqa: E402

# The writer compares and puts in one command, which may have 8 MiB.
SIZE = (4 << 20) - (64 << 10)
OPTIONS = {"storage": {"log_limit": "1M", "segment_size": "9M"}}


def note(text):
    print(f"  {text}", flush=True)


def metric(s, name, row):
    text = get(s.status_port(name), "/metrics")[1].decode()
    found = [x for x in text.splitlines()
             if x.startswith(f"penn_storage_{row} ")]
    expect(len(found) == 1, f"{row}: {found}")
    return int(float(found[0].split()[1]))


def strike(s, w, name):
    """kill -9, at any moment of a transfer; and back."""
    s.kill(name)
    w.progress(1)
    s.start(name)
    s.wait_whole(60)
    w.progress(1)


def audit(s, w):
    s.wait_whole(60)
    stats = w.finish()
    s.check()
    for name in s.storages():
        expect(metric(s, name, "blobs_damaged_total") == 0, "damage")
    note(f"{stats['acknowledged']} values, {stats['unknown']} unknown")


def kills():
    """A primary and a secondary by turns, until blobs of commands that died
    with their primary were dropped at a start; and once more, all."""
    with Store(tablets=2, options=OPTIONS) as s:
        with Writer(s, threads=4, value_size=SIZE) as w:
            orphans = strikes = 0
            while strikes < 4 or (orphans == 0 and strikes < 20):
                victim = s.busiest() if strikes % 2 == 0 else min(
                    s.storages(), key=s.primaries)
                strike(s, w, victim)
                orphans += metric(s, victim, "blob_orphans_total")
                strikes += 1
            note(f"{orphans} orphans dropped at {strikes} starts")
            expect(orphans > 0, "no orphan was dropped")
            audit(s, w)
        live = {n: metric(s, n, "blob_live_bytes") for n in s.storages()}
        note(f"{[v >> 20 for v in live.values()]} MiB live in the blob logs")
        expect(min(live.values()) > SIZE, "the values are not in blob logs")
        for name in s.storages():
            s.kill(name)
        for name in s.storages():
            s.start(name)
        s.wait_whole(60)
        s.check()


def collection():
    """What is written over again and again does not pile up."""
    with Store(nodes=1, tablets=1, options=OPTIONS) as s:
        s.pennctl("bench", "kv", "--op", "put", "--clients", "2", "--keys", "4",
                  "--value-size", str(SIZE), "--seconds", "1")

        def freed():
            s.pennctl("bench", "kv", "--op", "put", "--clients", "4", "--keys",
                      "4", "--value-size", str(SIZE), "--seconds", "5")
            total = metric(s, "storage-1", "blob_bytes_total")
            held = (metric(s, "storage-1", "blob_live_bytes") +
                    metric(s, "storage-1", "blob_dead_bytes"))
            return total > held + (256 << 20) and (total, held)
        total, held = wait_for(freed, 120, "files of the blob log went")
        note(f"{total >> 20} MiB written, {held >> 20} MiB in files")


if __name__ == "__main__":
    run(kills, collection, subset=(kills,))
