"""A bare store for tests: one coordinator and storage processes, as children
of the test, so that their exit statuses are seen and each can be run under
another program (strace). Everything is stopped by its pid at the end."""
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile

from penn import (AWAY, BUILD, PATIENCE, Failure, expect, get, get_json,
                  reserve_ports, status_of, wait_for)

MARKS = ("ERROR: AddressSanitizer", "runtime error:", "LeakSanitizer",
         "WARNING: ThreadSanitizer", "Assertion `")
# Times are longer there.
SLOW = 5 if any(x in os.path.basename(BUILD) for x in ("asan", "tsan")) else 1


def program(name):
    return os.path.join(BUILD, name)


class Store:
    """with Store() as s: ... OPTIONS: {"storage": {"log_limit": "2M"}}, by
    section; of one process: {"storage-1": {...}}."""

    def __init__(self, nodes=3, tablets=16, options=None, start=True):
        self.nodes, self.tablets, self.begin = nodes, tablets, start
        self.options = options or {}
        self.dir = tempfile.mkdtemp(prefix="penn-store-")
        self.base, self._lock = reserve_ports()
        self.key = os.path.join(self.dir, "cluster.key")
        self.conf = os.path.join(self.dir, "penncloud.conf")
        self.children = {}
        os.mkdir(self.path("log"))
        os.mkdir(self.path("data"))
        write_private(self.key, secrets.token_hex(32) + "\n")
        self.configure()

    def path(self, *parts):
        return os.path.join(self.dir, *parts)

    # ---- configuration ----

    def storages(self):
        return [f"storage-{i + 1}" for i in range(self.nodes)]

    def names(self):
        return ["coordinator-1"] + self.storages()

    def port(self, name):
        kind, number = name.rsplit("-", 1)
        return self.base + {"coordinator": 200, "storage": 300}[kind] \
            + 10 * int(number)

    def status_port(self, name):
        return self.port(name) + 1

    def section(self, name):
        kind, number = name.rsplit("-", 1)
        rows = {"node": number, "listen": f"127.0.0.1:{self.port(name)}",
                "status_listen": f"127.0.0.1:{self.status_port(name)}",
                "data_dir": self.data(name)}
        if kind == "storage":
            rows["beacon_listen"] = f"127.0.0.1:{self.port(name) + 2}"
        else:
            rows["initial_nodes"] = str(self.nodes)
        rows.update(self.options.get(kind, {}))
        rows.update(self.options.get(name, {}))
        return rows

    def configure(self, path=None):
        """Writes the configuration; also to another PATH."""
        cluster = {"key_file": self.key, "tablets": str(self.tablets),
                   "coordinators": f"127.0.0.1:{self.port('coordinator-1')}",
                   "replicas": str(min(3, self.nodes))}
        cluster.update(self.options.get("cluster", {}))
        sections = [("cluster", cluster)]
        sections += [(f"{n.rsplit('-', 1)[0]} {n}", self.section(n))
                     for n in self.names()]
        with open(path or self.conf, "w") as f:
            for head, rows in sections:
                f.write(f"[{head}]\n")
                f.writelines(f"{k} = {v}\n" for k, v in rows.items())

    def data(self, name):
        return self.path("data", name)

    # ---- processes ----

    def __enter__(self):
        try:
            if self.begin:
                self.start_all()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, kind, value, trace):
        failed = kind is not None
        for p in self.children.values():
            if p.poll() is None:
                p.send_signal(signal.SIGCONT)
                p.send_signal(signal.SIGTERM if SLOW > 1 else signal.SIGKILL)
        for name, p in self.children.items():
            try:
                p.wait(15 * PATIENCE)
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()
        if failed:
            self.show_logs()
        try:
            self.check_sanitizers(raising=not failed)
        finally:
            if not os.environ.get("PENN_KEEP"):
                shutil.rmtree(self.dir, ignore_errors=True)
            self._lock.close()
        return False

    def spawn(self, name, wrap=(), conf=None, env=None, binary=None):
        """Starts a daemon, or BINARY in its place; returns without waiting."""
        kind = name.rsplit("-", 1)[0]
        binary = binary or {"coordinator": "penn-coordinatord",
                            "storage": "penn-storaged"}[kind]
        with open(self.path("log", name + ".log"), "ab") as log:
            p = subprocess.Popen(
                [*wrap, program(binary), "-c", conf or self.conf, "-n", name],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                start_new_session=True, env=dict(os.environ, **(env or {})))
        self.children[name] = p
        return p

    def start(self, name, **how):
        """Starts a daemon and waits until it is ready."""
        p = self.spawn(name, **how)
        wait_for(lambda: self.ready(name) or p.poll() is not None, 30 * SLOW,
                 f"{name} is ready")
        expect(p.poll() is None, f"{name} ended with {p.poll()}: "
               f"{self.last_line(name)}")

    def start_all(self):
        for name in self.names():
            self.spawn(name)
        self.wait_whole()

    def refused(self, name, **how):
        """Starts a daemon that must not come up: (exit status, the lines it
        said)."""
        at = self.log_size(name)
        p = self.spawn(name, **how)
        try:
            code = p.wait(20 * SLOW * PATIENCE)
        except subprocess.TimeoutExpired:
            p.kill()
            p.wait()
            raise Failure(f"{name} came up") from None
        return code, self.log(name, at).splitlines()

    def pid(self, name):
        return self.children[name].pid

    def kill(self, name):
        self.children[name].kill()
        self.children[name].wait()

    def stop(self, name):
        """SIGTERM; its exit status."""
        self.children[name].terminate()
        return self.ended(name)

    def ended(self, name, seconds=20):
        """Waits for its end; its exit status."""
        try:
            return self.children[name].wait(seconds * SLOW * PATIENCE)
        except subprocess.TimeoutExpired:
            raise Failure(f"{name} does not end: {self.last_line(name)}") \
                from None

    def pause(self, name):
        self.children[name].send_signal(signal.SIGSTOP)

    def resume(self, name):
        self.children[name].send_signal(signal.SIGCONT)

    # ---- logs ----

    def log_size(self, name):
        try:
            return os.path.getsize(self.path("log", name + ".log"))
        except OSError:
            return 0

    def log(self, name, at=0):
        with open(self.path("log", name + ".log"), "rb") as f:
            f.seek(at)
            return f.read().decode(errors="replace")

    def last_line(self, name):
        return (self.log(name).splitlines() or [""])[-1]

    def wait_log(self, name, text, at=0, seconds=10):
        wait_for(lambda: text in self.log(name, at), seconds * SLOW,
                 f"{name} logs {text!r}")

    def show_logs(self, lines=12):
        for name in self.names():
            if self.log_size(name):
                print(f"--- {name}", *self.log(name).splitlines()[-lines:],
                      sep="\n")

    def check_sanitizers(self, raising=True):
        for name in self.names():
            text = self.log(name) if self.log_size(name) else ""
            for mark in MARKS:
                if mark in text:
                    at = text.index(mark)
                    print(f"--- {name}: {text[max(0, at - 200):at + 4000]}")
                    if raising:
                        raise Failure(f"{name}: {mark}")

    # ---- state ----

    def status(self, name):
        return status_of(self.status_port(name))

    def glance(self, name):
        """Its status now, or what is AWAY."""
        return get_json(self.status_port(name), "/status")

    def ready(self, name):
        try:
            return get(self.status_port(name), "/readyz")[0] == 200
        except AWAY:
            return False

    def coordinator(self):
        return self.status("coordinator-1")

    def healthy(self):
        """The coordinator is there and misses nothing."""
        try:
            return self.glance("coordinator-1").get("healthy")
        except AWAY:
            return False

    def node_state(self, name):
        """A node's state in the map: up, down, ..."""
        return next((n["state"] for n in self.coordinator().get("nodes", [])
                     if n["name"] == name), None)

    def open_tablets(self):
        """Tablets with a primary that is past R12 (f)."""
        total = 0
        for name in self.storages():
            try:
                total += self.glance(name)["storage"]["open"]
            except AWAY:
                pass
        return total

    def whole(self):
        """Every tablet has all replicas in sync and an open primary."""
        try:
            s = self.glance("coordinator-1")
        except AWAY:
            return False
        return (s.get("healthy") and s["tablets"]["count"] == self.tablets
                and self.open_tablets() == self.tablets)

    def in_sync(self, name):
        """It has a part in every tablet, and no learner's. (As many replicas
        as nodes.)"""
        try:
            replicas = self.glance(name)["storage"]["replicas"]
        except AWAY:
            return False
        return (len(replicas) == self.tablets and
                all(r["role"] in ("primary", "secondary") for r in replicas))

    def wait_whole(self, seconds=30):
        try:
            wait_for(self.whole, seconds * SLOW, "the store is whole")
        except Failure as e:
            raise Failure(f"{e}: {self.degraded()}") from None

    def degraded(self):
        """What the coordinator says is missing."""
        try:
            return self.glance("coordinator-1").get("degraded")
        except AWAY as e:
            return f"coordinator-1 says nothing: {e}"

    def primaries(self, name):
        return self.status(name)["storage"]["primaries"]

    def busiest(self):
        """The storage process with most primaries."""
        return max(self.storages(), key=self.primaries)

    def epochs(self):
        """Sum of all tablets' epochs as the replicas see them."""
        return sum(r["epoch"] for n in self.storages()
                   for r in self.status(n)["storage"]["replicas"])

    def rss_kib(self, name):
        for line in open(f"/proc/{self.pid(name)}/status"):
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        raise Failure(f"{name}: no VmRSS")

    def pennctl(self, *args, check=True, timeout=60, stdin=None, conf=None):
        r = subprocess.run([program("pennctl"), "--config", conf or self.conf,
                            *args], capture_output=True, text=True,
                           timeout=timeout * SLOW * PATIENCE, input=stdin)
        if check and r.returncode != 0:
            raise Failure(f"pennctl {' '.join(args)[:200]}: exit "
                          f"{r.returncode}: {r.stdout}{r.stderr}")
        return r

    def check(self):
        """pennctl check: replicas are equal."""
        return self.pennctl("check").stdout


class Writer:
    """tests/cluster/writer.c on a store: with Writer(s) as w: ..."""

    def __init__(self, store, threads=4, value_size=300, timeout_ms=30000):
        self.store = store
        self.err = store.path("writer.log")
        self.args = [str(threads), str(value_size), str(timeout_ms)]
        self.p = None

    def __enter__(self):
        with open(self.err, "ab") as err:
            self.p = subprocess.Popen(
                [program("cluster_writer"), self.store.key,
                 f"127.0.0.1:{self.store.port('coordinator-1')}", *self.args],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=err,
                text=True)
        try:
            self.progress()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, kind, value, trace):
        if self.p.poll() is None:
            self.p.kill()
        self.p.wait()
        self.p.stdin.close()
        self.p.stdout.close()
        if kind is not None:
            text = open(self.err, errors="replace").read().splitlines()
            print("--- writer", *text[-15:], sep="\n")
        return False

    def ask(self, what):
        try:
            self.p.stdin.write(what + "\n")
            self.p.stdin.flush()
            line = self.p.stdout.readline()
        except OSError:
            line = ""
        expect(line, f"the writer ended: {open(self.err).read()[-500:]}")
        return json.loads(line)

    def stats(self):
        return self.ask("stats")

    def mark(self):
        """Figures so far; the longest gap is measured anew from here."""
        return self.ask("mark")

    def progress(self, writes=5, seconds=60):
        """Waits until every thread got so many writes acknowledged."""
        had = self.stats()["least"]
        wait_for(lambda: self.stats()["least"] >= had + writes,
                 seconds * SLOW, "every thread of the writer gets on")

    def elapse(self, seconds):
        """So much of the writer's time passes: for what must not happen."""
        end = self.stats()["seconds"] + seconds
        wait_for(lambda: self.stats()["seconds"] >= end, seconds + 60,
                 f"{seconds} s of the writer's time", pause=0.1)

    def finish(self):
        """Stops it; every value must be what was acknowledged. Its figures."""
        stats = self.ask("stop")
        code = self.p.wait(60 * PATIENCE)
        text = open(self.err, errors="replace").read()
        bad = [x for x in text.splitlines() if "VIOLATION" in x]
        expect(code == 0 and not bad,
               f"the ledger does not hold (exit {code}): {bad[:5]}")
        return stats


def write_private(path, text):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "w") as f:
        f.write(text)
