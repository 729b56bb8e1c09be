"""An SMTP client that says just what a test tells it to: no retries, no
politeness, segments as they are given."""
import array
import fcntl
import os
import socket
import time

SIOCOUTQ = 0x5411


def unread_by_peer(sock):
    """Bytes that wait in the other end's receive queue, on this machine."""
    own, peer = ("%08X:%04X" % (int.from_bytes(socket.inet_aton(host), "little"),
                                port)
                 for host, port in (sock.getsockname(), sock.getpeername()))
    for row in open("/proc/net/tcp"):
        fields = row.split()
        if fields[1:3] == [peer, own]:
            return int(fields[4].split(":")[1], 16)
    return 0  # it has closed


class Refused(Exception):
    """The greeting was not 220."""

    def __init__(self, code, lines):
        super().__init__(f"greeting: {code} {lines}")
        self.code, self.lines = code, lines


class Smtp:
    """One session; reads the greeting."""

    def __init__(self, port, timeout=240):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.rest = b""
        code, lines = self.reply()
        if code != 220:
            self.close()
            raise Refused(code, lines)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def pieces(self, *parts):
        """Each in a segment of its own: the next goes out when the program at
        the other end has read the one before."""
        for part in parts:
            if part:
                self.send(part)
            left, end = array.array("i", [1]), time.monotonic() + 240
            while left[0] > 0 and time.monotonic() < end:
                fcntl.ioctl(self.socket, SIOCOUTQ, left)
            while unread_by_peer(self.socket) and time.monotonic() < end:
                os.sched_yield()

    def reply(self):
        """(code, texts without the code); EOFError when it is closed."""
        lines = []
        while True:
            while b"\r\n" not in self.rest:
                data = self.socket.recv(65536)
                if not data:
                    raise EOFError("connection closed")
                self.rest += data
            line, self.rest = self.rest.split(b"\r\n", 1)
            lines.append(line[4:].decode())
            if line[3:4] != b"-":
                return int(line[:3]), lines

    def closed(self):
        """Waits; true if the other side closes without a word."""
        try:
            return not self.rest and self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def cmd(self, line):
        if isinstance(line, str):
            line = line.encode()
        self.send(line + b"\r\n")
        return self.reply()

    def want(self, wanted, line):
        """The reply to LINE must begin with WANTED."""
        code, lines = self.cmd(line)
        got = f"{code} {' / '.join(lines)}"
        shown = line if isinstance(line, str) else line[:60]
        assert got.startswith(str(wanted)), f"{shown!r}: {got}, not {wanted}"
        return code, lines

    def hello(self):
        self.want(250, "EHLO client.example")

    def envelope(self, to, sender="bob@example.org"):
        self.hello()
        self.want(250, f"MAIL FROM:<{sender}>")
        self.want(250, f"RCPT TO:<{to}>")

    @staticmethod
    def stuffed(message):
        """MESSAGE as it goes after DATA, without the last CR LF."""
        if message.startswith(b"."):
            message = b"." + message
        return message.replace(b"\r\n.", b"\r\n..") + b"."


def deliver(port, to, message, sender="bob@example.org"):
    """(code, lines) of the first reply that is not good, or of the last."""
    try:
        with Smtp(port) as s:
            return _deliver(s, to, message, sender)
    except Refused as e:
        return e.code, e.lines


def _deliver(s, to, message, sender):
    for line in ("EHLO client.example", f"MAIL FROM:<{sender}>",
                 f"RCPT TO:<{to}>"):
        code, lines = s.cmd(line)
        if code != 250:
            return code, lines
    s.want(354, "DATA")
    code, lines = s.cmd(s.stuffed(message))
    if code == 250:
        s.want(221, "QUIT")
    return code, lines
