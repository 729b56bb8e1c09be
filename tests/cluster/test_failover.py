"""A writer that never stops, and processes that die, hang, and come back
with everything, with nothing, or all at once. After each: what was
acknowledged is there, once, and the replicas are equal.

PENN_KILLS: how often a primary is killed (8)."""
import os
import shutil
import statistics
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "lib"))
from penn import expect, run, wait_for  # noqa: E402
from store import SLOW, Store, Writer  # noqa: E402

KILLS = int(os.environ.get("PENN_KILLS", "8"))
DETECTION = 0.8  # seconds of silence after which a process is down


def audit(s, w):
    """The store is whole, its replicas equal, the ledger holds."""
    s.wait_whole()
    w.progress()
    stats = w.finish()
    s.check()
    return stats


def note(text):
    print(f"  {text}", flush=True)


def describe(gaps):
    gaps = sorted(gaps)
    return (f"longest gap between acknowledged writes: median "
            f"{statistics.median(gaps):.0f} ms, greatest {gaps[-1]:.0f} ms "
            f"({len(gaps)} times)")


def gap_of(w, strike):
    """The writer's longest gap while STRIKE happens and until every thread
    gets on."""
    w.mark()
    strike()
    w.progress()
    return w.mark()["longest_ms"]


def kill_primary():
    with Store() as s, Writer(s) as w:
        gaps = []
        w.elapse(DETECTION + 0.2)  # a new coordinator judges nobody (R20)
        for _ in range(KILLS):
            victim = s.busiest()
            gaps.append(gap_of(w, lambda v=victim: s.kill(v)))
            s.start(victim)
            s.wait_whole()
            w.progress()
        stats = audit(s, w)
        note(f"kill -9 of a primary: {describe(gaps)}; "
             f"{stats['acknowledged']} writes, {stats['unknown']} unknown, "
             f"{stats['refused']} refused")
        expect(statistics.median(gaps) < 300 * SLOW, describe(gaps))
        expect(max(gaps) < 600 * SLOW, describe(gaps))


def kill_secondary():
    with Store(tablets=1) as s, Writer(s) as w:
        gaps = []
        for name in [n for n in s.storages() if s.primaries(n) == 0]:
            gaps.append(gap_of(w, lambda n=name: s.kill(n)))
            s.start(name)
            s.wait_whole()
            w.progress()
        audit(s, w)
        note(f"kill -9 of a secondary: {describe(gaps)}")
        expect(max(gaps) < 1000 * SLOW, describe(gaps))


def pause_primary():
    with Store() as s, Writer(s) as w:
        victim = s.busiest()
        gap = gap_of(w, lambda: s.pause(victim))
        # It sleeps on until others have led its tablets for a while.
        w.progress(200)
        s.resume(victim)
        stats = audit(s, w)
        note(f"SIGSTOP of a primary: longest gap {gap:.0f} ms; "
             f"{stats['unknown']} unknown")
        expect(gap < 2000 * SLOW, f"longest gap {gap} ms")


def blink_primary():
    """Paused longer than the lease, shorter than detection."""
    with Store() as s, Writer(s) as w:
        victim = s.busiest()
        for _ in range(3):
            s.pause(victim)
            w.elapse(0.5)
            s.resume(victim)
            w.progress()
        audit(s, w)


def kill_coordinator():
    with Store() as s, Writer(s) as w:
        w.progress()
        epochs = s.epochs()
        w.mark()
        s.kill("coordinator-1")
        w.elapse(3 * DETECTION * SLOW)
        w.progress(50)
        gap = w.mark()["longest_ms"]
        s.start("coordinator-1")
        s.wait_whole()
        expect(s.epochs() == epochs,
               "the coordinator's death changed epochs")
        note(f"coordinator away: longest gap {gap:.0f} ms")
        expect(gap < 1000 * SLOW, f"longest gap {gap} ms")
        audit(s, w)


def kill_all():
    with Store() as s, Writer(s) as w:
        for _ in range(2):
            w.progress(50)
            for name in s.names():
                s.children[name].kill()
            for name in s.names():
                s.children[name].wait()
            s.start_all()
            w.progress(50)
        stats = audit(s, w)
        note(f"all killed, twice: {stats['unknown']} unknown, "
             f"{stats['lost']} had to be looked up")


def wiped_node():
    """It comes back as a new replica, and is worth one: another can die."""
    with Store() as s, Writer(s) as w:
        w.progress(50)
        s.kill("storage-2")
        w.progress()
        shutil.rmtree(s.data("storage-2"))
        os.mkdir(s.data("storage-2"), 0o700)
        s.start("storage-2")
        s.wait_whole()
        s.check()
        w.progress(50)
        s.kill("storage-1")
        w.progress(50)
        w.ask("hold")
        w.ask("read")
        w.ask("go")
        s.start("storage-1")
        audit(s, w)


def wiped_node_alone():
    """With the others away it must not serve: it holds nothing."""
    with Store() as s, Writer(s) as w:
        w.progress(20)
        w.ask("hold")
        for name in s.storages():
            s.kill(name)
        shutil.rmtree(s.data("storage-2"))
        os.mkdir(s.data("storage-2"), 0o700)
        s.spawn("storage-2")
        wait_for(lambda: s.coordinator()["tablets"]["without_primary"]
                 == s.tablets, 10 * SLOW, "every tablet without primary")
        lines = s.coordinator()["degraded"]
        expect(all("unavailable until storage-" in x for x in lines),
               f"the coordinator says what is missing: {lines}")
        w.elapse(6)  # longer than it waits for the others (R21)
        expect(s.open_tablets() == 0, "an empty replica serves")
        s.start("storage-1")
        s.start("storage-3")
        w.ask("go")
        audit(s, w)


def two_nodes_down():
    """Reads go on, writes are refused and can be repeated (R8, R9)."""
    with Store() as s, Writer(s, timeout_ms=2000) as w:
        w.progress(20)
        w.ask("hold")
        s.kill("storage-1")
        wait_for(lambda: s.open_tablets() == s.tablets, 20 * SLOW,
                 "two nodes serve all")
        # R12 (e): alone it serves reads only of logs that it knows to be
        # committed to their end; that news follows within milliseconds.
        wait_for(lambda: all(
            r["last"] == r["committed"]
            for r in s.status("storage-3")["storage"]["replicas"]),
            20 * SLOW, "the last one knows all that is committed")
        s.kill("storage-2")
        lines = wait_for(lambda: s.coordinator()["degraded"], 10 * SLOW,
                         "the coordinator says so")
        expect(any("storage-" in x for x in lines), f"names no node: {lines}")
        shown = s.pennctl("status", check=False).stdout
        expect("storage-1" in shown and "storage-2" in shown,
               f"pennctl status: {shown}")
        before = w.ask("read")
        expect(before["violations"] == 0, "reads below min_insync")
        w.ask("go")
        had = w.stats()
        wait_for(lambda: w.stats()["refused"] > had["refused"] + 4, 60 * SLOW,
                 "writes are refused")
        now = w.stats()
        expect(now["acknowledged"] == had["acknowledged"],
               "a write was acknowledged by one of three")
        s.start("storage-1")
        w.progress()
        s.start("storage-2")
        stats = audit(s, w)
        note(f"two of three down: {now['refused']} writes refused, "
             f"{stats['unknown']} unknown, all read")


def old_coordinator():
    """R20: a register from a backup is recognised; nothing acts on it."""
    with Store() as s, Writer(s) as w:
        s.stop("coordinator-1")
        backup = s.path("backup")
        shutil.copytree(s.data("coordinator-1"), backup)
        s.start("coordinator-1")
        s.wait_whole()
        s.kill("storage-1")
        w.progress()
        s.start("storage-1")
        s.wait_whole()
        s.kill("coordinator-1")
        shutil.rmtree(s.data("coordinator-1"))
        shutil.copytree(backup, s.data("coordinator-1"))
        epochs = s.epochs()
        at = s.log_size("coordinator-1")
        p = s.spawn("coordinator-1")
        wait_for(lambda: p.poll() is not None, 20 * SLOW,
                 "the coordinator with the old register stops")
        expect(p.returncode not in (0, -6, -11), f"exit {p.returncode}")
        expect("epoch" in s.log("coordinator-1", at),
               f"it says why: {s.last_line('coordinator-1')}")
        w.progress(20)
        expect(s.epochs() == epochs, "it changed epochs")
        w.finish()


def rolling_restart():
    """Each is told to stop and started again: no client sees an error."""
    with Store() as s, Writer(s) as w:
        gaps = []
        for name in s.names():
            w.elapse(DETECTION + 0.2)  # the coordinator may be new
            gaps.append(gap_of(w, lambda n=name: expect(
                s.stop(n) == 0, f"{n}: {s.last_line(n)}")))
            s.start(name)
            s.wait_whole()
            w.progress()
        stats = audit(s, w)
        note(f"SIGTERM of each: {describe(gaps)}")
        expect(stats["refused"] == 0, "a client saw an error")
        expect(statistics.median(gaps) < 300 * SLOW, describe(gaps))
        expect(max(gaps) < 600 * SLOW, describe(gaps))


if __name__ == "__main__":
    run(kill_primary, kill_secondary, pause_primary, blink_primary,
        kill_coordinator, kill_all, wiped_node, wiped_node_alone,
        two_nodes_down, old_coordinator, rolling_restart,
        subset=(kill_primary, pause_primary, kill_all, wiped_node,
                two_nodes_down))
