#!/usr/bin/env python3
"""The front door of a real cluster: connections are spread, a gateway's death
is not noticed by who comes after it, and what is here may finish."""
import os
import signal
import socket
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "lib"))
from penn import Cluster, expect, get, wait_for, where  # noqa: E402

passed = failed = 0


def gateways(c):
    return {g["name"]: g for g in c.status("balancer-1")["gateways"]}


def state(c, name):
    return gateways(c).get(name, {}).get("state")


def dial(port, text=b""):
    s = socket.create_connection(("127.0.0.1", port), timeout=60)
    if text:
        s.sendall(text)
    return s


def line(s):
    data = b""
    while not data.endswith(b"\r\n"):
        more = s.recv(1)
        if not more:
            break
        data += more
    return data.decode()


def refused(port):
    try:
        dial(port).close()
        return False
    except OSError:
        return True


def kill(c, name):
    """kill -9, and its kernel has closed its sockets: until then connections
    are accepted that nobody will serve."""
    port = c.status_port(name)
    c.kill(name)
    ports = [port - 4, port - 3] if name.startswith("gateway") else [port]
    for p in ports:
        wait_for(lambda p=p: refused(p), 10, f"{name} is dead", pause=0.002)


def all_up(c):
    wait_for(lambda: [g["state"] for g in gateways(c).values()] ==
             ["up"] * c.gateways, 30, "the balancer sees all gateways up")


def spreads(c):
    """Sessions that stay open are shared evenly, over all services."""
    all_up(c)
    open_now = [dial(c.smtp) for _ in range(6)]
    for s in open_now:
        expect(line(s).startswith("220 "), "greeting")
    counts = {n: g["connections"] for n, g in gateways(c).items()}
    expect(set(counts.values()) == {3}, f"6 sessions on two gateways: {counts}")
    for s in open_now:
        s.sendall(b"QUIT\r\n")
        expect(line(s).startswith("221 "), "goodbye")
        s.close()
    wait_for(lambda: c.status("balancer-1")["connections"] == 0, 10,
             "no connection is left")


def death_of_a_gateway(c):
    """kill -9: nobody who connects afterwards sees an error."""
    all_up(c)
    stays = dial(c.smtp)
    expect(line(stays).startswith("220 "), "greeting")
    kill(c, "gateway-1")
    for i in range(60):
        code, _ = get(c.http, "/")
        expect(code == 200, f"request {i} after the death: {code}")
    wait_for(lambda: state(c, "gateway-1") != "up", 10, "the death is noticed")
    stays.close()
    c.start("gateway-1")
    all_up(c)
    before = gateways(c)["gateway-1"]["chosen"]
    for _ in range(4):
        expect(get(c.http, "/")[0] == 200, "request after the return")
    expect(gateways(c)["gateway-1"]["chosen"] > before, "it is used again")


def gateway_that_hangs(c):
    """SIGSTOP: its kernel still accepts; the coordinator's word ends that."""
    all_up(c)
    c.pause("gateway-2")
    try:
        wait_for(lambda: state(c, "gateway-2") == "down", 10,
                 "the hang is noticed")
        for i in range(10):
            expect(get(c.http, "/", timeout=20)[0] == 200, f"request {i}")
    finally:
        c.resume("gateway-2")
    all_up(c)


def without_coordinator(c):
    """The last map goes on, and a death then costs a refused connect only."""
    all_up(c)
    kill(c, "coordinator-1")
    wait_for(lambda: not any(k["connected"] for k in
                             c.status("balancer-1")["coordinators"]), 10,
             "the coordinator is missed")
    expect(c.ready("balancer-1"), "still ready")
    kill(c, "gateway-2")
    for i in range(20):
        code, _ = get(c.http, "/")
        expect(code == 200, f"request {i} without coordinator: {code}")
    c.start("coordinator-1")
    c.start("gateway-2")
    all_up(c)


def nobody_left(c):
    """No gateway at all: each protocol says so."""
    all_up(c)
    kill(c, "gateway-1")
    kill(c, "gateway-2")
    code, body = get(c.http, "/")
    expect((code, body) == (503, b"no gateway can be reached now\n"),
           f"{code} {body!r}")
    s = dial(c.smtp)
    expect(line(s) == "421 4.3.2 no gateway can be reached now\r\n", "421")
    s.close()
    c.start("gateway-1")
    c.start("gateway-2")
    all_up(c)


def drains(c):
    """SIGTERM: nobody new, who is here may finish, exit 0."""
    all_up(c)
    pid = c.pid("balancer-1")
    s = dial(c.smtp)
    expect(line(s).startswith("220 "), "greeting")
    os.kill(pid, signal.SIGTERM)

    wait_for(lambda: refused(c.smtp), 5, "the port is closed")
    expect(get(c.status_port("balancer-1"), "/readyz")[0] == 503, "not ready")
    s.sendall(b"NOOP\r\n")
    expect(line(s).startswith("250 "), "the session goes on")
    s.sendall(b"QUIT\r\n")
    expect(line(s).startswith("221 "), "the session ends")
    s.close()
    wait_for(lambda: not os.path.exists(f"/proc/{pid}") or
             open(f"/proc/{pid}/stat").read().split()[2] == "Z", 5,
             "the balancer has ended")
    text = open(os.path.join(c.dir, "log", "balancer-1.log")).read()
    expect("event=stopped" in text, "it ended in order")
    c.start("balancer-1")
    wait_for(lambda: c.ready("balancer-1"), 10, "the balancer is back")
    expect(get(c.http, "/")[0] == 200, "and serves")


def idle_costs_little(c):
    """400 open connections cost less than 20 MiB."""
    all_up(c)

    def rss():
        for row in open(f"/proc/{c.pid('balancer-1')}/status"):
            if row.startswith("VmRSS:"):
                return int(row.split()[1])

    before = rss()
    held = [dial(c.http) for _ in range(400)]
    wait_for(lambda: c.status("balancer-1")["connections"] == 400, 10, "400")
    grown = rss() - before
    for s in held:
        s.close()
    if "asan" not in os.environ.get("PENN_BUILD", ""):
        expect(grown < 20 * 1024, f"400 connections took {grown} KiB")
    wait_for(lambda: c.status("balancer-1")["connections"] == 0, 10, "none")


def main():
    global passed, failed
    with Cluster() as c:
        c.wait_ready()
        for test in (spreads, death_of_a_gateway, gateway_that_hangs,
                     without_coordinator, nobody_left, idle_costs_little,
                     drains):
            began = time.monotonic()
            try:
                test(c)
                passed += 1
                print(f"  {test.__name__}: {time.monotonic() - began:.1f} s")
            except Exception as e:  # whatever it was
                failed += 1
                print(f"FAILED {test.__name__}: {type(e).__name__}: {e}"
                      f"{where(e)}")
                if failed == 1:
                    c.show_logs()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
