"""The web interface in Chromium against a whole cluster: ui.mjs, failover.mjs.

PENN_NODE_MODULES: a folder that has node_modules/playwright-core; without it
that is fetched once, into build/e2e. CHROMIUM: the browser."""
import fcntl
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "lib"))
from penn import BUILD, SRC, Cluster, Failure, fetched, run  # noqa: E402

PLAYWRIGHT = "playwright-core@1.65.1"


def node_modules():
    given = os.environ.get("PENN_NODE_MODULES")
    if given:
        return given
    folder = os.path.join(SRC, "build", "e2e")
    there = os.path.join(folder, "there-" + PLAYWRIGHT)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two scripts may come at once
        if not os.path.exists(there):
            fetched(lambda: subprocess.run(
                ["npm", "install", "--silent", "--no-fund", "--no-audit",
                 "--ignore-scripts", "--prefix", folder, PLAYWRIGHT],
                check=True, timeout=600))
            open(there, "w").close()
    return folder


def in_the_browser(script, c):
    env = dict(os.environ, PENN_URL=f"http://127.0.0.1:{c.http}",
               PENN_SMTP=f"127.0.0.1:{c.smtp}", PENN_DIR=c.dir,
               PENNCTL=os.path.join(BUILD, "pennctl"),
               PENN_NODE_MODULES=node_modules())
    r = subprocess.run(["node", f"tests/e2e/{script}"], cwd=SRC, env=env,
                       capture_output=True, text=True, timeout=1500)
    if r.returncode != 0:
        raise Failure(r.stdout + r.stderr)
    print("  " + r.stdout.splitlines()[-1])


def people_and_hostile_mail():
    with Cluster() as c:
        in_the_browser("ui.mjs", c)


def processes_die_under_an_open_inbox():
    with Cluster() as c:
        in_the_browser("failover.mjs", c)


if __name__ == "__main__":
    run(people_and_hostile_mail, processes_die_under_an_open_inbox)
