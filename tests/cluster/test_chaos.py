"""Random events under a writer: processes killed, paused, stopped, started,
wiped, all mixed up, with a log so small that checkpoints and catch-up by
snapshot happen all the time. In the end everything is up, whole, and equal,
and the ledger holds.

PENN_SEED: of the events; PENN_CHAOS: seconds of them (15)."""
import os
import random
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "lib"))
from penn import run, wait_for  # noqa: E402
from store import SLOW, Store, Writer  # noqa: E402

SECONDS = float(os.environ.get("PENN_CHAOS", "15"))
SEED = int(os.environ.get("PENN_SEED", str(random.randrange(1 << 30))))
SMALL_LOG = {"storage": {"log_limit": "2M", "segment_size": "9M"}}


class Chaos:
    """What each process is at the moment: up, down or paused."""

    def __init__(self, s, choose):
        self.s, self.choose = s, choose
        self.state = {n: "up" for n in s.names()}
        self.log = []

    def some(self, state, kind=""):
        names = [n for n in self.state
                 if self.state[n] == state and n.startswith(kind)]
        return self.choose.choice(names) if names else None

    def to(self, name, state):
        self.state[name] = state
        self.log.append(f"{name} {state}")

    def kill(self):
        name = self.some("up")
        if name:
            self.s.kill(name)
            self.to(name, "down")

    def stop(self):
        name = self.some("up")
        if name:
            self.s.stop(name)
            self.to(name, "down")

    def pause(self):
        name = self.some("up")
        if name:
            self.s.pause(name)
            self.to(name, "paused")

    def resume(self):
        name = self.some("paused")
        if name:
            self.s.resume(name)
            self.to(name, "up")

    def start(self):
        name = self.some("down")
        if name:
            self.s.spawn(name)
            self.to(name, "up")

    def kill_all(self):
        for name in list(self.state):
            if self.state[name] != "down":
                self.s.kill(name)
                self.to(name, "down")

    def wipe(self):
        """Only where all was whole: two disks lost at once is too much."""
        name = self.some("up", "storage")
        if name and set(self.state.values()) == {"up"} and self.s.whole():
            self.s.kill(name)
            shutil.rmtree(self.s.data(name))
            self.to(name, "down")
            self.log.append(f"{name} wiped")
            self.heal()
            self.s.wait_whole(60)

    def heal(self):
        while self.some("paused"):
            self.resume()
        while self.some("down"):
            self.start()

    def act(self):
        acts = [(5, self.start), (4, self.resume), (4, self.kill),
                (3, self.pause), (2, self.stop), (2, self.heal),
                (0.5, self.wipe), (0.3, self.kill_all)]
        weights, calls = zip(*acts)
        self.choose.choices(calls, weights)[0]()


def chaos():
    print(f"  PENN_SEED={SEED}", flush=True)
    choose = random.Random(SEED)
    with Store(options=SMALL_LOG) as s, \
            Writer(s, threads=6, value_size=2000, timeout_ms=5000) as w:
        c = Chaos(s, choose)
        began = w.stats()["seconds"]
        try:
            while w.stats()["seconds"] < began + SECONDS:
                c.act()
                w.elapse(choose.choice((0, 0.05, 0.2, 0.5, 1.2)))
            c.heal()
            for name in s.names():
                wait_for(lambda n=name: s.ready(n), 60 * SLOW,
                         f"{name} is ready")
            s.wait_whole(60)
            w.progress()
            stats = w.finish()
            s.check()
        except BaseException:
            print("  " + ", ".join(c.log))
            raise
        print(f"  {len(c.log)} events: {stats['acknowledged']} acknowledged, "
              f"{stats['unknown']} unknown, {stats['settled']} settled, "
              f"{stats['voided']} void, {stats['refused']} refused",
              flush=True)


if __name__ == "__main__":
    run(chaos, subset=(chaos,))
