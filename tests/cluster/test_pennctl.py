#!/usr/bin/env python3
"""pennctl against a real store: every command's output and exit status, the
load of its bench through a kill, and what its check finds when the schema's
cells do not fit together."""
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "lib"))
from penn import PATIENCE, expect, get, reserve_ports, run, wait_for  # noqa: E402
from store import SLOW, Store, program  # noqa: E402

DONE, NO, USAGE, UNREACHABLE = 0, 1, 2, 3
DOMAINS = {"cluster": {"domains": "penncloud.test"}}


def code_of(s, *args, stdin=None, conf=None):
    return s.pennctl(*args, check=False, stdin=stdin, conf=conf).returncode


def as_json(s, *args, check=True):
    return json.loads(s.pennctl("--json", *args, check=check).stdout)


def expect_code(s, code, *args, stdin=None):
    got = s.pennctl(*args, check=False, stdin=stdin)
    expect(got.returncode == code,
           f"{args}: exit {got.returncode}, not {code}: {got.stderr}")
    return got


def cells():
    with Store() as s:
        s.wait_whole()
        expect_code(s, NO, "kv", "get", "p", "r", "c")
        expect_code(s, DONE, "kv", "put", "p", "r", "c", "hello")
        expect(s.pennctl("kv", "get", "p", "r", "c").stdout == "hello", "get")
        expect_code(s, NO, "kv", "cput", "p", "r", "c", "other", "bye")
        expect_code(s, DONE, "kv", "cput", "p", "r", "c", "hello", "bye")
        expect_code(s, NO, "kv", "cput", "p", "r", "c", "--absent", "x")
        expect_code(s, DONE, "kv", "cput", "p", "r", "d", "--absent", "x")
        expect_code(s, DONE, "kv", "put", "p", "s", "e", "-", stdin="in\tput")
        rows = [(c["row"], c["column"], c["value"])
                for c in as_json(s, "kv", "scan", "p")["cells"]]
        expect(rows == [("r", "c", "bye"), ("r", "d", "x"),
                        ("s", "e", "in\tput")], f"scan: {rows}")
        text = s.pennctl("kv", "scan", "--reverse", "--limit", "1", "p").stdout
        expect(text == "s\te\tin\\x09put\n", f"scan: {text!r}")
        expect(s.pennctl("kv", "scan", "p", "r", "d").stdout == "r\td\tx\n",
               "scan by prefixes")
        expect_code(s, DONE, "kv", "delete", "p", "r", "c")
        expect_code(s, NO, "kv", "get", "p", "r", "c")
        expect_code(s, USAGE, "kv", "put", "p", "r")
        expect_code(s, USAGE, "kv", "scan", "--nonsense", "p")
        expect_code(s, USAGE, "nonsense")


def large_values():
    with Store() as s:
        s.wait_whole()
        path, blob = s.path("blob"), os.urandom(4 << 20)
        for data, code in ((blob, DONE), (b"", DONE), (blob + bytes(65537), NO)):
            with open(path, "wb") as f:
                f.write(data)
            expect_code(s, code, "kv", "put", "p", "r", "big", "--file", path)
            if code == DONE:
                got = subprocess.run(
                    [program("pennctl"), "--config", s.conf, "kv", "get", "p",
                     "r", "big"], capture_output=True, timeout=60 * SLOW * PATIENCE)
                expect(got.stdout == data, f"{len(data)} bytes came back wrong")
        # More cells than a page has.
        for i in range(30):
            s.pennctl("kv", "put", "q", "r", f"{i:02}", "x" * 100000)
        got = as_json(s, "kv", "scan", "q")["cells"]
        expect([c["column"] for c in got] == [f"{i:02}" for i in range(30)],
               "a scan over pages")


def lists():
    with Store() as s:
        s.wait_whole()
        status = wait_for(lambda: (x := as_json(s, "status"))["healthy"] and x,
                          20 * SLOW, "the status is healthy")
        expect(status["tablets"]["ok"] == s.tablets, f"{status}")
        expect(sum(n.get("primaries", 0) for n in status["nodes"]) == s.tablets,
               f"{status}")
        tablets = as_json(s, "tablet", "list")["tablets"]
        expect(len(tablets) == s.tablets and
               all(len(t["in_sync"]) == 3 for t in tablets), f"{tablets}")
        names = [n["name"] for n in as_json(s, "node", "list")["nodes"]]
        expect(names == ["coordinator-1", *s.storages()], f"{names}")
        expect("storage-2" in s.pennctl("node", "list").stdout, "node list")
        expect(as_json(s, "gateway", "list")["gateways"] == [], "no gateways")
        expect_code(s, NO, "node", "disable", "storage-9")
        s.pennctl("node", "disable", "storage-2")
        wait_for(lambda: [n["primaries"]
                          for n in as_json(s, "node", "list")["nodes"]
                          if n["name"] == "storage-2"] == [0],
                 20 * SLOW, "storage-2 has no primaries")
        s.pennctl("node", "enable", "storage-2")
        s.kill("storage-3")
        # Tablets that it led and those that it followed change one after
        # the other.
        thin = wait_for(lambda: (x := as_json(s, "status"))["tablets"]["thin"]
                        == s.tablets and x, 20 * SLOW,
                        "the status tells that one is gone")
        expect(not thin["healthy"], f"{thin}")
        lines = [x for x in s.pennctl("status").stdout.splitlines()
                 if "of 3 replicas in sync" in x]
        expect(lines == [f"tablets 1-{s.tablets}: 2 of 3 replicas in sync"],
               f"one line for all: {lines}")
        nodes = [n["name"] for n in as_json(s, "node", "list")["nodes"]]
        expect(nodes == sorted(nodes), f"order of the nodes: {nodes}")


def unreachable():
    with Store() as s:
        s.wait_whole()
        s.kill("coordinator-1")
        expect_code(s, UNREACHABLE, "--timeout", "1", "status")
        expect_code(s, UNREACHABLE, "--timeout", "1", "kv", "get", "p", "r", "c")
        other = s.path("other.conf")
        with open(other, "w") as f:
            f.write("[cluster]\nkey_file = /nonexistent\n"
                    "coordinators = 127.0.0.1:1\n")
        expect(code_of(s, "status", conf=other) == USAGE, "a missing key")
        expect(code_of(s, "status", conf="/nonexistent") == USAGE, "no config")


def keys():
    with Store(start=False) as s:
        path = s.path("new.key")
        expect_code(s, DONE, "keygen", path)
        expect(os.stat(path).st_mode & 0o777 == 0o600, "mode of the key")
        before = open(path).read()
        expect(re.fullmatch("[0-9a-f]{64}\n", before), "form of the key")
        expect_code(s, NO, "keygen", path)
        expect(open(path).read() == before, "the key is left alone")


def local_up(folder, *args):
    return subprocess.run([program("pennctl"), "--local", folder, "local", "up",
                           *args], capture_output=True, text=True,
                          timeout=60 * SLOW * PATIENCE)


def local_refusals():
    """What a one-machine cluster cannot be is told before anything starts."""
    base, lock = reserve_ports()
    with tempfile.TemporaryDirectory() as folder, lock:
        for args in (("--nodes", "17"), ("--nodes", "999"), ("--nodes", "x"),
                     ("--gateways", "10"), ("--coordinators", "2"),
                     ("--port-base", "80")):
            r = local_up(folder, *args)
            expect(r.returncode == USAGE and r.stderr, f"{args}: {r}")
        for offset in (25, 80, 211, 331):
            with socket.create_server(("127.0.0.1", base + offset)):
                r = local_up(folder, "--port-base", str(base))
            expect(r.returncode == NO and
                   f"127.0.0.1:{base + offset} is in use" in r.stderr, f"{r}")
        expect(not os.path.exists(os.path.join(folder, "penncloud.conf")) and
               os.listdir(os.path.join(folder, "log")) == [],
               "nothing is decided and nothing was started")


def typed_password(s, *args, lines):
    """Runs pennctl on a terminal of its own and types LINES when asked."""
    pid, fd = pty.fork()
    if pid == 0:
        os.execv(program("pennctl"),
                 [program("pennctl"), "--config", s.conf, *args])
    seen, typed = b"", 0
    end = time.monotonic() + 30 * SLOW * PATIENCE
    while time.monotonic() < end:
        if select.select([fd], [], [], 0.2)[0]:
            try:
                part = os.read(fd, 4096)
            except OSError:
                break
            if not part:
                break
            seen += part
            if typed < len(lines) and seen.count(b": ") > typed:
                os.write(fd, lines[typed].encode() + b"\n")
                typed += 1
    else:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    os.close(fd)
    return os.waitstatus_to_exitcode(status), seen.decode()


def accounts():
    with Store(options=DOMAINS) as s:
        s.wait_whole()
        add = ("user", "add", "--password-stdin")
        expect_code(s, DONE, *add, "--display", "Ann A", "ann",
                    stdin="good password\n")
        expect_code(s, NO, *add, "ann", stdin="good password\n")
        expect_code(s, NO, *add, "bob", stdin="short\n")
        expect_code(s, USAGE, *add, "Not/Valid", stdin="good password\n")
        expect_code(s, USAGE, *add, "bob", stdin="")
        code, seen = typed_password(s, "user", "add", "bob",
                                    lines=["typed secret", "typed secret"])
        expect(code == DONE and "typed" not in seen, f"{code}: {seen!r}")
        code, seen = typed_password(s, "user", "passwd", "bob",
                                    lines=["typed secret", "other secret"])
        expect(code == USAGE and "not the same" in seen, f"{code}: {seen!r}")
        expect_code(s, DONE, "user", "passwd", "--password-stdin", "bob",
                    stdin="another one\n")
        expect_code(s, NO, "user", "passwd", "--password-stdin", "nobody",
                    stdin="another one\n")
        expect_code(s, DONE, "user", "disable", "bob")
        users = {u["username"]: u["state"]
                 for u in as_json(s, "user", "list")["users"]}
        expect(users == {"ann": "active", "bob": "disabled"}, f"{users}")
        expect_code(s, DONE, "user", "enable", "bob")
        expect_code(s, USAGE, "user", "delete", "bob")
        expect_code(s, DONE, "user", "delete", "--yes", "bob")
        users = [u["username"] for u in as_json(s, "user", "list")["users"]]
        expect(users == ["ann"], f"{users}")


def check_finds_damage():
    with Store(options=DOMAINS) as s:
        s.wait_whole()
        s.pennctl("user", "add", "--password-stdin", "ann",
                  stdin="good password\n")
        found = as_json(s, "check")
        expect(found["replicas"] == 3 * s.tablets and found["accounts"] == 1 and
               found["problems"] == [], f"{found}")
        s.pennctl("kv", "put", "ann", "ann:usage", "bytes", "5")
        s.pennctl("kv", "put", "ann", "ann:mailbox", "inbox#unread", "2")
        got = s.pennctl("--json", "check", check=False)
        problems = json.loads(got.stdout)["problems"]
        expect(got.returncode == NO, f"exit {got.returncode}")
        expect(problems == [
            "account ann: inbox#unread is 2, but there are 0",
            "account ann: usage bytes is 5, but there are 0"], f"{problems}")
        expect_code(s, DONE, "check", "--digests-only")
        for name in s.storages():  # one alone could still be looked at
            s.kill(name)
        began = time.monotonic()
        expect_code(s, UNREACHABLE, "check", "--digests-only", "--wait", "2")
        took = time.monotonic() - began
        expect(took < 6 * SLOW, f"check --wait 2 took {took:.1f} s")


def commands(s, name):
    """Commands that the storage process NAME has taken as primary."""
    text = get(s.status_port(name), "/metrics")[1].decode()
    return int(re.search(r"^penn_storage_commands_total (\d+)", text, re.M)[1])


def bench_through_a_kill():
    with Store() as s:
        s.wait_whole()
        bench = subprocess.Popen(
            [program("pennctl"), "--config", s.conf, "--json", "bench", "kv",
             "--seconds", "5", "--clients", "8", "--keys", "100"],
            stdout=subprocess.PIPE, text=True)
        busiest = s.busiest()
        before = commands(s, busiest)
        wait_for(lambda: commands(s, busiest) > before + 500, 5,
                 "the load is under way")
        s.kill(busiest)
        out, _ = bench.communicate(timeout=60 * SLOW * PATIENCE)
        r = json.loads(out)
        expect(bench.returncode == DONE and r["operations"] > 50, f"{r}")
        expect(r["refused"] == 0 and r["unknown"] == 0, f"{r}")
        print(f"  kill under load: {r['operations_per_s']:.0f}/s, longest "
              f"{r['latency_ms']['max']:.0f} ms")
        expect(r["latency_ms"]["max"] < 2000 * SLOW, f"{r['latency_ms']}")
        s.check()
        for op in ("get", "cput"):
            r = as_json(s, "bench", "kv", "--op", op, "--seconds", "1",
                        "--clients", "4", "--keys", "50", "--value-size", "64",
                        "--disk", s.dir)
            expect(r["operations"] > 0 and r["refused"] == 0, f"{op}: {r}")
            expect(r["disk"]["syncs_per_s"] > 0, f"{r}")


if __name__ == "__main__":
    run(cells, large_values, lists, unreachable, keys, local_refusals, accounts,
        check_finds_damage, bench_through_a_kill)
