"""Mail from programs that others wrote, and from hostile ones, through the
balancer into a cluster of real processes, and back by the HTTP API.

The tests share one cluster where none harms it; each tells its mails by a
mark of its own in the subject."""
import base64
import concurrent.futures
import email
import email.policy
import glob
import hashlib
import http.client
import json
import os
import re
import ssl
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "lib"))
sys.path.insert(0, os.path.dirname(__file__))
from penn import (SRC, Cluster, Web, expect, fetched, get,  # noqa: E402
                  run, wait_for)
from smtp_client import Smtp, deliver  # noqa: E402

PEERS = os.path.join(SRC, "build", "peers")
CORPUS = "/usr/lib/python3.11/test/test_email/data"
ALICE, DEMO = "alice@penncloud.test", "demo@penncloud.test"
MIB = 1 << 20
SIZE_MAX = 25 * MIB
# What a gateway puts in front of a message, and nothing else.
TRACE = re.compile(
    rb"Return-Path: <[^\r\n]*>\r\nReceived: from [^\r\n]+\r\n"
    rb"\tby mail\.penncloud\.test with E?SMTP id [^\r\n]+\r\n"
    rb"\tfor <[^\r\n]+>;\r\n\t[^\r\n]+ \+0000\r\n")


class Shared:
    """One cluster for many tests, started by the first that asks."""

    def __init__(self):
        self.cluster = None
        self.webs = {}

    def get(self):
        if self.cluster is None:
            self.cluster = Cluster()
            self.cluster.__enter__()
        return self.cluster

    def web(self, user):
        c = self.get()
        if user not in self.webs:
            self.webs[user] = Web(c.http, user, c.password())
        return self.webs[user]

    def close(self):
        if self.cluster is not None:
            self.cluster.__exit__(None, None, None)
            self.cluster = None


shared = Shared()
marks = iter(range(1, 1 << 30))


def mark(name):
    """A subject that no other mail has."""
    return f"{name} {os.getpid()}-{next(marks)}"


def find(web, subject, folder="inbox"):
    """The messages of that subject among a folder's newest 200."""
    page = web.call("GET", f"/api/mail/folders/{folder}/messages?limit=200")
    return [m for m in page["messages"] if m["subject"] == subject]


def arrived(web, subject, folder="inbox", seconds=5):
    """The one message of that subject."""
    found = wait_for(lambda: find(web, subject, folder), seconds,
                     f"mail {subject!r} in {folder}")
    expect(len(found) == 1, f"{len(found)} mails {subject!r}")
    return found[0]


def fetch(web, path, headers=None):
    """(status, headers, bytes) of a GET with the login of WEB."""
    return request(web.port, "GET", path,
                   dict({"Cookie": web.cookie}, **(headers or {})))


def request(port, method, path, headers=None, body=None):
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=240)
    try:
        data = None if body is None else json.dumps(body)
        headers = dict(headers or {})
        if data is not None:
            headers["Content-Type"] = "application/json"
        c.request(method, path, data, headers)
        r = c.getresponse()
        return r.status, {k.lower(): v for k, v in r.getheaders()}, r.read()
    finally:
        c.close()


def raw(web, uid):
    """A message's bytes as it was sent, and the trace before it."""
    code, _, body = fetch(web, f"/api/mail/messages/{uid}/raw")
    expect(code == 200, f"raw {uid}: {code}")
    trace = TRACE.match(body)
    expect(trace, f"no trace fields: {body[:300]!r}")
    return body[trace.end():], trace.group()


def message(subject, body=b"hi\r\n", more=b""):
    return (b"From: Bob <bob@example.org>\r\nTo: <alice@penncloud.test>\r\n"
            b"Subject: " + subject.encode() + b"\r\n" + more + b"\r\n" + body)


def program(*argv, stdin=None, check=True):
    r = subprocess.run(argv, input=stdin, capture_output=True, timeout=240,
                       env=dict(os.environ, HOME="/nonexistent", LC_ALL="C"))
    text = (r.stdout + r.stderr).decode(errors="replace")
    if check:
        expect(r.returncode == 0, f"{argv[0]}: exit {r.returncode}: {text}")
    return text


# ---- programs that others wrote ----

def swaks_to_inbox():
    """Three mails, each as quick as promised."""
    c, alice, took = shared.get(), shared.web("alice"), []
    for _ in range(3):
        subject = mark("hello")
        text = program("swaks", "--server", f"127.0.0.1:{c.smtp}", "--to",
                       ALICE, "--from", "bob@example.org", "--header",
                       f"Subject: {subject}", "--body", "hi")
        began = time.monotonic()
        expect(re.search(r"^<-  250 2\.0\.0 ", text, re.M), text)
        m = arrived(alice, subject)
        took.append(time.monotonic() - began)
        expect(m["snippet"].strip() == "hi" and not m["read"], m)
    expect(max(took) < 1, f"in the inbox after {took} s")
    print(f"  swaks: in the inbox {1000 * sorted(took)[1]:.0f} ms after it "
          "ended")


def swaks_attachment():
    c, alice, subject = shared.get(), shared.web("alice"), mark("picture")
    picture = os.path.join(CORPUS, "python.png")
    program("swaks", "--server", f"127.0.0.1:{c.smtp}", "--to", ALICE,
            "--from", "bob@example.org", "--h-Subject", subject, "--body",
            "see this", "--attach-type", "image/png", "--attach",
            "@" + picture)
    m = arrived(alice, subject)
    expect(m["attachments"] == 1, m)
    parts = alice.call("GET", f"/api/mail/messages/{m['uid']}")["parts"]
    number = [p["number"] for p in parts if p["type"] == "image/png"]
    expect(len(number) == 1, parts)
    code, headers, body = fetch(
        alice, f"/api/mail/messages/{m['uid']}/parts/{number[0]}")
    expect(code == 200 and body == open(picture, "rb").read(), "the picture")
    expect(headers["content-disposition"].startswith("attachment"), headers)


def msmtp():
    c, alice, subject = shared.get(), shared.web("alice"), mark("msmtp")
    sent = message(subject, b".\r\n..\r\n.dot\r\nend\r\n")
    program("msmtp", "--host", "127.0.0.1", "--port", str(c.smtp), "--from",
            "bob@example.org", "--auth=off", "--tls=off", ALICE,
            stdin=sent.replace(b"\r\n", b"\n"))
    expect(raw(alice, arrived(alice, subject)["uid"])[0].endswith(
        b"\r\n\r\n.\r\n..\r\n.dot\r\nend\r\n"), "dots come back")


def s_nail():
    c, alice, subject = shared.get(), shared.web("alice"), mark("s-nail")
    program("s-nail", "-:/", "-Sv15-compat",
            f"-Smta=smtp://127.0.0.1:{c.smtp}", "-Ssmtp-config=-all",
            "-Ssmtp-auth=none", "-Sfrom=bob@example.org",
            "-Shostname=example.org", "-Ssendcharsets=utf-8",
            "-Sttycharset=utf-8", "-s", subject, ALICE,
            stdin="Grüße\n".encode())
    m = arrived(alice, subject)
    text = alice.call("GET", f"/api/mail/messages/{m['uid']}")["text"]
    expect("Grüße" in text, text)


def smtp_source():
    """Postfix's own load generator: 20 sessions at a time, 400 messages."""
    c, demo = shared.get(), shared.web("demo")
    fetched(lambda: subprocess.run(
        [os.path.join(SRC, "tests/lib/peers.sh"), PEERS], check=True,
        timeout=600))
    before = folder_total(demo)
    began = time.monotonic()
    program(os.path.join(PEERS, "bin/smtp-source"), "-s", "20", "-m", "400",
            "-l", "5000", "-f", "bob@example.org", "-t", DEMO,
            f"127.0.0.1:{c.smtp}")
    took = time.monotonic() - began
    expect(folder_total(demo) == before + 400, "400 mails more")
    print(f"  smtp-source: 400 mails by 20 sessions in {took:.1f} s, "
          f"{400 / took:.0f}/s")


def folder_total(web, role="inbox"):
    folders = web.call("GET", "/api/mail/folders")["folders"]
    return [f["total"] for f in folders if f["role"] == role][0]


# ---- the dialogue ----

def dialogue():
    c = shared.get()
    with Smtp(c.smtp) as s:
        code, lines = s.cmd("EHLO client.example")
        expect(code == 250, lines)
        for word in ("PIPELINING", f"SIZE {SIZE_MAX}", "8BITMIME",
                     "ENHANCEDSTATUSCODES"):
            expect(word in lines, f"{word} in {lines}")
        expect("CHUNKING" not in lines and "STARTTLS" not in lines, lines)
        for line, wanted in (
                ("VRFY alice", "252"), ("VRFY nobody-at-all", "252"),
                ("EXPN staff", "502"), ("NOOP", "250"), ("RSET", "250"),
                ("DATA", "503"), ("RCPT TO:<alice@penncloud.test>", "503"),
                ("AUTH PLAIN AGEAYg==", "500"), ("STARTTLS", "500"),
                ("MAIL FROM:bob", "501"),
                ("MAIL FROM:<bob@example.org> XYZ=1", "555"),
                ("FROB", "500"), ("HELP", "214"), ("QUIT", "221")):
            code, lines = s.cmd(line)
            expect(str(code).startswith(wanted), f"{line}: {code} {lines}")
        expect(s.closed(), "closed after QUIT")
    # What brings bytes that are no commands ends the session.
    for line in ("BDAT 3 LAST", "GET / HTTP/1.1", "POST / HTTP/1.1"):
        with Smtp(c.smtp) as s:
            s.hello()
            s.want(502, line)
            expect(s.closed(), f"closed after {line}")


def recipients():
    """One unknown among several is refused, the others get it."""
    c, subject = shared.get(), mark("several")
    with Smtp(c.smtp) as s:
        s.hello()
        s.want(250, "MAIL FROM:<bob@example.org>")
        s.want(250, f"RCPT TO:<{ALICE}>")
        s.want("550 5.1.1", "RCPT TO:<nobody-at-all@penncloud.test>")
        s.want("550 5.7.1", "RCPT TO:<someone@elsewhere.example>")
        s.want(250, f"RCPT TO:<{DEMO.upper()}>")
        s.want(250, f"RCPT TO:<{ALICE}>")
        s.want(354, "DATA")
        s.want(250, message(subject) + b".")
    for user in ("alice", "demo"):
        arrived(shared.web(user), subject)


def relay_matrix():
    c = shared.get()
    for path in ("a@b.example", "alice%b.example@penncloud.test",
                 "b.example!alice@penncloud.test",
                 "@penncloud.test:alice@b.example",
                 '"alice@b.example"@penncloud.test', '"alice@b.example"',
                 "alice@penncloud.test@b.example", "alice@[127.0.0.1]",
                 "alice@[IPv6:::1]", "alice@penncloud.test.b.example",
                 "alice@localhost", "@penncloud.test", "a@", "alice@.",
                 "alice@penncloud..test"):
        with Smtp(c.smtp) as s:
            s.hello()
            s.want(250, "MAIL FROM:<bob@example.org>")
            code, lines = s.cmd(f"RCPT TO:<{path}>")
            expect(500 <= code < 560, f"{path}: {code} {lines}")
            s.want(503, "DATA")


def null_sender_and_postmaster():
    c, subject = shared.get(), mark("bounce")
    with Smtp(c.smtp) as s:
        s.hello()
        s.want(250, "MAIL FROM:<>")
        s.want(250, "RCPT TO:<postmaster>")
        s.want(250, "RCPT TO:<PostMaster@PennCloud.TEST>")
        s.want(250, f"RCPT TO:<{ALICE}>")
        s.want(354, "DATA")
        s.want(250, message(subject) + b".")
    _, trace = raw(shared.web("alice"),
                   arrived(shared.web("alice"), subject)["uid"])
    expect(trace.startswith(b"Return-Path: <>\r\n"), trace)
    arrived(shared.web("demo"), subject)


def pipelining():
    """Two messages with all commands in one write, in every cut in two."""
    c, alice = shared.get(), shared.web("alice")
    subject = mark("pipelined")
    one = (b"MAIL FROM:<bob@example.org> SIZE=100 BODY=8BITMIME\r\n"
           b"RCPT TO:<alice@penncloud.test>\r\nDATA\r\n")
    with Smtp(c.smtp) as s:
        s.hello()
        s.send(one + message(subject + " a") + b".\r\n" + one
               + message(subject + " b") + b".\r\nNOOP\r\nQUIT\r\n")
        for wanted in (250, 250, 354, 250, 250, 250, 354, 250, 250, 221):
            code, lines = s.reply()
            expect(code == wanted, f"{code} {lines}, not {wanted}")
    arrived(alice, subject + " a")
    arrived(alice, subject + " b")
    whole = (b"EHLO client.example\r\nMAIL FROM:<bob@example.org>\r\n"
             b"RCPT TO:<alice@penncloud.test>\r\nRSET\r\nQUIT\r\n")
    for cut in range(1, len(whole), 3):
        with Smtp(c.smtp) as s:
            s.pieces(whole[:cut], whole[cut:])
            got = [s.reply()[0] for _ in range(5)]
            expect(got == [250, 250, 250, 250, 221], f"cut {cut}: {got}")


# ---- sizes ----

def of_size(subject, size):
    """A message of just SIZE bytes, lines that begin with dots among them."""
    head = message(subject, b"")
    line = b"." + hashlib.sha256(subject.encode()).hexdigest().encode() + b"\r\n"
    body = line * ((size - len(head)) // len(line) - 1)
    rest = size - len(head) - len(body)
    return head + body + b"x" * (rest - 2) + b"\r\n"


def size_announced():
    c = shared.get()
    with Smtp(c.smtp) as s:
        s.hello()
        s.want("552 5.3.4", f"MAIL FROM:<bob@example.org> SIZE={SIZE_MAX + 1}")
        s.want("552 5.3.4", "MAIL FROM:<bob@example.org> SIZE=9999999999999")
        s.want(250, f"MAIL FROM:<bob@example.org> SIZE={SIZE_MAX}")


def size_largest():
    """25 MiB come back as they were; one byte more is refused."""
    c, alice, subject = shared.get(), shared.web("alice"), mark("largest")
    sent = of_size(subject, SIZE_MAX)
    expect(len(sent) == SIZE_MAX, "of that size")
    began = time.monotonic()
    code, lines = deliver(c.smtp, ALICE, sent)
    took = time.monotonic() - began
    expect(code == 250, f"25 MiB: {code} {lines}")
    m = arrived(alice, subject)
    began = time.monotonic()
    back, _ = raw(alice, m["uid"])
    expect(back == sent, "25 MiB come back byte for byte")
    print(f"  25 MiB: stored on three replicas in {took:.2f} s, read back in "
          f"{time.monotonic() - began:.2f} s")
    alice.call("POST", "/api/mail/messages/actions",
               {"uids": [m["uid"]], "action": "delete"})
    subject = mark("too large")
    with Smtp(c.smtp) as s:
        s.envelope(ALICE)
        s.want(354, "DATA")
        s.want("552 5.3.4", s.stuffed(of_size(subject, SIZE_MAX + 1)))
        s.want(250, "NOOP")
    expect(not find(alice, subject), "what was refused is not there")


def large_to_several():
    c, subject = shared.get(), mark("large to two")
    sent = of_size(subject, 9 * MIB + 1)
    with Smtp(c.smtp) as s:
        s.envelope(ALICE)
        s.want(250, f"RCPT TO:<{DEMO}>")
        s.want(354, "DATA")
        s.want(250, s.stuffed(sent))
    for user, address in (("alice", ALICE), ("demo", DEMO)):
        web = shared.web(user)
        back, trace = raw(web, arrived(web, subject)["uid"])
        expect(back == sent, f"{user}: byte for byte")
        expect(f"for <{address}>;".encode() in trace, trace)


def broken_off():
    """A connection that breaks before the end of data leaves nothing."""
    c, subject = shared.get(), mark("broken off")
    for end in (b"", b"\r\n", b"\r\n."):
        with Smtp(c.smtp) as s:
            s.envelope(ALICE)
            s.want(354, "DATA")
            s.pieces(message(subject, b"half") + end)
    # A later one goes through the same gateways.
    for _ in range(4):
        expect(deliver(c.smtp, ALICE, message(subject + "!"))[0] == 250, "250")
    expect(not find(shared.web("alice"), subject), "nothing was stored")


def lines_and_hops():
    """At each limit and one above."""
    c, alice = shared.get(), shared.web("alice")
    hop = b"Received: from a by b; Thu, 1 Jan 2026 00:00:00 +0000\r\n"
    for name, more, body, wanted in (
            ("line 998", b"", b"x" * 998 + b"\r\n", 250),
            ("line 999", b"", b"x" * 999 + b"\r\n", 554),
            ("dotted 998", b"", b"." + b"x" * 997 + b"\r\n", 250),
            ("hops 100", hop * 100, b"x\r\n", 250),
            ("hops 101", hop * 101, b"x\r\n", 554),
            ("header 300 KiB", (b"X-Y: " + b"z" * 900 + b"\r\n") * 340,
             b"x\r\n", 552)):
        subject = mark(name)
        sent = message(subject, body, more)
        code, lines = deliver(c.smtp, ALICE, sent)
        expect(code == wanted, f"{name}: {code} {lines}")
        if code == 250:
            back, _ = raw(alice, arrived(alice, subject)["uid"])
            expect(back == sent, f"{name}: byte for byte")
        else:
            expect(not find(alice, subject), f"{name}: not stored")


# ---- real mail ----

def corpus():
    """Python's test messages, in order, each as SMTP carries it."""
    files = sorted(glob.glob(os.path.join(CORPUS, "msg_*.txt")))
    expect(len(files) >= 40, f"libpython3.11-testsuite in {CORPUS}")
    for f in files:
        text = open(f, "rb").read()
        text = re.sub(rb"\r?\n", b"\r\n", text)
        yield os.path.basename(f), text if text.endswith(b"\r\n") \
            else text + b"\r\n"


def must_refuse(text):
    """By rule: a CR alone, a line above 1000 bytes with its end."""
    return re.search(rb"\r(?!\n)", text) is not None or any(
        len(x) > 998 for x in text.split(b"\r\n"))


def corpus_round_trip():
    """Every one is refused by rule or comes back byte for byte, its parts
    can be listed and fetched."""
    c, web = shared.get(), shared.web("alice")
    stored = refused = parts = 0
    for name, text in corpus():
        newest = web.call("GET", "/api/mail/folders/inbox/messages?limit=1")
        newest = [m["uid"] for m in newest["messages"]]
        code, lines = deliver(c.smtp, ALICE, text)
        if must_refuse(text):
            expect(500 <= code < 600, f"{name}: {code} {lines}")
            refused += 1
            continue
        expect(code == 250, f"{name}: {code} {lines}")
        m = web.call("GET", "/api/mail/folders/inbox/messages?limit=1")
        m = m["messages"][0]
        expect([m["uid"]] != newest, f"{name}: in the inbox")
        back, _ = raw(web, m["uid"])
        expect(back == text, f"{name}: byte for byte")
        parts += check_parts(web, m["uid"], name, text)
        stored += 1
    print(f"  corpus: {stored} stored and the same, {refused} refused by "
          f"rule, {parts} parts fetched")


def check_parts(web, uid, name, text):
    shown = web.call("GET", f"/api/mail/messages/{uid}")
    bodies = []
    for p in shown["parts"]:
        code, headers, body = fetch(
            web, f"/api/mail/messages/{uid}/parts/{p['number']}")
        expect(code == 200, f"{name} part {p['number']}: {code}")
        expect(headers["x-content-type-options"] == "nosniff", headers)
        bodies.append(body)
    # What Python makes of it; of binary parts alone, as text may be recoded.
    m = email.message_from_bytes(text, policy=email.policy.default)
    for p in m.walk():
        if p.is_multipart() or p.defects or p.get_content_maintype() not in (
                "image", "audio", "application") or any(
                    q.defects for q in m.walk()):
            continue
        expect(p.get_payload(decode=True) in bodies,
               f"{name}: {p.get_content_type()} as Python has it")
    code, _, _ = fetch(web, f"/api/mail/messages/{uid}/parts/99")
    expect(code == 404, f"{name}: part 99: {code}")
    return len(bodies)


def odd_bytes():
    """NUL, 8 bit, no header, nothing at all: stored as it is, or refused."""
    c, web = shared.get(), shared.web("alice")
    for text in (b"", b"\r\n", b"no header at all\r\n", b"\r\n\r\nbody\r\n",
                 b"Subject: \xff\xfe\x80\r\n\r\n\xc3\x28\r\n",
                 b"Subject: nul\r\n\r\na\0b\r\n",
                 b"Content-Type: multipart/mixed; boundary=\"\"\r\n\r\n--\r\n",
                 b"Subject: =?utf-8?B?//79?=\r\n\r\n\x1b[31m\x07\r\n",
                 b": empty\r\n folded\r\n\tmore\r\n\r\nx\r\n",
                 b" fold\r\nContent-Type: multipart/mixed; boundary=b\r\n"
                 b"\r\n--b\r\n\r\nx\r\n--b\r\n\r\ny\r\n--b--\r\n"):
        code, lines = deliver(c.smtp, ALICE, text)
        expect(code == 250 or 500 <= code < 600, f"{text!r}: {code} {lines}")
        if code != 250:
            continue
        page = web.call("GET", "/api/mail/folders/inbox/messages?limit=1")
        uid = page["messages"][0]["uid"]
        expect(raw(web, uid)[0] == text, f"{text!r}: {raw(web, uid)}")
        check_parts(web, uid, repr(text), text)


# ---- smuggling ----

MIXES = [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\r.\r\n",
         b"\r.\n", b"\n.\r", b"\n\n.\r\n", b"\r\r\n.\r\n", b"\r\n\r.\r\n",
         b"\r\n.\r\r\n", b"\r\n\n.\n\r\n", b"\r\n\0.\r\n", b"\r\n.\0\r\n",
         b"\r\n.\r\0\n", b"\r\n..\r\n", b"\r\n. \r\n"]


def smuggle(port, tag, mix, cut):
    """(first code after DATA, further replies) for a message with MIX in its
    midst and commands behind, in two segments cut in MIX."""
    first = message(tag + " first", b"a")
    second = (b"MAIL FROM:<eve@example.org>\r\nRCPT TO:<alice@penncloud.test>"
              b"\r\nDATA\r\n" + message(tag + " smuggled") + b".\r\n")
    with Smtp(port) as s:
        s.envelope(ALICE)
        s.want(354, "DATA")
        s.pieces(first + mix[:cut], mix[cut:] + second)
        code, _ = s.reply()
        if code >= 500:
            return code, [] if s.closed() else ["open"]
        return code, [] if is_alone(s) else ["more"]


def is_alone(s):
    """True if nothing but the answer to QUIT comes any more."""
    try:
        code, _ = s.cmd("QUIT")
    except (OSError, EOFError):
        return True
    return code == 221


def smuggling():
    c, web = shared.get(), shared.web("alice")
    tag = mark("smuggle")
    jobs = [(mix, cut) for mix in MIXES for cut in range(len(mix) + 1)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda j: smuggle(c.smtp, tag, *j), jobs))
    stored = 0
    for (mix, cut), (code, more) in zip(jobs, got):
        expect(not more and (code == 250 or code >= 500),
               f"{mix!r} cut at {cut}: {code} {more}")
        stored += code == 250
    expect(len(find(web, tag + " first")) == stored, "one message each")
    expect(not find(web, tag + " smuggled"), "none was smuggled")
    # The same with a true end: else this test could not fail.
    code, more = smuggle(c.smtp, tag, b"\r\n.\r\n", 2)
    expect((code, more) == (250, ["more"]), f"the control: {code} {more}")
    arrived(web, tag + " smuggled")
    print(f"  smuggling: {len(jobs)} mixes and cuts, {stored} single "
          f"messages, {len(jobs) - stored} refused")


# ---- by the web ----

def compose_user_to_user():
    alice, demo = shared.web("alice"), shared.web("demo")
    subject = mark("compose")
    data = open(os.path.join(CORPUS, "python.gif"), "rb").read()

    sent = alice.call("POST", "/api/mail/messages", {
        "to": "Demo <demo@penncloud.test>", "subject": subject,
        "text": "Grüße\n.\nend", "attachments": [{
            "name": "schlange ü.gif", "content_type": "image/gif",
            "data": base64.b64encode(data).decode()}]})
    m = arrived(demo, subject)
    copy = arrived(alice, subject, "sent")
    expect(copy["uid"] == sent["uid"] and copy["read"], copy)
    shown = demo.call("GET", f"/api/mail/messages/{m['uid']}")
    expect(shown["text"].rstrip() == "Grüße\n.\nend", shown["text"])
    expect(shown["from"][0]["address"] == ALICE, shown["from"])
    gif = [p for p in shown["parts"] if p["type"] == "image/gif"][0]
    expect(gif["name"] == "schlange ü.gif" and gif["attachment"], gif)
    body = fetch(demo, f"/api/mail/messages/{m['uid']}/parts/{gif['number']}")
    expect(body[2] == data, "the attachment's bytes")
    # Python, too, understands what was made.
    text = fetch(demo, f"/api/mail/messages/{m['uid']}/raw")[2]
    parsed = email.message_from_bytes(text, policy=email.policy.default)
    expect(parsed["subject"] == subject and not parsed.defects, "Python's view")
    expect([p.get_filename() for p in parsed.iter_attachments()]
           == ["schlange ü.gif"], "Python's view of the attachment")
    # The other's message is not there for us.
    code, _, _ = fetch(alice, f"/api/mail/messages/{m['uid']}/raw")
    expect(code == 404, f"another's message: {code}")


def compose_largest():
    alice, demo = shared.web("alice"), shared.web("demo")
    for size, wanted in ((18 * MIB, 201), (19 * MIB, 413)):
        subject = mark(f"{size} bytes")
        data = hashlib.shake_128(subject.encode()).digest(size)
        code, text = alice.once("POST", "/api/mail/messages", {
            "to": DEMO, "subject": subject, "text": "x", "attachments": [
                {"name": "a.bin", "data": base64.b64encode(data).decode()}]})
        expect(code == wanted, f"{size}: {code} {text[:200]}")
        if code != 201:
            expect(not find(demo, subject), "refused without effect")
            continue
        uid = arrived(demo, subject)["uid"]
        parts = demo.call("GET", f"/api/mail/messages/{uid}")["parts"]
        [number] = [p["number"] for p in parts if p.get("name") == "a.bin"]
        body = fetch(demo, f"/api/mail/messages/{uid}/parts/{number}")[2]
        expect(body == data, "the attachment's bytes")


def compose_refusals():
    alice, subject = shared.web("alice"), mark("refused")
    good = {"to": ALICE, "subject": subject, "text": "x"}
    for change, wanted, word in (
            ({"to": [ALICE, "a@elsewhere.example"]}, 422, "foreign_recipient"),
            ({"to": ["nobody-at-all@penncloud.test", ALICE]}, 422,
             "unknown_recipient"),
            ({"subject": subject + "\r\nBcc: x@y.example"}, 400, "bad_field"),
            ({"subject": subject + "\0"}, 400, None),
            ({"to": ALICE + "\r\nX: y"}, 400, "bad_field"),
            ({"to": []}, 400, "bad_field"),
            ({"cc": "not an address"}, 400, "bad_field"),
            ({"text": 7}, 400, "bad_field")):
        code, body = alice.once("POST", "/api/mail/messages",
                                dict(good, **change))
        error = json.loads(body)["error"]["code"]
        expect(code == wanted and word in (None, error),
               f"{change}: {code} {body}")
    expect(not find(alice, subject), "a refusal has no effect")
    expect(not find(alice, subject, "sent"), "nor in sent")


def bcc_is_hidden():
    alice, demo, subject = shared.web("alice"), shared.web("demo"), mark("bcc")
    alice.call("POST", "/api/mail/messages", {
        "to": ALICE, "bcc": DEMO, "subject": subject, "text": "x"})
    for web in (alice, demo):
        text = fetch(web, "/api/mail/messages/"
                     f"{arrived(web, subject)['uid']}/raw")[2]
        expect(b"demo" not in text.split(b"\r\n\r\n")[0], text)
    sent = arrived(alice, subject, "sent")
    expect(b"demo@" in fetch(
        alice, f"/api/mail/messages/{sent['uid']}/raw")[2], "own copy has it")


def actions():
    alice, subject = shared.web("alice"), mark("actions")
    expect(deliver(shared.get().smtp, ALICE, message(subject))[0] == 250, "250")
    uid = arrived(alice, subject)["uid"]

    def act(action, **more):
        answer = alice.call("POST", "/api/mail/messages/actions",
                            dict(uids=[uid], action=action, **more))
        expect(answer["done"] == 1 and not answer["failed"], answer)

    def unread():
        folders = alice.call("GET", "/api/mail/folders")["folders"]
        return [f["unread"] for f in folders if f["role"] == "inbox"][0]

    before = unread()
    act("read")
    expect(unread() == before - 1, "one unread less")
    act("read")
    expect(unread() == before - 1, "twice does no harm")
    act("flag")
    m = arrived(alice, subject)
    expect(m["read"] and m["flagged"], m)
    act("unread")
    act("unflag")
    m = arrived(alice, subject)
    expect(not m["read"] and not m["flagged"], m)
    total = folder_total(alice)
    act("move", folder="archive")
    expect(not find(alice, subject), "left the inbox")
    expect(arrived(alice, subject, "archive")["uid"] == uid, "the same uid")
    expect(folder_total(alice) == total - 1, "counted")
    act("move", folder="trash")
    act("delete")
    expect(not find(alice, subject, "trash"), "deleted")
    code, _, _ = fetch(alice, f"/api/mail/messages/{uid}/raw")
    expect(code == 404, f"deleted: {code}")
    code, _ = alice.once("POST", "/api/mail/messages/actions",
                         {"uids": [uid], "action": "move", "folder": "inbox"})
    expect(code == 404, f"moving what is gone: {code}")


def logout_ends_the_session():
    c = shared.get()
    web = Web(c.http, "alice", c.password())
    cookie = {"Cookie": web.cookie}
    expect(request(c.http, "GET", "/api/me", cookie)[0] == 200, "logged in")
    expect(web.once("POST", "/api/logout")[0] == 200, "logout")
    # On every gateway: the balancer takes turns.
    for _ in range(8):
        code, _, body = request(c.http, "GET", "/api/me", cookie)
        expect(code == 401, f"after logout: {code} {body}")
    # Another session of the same account goes on.
    expect(shared.web("alice").once("GET", "/api/me")[0] == 200, "the other")


def new_password_ends_sessions():
    """On every gateway at once, but for the one that comes with it."""
    c, name = shared.get(), f"carol{os.getpid()}"
    first = {"username": name, "password": "first password"}
    code, headers, text = request(c.http, "POST", "/api/signup", None, first)
    expect(code == 201, f"sign up: {code} {text}")
    stolen = {"Cookie": headers["set-cookie"].split(";")[0]}
    web = Web(c.http, name, first["password"])
    for _ in range(4):
        expect(request(c.http, "GET", "/api/me", stolen)[0] == 200, "both")
    code, text = web.once("POST", "/api/me/password", {
        "old_password": "wrong password", "new_password": "second password"})
    expect(code == 403, f"the old one is needed: {code} {text}")
    before = {"Cookie": web.cookie}
    code, text = web.once("POST", "/api/me/password", {
        "old_password": first["password"], "new_password": "second password"})
    expect(code == 200, f"change: {code} {text}")
    for cookie in (stolen, before):
        for _ in range(4):
            code, _, text = request(c.http, "GET", "/api/me", cookie)
            expect(code == 401, f"an old session: {code} {text}")
    expect(web.once("GET", "/api/me")[0] == 200, "the new session")
    code, _, _ = request(c.http, "POST", "/api/login", None, first)
    expect(code == 401, f"the old password: {code}")


def https():
    """The same by TLS through the balancer, with the certificate that up has
    made: named rightly, private, and kept by a second up."""
    c = shared.get()
    cert, key = (os.path.join(c.dir, "tls", n) for n in ("cert.pem", "key.pem"))
    expect(os.stat(key).st_mode & 0o777 == 0o600, "the key is its owner's")
    made = open(cert).read()
    for host in ("127.0.0.1", "localhost"):
        tls = ssl.create_default_context(cafile=cert)
        h = http.client.HTTPSConnection(host, c.base + 443, timeout=240,
                                        context=tls)
        h.request("POST", "/api/login", json.dumps(
            {"username": "alice", "password": c.password()}),
            {"Origin": f"https://{host}:{c.base + 443}"})
        r = h.getresponse()
        expect(r.status == 200, f"login: {r.status} {r.read()}")
        expect("; Secure" in r.headers["Set-Cookie"], r.headers["Set-Cookie"])
        expect(r.headers["Strict-Transport-Security"], "no way back")
        r.read()
        h.request("GET", "/")
        expect(b"<title>PennCloud" in h.getresponse().read(), "the page")
        h.close()
    # The client's own address, not the balancer's, is seen behind TLS too.
    log = "".join(open(os.path.join(c.dir, "log", f"gateway-{i}.log")).read()
                  for i in (1, 2))
    expect(re.search(r"logged-in user=\"?alice\"? address=127\.0\.0\.1", log),
           "the login is logged")
    expect(request(c.http, "GET", "/")[0] == 200, "plain HTTP goes on")
    c.up()
    expect(open(cert).read() == made, "a second up keeps the certificate")


def forged_requests():
    c, alice = shared.get(), shared.web("alice")
    other = Web(c.http, "alice", c.password())
    body = {"uids": ["0" * 26], "action": "read"}
    own = f"http://127.0.0.1:{c.http}"
    cases = [
        ({}, 403), ({"X-CSRF-Token": ""}, 403),
        ({"X-CSRF-Token": "0" * 32}, 403),
        ({"X-CSRF-Token": other.token}, 403),
        ({"X-CSRF-Token": alice.token, "Origin": "http://evil.example"}, 403),
        ({"X-CSRF-Token": alice.token, "Origin": "null"}, 403),
        ({"X-CSRF-Token": alice.token, "Origin": own}, 404),
        ({"X-CSRF-Token": alice.token}, 404)]
    for path in ("/api/mail/messages/actions", "/api/mail/messages",
                 "/api/mail/drafts", "/api/logout", "/api/me/password"):
        for headers, wanted in cases:
            if wanted != 403 and path != "/api/mail/messages/actions":
                continue
            code, _, text = request(c.http, "POST", path,
                                    dict(headers, Cookie=alice.cookie), body)
            expect(code == wanted, f"{path} {headers}: {code} {text}")
    login = {"username": "alice", "password": c.password()}
    for path in ("/api/login", "/api/signup"):
        for origin in ("http://evil.example", "null", own + ".evil.example",
                       f"http://127.0.0.1:{c.http + 1}"):
            code, _, text = request(c.http, "POST", path, {"Origin": origin},
                                    login)
            expect(code == 403, f"{path} from {origin}: {code} {text}")
    code, _, _ = request(c.http, "POST", "/api/login", {"Origin": own}, login)
    expect(code == 200, f"login from our own page: {code}")
    for path in ("/api/me", "/api/mail/folders", "/api/events"):
        code, _, _ = request(c.http, "GET", path)
        expect(code == 401, f"{path} without a session: {code}")


def the_store_is_sound():
    shared.get().check()


# ---- with processes away ----

def sessions_survive_gateways():
    with Cluster() as c:
        web = Web(c.http, "alice", c.password())
        for name in ("gateway-1", "gateway-2"):
            c.kill(name)
            began = time.monotonic()
            me = web.call("GET", "/api/me")
            expect(me["csrf_token"] == web.token, "the same session and token")
            web.call("POST", "/api/mail/messages", {
                "to": ALICE, "subject": f"without {name}", "text": "x"})
            print(f"  {name} killed: read and sent again after "
                  f"{time.monotonic() - began:.2f} s")
            c.start(name)
            c.wait_ready()
        subjects = [m["subject"] for m in web.messages()]
        expect(sorted(subjects) == ["without gateway-1", "without gateway-2"],
               subjects)


def degraded():
    """Two of three storage processes stopped: what is there can be read, mail
    is put off and sending is refused with 503; all three: nothing can be
    read; afterwards a retry is delivered just once."""
    with Cluster() as c:
        web = Web(c.http, "alice", c.password())
        begun = Smtp(c.smtp)
        begun.envelope(ALICE)
        begun.want(354, "DATA")
        for name in ("storage-1", "storage-2"):
            c.pennctl("local", "stop", name)
        # A write that the last one took before it knew would be unknown, and
        # so would one that a gateway sent into a connection just broken.
        wait_for(lambda: takes_no_writes(c, "storage-3"), 10, "read only")
        for _ in range(6):
            expect(fetch(web, "/api/mail/folders")[0] == 200, "reading")
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            late = pool.submit(put_off, lambda: begun.cmd(
                message("begun before") + b"."))
            fresh = pool.submit(put_off, lambda: deliver(
                c.smtp, ALICE, message("begun after"), sender="x@example.org"))
            send = pool.submit(unavailable, web, "POST", "/api/mail/messages",
                               {"to": ALICE, "subject": "by the web"})
            expect(fetch(web, "/api/mail/folders")[0] == 200, "reading")
            took = [f.result() for f in (late, fresh, send)]
        begun.close()
        begun = Smtp(c.smtp)
        begun.hello()
        c.pennctl("local", "stop", "storage-3")
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            many = pool.submit(put_off_each, begun)
            took.append(unavailable(web, "GET", "/api/mail/folders"))
            expect(many.result() < 20, f"five recipients: {many.result():.0f} s")
        for name in ("storage-1", "storage-2", "storage-3"):
            c.start(name)
        began = time.monotonic()
        for subject in ("begun before", "begun after"):
            retry(c, message(subject))
        back = time.monotonic() - began
        subjects = sorted(m["subject"] for m in web.messages())
        expect(subjects == ["begun after", "begun before"],
               f"each just once: {subjects}")
        c.wait_ready()
        c.wait_whole()
        c.check()
        print(f"  451 after {took[0]:.1f} s (in DATA), {took[1]:.1f} s "
              f"(fresh); 503 after {took[2]:.1f} s (send), {took[3]:.1f} s "
              f"(read, all stopped); retried within {back:.1f} s")


def takes_no_writes(c, name):
    """It leads all tablets, and none of them is open for writing."""
    text = get(c.status_port(name), "/metrics")[1].decode()
    found = dict(re.findall(r"^penn_storage_(\w+) (\d+)$", text, re.M))
    return found["open"] == "0" and found["readonly"] == found["tablets"]


def put_off(send):
    began = time.monotonic()
    code, lines = send()
    expect(code == 451 and lines[0].startswith("4.3.0"), f"{code} {lines}")
    took = time.monotonic() - began
    expect(took < 25, f"{took:.0f} s: clients give up after 30")
    return took


def put_off_each(session):
    """Five recipients with nothing to ask: who has waited for one need not
    wait as long for each."""
    began = time.monotonic()
    session.send(b"MAIL FROM:<bob@example.org>\r\n"
                 + f"RCPT TO:<{ALICE}>\r\n".encode() * 5)
    expect(session.reply()[0] == 250, "MAIL")
    for _ in range(5):
        code, lines = session.reply()
        expect(code == 451 and lines[0].startswith("4.3.0"), f"{code} {lines}")
    session.close()
    return time.monotonic() - began


def unavailable(web, method, path, body=None):
    began = time.monotonic()
    code, headers, text = request(
        web.port, method, path,
        {"Cookie": web.cookie, "X-CSRF-Token": web.token}, body)
    expect(code == 503, f"{method} {path}: {code} {text}")
    expect(int(headers["retry-after"]) > 0, headers)
    expect(json.loads(text)["error"]["code"] == "unavailable", text)
    return time.monotonic() - began


def retry(c, text):
    """As a mail server does: again after each 4xx, also to the greeting."""
    def once():
        code, lines = deliver(c.smtp, ALICE, text)
        expect(code < 500, f"{code} {lines}")
        return code == 250
    wait_for(once, 60, "the retry is taken", pause=0.2)


if __name__ == "__main__":
    try:
        run(swaks_to_inbox, swaks_attachment, msmtp, s_nail, smtp_source,
            dialogue, recipients, relay_matrix, null_sender_and_postmaster,
            pipelining, size_announced, size_largest, large_to_several,
            broken_off, lines_and_hops, corpus_round_trip, odd_bytes,
            smuggling, compose_user_to_user, compose_largest, compose_refusals,
            bcc_is_hidden, actions, logout_ends_the_session,
            new_password_ends_sessions, https, forged_requests,
            the_store_is_sound, sessions_survive_gateways, degraded)
    finally:
        shared.close()
