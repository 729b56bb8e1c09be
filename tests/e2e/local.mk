EXTRA_DIST += tests/e2e/failover.mjs tests/e2e/lib.mjs tests/e2e/ui.mjs tests/e2e/vectors.mjs
EXTRA_DIST += tests/e2e/test_web.py tests/e2e/test_drip.py
EXTRA_DIST += tests/e2e/test_mail.py tests/e2e/smtp_client.py
EXTRA_DIST += tests/e2e/test_browser.py tests/e2e/inbox.mjs tests/lib/peers.sh
