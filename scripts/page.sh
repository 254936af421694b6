#!/bin/sh
# Write hookbrook.min.js anew, which is what browsers get: hookbrook.js, made small by esbuild (tests/node).
#
#   scripts/page.sh          write it
#   scripts/page.sh --show   only print it
set -eu
cd "$(dirname "$0")/.."

source=src/hookbrook/http/page/hookbrook.js
target=src/hookbrook/http/page/hookbrook.min.js

minify() {
    tests/node/node_modules/.bin/esbuild "$source" --minify --format=esm --target=es2022 --log-level=warning
}

if [ "${1:-}" = --show ]; then
    minify
else
    minify >"$target"
    echo "Wrote $target ($(wc -c <"$target") bytes)."
fi
