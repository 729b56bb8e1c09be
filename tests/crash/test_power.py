"""Real power losses: each process has a file system of its own (ext4 in an
image), which is shut down without its journal: what was not synced is gone,
and who still writes there gets errors. One process, or all at once, under
load; then they come back, and what was acknowledged is there.

PENN_CYCLES: how many (4). Needs root and loop mounts; skipped without."""
import contextlib
import fcntl
import os
import random
import struct
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "lib"))
from penn import expect, run, wait_for  # noqa: E402
from store import Store, Writer  # noqa: E402

CYCLES = int(os.environ.get("PENN_CYCLES", "4"))
SEED = int(os.environ.get("PENN_CRASH_SEED", "1"))
EXT4_IOC_SHUTDOWN = 0x8004587D  # _IOR('X', 125, __u32)
NO_LOG_FLUSH = 2


def note(text):
    print(f"  {text}", flush=True)


class Disk:
    """An ext4 image, mounted where a process has its data."""

    def __init__(self, store, name, megabytes):
        self.path = store.data(name)
        self.image = store.path(name + ".img")
        os.makedirs(self.path, 0o700, exist_ok=True)
        with open(self.image, "wb") as f:
            f.truncate(megabytes << 20)
        self.why = self._run("mkfs.ext4", "-q", "-F", "-E",
                             "lazy_itable_init=0", self.image) or self.mount()
        self.mounted = not self.why

    @staticmethod
    def _run(*argv):
        """Why it failed; nothing if it did not."""
        try:
            r = subprocess.run(argv, capture_output=True, text=True,
                               timeout=240)
        except OSError as e:
            return str(e)
        return "" if r.returncode == 0 else r.stderr.strip() or "failed"

    def mount(self):
        return self._run("mount", "-o", "loop", self.image, self.path)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.mounted:
            self._run("umount", "-l", self.path)

    def shut_down(self):
        fd = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, EXT4_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(fd)

    def come_back(self):
        """After its process is gone."""
        wait_for(lambda: not self._run("umount", self.path), 10,
                 f"{self.path} is unmounted", pause=0.1)
        why = self.mount()
        expect(not why, f"{self.path}: {why}")


@contextlib.contextmanager
def disks(**how):
    """A whole store on disks of its own, by name; none if they cannot be."""
    with Store(start=False, **how) as s, contextlib.ExitStack() as own:
        found = {n: own.enter_context(Disk(s, n, 96 if "coord" in n else 512))
                 for n in s.names()}
        own.callback(lambda: [s.kill(n) for n in s.children])
        bad = [d.why for d in found.values() if d.why]
        if bad:
            note(f"SKIPPED, no disks of its own: {bad[0]}")
            yield s, {}
            return
        s.start_all()
        yield s, found


def power_off(s, found, names):
    """Disks first: what the processes do until they notice must not count."""
    for n in names:
        found[n].shut_down()
    for n in names:
        s.kill(n)
    for n in names:
        found[n].come_back()


DAMAGE = ("log-damaged", "damage", "chain-broken", "checkpoint-damaged",
          "checkpoints-lost", "tail-lost", "condemned", "value-damaged")
OPTIONS = {"storage": {"log_limit": "8M", "segment_size": "9M"}}


def expect_no_damage(s, at):
    """By what has started: one whose disk was gone under it may say so."""
    said = [x for n, from_ in at.items() for x in s.log(n, from_).splitlines()
            if any(f"event={e}" in x for e in DAMAGE)]
    expect(not said, f"damage is reported: {said[:3]}")


def cycles(choose):
    draw = random.Random(SEED)
    with disks(options=OPTIONS) as (s, found):
        if not found:
            return
        with Writer(s, threads=6, value_size=3000) as w:
            for i in range(CYCLES):
                w.progress(20 + draw.randrange(60))
                names = choose(s, i, draw)
                power_off(s, found, names)
                at = {n: s.log_size(n) for n in names}
                for n in names:
                    s.spawn(n)
                s.wait_whole(60)
                expect_no_damage(s, at)
            w.progress()
            stats = w.finish()
            s.check()
        note(f"{CYCLES} times: {stats['acknowledged']} acknowledged, "
             f"{stats['unknown']} unknown, all settled")


def one():
    """One process after the other, the coordinator too."""
    cycles(lambda s, i, draw: [s.names()[i % len(s.names())]])


def everything():
    """All of them at once, the coordinator too, and in random order back."""
    cycles(lambda s, i, draw: draw.sample(s.names(), len(s.names())))


if __name__ == "__main__":
    run(one, everything, subset=(everything,))
