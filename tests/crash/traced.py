"""A store whose processes write traces of what they do to their disks, and
whose calls fail as a test asks for (record_io.h, fault_io.h)."""
import os
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "lib"))
from penn import PATIENCE, expect  # noqa: E402
from store import SLOW, Store, program  # noqa: E402


def is_storage(name):
    return name.startswith("storage")


class Traced(Store):
    """A store whose processes write traces; PLANT and BUGS (a mask) are for
    the processes that are looked at."""

    def __init__(self, plant="", bugs="0", **how):
        self.plant, self.bugs = plant, bugs
        super().__init__(tablets=6, start=False, **how)

    def trace(self, name):
        return self.path("trace-" + name)

    def spawn(self, name, **how):
        env = {"PENN_CRASH_TRACE": self.trace(name),
               "PENN_CRASH_DIR": self.data(name),
               "PENN_CRASH_PLANT": self.plant, "PENN_CRASH_BUGS": self.bugs,
               "PENN_CRASH_FAULTS": self.path("faults-" + name)}
        binary = "crash_storaged" if is_storage(name) else "crash_coordinatord"
        return super().spawn(name, env=env, binary=binary, **how)

    def fault(self, name, *lines):
        """From now on NAME's calls fail as LINES say; none: no more. Also of
        a process that is yet to start."""
        with open(self.path("faults-" + name), "w") as f:
            f.writelines(x + "\n" for x in lines)
        p = self.children.get(name)
        if p is not None and p.poll() is None:
            p.send_signal(signal.SIGUSR2)

    def die(self, name):
        """As by kill -9, with no call under way."""
        self.children[name].send_signal(signal.SIGUSR1)
        self.ended(name)

    def die_all(self):
        for name in self.names():
            if self.children[name].poll() is None:
                self.die(name)

    def look(self, name, *options, seconds=600):
        """(exit status, what it said)."""
        kind = "storage" if is_storage(name) else "coordinator"
        others = [self.trace(n) for n in self.storages() if n != name]
        r = subprocess.run(
            [program("crash"), *options, kind, self.trace(name),
             *(others if is_storage(name) else [])],
            capture_output=True, text=True, timeout=seconds * SLOW * PATIENCE)
        return r.returncode, r.stdout + r.stderr

    def true(self, name):
        """The trace ends with what the directory has."""
        code, text = self.look(name, "--same-as", self.data(name))
        expect(code == 0, f"{name}: the trace is not the truth: {text[:500]}")
