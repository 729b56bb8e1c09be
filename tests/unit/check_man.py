#!/usr/bin/env python3
"""The man pages against the programs: run from the source folder, with the
programs in $PENN_BUILD (default: build).

1. mandoc finds nothing to warn of, and no page names a page of ours that is
   not there.
2. Every program has its page; a daemon's page shows the flags that -h shows.
3. penncloud.conf.5 has every option of every daemon, with the type, default
   and range that the program itself prints, and no other.
4. The examples of penncloud.conf.5 are files that the daemons accept.
5. Every event logged at level error or above stands in the daemon's page, or
   for common/ and kv/ in penncloud.7.
6. penn-storaged.8 explains every metric of a tablet, and none that is not
   there.
7. pennctl.1 explains every command of admin/commands.def, and no other.

Prints one line a finding and "N passed, N failed" at the end."""
import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile

BUILD = os.environ.get("PENN_BUILD", "build")
PAGES = {os.path.basename(p): open(p).read() for p in glob.glob("man/*.[1578]")}
FOLDERS = {"coordinator": "penn-coordinatord", "storage": "penn-storaged",
           "gateway": "penn-gatewayd", "balancer": "penn-balancerd",
           "admin": "penn-admind"}
passed = failed = 0


def check(condition, text):
    global passed, failed
    if condition:
        passed += 1
    else:
        failed += 1
        print(text)


def run(*argv):
    r = subprocess.run(argv, capture_output=True, text=True)
    return r.returncode, r.stdout, r.stderr


def programs():
    return sorted(os.path.basename(p) for p in glob.glob(BUILD + "/penn*")
                  if os.access(p, os.X_OK) and os.path.isfile(p)
                  and "." not in os.path.basename(p))


def is_daemon(program):
    return program in FOLDERS.values()


def help_of(program):
    code, out, err = run(os.path.join(BUILD, program), "-h")
    check(code == 0, f"{program} -h: exit {code}: {err.strip()}")
    return out


def check_lint():
    mandoc = shutil.which("mandoc")
    check(mandoc, "mandoc is not installed")
    for name, text in sorted(PAGES.items()):
        if mandoc:
            _, out, err = run(mandoc, "-T", "lint", "-W", "warning",
                              f"man/{name}")
            check(not out + err, f"{name}: {(out + err).strip()}")
        for page, section in re.findall(r"^\.Xr (penn\S*) (\d)", text, re.M):
            check(f"{page}.{section}" in PAGES,
                  f"{name}: refers to {page}({section}), which is not there")


def check_programs():
    for program in programs():
        page = program + (".8" if is_daemon(program) else ".1")
        check(page in PAGES, f"{program}: has no page man/{page}")
        if not is_daemon(program) or page not in PAGES:
            continue
        for flag in re.findall(r"^  -(\w)", help_of(program), re.M):
            check(re.search(rf"^\.It Fl {flag}\b", PAGES[page], re.M),
                  f"{page}: does not explain -{flag}")


def options_of_programs():
    """{section: {name: (type, default, range)}} as the programs print it."""
    found = {}
    for program in filter(is_daemon, programs()):
        for line in help_of(program).splitlines():
            fields = line.split("\t")
            if len(fields) == 5:
                section, name = fields[0].split(".")
                # The page speaks of an installation under /usr.
                fields[2] = re.sub(r"^/.*(/share/penncloud)", r"/usr\1",
                                   fields[2])
                found.setdefault(section, {})[name] = tuple(fields[1:4])
    return found


def plain(line):
    """A text line of mdoc as it reads."""
    return line.replace("\\&", "").replace("\\-", "-").strip()


def options_of_page(text):
    """The same from penncloud.conf.5: under ".Ss [section]" items
    ".It Ic name Ar type", followed by "Required.", "Unset by default." or
    "Default x.", each perhaps with ", range a..b" or "; range a..b"."""
    found, section, name, kind = {}, None, None, None
    for line in text.splitlines():
        heading = re.match(r"\.Ss \[(\w+)\]", line)
        item = re.match(r"\.It Ic (\w+) Ar (\w+)", line)
        value = re.match(r"(Required|Unset by default|Default (.+?))"
                         r"(?:[,;] range (\S+))?\.$", plain(line))
        if line.startswith(".Sh "):
            section = name = None
        elif heading:
            section, name = heading.group(1), None
            found[section] = {}
        elif item and section:
            name, kind = item.groups()
            found[section][name] = None
        elif value and name and found[section][name] is None:
            default = {"R": "(required)", "U": ""}.get(value.group(1)[0],
                                                       value.group(2))
            found[section][name] = (kind, default, value.group(3) or "-")
    return found


def check_options():
    page = "penncloud.conf.5"
    check(page in PAGES, f"man/{page} is missing")
    real, written = options_of_programs(), options_of_page(PAGES.get(page, ""))
    for section, options in sorted(real.items()):
        shown = written.get(section, {})
        for name, facts in options.items():
            check(name in shown, f"{page}: {section}.{name} is missing")
            check(shown.get(name, facts) == facts,
                  f"{page}: {section}.{name} is {facts}, not {shown.get(name)}")
        for name in shown:
            check(name in options,
                  f"{page}: {section}.{name} is no option of the program")


def check_examples():
    text = PAGES.get("penncloud.conf.5", "")
    examples = re.findall(r"^\.Bd -literal[^\n]*\n(\[cluster\].*?)^\.Ed", text,
                          re.M | re.S)
    check(examples, "penncloud.conf.5: has no example")
    for number, example in enumerate(examples, 1):
        with tempfile.NamedTemporaryFile("w", suffix=".conf") as f:
            f.write("\n".join(plain(x) for x in example.splitlines()) + "\n")
            f.flush()
            for folder, program in FOLDERS.items():
                path = os.path.join(BUILD, program)
                if not re.search(rf"^\[{folder}\b", example, re.M) or \
                        not os.path.exists(path):
                    continue
                names = re.findall(rf"^\[{folder} (\S+)\]", example, re.M)
                for name in names or [None]:
                    extra = ["-n", name] if name else []
                    code, _, err = run(path, "-t", "-c", f.name, *extra)
                    check(code == 0, f"penncloud.conf.5: example {number}: "
                                     f"{program} {name or ''}: {err.strip()}")


EVENT = re.compile(
    r"(?:log_error|log_fatal)\s*\([^,]+,\s*\"[^\"]+\",\s*\"([^\"]+)\""
    r"|LOG_LEVEL_(?:ERROR|FATAL|PANIC),\s*(?:\"[^\"]+\",\s*)?\"([^\"=%]+)\"")


def check_events():
    pages = {f: p + ".8" for f, p in FOLDERS.items()}
    pages.update(common="penncloud.7", kv="penncloud.7")
    for folder, page in pages.items():
        if page not in PAGES:
            continue  # said already
        for path in sorted(glob.glob(f"{folder}/**/*.c", recursive=True)):
            for found in EVENT.finditer(open(path).read()):
                event = found.group(1) or found.group(2)
                check(re.search(rf"^\.It Li {re.escape(event)}\b",
                                PAGES[page], re.M),
                      f"{page}: does not explain event={event} ({path})")


def check_metrics():
    """Figures that penn-storaged.8 explains are there; of each tablet it
    explains all."""
    page = PAGES.get("penn-storaged.8", "")
    rows = {f: set(re.findall(r"\"(penn_storage_\w+)\"", open(f).read()))
            for f in ("storage/metrics.def", "storage/tablet_metrics.def")}
    shown = set(re.findall(r"^\.It Li (penn_storage_\w+)$", page, re.M))
    check(rows["storage/metrics.def"], "storage/metrics.def: has no metrics")
    for name in sorted(rows["storage/tablet_metrics.def"] - shown):
        check(False, f"penn-storaged.8: does not explain {name}")
    for name in sorted(shown):
        check(any(name in names for names in rows.values()),
              f"penn-storaged.8: {name} is no metric")


def check_commands():
    page = PAGES.get("pennctl.1", "")
    rows = set(re.findall(r"^COMMAND\(\"([^\"]+)\"",
                          open("admin/commands.def").read(), re.M))
    check(rows, "admin/commands.def: has no commands")
    items = re.findall(r"^\.It Cm ([a-z]+(?: [a-z]+)*)", page, re.M)
    for words in sorted(rows):
        check(any(i == words or i.startswith(words + " ") for i in items),
              f"pennctl.1: does not explain {words}")
    for item in items:
        check(any(item == w or item.startswith(w + " ") for w in rows),
              f"pennctl.1: {item} is no command")


def main():
    check_lint()
    check_programs()
    check_options()
    check_examples()
    check_events()
    check_metrics()
    check_commands()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
