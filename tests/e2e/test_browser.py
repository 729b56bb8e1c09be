"""Mail that arrives while the inbox is open in Chromium: inbox.mjs against a
whole cluster. (ui.mjs, what else people do there, is test_web.py's.)"""
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "lib"))
sys.path.insert(0, os.path.dirname(__file__))
from penn import SRC, Cluster, expect, run  # noqa: E402
from test_web import node_modules  # noqa: E402


def mail_appears():
    with Cluster() as c:
        env = dict(os.environ, PENN_URL=f"http://127.0.0.1:{c.http}",
                   PENN_SMTP=f"127.0.0.1:{c.smtp}",
                   PENN_NODE_MODULES=node_modules())
        r = subprocess.run(["node", "tests/e2e/inbox.mjs"], cwd=SRC, env=env,
                           input=c.password() + "\n", capture_output=True,
                           text=True, timeout=600)
        expect(r.returncode == 0, r.stdout + r.stderr)
        for line in r.stdout.splitlines():
            if line.startswith("rows after"):
                print("  swaks to an open inbox: " + line)


if __name__ == "__main__":
    run(mail_appears)
