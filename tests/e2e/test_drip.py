"""5,000 clients that drip bytes (P12): others are served as before, memory
stays bounded, and the dripping ones are ended.

PENN_DRIPS: how many (5000). The normal client comes from 127.0.0.1, the
others from 127.0.0.2 to 127.0.0.250."""
import multiprocessing
import os
import resource
import socket
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "lib"))
from penn import Cluster, expect, run, wait_for  # noqa: E402

DRIPS = int(os.environ.get("PENN_DRIPS", "5000"))
PROBES = 1000
FLOOR_MS = 40.0  # below that, two busy cores decide and not we
REQUEST = b"GET /api/me HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


def one(port):
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=60) as s:
        s.sendall(REQUEST)
        answer = b""
        while True:
            data = s.recv(4096)
            if not data:
                break
            answer += data
    expect(answer.startswith(b"HTTP/1.1 401"), f"answer {answer[:60]!r}")
    return (time.monotonic() - began) * 1000


def p99(port):
    times = sorted(one(port) for _ in range(PROBES))
    return times[PROBES * 99 // 100 - 1]


def served(port, limit):
    """The p99 of the best of three tries, if the first is not below LIMIT: what
    else this machine does must not decide."""
    best = p99(port)
    for _ in range(2):
        if best >= limit:
            best = min(best, p99(port))
    return best


def connect(port, number):
    s = socket.socket()
    s.bind((f"127.0.0.{2 + number % 249}", 0))
    s.settimeout(5)
    s.connect(("127.0.0.1", port))
    s.send(b"GET / HTTP/1.1\r\nX-Slow: ")
    s.setblocking(False)
    return s


def alive(s):
    try:
        s.send(b"a")
        return s.recv(1000) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def drip(port, count, open_now, ended, stop):
    """Keeps COUNT connections, each with a byte a second."""
    conns, number = [], 0
    while not stop.is_set():
        try:
            while len(conns) < count and not stop.is_set():
                conns.append(connect(port, number))
                number += 1
        except OSError:
            pass
        open_now.value = len(conns)
        stop.wait(1)
        keep = []
        for s in conns:
            if alive(s):
                keep.append(s)
            else:
                s.close()
                ended.value += 1
        conns = keep


def others_are_served():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with Cluster() as c:
        quiet = p99(c.http)
        open_now = multiprocessing.Value("i", 0)
        ended = multiprocessing.Value("i", 0)
        stop = multiprocessing.Event()
        p = multiprocessing.Process(
            target=drip, args=(c.http, DRIPS, open_now, ended, stop))
        p.start()
        try:
            wait_for(lambda: open_now.value >= DRIPS * 9 // 10, 120,
                     "the connections")
            beside = served(c.http, max(2 * quiet, FLOOR_MS))
            memory = c.rss_kib() // 1024
            wait_for(lambda: ended.value > 0, 60, "the end of some")
        finally:
            stop.set()
            p.join()
        print(f"  p99 {quiet:.1f} ms alone, {beside:.1f} ms beside "
              f"{open_now.value}; {memory} MiB in all")
        expect(beside < max(2 * quiet, FLOOR_MS), "others are slower")
        expect(memory < 512, f"{memory} MiB of memory")


if __name__ == "__main__":
    run(others_are_served)
