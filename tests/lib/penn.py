"""A cluster of real processes for tests: started by pennctl local in a folder
of its own, on ports that a lock file reserves, stopped by pid, leaving
nothing behind. Conditions are waited for with a deadline, never slept for."""
import fcntl
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

SRC = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
BUILD = os.path.abspath(os.environ.get("PENN_BUILD", os.path.join(SRC, "build")))
# Deadlines say what a quiet machine needs, amply; others get so much more. (A
# bound in time that is a promise of the product is no deadline: it is compared
# with what was measured.)
PATIENCE = 4


class Failure(Exception):
    """An expectation that did not hold."""


class Away(Failure):
    """A process is asked for its status and says that it cannot tell now."""


# What asking a process may end in that is starting, busy, dying or not there:
# half an answer too.
AWAY = (OSError, http.client.HTTPException, Away, KeyError, ValueError)


def expect(condition, text):
    if not condition:
        raise Failure(text)


def wait_for(condition, seconds, text, pause=0.02):
    """Asks CONDITION until it gives something true; gives that back. That it
    cannot be asked now (AWAY) is as good as false."""
    seconds *= PATIENCE
    end = time.monotonic() + seconds
    while True:
        late, why = time.monotonic() > end, ""
        try:
            found = condition()
            if found:
                return found
        except AWAY as e:
            why = f" ({type(e).__name__}: {e})"
        if late:  # asked once more after the end
            raise Failure(f"not within {seconds} s: {text}{why}")
        time.sleep(pause)


def eventually(check, seconds=10):
    """CHECK's expectations hold together at some time: for what is told of
    processes that go on meanwhile."""
    why = []

    def holds():
        try:
            check()
            return True
        except Failure as e:
            why[:] = [e]
            return False

    try:
        wait_for(holds, seconds, "they agree", pause=0.1)
    except Failure as e:
        raise Failure(f"{e}: {why[0] if why else ''}") from None


def fetched(fetch):
    """Calls FETCH, which gets something from the network: that may fail once
    or twice."""
    for left in (2, 1, 0):
        try:
            return fetch()
        except (subprocess.SubprocessError, OSError):
            if left == 0:
                raise
            time.sleep(5)
    return None


def reserve_ports():
    """A port base from 10700 to 30300 in steps of 700; the lock is held until
    the file object that comes with it is closed. (With base 10000 HTTP would
    be on 10080, which browsers refuse as unsafe.)"""
    # Not under TMPDIR, which differs from test to test: ports do not.
    folder = "/tmp/penn-ports"
    os.makedirs(folder, exist_ok=True)
    if os.stat(folder).st_uid != os.getuid():  # its files cannot be opened
        folder += f"-{os.getuid()}"
        os.makedirs(folder, exist_ok=True)
    # Ports of the kernel's own choice are above; others' services are not
    # known, so a base with a listener in it is passed over.
    start = os.getpid() % 29
    for i in range(29):
        base = 10700 + 700 * ((start + i) % 29)
        lock = open(os.path.join(folder, f"{base}.lock"), "w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            continue
        if not _listening(base, base + 700):
            return base, lock
        lock.close()
    raise Failure("no free port base between 10700 and 31000")


def _listening(low, high):
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            rows = open(table).read().splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            f = row.split()
            if f[3] == "0A" and low <= int(f[1].rsplit(":", 1)[1], 16) < high:
                return True
    return False


class Cluster:
    """with Cluster() as c: ... brings a cluster up and takes it down."""

    def __init__(self, nodes=3, gateways=2, keep=None):
        self.nodes, self.gateways = nodes, gateways
        self.keep = keep or os.environ.get("PENN_KEEP")
        self.dir = tempfile.mkdtemp(prefix="penn-test-")
        self.base, self._lock = reserve_ports()

    def __enter__(self):
        try:
            self.up()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, kind, value, trace):
        failed = kind is not None
        if failed:
            self.show_logs()
        for name in self.names():
            self.signal(name, signal.SIGCONT)
        try:
            self.pennctl("local", "down", check=False)
        except subprocess.TimeoutExpired:
            pass  # then the hard way
        for name in self.names():
            self.signal(name, signal.SIGKILL)
        self.check_sanitizers(raising=not failed)
        if not self.keep:
            shutil.rmtree(self.dir, ignore_errors=True)
        self._lock.close()
        return False

    # ---- names and ports ----

    def names(self):
        return (["coordinator-1"] + [f"storage-{i + 1}" for i in range(self.nodes)]
                + [f"gateway-{i + 1}" for i in range(self.gateways)]
                + ["balancer-1"])

    def status_port(self, name):
        kind, number = name.rsplit("-", 1)
        i = 10 * int(number)
        return self.base + {"coordinator": 201 + i, "storage": 301 + i,
                            "gateway": 104 + i, "balancer": 81}[kind]

    @property
    def http(self):
        return self.base + 80

    @property
    def smtp(self):
        return self.base + 25

    def password(self):
        return open(os.path.join(self.dir, "demo-password")).read().strip()

    # ---- processes ----

    def pennctl(self, *args, check=True, timeout=90 * PATIENCE, stdin=None):
        env = dict(os.environ, PENN_WEB_DIR=os.path.join(SRC, "gateway/web"))
        r = subprocess.run([os.path.join(BUILD, "pennctl"), "--local", self.dir,
                            *args], capture_output=True, text=True, env=env,
                           timeout=timeout, input=stdin)
        if check and r.returncode != 0:
            raise Failure(f"pennctl {' '.join(args)}: exit {r.returncode}: "
                          f"{r.stdout}{r.stderr}")
        return r

    def up(self):
        self.pennctl("local", "up", "--port-base", str(self.base), "--nodes",
                     str(self.nodes), "--gateways", str(self.gateways))

    def pid(self, name):
        """0: it does not run. (A pid file stays after a kill -9, and its number
        may be another process' by then.)"""
        try:
            pid = int(open(os.path.join(self.dir, "run", name + ".pid")).read())
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                args = f.read().split(b"\0")
        except (OSError, ValueError):
            return 0
        ours = any(a.startswith(os.fsencode(self.dir)) for a in args)
        return pid if ours and os.fsencode(name) in args else 0

    def signal(self, name, number):
        """False: it does not run."""
        pid = self.pid(name)
        try:
            if pid:
                os.kill(pid, number)
        except ProcessLookupError:
            pid = 0
        return bool(pid)

    def kill(self, name):
        """SIGKILL; the pid file stays, as after a crash."""
        expect(self.signal(name, signal.SIGKILL), f"{name} does not run")

    def kill_all(self):
        for name in self.names():
            self.signal(name, signal.SIGKILL)

    def start(self, name):
        self.pennctl("local", "start", name)

    def pause(self, name):
        expect(self.signal(name, signal.SIGSTOP), f"{name} does not run")

    def resume(self, name):
        expect(self.signal(name, signal.SIGCONT), f"{name} does not run")

    def rss_kib(self):
        """Resident memory of all processes."""
        total = 0
        for name in self.names():
            for line in open(f"/proc/{self.pid(name)}/status"):
                if line.startswith("VmRSS:"):
                    total += int(line.split()[1])
        return total

    # ---- status ----

    def status(self, name):
        return status_of(self.status_port(name))

    def ready(self, name):
        try:
            return get(self.status_port(name), "/readyz")[0] == 200
        except AWAY:
            return False

    def wait_ready(self, seconds=60):
        for name in self.names():
            wait_for(lambda n=name: self.ready(n), seconds, f"{name} is ready")

    def storage_with_most_primaries(self):
        counts = {}
        for i in range(self.nodes):
            name = f"storage-{i + 1}"
            counts[name] = self.status(name)["storage"]["primaries"]
        return max(counts, key=lambda n: (counts[n], n))

    def wait_whole(self, seconds=60):
        """All storage processes up, and every tablet has all its replicas in
        sync and an open primary."""
        replicas = min(3, self.nodes)

        def whole():
            r = self.pennctl("--json", "tablet", "list", check=False)
            if r.returncode != 0:
                return False
            rows = json.loads(r.stdout)
            rows = rows.get("tablets", rows) if isinstance(rows, dict) else rows
            return rows and all(
                len(t["in_sync"]) >= replicas for t in rows)

        wait_for(whole, seconds, "the cluster is whole", pause=0.1)

    def check(self):
        """pennctl check: replicas equal, schema's invariants hold."""
        r = self.pennctl("check", check=False)
        expect(r.returncode == 0,
               f"pennctl check: exit {r.returncode}: {r.stdout}{r.stderr}")
        return r.stdout

    # ---- evidence ----

    def show_logs(self, lines=15):
        folder = os.path.join(self.dir, "log")
        if not os.path.isdir(folder):
            return
        for f in sorted(os.listdir(folder)):
            text = open(os.path.join(folder, f), errors="replace").read()
            print(f"--- {f}", *text.splitlines()[-lines:], sep="\n")

    def check_sanitizers(self, raising=True):
        folder = os.path.join(self.dir, "log")
        marks = ("ERROR: AddressSanitizer", "runtime error:", "LeakSanitizer",
                 "WARNING: ThreadSanitizer", "Assertion `")
        for f in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
            text = open(os.path.join(folder, f), errors="replace").read()
            for mark in marks:
                if mark in text:
                    at = text.index(mark)
                    print(f"--- {f}: {text[max(0, at - 200):at + 4000]}")
                    if raising:
                        raise Failure(f"{f}: {mark}")


def get(port, path, headers=None, timeout=10):
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        c.request("GET", path, headers=headers or {})
        r = c.getresponse()
        return r.status, r.read()
    finally:
        c.close()


def get_json(port, path):
    code, body = get(port, path)
    if code != 200:
        raise Away(f"GET {path} on {port}: {code}")
    return json.loads(body)


def status_of(port):
    """What a process that lives says; on a busy machine it may be late."""
    end = time.monotonic() + 10 * PATIENCE
    while True:
        try:
            return get_json(port, "/status")
        except (Away, TimeoutError):
            if time.monotonic() > end:
                raise
        time.sleep(0.1)


class Web:
    """A logged-in user of the HTTP API; tries again while the service fails
    over (503, connections that break)."""

    def __init__(self, port, user, password):
        self.port, self.cookie, self.token = port, None, None
        body = self.call("POST", "/api/login",
                         {"username": user, "password": password})
        expect(body is not None, "login")
        self.token = self.call("GET", "/api/me")["csrf_token"]

    def once(self, method, path, body=None):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {}
        if self.cookie:
            headers["Cookie"] = self.cookie
        if self.token:
            headers["X-CSRF-Token"] = self.token
        data = None
        if body is not None:
            data = json.dumps(body)
            headers["Content-Type"] = "application/json"
        try:
            c.request(method, path, data, headers)
            r = c.getresponse()
            for k, v in r.getheaders():
                if k.lower() == "set-cookie" and "penncloud_session=" in v:
                    self.cookie = v.split(";")[0]
            return r.status, r.read()
        finally:
            c.close()

    def call(self, method, path, body=None, seconds=60):
        last = []

        def answered():
            try:
                last[:] = self.once(method, path, body)
            except (OSError, http.client.HTTPException) as e:
                last[:] = 0, str(e).encode()
            return last[0] not in (0, 502, 503)

        try:
            wait_for(answered, seconds, "an answer", pause=0.1)
        except Failure:
            pass
        code, text = last
        expect(200 <= code < 300, f"{method} {path}: {code} {text[:300]!r}")
        return json.loads(text) if text else {}

    def folder_id(self, role="inbox"):
        folders = self.call("GET", "/api/mail/folders")
        folders = folders.get("folders", folders)
        for f in folders:
            if f.get("role") == role or f.get("id") == role:
                return f["id"]
        raise Failure(f"no folder {role}: {folders}")

    def messages(self, folder="inbox"):
        """All of a folder, newest first."""
        ident, found, before = self.folder_id(folder), [], None
        while True:
            path = f"/api/mail/folders/{ident}/messages?limit=200"
            if before:
                path += f"&before={before}"
            page = self.call("GET", path)
            found += page["messages"]
            before = page["next"]
            if not before:
                return found


def where(e):
    """Where in the tests it was: FILE:LINE FUNCTION, the innermost last."""
    frames = [f for f in traceback.extract_tb(e.__traceback__)
              if f.filename.startswith(SRC)]
    if isinstance(e, Failure):  # its text says what it is about
        frames = [f for f in frames if f.name not in ("expect", "wait_for")]
    at = [f"{os.path.relpath(f.filename, SRC)}:{f.lineno} {f.name}"
          for f in frames if f.name not in ("run", "main")]
    return f" [at {', '.join(at[-4:])}]" if at else ""


def run(*tests, subset=()):
    """Runs test functions one after the other; prints a line each; ends with
    the line that the runner counts. SUBSET: those that PENN_SUBSET asks for,
    where builds are slow; none given: all."""
    wanted = sys.argv[1:]
    if not wanted and os.environ.get("PENN_SUBSET"):
        wanted = [t.__name__ for t in subset]
    passed = failed = 0
    for t in tests:
        if wanted and t.__name__ not in wanted:
            continue
        began = time.monotonic()
        try:
            t()
            passed += 1
            verdict = "ok"
        except Exception as e:  # whatever it was: the test failed
            failed += 1
            verdict = f"FAILED: {type(e).__name__}: {e}{where(e)}"
        print(f"{t.__name__}: {verdict} ({time.monotonic() - began:.1f} s)",
              flush=True)
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)
