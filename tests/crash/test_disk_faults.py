"""Each call that can fail, failing, on each kind of file: the process either
goes on, or says why and ends; the cluster goes on; nothing is lost, not even
by a power loss at any place of it."""
import os
import sys

sys.path.insert(0, os.path.dirname(__file__))
from traced import Traced  # noqa: E402
from penn import Failure, expect, run, wait_for  # noqa: E402
from store import SLOW, Writer  # noqa: E402

EX_IOERR = 74
FAILED = "could not be written (R18)"
LOG, NOTE, NEW, CHECKPOINT = "/wal-0", "/wal-begin", "/wal-new", "/t0"


def note(text):
    print(f"  {text}", flush=True)


# From the first start on, when segments are made; each on a node of its own.
NO_SEGMENTS = [
    (f"open {NEW} EMFILE 0 3", "event=no_space status=NO_MEMORY"),
    (f"pwrite {NEW} ENOSPC 0 3", "event=no_space status=NO_SPACE"),
    (f"open {NEW} ENOSPC 0 3", "event=no_space status=NO_SPACE"),
]
# The process ends, with a line of level fatal that has this text in it.
ENDS = [
    (f"pwrite {LOG} EIO", FAILED),
    (f"pwrite {LOG} ENOSPC", FAILED),  # it has its place: this cannot be
    (f"fdatasync {LOG} EIO", FAILED),
    (f"pwrite {NOTE} EIO", FAILED),
    (f"fdatasync {NOTE} EIO", FAILED),
    (f"pwrite {NEW} EIO", FAILED),
    (f"fsync {NEW} EIO", FAILED),
    (f"rename {LOG} EIO", FAILED),
]
# It goes on, and logs this ("": nothing above info).
GOES_ON = [
    (f"pwrite {LOG} EINTR 0 5", ""),
    (f"pwrite {LOG} half 0 50", ""),
    (f"pwrite {NOTE} half 0 5", ""),
    (f"pwrite {NEW} half 0 5", ""),
    (f"pwrite {CHECKPOINT} half 0 50", ""),
    (f"open {CHECKPOINT} EMFILE", "module=checkpoint event=failed"),
    (f"pwrite {CHECKPOINT} EIO", "module=checkpoint event=failed"),
    (f"pwrite {CHECKPOINT} ENOSPC", "module=checkpoint event=failed"),
    (f"fsync {CHECKPOINT} EIO", "module=checkpoint event=failed"),
    (f"rename {CHECKPOINT} EIO", "module=checkpoint event=failed"),
    ("unlink .ckpt EIO", "module=checkpoint event=remove-failed"),
]
COORDINATOR_ENDS = [
    ("pwrite register EIO", "register cannot be written"),
    ("pwrite register ENOSPC", "register cannot be written"),
    ("fdatasync register EIO", "register cannot be written"),
]
COORDINATOR_GOES_ON = [
    ("pwrite register EINTR 0 5", ""),
    ("pwrite register half 0 5", ""),
]
# It does not start, and says this; the next time it does.
REFUSES = [
    ("open .new-store EMFILE", "store: cannot be written"),
    ("pwrite .new-store ENOSPC", "store: cannot be written"),
    ("fsync .new-store EIO", "store: cannot be written"),
    ("rename store.copy EIO", "store.copy: cannot be written"),
    ("fsync . EIO", "store: cannot be written"),
    ("open .new-wal-begin EMFILE", "wal-begin"),
    ("fsync .new-wal-begin EIO", "wal-begin"),
    ("fdatasync /wal-0 EIO", "log"),
    ("pwrite /wal-0 EIO", "log"),
]


def tells(s, name, at):
    """Lines above info that are not about others, who may be slow, or the
    shape of the test itself."""
    return [x for x in s.log(name, at).splitlines()
            if "level=info" not in x and "module=net" not in x
            and "module=cluster" not in x and "module=watch" not in x
            and "running-as-root" not in x]


def start_anew(s, name):
    """Its segments may do for long, used again and again: of another size they
    are of no use, and it must make one at once."""
    had = s.options.get(name, {}).get("segment_size", "9M")
    s.options[name] = {"segment_size": "10M" if had == "9M" else "9M"}
    s.configure()
    s.die(name)
    s.spawn(name)


def ends(s, w, name, fault, text):
    at = s.log_size(name)
    s.fault(name, fault)
    if NEW in fault or "rename" in fault:  # when a segment is made
        start_anew(s, name)
    try:
        code = s.ended(name, 30)
    except Failure as e:
        raise Failure(f"{fault}: {e}") from None
    said = s.log(name, at)
    expect(code == EX_IOERR, f"{fault}: exit {code}: {said[-500:]}")
    expect(any(text in x and "level=fatal" in x for x in said.splitlines()),
           f"{fault}: it says why: {said[-800:]}")
    w.progress(5)
    s.fault(name)
    s.start(name)
    s.wait_whole()


def goes_on(s, w, name, fault, text):
    at = s.log_size(name)
    s.fault(name, fault)
    if text:
        wait_for(lambda: text in s.log(name, at) or s.children[name].poll()
                 is not None, 30 * SLOW, f"{fault}: {name} logs {text!r}")
    else:
        w.progress(40)
    expect(s.children[name].poll() is None,
           f"{fault}: {name} ended: {s.last_line(name)}")
    s.fault(name)
    w.progress(5)
    if "checkpoint" in text:
        w.elapse(1.5)  # it is tried again after a second, and then told anew
    if not text:
        expect(not tells(s, name, at), f"{fault}: {tells(s, name, at)[:3]}")


def audit(s, w):
    s.wait_whole()
    w.progress()
    w.finish()
    s.check()
    s.die_all()


def power_losses(s, name, points=150):
    s.true(name)
    code, text = s.look(name, "--points", str(points))
    expect(code == 0, f"{name}: {text[-3000:]}")


def storage_ends():
    with Traced() as s:
        s.start_all()
        # Values in memory: segments are used again soon.
        with Writer(s, value_size=900) as w:
            for i, (fault, text) in enumerate(ENDS):
                ends(s, w, f"storage-{1 + i % 2}", fault, text)
            audit(s, w)
        power_losses(s, "storage-1")
        power_losses(s, "storage-2")
    note(f"{len(ENDS)} faults that end a storage process")


def storage_goes_on():
    with Traced() as s:
        s.start_all()
        with Writer(s, value_size=1500) as w:
            for fault, text in GOES_ON:
                goes_on(s, w, "storage-1", fault, text)
            audit(s, w)
        power_losses(s, "storage-1")
    note(f"{len(GOES_ON)} faults that do not")


def no_segments():
    with Traced() as s:
        for i, (fault, _) in enumerate(NO_SEGMENTS):
            s.fault(f"storage-{i + 1}", fault)
        s.start_all()
        with Writer(s, value_size=1500) as w:
            for i, (fault, text) in enumerate(NO_SEGMENTS):
                s.wait_log(f"storage-{i + 1}", text, seconds=20)
            w.progress(40)
            audit(s, w)
        for i in range(len(NO_SEGMENTS)):
            power_losses(s, f"storage-{i + 1}", 100)


def coordinator():
    with Traced() as s:
        s.start_all()
        name = "coordinator-1"
        with Writer(s) as w:
            for fault, text in COORDINATOR_ENDS:
                s.fault(name, fault)
                s.die("storage-1")  # something to decide
                code = s.ended(name)
                expect(code == EX_IOERR, f"{fault}: exit {code}")
                expect(text in s.log(name), f"{fault}: it says why")
                s.fault(name)
                s.start(name)
                s.start("storage-1")
                s.wait_whole()
            for fault, text in COORDINATOR_GOES_ON:
                s.fault(name, fault)
                s.die("storage-1")
                w.progress()
                s.start("storage-1")
                s.wait_whole()
                expect(s.children[name].poll() is None, f"{fault}: it ended")
                s.fault(name)
            audit(s, w)
        power_losses(s, name)


def starts():
    with Traced() as s:
        s.start_all()
        with Writer(s, value_size=1500) as w:
            w.progress(20)
            for fault, text in REFUSES:
                s.die("storage-1")
                s.fault("storage-1", fault)
                code, lines = s.refused("storage-1")
                expect(code == EX_IOERR or "ENOSPC" in fault
                       or "EMFILE" in fault, f"{fault}: exit {code}: {lines}")
                expect(any(text in x for x in lines), f"{fault}: {lines}")
                s.fault("storage-1")
                s.start("storage-1")
                w.progress()
            audit(s, w)
        power_losses(s, "storage-1")
    note(f"{len(REFUSES)} faults at the start")


if __name__ == "__main__":
    run(storage_ends, storage_goes_on, no_segments, coordinator, starts,
        subset=(storage_ends,))
