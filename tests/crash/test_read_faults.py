"""The blob log's calls that fail, and reads that fail on every kind of file, at
run time and at a start: the process goes on, or says why and ends; a copy that
does not read is replaced from another; nothing is lost."""
import os
import sys

sys.path.insert(0, os.path.dirname(__file__))
from test_disk_faults import EX_IOERR, FAILED, ends, goes_on, note  # noqa: E402
from traced import Traced  # noqa: E402
from penn import expect, run, wait_for  # noqa: E402
from store import SLOW, Writer  # noqa: E402

BLOB, LOG, CHECKPOINT = "/blobs-0", "/wal-0", "/t0"
# Values of one size each: some in the log's segments, some in the blob log.
IN_LOG, IN_BLOBS = 4000, 20000
SMALL = {"storage": {"log_limit": "1M", "segment_size": "9M",
                     "value_cache": "0", "scrub_interval": "1s",
                     "scrub_rate": "200M"}}

ENDS = [
    (f"pwrite {BLOB} EIO", FAILED),
    (f"fdatasync {BLOB} EIO", FAILED),
]
GOES_ON = [
    (f"pwrite {BLOB} half 0 20", ""),
    (f"pwrite {BLOB} EINTR 0 20", ""),
]  # ENOSPC is in tests/cluster/test_strace.py
# A file whose values have all been overwritten; it stays until the next start.
# Only a small one is removed, as a start leaves it behind: others are kept to be
# written again.
REMOVAL = (f"unlink {BLOB} EIO", "module=blobs event=remove-failed")
# Of a file that is not there yet: {} is its name.
NEW_FILE = [
    ("open {} EMFILE 0 3", "module=blobs event=no-file status=NO_MEMORY", None),
    ("open {} EIO", FAILED, EX_IOERR),
]
# What is said, by whoever reads: a client's request, the scrub. (Each read is
# tried in the page cache first.)
READS = [
    (IN_LOG, f"pread {LOG} EIO 0 6", "damaged"),
    (IN_BLOBS, f"pread {BLOB} EIO 0 6", "damaged"),
    (IN_LOG, f"pread {CHECKPOINT} EIO 0 2", "damaged"),
]
# At a start: first blocks, and later ones.
STARTS = [
    (IN_LOG, f"pread {LOG} EIO 0 1"), (IN_LOG, f"pread {LOG} EIO 2 2"),
    (IN_LOG, f"pread {LOG} EIO 5 3"), (IN_LOG, f"pread {CHECKPOINT} EIO 0 1"),
    (IN_LOG, f"pread {CHECKPOINT} EIO 1 2"),
    (IN_BLOBS, f"pread {BLOB} EIO 0 1"), (IN_BLOBS, f"pread {BLOB} EIO 1 3"),
]


def audit(s, w):
    s.wait_whole(60)
    w.progress()
    w.finish()
    s.check()
    s.die_all()


def blob_files(s, name):
    """The numbers of its files."""
    folder = os.path.join(s.data(name), "shard-00")
    return {int(x[6:12]) for x in os.listdir(folder)
            if x.startswith("blobs-")}


def next_blob_file(s, name):
    """Of a process that is dead."""
    return f"blobs-{max(blob_files(s, name), default=0) + 1:06d}"


def blob_log():
    with Traced() as s:
        s.start_all()
        with Writer(s, value_size=IN_BLOBS) as w:
            for i, (fault, text) in enumerate(ENDS):
                ends(s, w, f"storage-{1 + i}", fault, text)
            for fault, text in GOES_ON:
                goes_on(s, w, "storage-1", fault, text)
            for fault, text, code in NEW_FILE:
                s.die("storage-2")
                at = s.log_size("storage-2")
                s.fault("storage-2",
                        fault.format(next_blob_file(s, "storage-2")))
                s.spawn("storage-2")
                if code is not None:
                    expect(s.children["storage-2"].wait(30 * SLOW) == code,
                           f"{fault}: it ends")
                    expect(text in s.log("storage-2", at), f"{fault}: says why")
                    s.fault("storage-2")
                    s.start("storage-2")
                elif text:
                    s.wait_log("storage-2", text, at, 30)
                s.wait_whole(60)
                w.progress()
                s.fault("storage-2")
            s.die("storage-2")
            at = s.log_size("storage-2")
            s.fault("storage-2", REMOVAL[0])
            s.start("storage-2")
            s.wait_log("storage-2", REMOVAL[1], at, 60)
            s.fault("storage-2")
            s.wait_whole(60)
            w.progress()
            left = blob_files(s, "storage-2")
            s.die("storage-2")
            s.start("storage-2")
            wait_for(lambda: not left & blob_files(s, "storage-2"), 60 * SLOW,
                     "what could not be removed is")
            audit(s, w)
        for name in ("storage-1", "storage-2"):
            s.true(name)
            code, text = s.look(name, "--points", "100")
            expect(code == 0, f"{name}: {text[-3000:]}")
    note(f"{len(ENDS + GOES_ON + NEW_FILE) + 1} faults of the blob log")


def reads():
    for size in (IN_LOG, IN_BLOBS):
        with Traced(options=SMALL) as s:
            s.start_all()
            with Writer(s, value_size=size) as w:
                w.progress(100)
                for _, fault, text in [r for r in READS if r[0] == size]:
                    name = s.busiest()
                    at = s.log_size(name)
                    w.ask("hold")
                    s.fault(name, fault)
                    wait_for(lambda: w.ask("read")["violations"] == 0
                             and text in s.log(name, at), 60 * SLOW,
                             f"{fault}: {name} finds it", pause=0.2)
                    s.fault(name)
                    w.ask("go")
                    s.wait_whole(60)
                    w.progress()
                for n in s.storages():
                    expect(s.children[n].poll() is None,
                           f"{n} ended: {s.last_line(n)}")
                audit(s, w)
    note(f"{len(READS)} reads that fail at run time")


def starts():
    for size in (IN_LOG, IN_BLOBS):
        with Traced(options=SMALL) as s:
            s.start_all()
            with Writer(s, value_size=size) as w:
                w.progress(100)
                for _, fault in [r for r in STARTS if r[0] == size]:
                    s.die("storage-1")
                    s.fault("storage-1", fault)
                    s.start("storage-1")
                    s.fault("storage-1")
                    s.wait_whole(60)
                    w.progress()
                audit(s, w)
    note(f"{len(STARTS)} reads that fail at the start")


# No descriptors at a start: it says so and does not start.
NO_DESCRIPTORS = [f"open {x} EMFILE 0 0" for x in (LOG, CHECKPOINT, BLOB)]


def descriptors():
    """EMFILE ends no process that runs, and condemns nobody."""
    with Traced(options=SMALL) as s:
        s.start_all()
        with Writer(s, value_size=IN_BLOBS) as w:
            w.progress(50)
            s.fault("storage-1", "open / EMFILE 0 0")
            w.elapse(4)
            expect(s.children["storage-1"].poll() is None,
                   f"it ended: {s.last_line('storage-1')}")
            s.fault("storage-1")
            w.progress()
            for fault in NO_DESCRIPTORS:
                s.die("storage-1")
                s.fault("storage-1", fault)
                code, lines = s.refused("storage-1")
                expect(code != 0 and "memory" in lines[-1],
                       f"{fault}: exit {code}: {lines[-3:]}")
                s.fault("storage-1")
                s.start("storage-1")
                s.wait_whole(60)
            expect("event=condemned" not in s.log("storage-1"), "condemned")
            audit(s, w)


if __name__ == "__main__":
    run(blob_log, reads, starts, descriptors, subset=(blob_log,))
