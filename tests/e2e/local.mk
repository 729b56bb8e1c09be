EXTRA_DIST += tests/e2e/lib.mjs tests/e2e/ui.mjs tests/e2e/vectors.mjs
EXTRA_DIST += tests/e2e/test_web.py tests/e2e/test_drip.py
