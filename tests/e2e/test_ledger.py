"""Mails while processes die: nothing acknowledged is lost or doubled.

PENN_ROUNDS: how many rounds with random victims (5); PENN_MAILS: mails a
round (2000); PENN_SEED: of the choice of victims."""
import os
import random
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "lib"))
sys.path.insert(0, os.path.dirname(__file__))
from ledger import Ledger  # noqa: E402
from penn import Cluster, Web, run, wait_for  # noqa: E402

ROUNDS = int(os.environ.get("PENN_ROUNDS", "5"))
MAILS = int(os.environ.get("PENN_MAILS", "2000"))
SEED = int(os.environ.get("PENN_SEED", str(random.randrange(1 << 30))))
AWAY = 5.0  # seconds that a killed process stays away


def settle(c):
    """Everything up again; the whole cluster in sync."""
    for name in c.names():
        if not c.pid(name):
            c.start(name)
    c.wait_ready()
    c.wait_whole()


def audit(c, ledger):
    subjects = [m["subject"] for m in
                Web(c.http, "alice", c.password()).messages()]
    text = ledger.compare(subjects)
    c.check()
    return text


def kill_and_restart(c, ledger, victim, after):
    wait_for(lambda: ledger.done() >= after, 120, f"{after} mails sent")
    name = victim or c.storage_with_most_primaries()
    c.kill(name)
    threading.Event().wait(AWAY)  # that long it is to be away
    c.start(name)
    return name


def one_round(c, tag, victim, after):
    ledger = Ledger(c.smtp, "alice@penncloud.test", tag)
    ledger.start(MAILS)
    try:
        name = kill_and_restart(c, ledger, victim, after)
    finally:
        ledger.join()
    settle(c)
    print(f"  {tag}: {name} killed after {after}: {audit(c, ledger)}",
          flush=True)


def kill_primary_under_load():
    with Cluster() as c:
        one_round(c, "most", None, MAILS // 4)


def kill_each_storage():
    """One of the three is the primary of the mailbox that is written to."""
    with Cluster() as c:
        for i in range(c.nodes):
            one_round(c, f"s{i + 1}", f"storage-{i + 1}", MAILS // 10)


def random_victims():
    print(f"  PENN_SEED={SEED}")
    choose = random.Random(SEED)
    with Cluster() as c:
        for i in range(ROUNDS):
            # Every kind of process has its turn.
            kinds = [None, "gateway", "coordinator", "storage", "balancer"]
            kind = kinds[i % len(kinds)]
            victim = None if kind is None else choose.choice(
                [n for n in c.names() if n.startswith(kind)])
            one_round(c, f"r{i}", victim, choose.randrange(20, MAILS // 2))


def kill_everything():
    with Cluster() as c:
        ledger = Ledger(c.smtp, "alice@penncloud.test", "all")
        ledger.start(MAILS)
        try:
            wait_for(lambda: ledger.done() >= MAILS // 4, 120, "mails sent")
            c.kill_all()
            began = time.monotonic()
            c.up()
            back = time.monotonic() - began
        finally:
            ledger.join()
        settle(c)
        print(f"  all killed, up again in {back:.1f} s: {audit(c, ledger)}",
              flush=True)


if __name__ == "__main__":
    run(kill_primary_under_load, kill_each_storage, random_victims,
        kill_everything)
