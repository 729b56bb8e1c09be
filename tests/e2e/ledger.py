"""A ledger of mails: ten SMTP sessions send mails, each with a Message-ID of
its own; every answer is written down, and afterwards the inbox is compared.

What the ledger demands: a mail that was answered 250 is in the inbox exactly
once. A mail answered 4xx did not happen: it is sent again under the same
Message-ID and must end up there once. A mail whose session broke before the
answer is unknown: it may be there once, never twice, and is not sent again."""
import socket
import threading
import time

from penn import expect

BODY_LINE = "The quick brown fox jumps over the lazy dog, again and again.\r\n"


class Session:
    """One SMTP client on one connection at a time."""

    def __init__(self, port):
        self.port, self.sock, self.file = port, None, None

    def close(self):
        if self.sock:
            if self.file:
                self.file.close()
            self.sock.close()
            self.sock = self.file = None

    def reply(self):
        while True:
            line = self.file.readline()
            if not line.endswith(b"\r\n"):
                raise OSError("connection closed")
            if line[3:4] != b"-":
                return int(line[:3]), line.decode("latin1").strip()

    def say(self, text):
        self.sock.sendall(text.encode() + b"\r\n")
        return self.reply()

    def connect(self):
        self.sock = socket.create_connection(("127.0.0.1", self.port), 60)
        self.sock.settimeout(330)
        self.file = self.sock.makefile("rb")
        code, text = self.reply()
        if code == 220:
            code, text = self.say("EHLO ledger.example.org")
        if code != 250:
            raise OSError(text)

    def envelope(self, to):
        """None, or what the server refused with."""
        if self.sock is None:
            self.connect()
        for line in ("MAIL FROM:<ledger@example.org>", f"RCPT TO:<{to}>",
                     "DATA"):
            code, text = self.say(line)
            if code >= 400:
                return ("again" if code < 500 else "never"), text
        return None

    def send(self, to, message):
        """('ok'|'again'|'never'|'unknown', text)."""
        try:
            refused = self.envelope(to)
        except OSError as e:
            refused = "again", str(e)
        if refused:
            self.close()
            return refused
        try:
            self.sock.sendall(message.encode() + b"\r\n.\r\n")
            code, text = self.reply()
        except OSError as e:
            self.close()
            return "unknown", str(e)
        if code == 250:
            return "ok", text
        self.close()
        return ("again" if code < 500 else "never"), text


class Ledger:
    def __init__(self, port, to, tag, sessions=10, size=4096):
        self.port, self.to, self.tag = port, to, tag
        self.sessions, self.size = sessions, size
        self.lock = threading.Lock()
        self.next = 0
        self.outcome = {}       # id -> (what, text)
        self.again = 0          # answers 4xx, and connections refused
        self.longest_gap = 0.0  # between two answers 250
        self.last_ok = 0.0
        self.threads = []

    def message(self, ident):
        head = (f"From: Ledger <ledger@example.org>\r\nTo: {self.to}\r\n"
                f"Subject: {ident}\r\nMessage-ID: <{ident}@example.org>\r\n\r\n")
        body = BODY_LINE * ((self.size - len(head)) // len(BODY_LINE) + 1)
        return head + body[:self.size - len(head) - 2].rstrip("\r\n")

    def one(self, session, ident, deadline):
        what, text = "again", ""
        while what == "again" and time.monotonic() < deadline:
            what, text = session.send(self.to, self.message(ident))
            if what == "again":
                with self.lock:
                    self.again += 1
                threading.Event().wait(0.02)  # a client's pause
        return what, text

    def work(self, count, deadline):
        session = Session(self.port)
        while True:
            with self.lock:
                if self.next >= count:
                    break
                ident = f"{self.tag}-{self.next:05d}"
                self.next += 1
            what, text = self.one(session, ident, deadline)
            with self.lock:
                self.outcome[ident] = (what, text)
                if what == "ok":
                    now = time.monotonic()
                    self.longest_gap = max(self.longest_gap, now - self.last_ok)
                    self.last_ok = now
        session.close()

    def start(self, count, seconds=1200):
        self.last_ok = time.monotonic()
        deadline = self.last_ok + seconds
        self.threads = [
            threading.Thread(target=self.work, args=(count, deadline))
            for _ in range(self.sessions)]
        for t in self.threads:
            t.start()

    def done(self):
        with self.lock:
            return sum(1 for w, _ in self.outcome.values() if w == "ok")

    def join(self):
        for t in self.threads:
            t.join()

    def compare(self, subjects):
        """SUBJECTS: of all mails in the inbox."""
        seen = {}
        for s in subjects:
            if s.startswith(self.tag + "-"):
                seen[s] = seen.get(s, 0) + 1
        lost = [i for i, (w, _) in self.outcome.items()
                if w == "ok" and seen.get(i, 0) == 0]
        doubled = [i for i, n in seen.items() if n > 1]
        failed = [(i, t) for i, (w, t) in self.outcome.items()
                  if w in ("never", "again")]
        ghosts = [i for i in seen
                  if self.outcome.get(i, ("",))[0] in ("never", "again")]
        expect(not lost, f"{len(lost)} acknowledged mails lost: {lost[:5]}")
        expect(not doubled, f"{len(doubled)} mails doubled: {doubled[:5]}")
        expect(not ghosts, f"{len(ghosts)} refused mails there: {ghosts[:5]}")
        expect(not failed, f"{len(failed)} mails never taken: {failed[:3]}")
        unknown = sum(1 for w, _ in self.outcome.values() if w == "unknown")
        return (f"{self.done()} answered 250, {unknown} unknown, "
                f"{self.again} tried again, longest gap "
                f"{self.longest_gap * 1000:.0f} ms")
