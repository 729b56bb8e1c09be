"""Whatever is wrong from outside: bytes of strangers, keys, configurations,
ports, data directories, too large cells. Each is refused with one line that
says what and where and the exit status that fits, and does no harm: the
cluster works on, its data and epochs unchanged."""
import os
import resource
import shutil
import socket
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "lib"))
from penn import expect, get, run, wait_for  # noqa: E402
from store import SLOW, Store, Writer, program, write_private  # noqa: E402

USAGE, DATAERR, UNAVAILABLE, NOPERM, CONFIG = 64, 65, 69, 77, 78
CANTREAD = (NOPERM, 66, 73, 74, CONFIG)  # what fits a bad path
VALUE_MAX = 4 * 1024 * 1024 + 64 * 1024
KEY_MAX = 1024


def note(text):
    print(f"  {text}", flush=True)


class Unharmed:
    """with Unharmed(s): ... the cluster is as whole as before, with the same
    epochs, the same cell, and accepts a new one."""

    def __init__(self, s):
        self.s = s

    def __enter__(self):
        self.s.wait_whole()
        self.epochs = self.s.epochs()
        self.s.pennctl("kv", "put", "guard", "row", "column", "as it was")

    def __exit__(self, kind, value, trace):
        if kind is not None:
            return False
        s = self.s
        s.wait_whole()
        expect(s.epochs() == self.epochs, "epochs changed")
        got = s.pennctl("kv", "get", "guard", "row", "column").stdout
        expect(got.rstrip("\n") == "as it was", f"the guard's cell: {got!r}")
        s.pennctl("kv", "put", "guard", "row", "new", "cell")
        return False


def refused(s, name, codes, *texts, **how):
    """NAME does not come up, with one of CODES and one line with TEXTS."""
    codes = codes if isinstance(codes, tuple) else (codes,)
    code, lines = s.refused(name, **how)
    told = [x for x in lines if "level=" not in x or "level=fatal" in x]
    expect(code in codes, f"{name}: exit {code}, not {codes}: {told}")
    expect(len(told) == 1, f"{name}: not one line: {told}")
    for t in texts:
        expect(t in told[0], f"{name}: does not say {t!r}: {told[0]}")


# ---- strangers ----

GARBAGE = [
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"EHLO stranger\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),  # TLS
    b"PENS\x01\x01\x03\x00" + bytes(96),  # an opening without the key
    b"PENS\xff\x01\x03\x00" + bytes(96),  # another version
    bytes(200),
    b"\xff" * 1000000,
]


def ports(s):
    return [(n, s.port(n)) for n in s.names()] \
        + [(n, s.port(n) + 2) for n in s.storages()]


def hears_nothing(port, data):
    """Sends DATA; the other side must close without a word."""
    with socket.create_connection(("127.0.0.1", port), 20) as c:
        c.settimeout(60 * SLOW)
        try:
            c.sendall(data)
            heard = c.recv(100)
        except (ConnectionError, BrokenPipeError):
            heard = b""
        expect(heard == b"", f"port {port} answers {heard!r} to {data[:40]!r}")


def strangers():
    with Store() as s, Unharmed(s):
        flood(s)  # buffers and the like are there from now on
        before = {n: s.rss_kib(n) for n in s.names()}
        at = {n: s.log_size(n) for n in s.names()}
        for _ in range(5):
            flood(s)
        for n in s.names():
            grown = s.rss_kib(n) - before[n]
            expect(grown < 6000 * SLOW, f"{n} has grown by {grown} KiB")
        for n in s.storages():
            wait_for(lambda n=n: failures(s, n) >= 6 * (len(GARBAGE) - 1),
                     5, f"{n} counts them")
        for n in s.names():
            s.wait_log(n, "module=net", at[n])


def failures(s, name):
    text = get(s.status_port(name), "/metrics")[1].decode()
    return max(float(x.split()[-1]) for x in text.splitlines()
               if x.startswith("penn_storage_handshake_failures_total"))


def flood(s):
    for _, port in ports(s):
        for data in GARBAGE:
            hears_nothing(port, data)


def silent_strangers():
    """Connections that say nothing: bounded, and closed in the end, while
    the cluster's own get through."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with Store() as s, Writer(s) as w, Unharmed(s):
        held = []
        for _, port in ports(s):
            for _ in range(300):
                try:
                    held.append(socket.create_connection(("127.0.0.1", port),
                                                         5))
                except OSError:
                    pass  # refused is right as well
        w.progress(20)
        for c in held:
            c.settimeout(120 * SLOW)
            try:
                expect(c.recv(1) == b"", "a stranger hears something")
            except ConnectionError:
                pass
            c.close()
        w.finish()


def stranger(key, address, offence):
    r = subprocess.run([program("cluster_stranger"), key, address, offence],
                       capture_output=True, text=True, timeout=240 * SLOW)
    expect(r.returncode == 0, f"cluster_stranger {offence}: {r.stderr}")
    return r.stdout.strip()


def offences():
    r = subprocess.run([program("cluster_stranger"), "--list"],
                       capture_output=True, text=True, timeout=120)
    return r.stdout.split()


def offenders():
    """With the cluster's key, but what they send is wrong."""
    answers = {("unknown", "storage"): "answered ERROR UNSUPPORTED",
               ("unknown", "coordinator"): "answered ERROR UNSUPPORTED",
               ("fit-key", "storage"): "answered ERROR INVALID"}
    with Store() as s, Unharmed(s):
        version = s.coordinator()["version"]
        at = {n: s.log_size(n) for n in s.names()}
        for offence in offences():
            for name, port in ports(s):
                kind = "beacon" if port == s.port(name) + 2 \
                    else name.split("-")[0]
                want = answers.get((offence, kind), "closed")
                got = stranger(s.key, f"127.0.0.1:{port}", offence)
                if offence == "fit-key" and got == "answered VALUE OK":
                    continue  # its partition may belong there
                expect(got == want, f"{offence} at {kind}: {got}, not {want}")
        for n in s.names():
            s.wait_log(n, "peer=127.0.0.1", at[n])
            s.wait_log(n, "why=", at[n])
        expect(s.coordinator()["version"] == version, "the map changed")


def wrong_key():
    with Store(nodes=4, start=False) as s:
        other = s.path("other.key")
        write_private(other, "5a" * 32 + "\n")
        conf = s.path("other.conf")
        s.options["cluster"] = {"key_file": other}
        s.configure(conf)
        s.options = {"coordinator": {"initial_nodes": "3"}}
        s.configure()
        for n in s.names()[:4]:
            s.spawn(n)
        wait_for(s.healthy, 30 * SLOW, "the first three make a cluster")
        s.nodes = 3
        with Unharmed(s):
            for _, port in ports(s):
                got = stranger(other, f"127.0.0.1:{port}", "unknown")
                expect(got == "closed", f"with another key: {got}")
            r = s.pennctl("--timeout", "2", "kv", "get", "a", "b", "c",
                          conf=conf, check=False)
            expect(r.returncode == 3 and len(r.stderr.splitlines()) == 1,
                   f"pennctl with another key: {r.returncode} {r.stderr}")
            s.spawn("storage-4", conf=conf)
            wait_for(lambda: "key" in s.log("storage-4"), 10 * SLOW,
                     "it says that the key may differ")
            expect(s.node_state("storage-4") is None, "it was let in")
            expect(not s.ready("storage-4"), "it says that it is ready")
            s.kill("storage-4")


# ---- configuration and key file ----

def configurations():
    """(line to add below [storage storage-1], what the line says)."""
    bad = [("colour = red", "colour"),
           ("node = 2", "node"),  # twice
           ("log_limit = many", "log_limit"),
           ("log_limit = 1", "log_limit"),
           ("log_limit = 99999999T", "log_limit"),
           ("listen = nowhere", "listen"),
           ("listen = 127.0.0.1:99999", "listen"),
           ("data_dir = relative/path", "data_dir"),
           ("no value here", "key = value"),
           ("[storag]", "storag"),
           ("[storage storage-1]", "storage-1"),
           ("[cluster", "section"),
           ("log_limit = 4M\x01", ""),
           ("x" * 5000, "")]
    with Store(nodes=1, start=False) as s:
        good = open(s.conf).read()
        head = "[storage storage-1]\n"
        for line, word in bad:
            rows = good
            if line.startswith(("listen", "data_dir")):
                key = line.split()[0]
                at = rows.index(head)
                begin = rows.index(f"\n{key} =", at) + 1
                rows = rows[:begin] + rows[rows.index("\n", begin) + 1:]
            path = s.path("bad.conf")
            with open(path, "w") as f:
                f.write(rows.replace(head, head + line + "\n"))
            refused(s, "storage-1", CONFIG, path + ":", conf=path)
            code, lines = s.refused("storage-1", conf=path)
            expect(word in lines[-1], f"{line[:40]!r}: {lines[-1]}")
        os.unlink(path)
        refused(s, "storage-1", CONFIG, path, conf=path)
        with open(path, "w") as f:
            f.write(good.replace("coordinators =", "# coordinators ="))
        refused(s, "storage-1", CONFIG, "coordinators", conf=path)
        code, lines = s.refused("coordinator-1", conf=path)
        expect(code == CONFIG, f"exit {code}")
        r = subprocess.run([program("penn-storaged"), "--nonsense"],
                           capture_output=True, text=True, timeout=120)
        expect(r.returncode == USAGE, f"usage: exit {r.returncode}")
        expect(not os.path.exists(s.data("storage-1")),
               "a bad configuration made a data directory")


def key_files():
    with Store(nodes=1, start=False) as s:
        key = open(s.key).read()
        cases = [(key, 0o644, NOPERM, "chmod"), (key, 0o660, NOPERM, "chmod"),
                 ("", 0o600, CONFIG, "hex"), ("secret\n", 0o600, CONFIG, "hex"),
                 ("0" * 64 + "\n", 0o600, CONFIG, ""),
                 (key * 2, 0o600, CONFIG, "hex")]
        for text, mode, code, word in cases:
            write_private(s.key, text)
            os.chmod(s.key, mode)
            for n in s.names():
                refused(s, n, code, s.key, word)
        os.unlink(s.key)
        refused(s, "storage-1", 66, s.key)
        os.mkdir(s.key)
        refused(s, "storage-1", CONFIG, s.key)
        os.rmdir(s.key)
        for n in s.names():
            text = s.log(n)
            expect(key.strip() not in text and "secret" not in text,
                   "a key stands in the log")


# ---- ports ----

def ports_in_use():
    with Store() as s:
        s.stop("storage-2")
        with Holding(s.port("storage-2")) as h:
            refused(s, "storage-2", UNAVAILABLE, h.address)
        with Holding(s.port("storage-2") + 2) as h:
            refused(s, "storage-2", UNAVAILABLE, h.address)
        with Holding(s.status_port("storage-2")) as h:
            refused(s, "storage-2", UNAVAILABLE, h.address)
        s.start("storage-2")
        s.stop("coordinator-1")
        with Holding(s.port("coordinator-1")) as h:
            refused(s, "coordinator-1", UNAVAILABLE, h.address)
        with Holding(s.status_port("coordinator-1")) as h:
            refused(s, "coordinator-1", UNAVAILABLE, h.address)
        s.start("coordinator-1")
        s.wait_whole()
        s.check()


class Holding:
    """Somebody else has the port."""

    def __init__(self, port):
        self.address = f"127.0.0.1:{port}"
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(("127.0.0.1", port))
        self.socket.listen()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()


# ---- data directories ----

def patch(path, at, data):
    with open(path, "r+b") as f:
        f.seek(at)
        f.write(data)


class Stopped:
    """A process is stopped and its directory put back as it was."""

    def __init__(self, s, name):
        self.s, self.name = s, name
        self.data, self.saved = s.data(name), s.path("saved")

    def __enter__(self):
        self.s.stop(self.name)
        shutil.copytree(self.data, self.saved)
        return self

    def again(self):
        shutil.rmtree(self.data)
        shutil.copytree(self.saved, self.data)

    def __exit__(self, kind, value, trace):
        self.again()
        shutil.rmtree(self.saved)
        if kind is None:
            self.s.start(self.name)
            self.s.wait_whole()
        return False


def storage_directories():
    with Store() as s:
        s.pennctl("kv", "put", "guard", "row", "column", "kept")
        d = s.data("storage-1")
        stores = [os.path.join(d, x) for x in ("store", "store.copy")]
        with Stopped(s, "storage-1") as stopped:
            shutil.rmtree(d)
            shutil.copytree(stopped.saved, d)
            for f in stores:  # the format's number, and something new
                patch(f, 8, b"\x63\x00\x00\x00")
                patch(f, 20, b"new!")
            refused(s, "storage-1", DATAERR, "99", d)
            stopped.again()
            for f in stores:
                patch(f, 30, b"\xff\xff\xff")
            refused(s, "storage-1", DATAERR, "damaged", d)
            stopped.again()
            for f in stores:
                os.unlink(f)
            refused(s, "storage-1", DATAERR, "gone", d)
            stopped.again()
            for f in stores:
                os.truncate(f, 0)
            refused(s, "storage-1", DATAERR, "damaged", d)
            expect(sorted(os.listdir(d)) == sorted(os.listdir(stopped.saved)),
                   "a refusal changed the directory")
        with Stopped(s, "storage-1"):  # of another node
            conf = s.path("swapped.conf")
            s.options = {"storage-1": {"data_dir": s.data("storage-2")}}
            s.configure(conf)
            s.stop("storage-2")
            refused(s, "storage-1", CONFIG, "node 2", conf=conf)
            s.start("storage-2")
            refused(s, "storage-1", UNAVAILABLE, "in use",
                    str(s.pid("storage-2")), conf=conf)
            s.options = {}
        s.stop("storage-1")  # one copy is enough
        patch(stores[0], 30, b"\xff\xff\xff")
        s.start("storage-1")
        with Stopped(s, "storage-1") as stopped:  # an old copy of the disk
            s.start("storage-1")
            s.wait_whole()
            s.stop("storage-1")
            shutil.move(stopped.data, s.path("newest"))
            shutil.copytree(stopped.saved, stopped.data)
            code, lines = s.refused("storage-1")
            expect(code == NOPERM and "rolled-back" in lines[-1],
                   f"a rolled-back disk: exit {code}: {lines[-1]}")
            shutil.rmtree(stopped.saved)
            shutil.copytree(s.path("newest"), stopped.saved)
        got = s.pennctl("kv", "get", "guard", "row", "column").stdout
        expect(got.rstrip("\n") == "kept", f"the cell: {got!r}")
        s.check()


def unwritable_directories():
    with Store(nodes=1, start=False) as s:
        for name in s.names():
            with open(s.data(name), "w"):
                pass
            refused(s, name, CANTREAD, s.data(name))
            os.unlink(s.data(name))
            read_only(s, name)


def read_only(s, name):
    path = s.data(name)
    os.mkdir(path, 0o700)
    r = subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "penn-test", path],
                       capture_output=True, text=True)
    if r.returncode != 0:
        note(f"SKIPPED a read-only file system: {r.stderr.strip()}")
        return
    try:
        refused(s, name, CANTREAD, path)
    finally:
        subprocess.run(["umount", path], check=True)


def another_cluster():
    with Store(nodes=1, tablets=4) as a, Store(nodes=1, tablets=4) as b:
        a.pennctl("kv", "put", "guard", "row", "column", "of a")
        a.stop("storage-1")
        b.stop("storage-1")
        shutil.copytree(b.data("storage-1"), b.path("own"))
        shutil.rmtree(b.data("storage-1"))
        shutil.copytree(a.data("storage-1"), b.data("storage-1"))
        # It reaches a coordinator that is not its own: it takes no part.
        write_private(b.key, open(b.key).read())
        p = b.spawn("storage-1")
        wait_for(lambda: p.poll() is not None
                 or "WRONG_CLUSTER" in b.log("storage-1")
                 or "WRONG_CLUSTER" in b.log("coordinator-1"), 20 * SLOW,
                 "the other cluster is recognised")
        expect(not b.ready("storage-1"), "it serves")
        expect(b.open_tablets() == 0, "it serves")
        if p.poll() is None:
            b.kill("storage-1")
        a.start("storage-1")
        a.wait_whole()
        got = a.pennctl("kv", "get", "guard", "row", "column").stdout
        expect(got.rstrip("\n") == "of a", f"the cell: {got!r}")


def coordinator_directories():
    with Store() as s, Writer(s) as w:
        w.progress()
        d = s.data("coordinator-1")
        register = os.path.join(d, "register")
        with Stopped(s, "coordinator-1") as stopped:
            size = os.path.getsize(register)
            with open(register, "wb") as f:
                f.write(os.urandom(size))
            refused(s, "coordinator-1", DATAERR, "register", d)
            stopped.again()
            os.truncate(register, 100)
            refused(s, "coordinator-1", DATAERR, "register", d)
            os.truncate(register, 0)
            refused(s, "coordinator-1", DATAERR, "register", d)
            stopped.again()
            conf = s.path("renumbered.conf")
            s.options = {"coordinator": {"node": "2"}}
            s.configure(conf)
            refused(s, "coordinator-1", CONFIG, "node 1", d, conf=conf)
            s.options = {}
            w.progress()  # all the time
        with Stopped(s, "coordinator-1"):
            # All gone: a new cluster, of which the storage processes are not.
            shutil.rmtree(d)
            s.spawn("coordinator-1")
            wait_for(lambda: "WRONG_CLUSTER" in s.log("storage-1"), 10 * SLOW,
                     "storage recognises a strange coordinator")
            w.progress(20)
            expect(not s.coordinator().get("healthy"), "it thinks it is whole")
            expect(s.coordinator()["tablets"]["count"] == 0, "it placed tablets")
            s.stop("coordinator-1")
        w.progress()
        w.finish()
        s.check()


# ---- cells ----

def large_cells():
    with Store() as s, Unharmed(s):
        long = "k" * (KEY_MAX + 1)
        big = s.path("big")
        with open(big, "wb") as f:
            f.write(os.urandom(VALUE_MAX + 1))
        for args in ([long, "r", "c", "v"], ["p", long, "c", "v"],
                     ["p", "r", long, "v"], ["p", "r", "c", "--file", big]):
            r = s.pennctl("kv", "put", *args, check=False)
            expect(r.returncode == 1 and len(r.stderr.splitlines()) == 1
                   and "larger than" in r.stderr,
                   f"put of {[len(a) for a in args]}: {r.returncode} "
                   f"{r.stderr!r}")
        os.truncate(big, VALUE_MAX)
        key = "k" * KEY_MAX
        s.pennctl("kv", "put", key, key, key, "--file", big)
        r = subprocess.run([program("pennctl"), "--config", s.conf, "kv",
                            "get", key, key, key], capture_output=True,
                           timeout=240 * SLOW)
        want = open(big, "rb").read()
        expect(r.returncode == 0 and r.stdout[:VALUE_MAX] == want,
               f"the largest cell: exit {r.returncode}, "
               f"{len(r.stdout)} bytes")
        r = s.pennctl("kv", "put", "p", "r", check=False)
        expect(r.returncode == 2, f"usage: exit {r.returncode}")
        r = s.pennctl("kv", "get", "p", "nothing", "here", check=False)
        expect(r.returncode == 1, f"no such cell: exit {r.returncode}")
        s.check()


if __name__ == "__main__":
    run(strangers, silent_strangers, offenders, wrong_key, configurations,
        key_files, ports_in_use, storage_directories, unwritable_directories,
        another_cluster, coordinator_directories, large_cells,
        subset=(strangers, offenders, configurations, storage_directories,
                coordinator_directories, large_cells))
