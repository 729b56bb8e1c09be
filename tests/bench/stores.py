"""The stores that kv-compare compares, each as three copies on three logs on
one machine: how they are started, loaded, killed, and what they use.

All are told to have each put on three disks before they answer; what concerns
neither that nor the sizes here is left at the default. Each process can be
run under bench_sync_delay, which counts its syncs and makes them slower."""
import http.client
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import time

from penn import Failure, expect, wait_for
from store import Store, program

HZ = os.sysconf("SC_CLK_TCK")


# ---- what processes use ----

def processes():
    """pid -> (parent, CPU seconds of it and of its ended children)."""
    found = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            text = open(f"/proc/{name}/stat").read()
        except OSError:
            continue
        f = text[text.rindex(")") + 2:].split()
        found[int(name)] = (int(f[1]), sum(map(int, f[11:15])) / HZ)
    return found


def tree(pids, table=None):
    """PIDS and all their descendants."""
    table = table or processes()
    below = {}
    for pid, (parent, _) in table.items():
        below.setdefault(parent, []).append(pid)
    todo, found = [p for p in pids if p in table], set()
    while todo:
        pid = todo.pop()
        found.add(pid)
        todo += below.get(pid, [])
    return found


def cpu_of(pids):
    table = processes()
    return sum(table[p][1] for p in tree(pids, table))


def cpu_of_machine():
    """CPU seconds that were used by anybody, another machine included."""
    f = open("/proc/stat").readline().split()[1:9]
    return (sum(map(int, f)) - int(f[3]) - int(f[4])) / HZ


def memory_of(pids):
    """Bytes resident; a page that several share counts once (Pss)."""
    total = 0
    for pid in tree(pids):
        try:
            for line in open(f"/proc/{pid}/smaps_rollup"):
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
        except OSError:
            pass
    return total


# ---- what all have in common ----

class System:
    """One store of three nodes in FOLDER, with ports from BASE. DELAYED: under
    bench_sync_delay, whose delay is 0 at first."""
    name = title = ""
    protocol = ""
    user = ()

    def __init__(self, folder, base, peers, delayed=False):
        self.folder = os.path.join(folder, self.name)
        self.base, self.peers, self.delayed = base, peers, delayed
        self.controls, self.children = [], {}
        os.mkdir(self.folder)
        os.chmod(self.folder, 0o777)

    def peer(self, name):
        return os.path.join(self.peers, "bin", name)

    def data(self, number):
        return os.path.join(self.folder, f"data{number}")

    def wrap(self, name):
        """What goes before a server's command."""
        if not self.delayed:
            return []
        path = os.path.join(self.folder, name + ".syncs")
        if path not in self.controls:
            with open(path, "wb") as f:
                f.write(bytes(24))
            os.chmod(path, 0o666)
            self.controls.append(path)
        return [program("bench_sync_delay"), path]

    def set_delay(self, us):
        for path in self.controls:
            with open(path, "r+b") as f:
                f.write(struct.pack("=Q", us))

    def control(self, index):
        return [struct.unpack("=QQQ", open(p, "rb").read(24))[index]
                for p in self.controls]

    def syncs(self):
        return sum(self.control(1))

    def supervisors(self):
        return self.control(2)

    def spawn(self, name, argv):
        log = open(os.path.join(self.folder, name + ".log"), "ab")
        with log:
            self.children[name] = subprocess.Popen(
                [*self.user, *self.wrap(name), *argv], stdout=log, stderr=log,
                stdin=subprocess.DEVNULL, start_new_session=True,
                cwd=self.folder)

    def roots(self):
        return [p.pid for p in self.children.values()]

    def kill(self):
        """SIGKILL to every process at once."""
        for pid in tree(self.roots()):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        for p in self.children.values():
            p.wait()

    def whole(self):
        """All replicas hold all and are waited for."""
        raise NotImplementedError

    def kill_one(self):
        """SIGKILL to all of the second node, which is no primary."""
        name = f"{self.name}-2"
        for pid in tree([self.children[name].pid]):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.children[name].wait()

    def restart_one(self):
        self.start_one(2)

    def one_in_sync(self):
        """It has all again, and is waited for again."""
        return self.whole()

    def stop(self):
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def alive(self):
        for name, p in self.children.items():
            expect(p.poll() is None, f"{self.name}: {name} ended with "
                   f"{p.returncode}: {self.log_tail(name)}")
        return True

    def log_tail(self, name):
        text = open(os.path.join(self.folder, name + ".log"), "rb").read()
        return text[-600:].decode(errors="replace")

    def sealing(self):
        """CPU seconds that were spent on sealing; None: nothing is sealed."""
        return None

    # ---- load ----

    def load_argv(self, op, clients, size, keys, *more):
        return [program("bench_load"), self.protocol, str(self.port()), op,
                "--clients", str(clients), "--value-size", str(size),
                "--keys", str(keys), *more]

    def load(self, op, clients, size, keys, seconds):
        """The generator's report, and its CPU seconds."""
        argv = self.load_argv(op, clients, size, keys, "--seconds",
                              str(seconds))
        return run_load(argv, 120 + seconds)

    def fill(self, keys, size):
        run_load(self.load_argv("fill", 8, size, keys), 300)

    def prepare(self, keys, size):
        """The keys that gets read."""
        self.fill(keys, size)

    def answers(self, op, keys, size):
        """Whether one OP is answered well."""
        argv = self.load_argv(op, 1, size, keys, "--count", "1", "--seconds",
                              "60")
        return subprocess.run(argv, capture_output=True,
                              timeout=120).returncode == 0

    def serve_get(self, keys, size):
        wait_for(lambda: self.answers("get", keys, size), 120,
                 f"{self.name} serves gets", 0.002)

    def serve_put(self, keys, size):
        wait_for(lambda: self.answers("put", keys, size), 120,
                 f"{self.name} serves puts", 0.002)


def run_load(argv, seconds):
    began = cpu_of_children()
    r = subprocess.run(argv, capture_output=True, text=True, timeout=seconds)
    try:
        report = json.loads(r.stdout)
    except ValueError:
        report = {}
    # pennctl calls it unreachable if nothing was answered in the time.
    expect(report and (r.returncode == 0 or report["operations"] == 0),
           f"{' '.join(argv)}: exit {r.returncode}: "
           f"{r.stdout[-300:]}{r.stderr[-300:]}")
    return report, cpu_of_children() - began


def cpu_of_children():
    t = os.times()
    return t.children_user + t.children_system


def post(port, path, body):
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        c.request("POST", path, json.dumps(body))
        return json.loads(c.getresponse().read())
    finally:
        c.close()


# ---- ours ----

class DelayedStore(Store):
    """tests/lib/store.py, its daemons run as OWNER says."""

    def __init__(self, owner, tablets):
        self.owner = owner
        super().__init__(nodes=3, tablets=tablets)

    def spawn(self, name, **how):
        return super().spawn(name, wrap=self.owner.wrap(name), **how)


class PennCloud(System):
    tablets = 0

    def start(self):
        self.store = DelayedStore(self, self.tablets)
        self.store.start_all()

    def restart(self):
        for name in self.store.names():
            self.store.spawn(name)

    def roots(self):
        return [p.pid for p in self.store.children.values()]

    def whole(self):
        return self.store.whole()

    def kill_one(self):
        self.store.kill("storage-2")

    def restart_one(self):
        self.store.spawn("storage-2")

    def one_in_sync(self):
        return self.store.in_sync("storage-2")

    def kill(self):
        for p in self.store.children.values():
            p.kill()
        for p in self.store.children.values():
            p.wait()

    def stop(self):
        self.store.__exit__(None, None, None)
        shutil.rmtree(self.folder, ignore_errors=True)

    def alive(self):
        for name, p in self.store.children.items():
            expect(p.poll() is None, f"{name}: {self.store.last_line(name)}")
        return True

    def sealing(self):
        time.sleep(1.1)  # metrics are told once a second
        total = 0
        for i in (1, 2, 3):
            c = http.client.HTTPConnection(
                "127.0.0.1", self.store.status_port(f"storage-{i}"), timeout=10)
            c.request("GET", "/metrics")
            text = c.getresponse().read().decode()
            c.close()
            total += sum(float(x.split()[1]) for x in text.splitlines()
                         if x.startswith("penn_storage_sealing_micro"))
        return total / 1e6

    def load(self, op, clients, size, keys, seconds):
        more = ["--prepared"] if op == "get" else []
        return run_load(
            [program("pennctl"), "--config", self.store.conf, "--json", "bench",
             "kv", "--op", op, "--clients", str(clients), "--value-size",
             str(size), "--keys", str(keys), "--seconds", str(seconds), *more],
            120 + seconds)

    def prepare(self, keys, size):
        self.store.pennctl("bench", "kv", "--op", "get", "--clients", "64",
                           "--value-size", str(size), "--keys", str(keys),
                           "--seconds", "1")

    def fill(self, keys, size):
        subprocess.run([program("bench_fill"), self.store.key,
                        f"127.0.0.1:{self.store.port('coordinator-1')}",
                        str(keys), str(size)], check=True, timeout=300)

    def serve_get(self, keys, size):
        wait_for(lambda: self.store.open_tablets() == self.tablets, 120,
                 "all tablets are open", 0.005)
        wait_for(lambda: self.store.pennctl(
            "kv", "get", "p:0000", "cell:0007", "v",
            check=False).returncode == 0, 120, "a get", 0.005)

    def serve_put(self, keys, size):
        wait_for(lambda: self.store.pennctl(
            "kv", "put", "p:0000", "cell:0007", "v", "x" * size,
            check=False).returncode == 0, 120, "a put", 0.005)


class PennCloudOne(PennCloud):
    name, title, tablets = "penncloud-1", "PennCloud, 1 tablet", 1


class PennCloudMany(PennCloud):
    name, title, tablets = "penncloud", "PennCloud, 64 tablets", 64


# ---- Redis ----

class Redis(System):
    name, title, protocol = "redis", "Redis 7", "resp"

    def port(self, number=1):
        return self.base + number

    def start_one(self, i):
        of = ["--replicaof", f"127.0.0.1 {self.port()}"] if i > 1 else []
        os.makedirs(self.data(i), exist_ok=True)
        self.spawn(f"redis-{i}", [
            self.peer("redis-server"), "--bind", "127.0.0.1", "--port",
            str(self.port(i)), "--dir", self.data(i), "--appendonly",
            "yes", "--appendfsync", "always", "--save", "",
            # Else it waits 5 s for more replicas before it sends to one.
            "--repl-diskless-sync-delay", "0", *of])

    def restart(self):
        for i in (1, 2, 3):
            self.start_one(i)

    def whole(self):
        return all(map(self.linked, (2, 3)))

    def start(self):
        self.restart()
        wait_for(lambda: self.alive() and self.whole(), 60,
                 "the replicas of Redis have joined")

    def linked(self, number):
        try:
            with socket.create_connection(("127.0.0.1", self.port(number)),
                                          5) as s:
                s.sendall(b"INFO replication\r\n")
                return b"master_link_status:up" in s.recv(65536)
        except OSError:
            return False


# ---- etcd ----

class Etcd(System):
    name, title, protocol = "etcd", "etcd 3.4", "grpc"

    def clients_port(self, number):
        return self.base + 10 + number

    def start_one(self, i):
        peers = {j: f"http://127.0.0.1:{self.base + 20 + j}" for j in (1, 2, 3)}
        url = f"http://127.0.0.1:{self.clients_port(i)}"
        self.spawn(f"etcd-{i}", [
            self.peer("etcd"), "--name", f"e{i}", "--data-dir",
            self.data(i), "--listen-client-urls", url,
            "--advertise-client-urls", url, "--listen-peer-urls", peers[i],
            "--initial-advertise-peer-urls", peers[i], "--initial-cluster",
            ",".join(f"e{j}={u}" for j, u in peers.items()),
            "--max-request-bytes", str(8 << 20), "--quota-backend-bytes",
            str(8 << 30), "--max-txn-ops", "1024"])

    def restart(self):
        for i in (1, 2, 3):
            self.start_one(i)

    def status(self, number):
        return post(self.clients_port(number), "/v3/maintenance/status", {})

    def kill_one(self):
        """One that does not lead."""
        leader = self.leader()
        self.second = 2 if leader != self.clients_port(2) else 3
        p = self.children[f"etcd-{self.second}"]
        p.kill()
        p.wait()

    def restart_one(self):
        self.start_one(self.second)

    def applied(self, number):
        """Whether it has applied what the cluster has."""
        try:
            s = self.status(number)
        except (OSError, ValueError, http.client.HTTPException):
            return False
        most = max(int(self.status(i)["raftIndex"]) for i in (1, 2, 3)
                   if i != number)
        return int(s.get("raftAppliedIndex", 0)) >= most

    def whole(self):
        return self.leader() and all(map(self.applied, (1, 2, 3)))

    def one_in_sync(self):
        return self.applied(self.second)

    def start(self):
        self.restart()
        wait_for(lambda: self.alive() and self.leader(), 60, "etcd has a leader")

    def leader(self):
        """The port of the member that leads; loads go there."""
        for i in (1, 2, 3):
            try:
                s = self.status(i)
            except (OSError, ValueError, http.client.HTTPException):
                continue
            if s.get("leader", "0") == s.get("header", {}).get("member_id"):
                return self.clients_port(i)
        return 0

    def port(self):
        return self.leader()


# ---- PostgreSQL ----

class Postgres(System):
    name, title, protocol = "postgres", "PostgreSQL 15", "pg"
    if os.geteuid() == 0:  # which it refuses to be
        user = ("setpriv", "--reuid=nobody", "--regid=nogroup",
                "--clear-groups", "--inh-caps=-all")

    def port(self, number=1):
        return self.base + 30 + number

    def run(self, *argv):
        env = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
        r = subprocess.run([*self.user, self.peer(argv[0]), *argv[1:]],
                           capture_output=True, text=True, cwd=self.folder,
                           env=dict(env, LC_ALL="C", HOME=self.folder),
                           timeout=120)
        expect(r.returncode == 0, f"{' '.join(argv)}: {r.stderr[-600:]}")
        return r.stdout

    def sql(self, text, number=1):
        return self.run("psql", "-X", "-A", "-t", "-h", "127.0.0.1", "-p",
                        str(self.port(number)), "-U", "bench", "-c", text,
                        "postgres")

    def start_one(self, number):
        settings = {
            "port": self.port(number), "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "", "max_connections": "400",
            "cluster_name": f"s{number}", "synchronous_commit": "on",
            # Else a standby tries again only after 5 s.
            "wal_retrieve_retry_interval": "100ms",
            "synchronous_standby_names": "2 (s2, s3)" if number == 1 else ""}
        argv = [self.peer("postgres"), "-D", self.data(number)]
        for k, v in settings.items():
            argv += ["-c", f"{k}={v}"]
        self.spawn(f"postgres-{number}", argv)

    def start(self):
        if self.user:
            r = subprocess.run([*self.user, "test", "-x", self.peer("postgres"),
                                "-a", "-w", self.folder])
            expect(r.returncode == 0, "PostgreSQL runs as nobody, who cannot "
                   f"reach {self.peers} and {self.folder}: choose others "
                   "with --peers and --dir")
        self.run("initdb", "-D", self.data(1), "-A", "trust", "-U", "bench",
                 "--locale=C", "-E", "UTF8", "--no-sync")
        self.start_one(1)
        wait_for(lambda: self.alive() and self.connects(1), 60,
                 "PostgreSQL is up")
        # No compression of values, which are incompressible here.
        self.sql("SET synchronous_commit = local; CREATE TABLE kv "
                 "(k text PRIMARY KEY, v bytea); ALTER TABLE kv ALTER v "
                 "SET STORAGE EXTERNAL")
        for i in (2, 3):
            self.run("pg_basebackup", "-D", self.data(i), "-h", "127.0.0.1",
                     "-p", str(self.port()), "-U", "bench", "-R", "-c", "fast",
                     "--no-sync")
            self.start_one(i)
        wait_for(lambda: self.alive() and self.whole(), 60,
                 "two synchronous standbys")

    def whole(self):
        """Both are waited for; who catches up is not shown as 'sync'."""
        try:
            return self.sql(
                "SELECT count(*) FROM pg_stat_replication WHERE sync_state = "
                "'sync' AND state = 'streaming'").strip() == "2"
        except Failure:
            return False

    def connects(self, number):
        try:
            self.run("psql", "-X", "-h", "127.0.0.1", "-p",
                     str(self.port(number)), "-U", "bench", "-c", "SELECT 1",
                     "postgres")
            return True
        except Failure:
            return False

    def kill(self):
        super().kill()
        # It starts only when the last one of the old has gone.
        self.wait_gone(self.folder)

    def kill_one(self):
        super().kill_one()
        self.wait_gone(self.data(2))

    def one_in_sync(self):
        """Its own word, too: the primary may not have seen yet that it died."""
        try:
            return self.sql("SELECT count(*) FROM pg_stat_wal_receiver WHERE "
                            "status = 'streaming'", 2).strip() == "1" and \
                self.whole()
        except Failure:
            return False

    def wait_gone(self, folder):
        wait_for(lambda: not any(self.uses(p, folder) for p in processes()),
                 10, "PostgreSQL is gone")

    def uses(self, pid, folder):
        try:
            return os.readlink(f"/proc/{pid}/cwd").startswith(folder)
        except OSError:
            return False

    def restart(self):
        for i in (1, 2, 3):
            self.start_one(i)


# ---- the disk alone ----

class Floor(System):
    name, title = "floor", "three files in lock step"

    def start(self):
        self.delay = 0

    def roots(self):
        return []

    def kill(self):
        pass

    def set_delay(self, us):
        self.wrap("floor")
        super().set_delay(us)

    def run(self, *argv):
        return run_load([*self.wrap("floor"), program("bench_floor"),
                         self.folder, *argv], 120)

    def load(self, op, clients, size, keys, seconds):
        return self.run("--clients", str(clients), "--value-size", str(size),
                        "--seconds", str(seconds))

    def alone(self, seconds):
        """fdatasync/s of one file of 256 B records."""
        return self.run("--files", "1", "--seconds", str(seconds))[0]

    def prepare(self, keys, size):
        pass


SYSTEMS = (PennCloudOne, PennCloudMany, Redis, Etcd, Postgres, Floor)
