"""Values above 1 KiB stay on disk: a data set ten times the memory that a
storage process may have is written, read back byte by byte, and again after
a kill -9; and --inspect looks at all of them. The limit is a memory cgroup's
(version 2 or 1) where the machine lets us make one; else only the process's
own memory is looked at, and the test says so. A build with sanitizers takes
more memory than the limit, so it leaves that out.

PENN_VALUES_MIB: the memory of one process (24); the data is ten times that."""
import contextlib
import json
import os
import shlex
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "lib"))
from penn import expect, run, wait_for  # noqa: E402
from store import SLOW, Store, program  # noqa: E402

LIMIT_MIB = int(os.environ.get("PENN_VALUES_MIB", "24"))
SIZE = 4096
COUNT = 10 * LIMIT_MIB * (1 << 20) // SIZE
# Memory is for keys, not for caches: a short log (its end is in memory during
# a recovery), few tablets (each keeps the newest entries), a small cache.
OPTIONS = {"storage": {"log_limit": "2M", "segment_size": "9M",
                       "value_cache": "1M"}}


def note(text):
    print(f"  {text}", flush=True)


class Cgroup:
    """A memory cgroup, or None where there can be none."""

    V2, V1 = "/sys/fs/cgroup", "/sys/fs/cgroup/memory"

    def __init__(self, limit):
        self.folder = None
        name = f"penn-values-{os.getpid()}"
        try:
            self.folder = self.make(name, limit)
        except OSError as e:
            note(f"SKIPPED: no memory cgroup ({e}): only VmHWM is looked at")

    def make(self, name, limit):
        v2 = os.path.join(self.V2, "cgroup.controllers")
        if os.path.exists(v2) and "memory" in open(v2).read().split():
            folder = os.path.join(self.V2, name)
            self.put(os.path.join(self.V2, "cgroup.subtree_control"),
                     "+memory")
            limits = {"memory.max": limit, "memory.swap.max": 0}
        else:
            folder = os.path.join(self.V1, name)
            limits = {"memory.limit_in_bytes": limit, "memory.swappiness": 0}
        os.mkdir(folder)
        for row, value in limits.items():
            try:
                self.put(os.path.join(folder, row), str(value))
            except OSError:
                if "swap" not in row:  # there may be no swap at all
                    os.rmdir(folder)
                    raise
        return folder

    @staticmethod
    def put(path, text):
        with open(path, "w") as f:
            f.write(text)

    def wrap(self):
        """A command that puts what it runs into the group."""
        if self.folder is None:
            return ()
        return ("sh", "-c", f'echo $$ > {self.folder}/cgroup.procs; exec "$@"',
                "sh")

    def __enter__(self):
        return self

    def __exit__(self, *why):
        if self.folder is not None:
            wait_for(lambda: not open(
                os.path.join(self.folder, "cgroup.procs")).read(), 20,
                "the cgroup is empty")
            os.rmdir(self.folder)
        return False


def values(s, what, version, first=0, end=COUNT):
    r = subprocess.run(
        [program("cluster_values"), s.key,
         f"127.0.0.1:{s.port('coordinator-1')}", what, str(first), str(end),
         str(SIZE), str(version)], capture_output=True, text=True, timeout=1800)
    expect(r.returncode == 0, f"{what}: {r.stdout} {r.stderr[-1500:]}")
    return json.loads(r.stdout)


def memory_kib(s, name, row):
    for line in open(f"/proc/{s.pid(name)}/status"):
        if line.startswith(row + ":"):
            return int(line.split()[1])
    return 0


def within(s, name, when):
    high = memory_kib(s, name, "VmHWM") / 1024
    note(f"{when}: most memory {high:.1f} MiB, "
         f"now {memory_kib(s, name, 'RssAnon') / 1024:.1f} MiB of its own")
    expect(SLOW > 1 or high <= LIMIT_MIB + 1,
           f"{when}: {high:.1f} MiB, more than {LIMIT_MIB}")


def ten_times_the_memory():
    name = "storage-1"
    with Cgroup(LIMIT_MIB << 20) as group:
        with Store(nodes=1, tablets=4, options=OPTIONS, start=False) as s:
            s.spawn("coordinator-1")
            s.spawn(name, wrap=group.wrap())
            s.wait_whole()
            values(s, "put", 1)
            # a part is replaced: what is dead lies between what is not
            part = COUNT // 64 * 16
            values(s, "put", 2, 0, part)
            within(s, name, "written")
            cells = s.status(name)["storage"]
            note(f"{cells['cells']} values, {cells['bytes'] >> 20} MiB")
            expect(cells["bytes"] > 10 * (LIMIT_MIB << 20) * 0.99,
                   "the data is not what it should be")
            read_all(s, part)
            within(s, name, "read")
            s.kill(name)
            s.start(name, wrap=group.wrap())
            s.wait_whole()
            within(s, name, "started again")
            read_all(s, part)
            within(s, name, "read again")
            expect(s.children[name].poll() is None, "it ended")
            s.stop(name)
            inspected(s.data(name))


def inspect(folder):
    """--inspect: exit status, and its lines as [(word, {key: value})]."""
    r = subprocess.run([program("penn-storaged"), "--inspect", folder],
                       capture_output=True, text=True, timeout=1200)
    return r.returncode, [
        (words[0], dict(w.split("=", 1) for w in words[1:] if "=" in w))
        for words in map(shlex.split, r.stdout.splitlines())]


def inspected(folder):
    """All values are looked at; damage in one that nobody replays is found."""
    code, lines = inspect(folder)
    tablets = [pairs for word, pairs in lines if word == "tablet"]
    expect(code == 0 and sum(int(t["values"]) for t in tablets) == COUNT
           and all(t["damaged_values"] == "0" for t in tablets),
           f"exit {code}: {tablets}")
    kept = [pairs for word, pairs in lines
            if word == "segment" and pairs["state"] == "kept"]
    expect(kept, "no segment is kept for values alone")
    most = max(kept, key=lambda k: int(k["live_values"]))
    with open(os.path.join(folder, "shard-00", most["file"]), "r+b") as f:
        for at in range(100000, os.fstat(f.fileno()).st_size - 8192, 1 << 20):
            f.seek(at)
            byte = f.read(1)[0]
            f.seek(at)
            f.write(bytes([byte ^ 1]))
    code, lines = inspect(folder)
    bad = [pairs for word, pairs in lines if word == "value"]
    verdict = next(pairs for word, pairs in lines if word == "verdict")
    expect(code == 65 and bad and verdict["starts"] == "yes"
           and int(verdict["damaged_values"]) == len(bad)
           and verdict["damaged_ranges"] == "0", f"exit {code}: {verdict}")
    note(f"of {len(kept)} kept segments one was damaged: "
         f"{len(bad)} values are found bad")


def a_wiped_node_is_filled():
    """What a learner puts into its own log is what the others have."""
    count = 3008
    with Store(tablets=4, options=OPTIONS) as s:
        values(s, "put", 1, 0, count)
        values(s, "put", 2, 0, count // 64 * 16)
        s.kill("storage-2")
        shutil.rmtree(s.data("storage-2"))
        s.start("storage-2")
        s.wait_whole()
        values(s, "put", 3, count, 2 * count)
        s.check()
        s.stop("storage-2")
        code, lines = inspect(s.data("storage-2"))
        tablets = [pairs for word, pairs in lines if word == "tablet"]
        expect(code == 0
               and sum(int(t["values"]) for t in tablets) == 2 * count
               and all(t["damaged_values"] == "0" for t in tablets),
               f"exit {code}: {tablets}")
        s.start("storage-2")
        s.wait_whole()
        s.kill("storage-1")
        values(s, "read", 2, 0, count // 64 * 16)
        values(s, "read", 1, count // 64 * 16, count)
        values(s, "read", 3, count, 2 * count)


def folder_mib(folder):
    """A running node's files may go while they are counted."""
    used = 0
    for where, _, files in os.walk(folder):
        for f in files:
            with contextlib.suppress(FileNotFoundError):
                used += os.path.getsize(os.path.join(where, f))
    return used / 2**20


def what_is_replaced_gives_room():
    """Values are written over and over, with a kill -9 in between; the log
    does not keep what nobody can read, and loses nothing that is read."""
    name, count, versions = "storage-1", 5120, 12
    live = count * SIZE / 2**20
    with Store(nodes=1, tablets=4, options=OPTIONS) as s:
        most = 0
        for version in range(1, versions + 1):
            # in two halves, and an island that stays as it first was
            values(s, "put", version, 0, count // 2)
            if version % 4 == 0:
                s.kill(name)
                s.start(name)
                s.wait_whole()
            values(s, "put", version, count // 2, count)
            if version == 1:
                values(s, "put", 99, count, count + 160)
            most = max(most, folder_mib(s.data(name)))
        values(s, "read", versions, 0, count)
        values(s, "read", 99, count, count + 160)
        note(f"{live:.0f} MiB written {versions} times: at most {most:.0f} MiB "
             f"on disk, then {folder_mib(s.data(name)):.0f}")
        # twice what lives, some dead segments, spare ones, the log itself
        expect(most < 3 * live + 11 * 9, f"{most:.0f} MiB for {live:.0f}")
        s.stop(name)
        code, lines = inspect(s.data(name))
        tablets = [pairs for word, pairs in lines if word == "tablet"]
        expect(code == 0
               and sum(int(t["values"]) for t in tablets) == count + 160
               and all(t["damaged_values"] == "0" for t in tablets),
               f"exit {code}: {tablets}")


def read_all(s, part):
    values(s, "read", 2, 0, part)
    values(s, "read", 1, part, COUNT)


if __name__ == "__main__":
    run(ten_times_the_memory, a_wiped_node_is_filled,
        what_is_replaced_gives_room,
        subset=(a_wiped_node_is_filled, what_is_replaced_gives_room))
