#!/usr/bin/env python3
"""The rules of style that a machine can check, over all files git tracks.

usage: tidy.py SRCDIR BUILDDIR [--quick | --all]

Limits of files and functions, layering of includes, headers that compile
alone, banned calls, format; without --quick also clang-tidy and cppcheck over
the product's code, with --all over the tests' too.
Prints one line a finding; exit status 1 if there is any."""
import collections
import concurrent.futures
import os
import re
import subprocess
import sys

FILE_MAX, TEST_MAX, HEADER_MAX, FUNCTION_MAX = 800, 1000, 250, 70
PARAMETER_MAX = 5  # and the object that the function is of
# Contracts that are one table or one interface.
HEADER_EXEMPT = {"common/wire.h", "kv/kv.h", "storage/replica_impl.h",
                 "storage/shard_impl.h"}

# Called by a library, which says what they are given.
LIBRARY_CALLBACKS = {"on_request", "http_exchange_answer", "http_tls_choose"}

# What each folder may include, besides itself and libraries.
LAYERS = {
    "common": set(),
    "kv": {"common"},
    "cloud": {"common", "kv"},
    "coordinator": {"common"},
    "storage": {"common", "kv"},
    "gateway": {"common", "kv", "cloud"},
    "balancer": {"common"},
    "admin": {"common", "kv", "cloud"},
}

BANNED = {
    "strcpy": "snprintf or memcpy",
    "strcat": "struct buf",
    "sprintf": "snprintf",
    "vsprintf": "vsnprintf",
    "gets": "fgets",
    "strtok": "strtok_r or a cursor",
    "system": "nothing: no shell",
    "popen": "nothing: no shell",
    "alloca": "a bounded array or the heap",
    "rand": "env_random or randombytes_buf",
    "srand": "env_random or randombytes_buf",
    "tmpnam": "mkstemp",
    "usleep": "a timer",
    "localtime": "localtime_r",
    "gmtime": "gmtime_r",
    "strerror_r": "strerror",
}
# Into arrays of their own making, tests may.
BANNED_BUT_IN_TESTS = {"strcpy", "strcat"}
# Signatures that are a library's, or that are clearer whole.
PARAMETER_EXEMPT = {"on_request", "kv_scan_page", "checkpoint_load"}
# Only these touch sockets, files, clocks and threads of the system.
PURE_BANNED = re.compile(
    r"(?<![\w.>])(uv_run|uv_timer_start|socket|connect|accept4?|fdatasync|fsync|rename|"
    r"open|clock_gettime|gettimeofday|nanosleep)\s*\(")
PURE_FOLDERS = {"storage", "coordinator"}


def tracked(src):
    out = subprocess.run(["git", "-C", src, "ls-files", "*.c", "*.h"],
                         capture_output=True, text=True)
    if out.returncode != 0:  # a tarball
        found = []
        for base, dirs, names in os.walk(src):
            dirs[:] = [d for d in dirs if not d.startswith(("build", "."))]
            found += [os.path.relpath(os.path.join(base, n), src)
                      for n in names if n.endswith((".c", ".h"))]
        return sorted(found)
    return out.stdout.split()


def strip(text):
    """Comments and strings replaced by blanks, lines kept."""
    pattern = re.compile(
        r"//[^\n]*|/\*.*?\*/|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", re.S)
    return pattern.sub(lambda m: re.sub(r"[^\n]", " ", m.group(0)), text)


def check_sizes(src, files, say):
    for f in files:
        lines = open(os.path.join(src, f), errors="replace").read().count("\n")
        test = f.startswith("tests/")
        limit = TEST_MAX if test else FILE_MAX
        if f.endswith(".h") and not test and f not in HEADER_EXEMPT:
            limit = HEADER_MAX
        if lines > limit:
            say(f"{f}: {lines} lines, at most {limit}")


def check_functions(src, files, say):
    out = subprocess.run(
        ["ctags", "-L", "-", "-f", "-", "--c-kinds=f", "--fields=+neS"],
        input="\n".join(f for f in files if f.endswith(".c")), cwd=src,
        capture_output=True, text=True).stdout
    for row in out.splitlines():
        parts = row.split("\t")
        name, f = parts[0], parts[1]
        tags = dict(p.split(":", 1) for p in parts[3:] if ":" in p)
        length = int(tags.get("end", 0)) - int(tags.get("line", 0)) + 1
        if length > FUNCTION_MAX:
            say(f"{f}:{tags['line']}: {name}() has {length} lines, "
                f"at most {FUNCTION_MAX}")
        signature = tags.get("signature", "")
        depth, count = 0, 1
        for c in signature[1:-1]:
            depth += (c == "(") - (c == ")")
            count += c == "," and depth == 0
        if count > PARAMETER_MAX + 1 and not f.startswith("tests/") \
                and name not in PARAMETER_EXEMPT \
                and name not in LIBRARY_CALLBACKS:
            say(f"{f}:{tags['line']}: {name}() has {count} parameters, "
                f"at most {PARAMETER_MAX + 1}")


def check_text(src, files, say):
    banned = re.compile(r"(?<![\w.>])(" + "|".join(BANNED) + r")\s*\(")
    for f in files:
        folder = f.split("/")[0]
        raw = open(os.path.join(src, f), errors="replace").read()
        code = strip(raw)
        for n, line in enumerate(code.splitlines(), 1):
            m = banned.search(line)
            if m and not (folder == "tests" and
                          m.group(1) in BANNED_BUT_IN_TESTS):
                say(f"{f}:{n}: {m.group(1)}() is banned; use "
                    f"{BANNED[m.group(1)]}")
            if (folder in PURE_FOLDERS and f.endswith(".c") and
                    not f.endswith("_io.c") and PURE_BANNED.search(line)):
                say(f"{f}:{n}: {line.strip()}: system calls belong in *_io.c")
        for n, line in enumerate(raw.splitlines(), 1):
            m = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
            if m and folder in LAYERS and m.group(1) != "config.h":
                target = m.group(1).split("/")[0]
                if target != folder and target not in LAYERS[folder]:
                    say(f"{f}:{n}: {folder} must not include {m.group(1)}")
            if re.match(r"\s*#\s*define\s+NDEBUG", line):
                say(f"{f}:{n}: asserts are always on")
            if len(line.rstrip("\n")) > 100:
                say(f"{f}:{n}: line of {len(line)} characters")
        if folder in LAYERS and f.endswith(".c") and not f.endswith("main.c"):
            own = f[:-2] + ".h"
            head = raw.lstrip()[:2]
            if head != "/*" and not os.path.exists(os.path.join(src, own)):
                say(f"{f}: neither an opening comment nor a header of its own")
        if f.endswith("/main.c") and raw.count("\n") > 100:
            say(f"{f}: a main.c has at most 100 lines")


def build_flags(build):
    text = open(os.path.join(build, "Makefile")).read()
    flags = []
    for key in ("UV", "SODIUM", "XXHASH", "MHD", "CJSON", "GNUTLS", "GMIME",
                "CARES", "CURL", "SYSTEMD", "CHECK"):
        m = re.search(rf"^{key}_CFLAGS = (.*)$", text, re.M)
        flags += m.group(1).split() if m else []
    return flags + ["-std=gnu17", "-D_GNU_SOURCE", '-DPENN_PKGDATADIR="/x"',
                    '-DPENN_SYSCONFDIR="/x"']


def parallel(jobs, say):
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 2) as pool:
        for findings in pool.map(lambda j: j(), jobs):
            for line in findings:
                say(line)


def check_headers(src, build, files, say):
    flags = build_flags(build)

    def one(f):
        r = subprocess.run(["gcc", "-fsyntax-only", "-x", "c", "-I", src, "-I",
                            build, *flags, os.path.join(src, f)],
                           capture_output=True, text=True)
        return [] if r.returncode == 0 else [
            f"{f}: does not compile alone: "
            + next((x for x in r.stderr.splitlines() if "error" in x), "?")]

    parallel([lambda f=f: one(f) for f in files if f.endswith(".h")], say)


def check_format(src, files, say):
    tool = next((t for t in ("clang-format-14", "clang-format")
                 if subprocess.run(["which", t],
                                   capture_output=True).returncode == 0), None)
    if tool is None:
        return
    r = subprocess.run([tool, "--dry-run", *files], cwd=src,
                       capture_output=True, text=True)
    bad = collections.Counter(x.split(":")[0] for x in r.stderr.splitlines()
                              if "warning" in x and ":" in x)
    for f, n in sorted(bad.items()):
        say(f"{f}: not formatted in {n} places (make format)")


def check_analyzers(src, build, files, say):
    flags = build_flags(build)
    tidy = next((t for t in ("clang-tidy-14", "clang-tidy")
                 if subprocess.run(["which", t],
                                   capture_output=True).returncode == 0), None)
    sources = [f for f in files if f.endswith(".c")
               and not f.startswith("tests/fuzz")
               and ("--all" in sys.argv or not f.startswith("tests/"))]

    def one(f):
        found = []
        r = subprocess.run([tidy, "--quiet", os.path.join(src, f), "--", "-I",
                            src, "-I", build, *flags],
                           capture_output=True, text=True, cwd=src)
        for line in r.stdout.splitlines():
            if re.search(r"(warning|error):", line):
                found.append(line.replace(os.path.abspath(src) + "/", ""))
        return found

    if tidy:
        parallel([lambda f=f: one(f) for f in sources], say)
    r = subprocess.run(
        ["cppcheck", "--quiet", "--enable=warning,portability", "--std=c11",
         "--inline-suppr", "--error-exitcode=0", "-j",
         str(os.cpu_count() or 2), "-I", src, "--library=posix",
         "--suppress=missingIncludeSystem", "--suppress=unknownMacro",
         # It knows neither TAILQ nor structs filled by assignment.
         "--suppress=uninitvar", "--suppress=syntaxError",
         "--template={file}:{line}: {id}: {message}",
         *[f for f in sources if not f.startswith("tests/")]],
        capture_output=True, text=True, cwd=src)
    for line in r.stderr.splitlines():
        if re.match(r"\S+\.[ch]:\d+:", line):
            say("cppcheck: " + line)


def main():
    src, build = sys.argv[1], sys.argv[2]
    files = tracked(src)
    findings = []

    def say(line):
        findings.append(line)
        print(line, flush=True)

    check_sizes(src, files, say)
    check_functions(src, files, say)
    check_text(src, files, say)
    check_headers(src, build, files, say)
    check_format(src, files, say)
    if "--quick" not in sys.argv:
        check_analyzers(src, build, files, say)
    print(f"tidy: {len(files)} files, {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
