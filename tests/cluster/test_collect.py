"""Values above 1 KiB that are overwritten again and again: the log's segments
that hold what is left of them are emptied and used again, so that disks take
no more than about three times what lives there; writers go on meanwhile, and
a kill -9 in the middle loses nothing.

PENN_COLLECT_MIB: commands' bytes to be written to each node (200)."""
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "lib"))
from penn import expect, get, run, wait_for  # noqa: E402
from store import SLOW, Store, Writer, program  # noqa: E402

MIB = 1 << 20
PAYLOAD = int(os.environ.get("PENN_COLLECT_MIB", "200")) * MIB
SIZE, KEYS = 4096, 4000
COLD = 1600  # values that nobody writes again
SEGMENT = 9 * MIB  # the smallest there are
OPTIONS = {"storage": {"log_limit": "9M", "segment_size": "9M"}}
# The log and its limit, spare segments, one being made, and what may be dead
# before anything is done about it.
CONSTANT = (3 + 4 + 1 + 4) * SEGMENT


def note(text):
    print(f"  {text}", flush=True)


def figures(s, name):
    text = get(s.status_port(name), "/metrics")[1].decode()
    return {m[1]: float(m[2]) for m in
            re.finditer(r"^penn_storage_(\w+) ([0-9.e+-]+)$", text, re.M)}


def values(s, what):
    r = subprocess.run(
        [program("cluster_values"), s.key,
         f"127.0.0.1:{s.port('coordinator-1')}", what, "0", str(COLD),
         str(SIZE), "1"], capture_output=True, text=True, timeout=1200)
    expect(r.returncode == 0, f"{what}: {r.stdout} {r.stderr[-1500:]}")


class Load:
    """Overwrites KEYS values at random, until it is left."""

    def __init__(self, s):
        self.s, self.p = s, None

    def begin(self):
        self.p = subprocess.Popen(
            [program("pennctl"), "--config", self.s.conf, "bench", "kv", "--op",
             "put", "--clients", "8", "--value-size", str(SIZE), "--keys",
             str(KEYS), "--seconds", "600"], stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)

    def __enter__(self):
        self.begin()
        return self

    def __exit__(self, *_):
        self.p.kill()
        self.p.wait()


def disk(s, name):
    used = 0
    for folder, _, files in os.walk(s.data(name)):
        for f in files:
            try:
                used += os.stat(os.path.join(folder, f)).st_blocks * 512
            except OSError:
                pass  # it is gone meanwhile
    return used


class Watch:
    """What disks took at most, for what lived there."""

    def __init__(self, s):
        self.s, self.most = s, {n: 0 for n in s.storages()}

    def look(self):
        for name in self.most:
            live = figures(self.s, name).get("cell_bytes", 0)
            over = disk(self.s, name) - 3 * live
            self.most[name] = max(self.most[name], over)

    def until(self, condition, seconds, text):
        def met():
            self.look()
            return condition()
        wait_for(met, seconds * SLOW, text, 0.3)


def bounded():
    with Store(tablets=4, options=OPTIONS) as s:
        values(s, "put")
        with Writer(s, threads=2, value_size=3000) as w, Load(s):
            watch = Watch(s)
            w.mark()
            victim = s.busiest()
            half = [n for n in s.storages() if n != victim]
            watch.until(lambda: all(
                figures(s, n).get("log_payload_bytes_total", 0) > PAYLOAD / 2
                for n in half), 300, "half is written")
            longest = w.stats()["longest_ms"]
            s.kill(victim)
            s.start(victim)
            s.wait_whole()
            watch.until(lambda: all(
                figures(s, n).get("log_payload_bytes_total", 0) > PAYLOAD
                for n in half), 300, "all is written")
            for n in half:
                f = figures(s, n)
                wrote = f["log_written_bytes_total"] + \
                    f["checkpoint_written_bytes_total"]
                factor = wrote / f["log_payload_bytes_total"]
                note(f"{n}: {f['cell_bytes'] / MIB:.0f} MiB live, "
                     f"{disk(s, n) / MIB:.0f} on disk, payload "
                     f"{f['log_payload_bytes_total'] / MIB:.0f}, moved "
                     f"{f['log_moved_bytes_total'] / MIB:.0f}, "
                     f"collected {f['log_collected_bytes_total'] / MIB:.0f}: "
                     f"{factor:.2f} bytes written for one")
                expect(f["log_collected_bytes_total"] > 3 * SEGMENT,
                       "no segment was given back")
                expect(factor < 3, f"{factor:.2f} bytes written for one")
            note(f"longest without a write: {longest} ms before the kill; "
                 f"beyond three times the live bytes at most "
                 f"{max(watch.most.values()) / MIB:.0f} MiB")
            for n, over in watch.most.items():
                expect(over < CONSTANT, f"{n}: the disk has "
                       f"{over / MIB:.0f} MiB beyond 3 times the live ones")
            expect(longest < 3000 * SLOW, f"a writer waited {longest} ms")
            w.finish()
        values(s, "read")
        s.wait_whole()
        s.check()
        for n in s.storages():
            s.stop(n)
            r = subprocess.run([program("penn-storaged"), "--inspect",
                                s.data(n)], capture_output=True, text=True,
                               timeout=1200)
            expect(r.returncode == 0, f"{n}: {r.stdout[-1500:]}")


if __name__ == "__main__":
    run(bounded)
