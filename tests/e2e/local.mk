EXTRA_DIST += tests/e2e/lib.mjs tests/e2e/ui.mjs tests/e2e/vectors.mjs
