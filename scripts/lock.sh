#!/bin/sh
# Write requirements/*.txt anew from pyproject.toml: pinned, hashed, for every supported Python, naming no host.
#
#   scripts/lock.sh             keep each pin that still satisfies pyproject.toml
#   scripts/lock.sh --upgrade   take the newest of everything
set -eu
cd "$(dirname "$0")/.."

compile() {
    .venv/bin/python -m uv pip compile --quiet --universal --python-version 3.11 \
        --generate-hashes --no-emit-index-url --no-header --no-annotate "$@"
}

compile pyproject.toml --group build --group test --group check --group bench --group lock \
    --output-file requirements/test.txt "$@"

# The run-time pins are a part of the others, so that what the tests judged is what runs.
compile pyproject.toml --group build --constraints requirements/test.txt \
    --output-file requirements/run.txt "$@"

echo "Wrote requirements/test.txt ($(grep -c == requirements/test.txt) pins) and requirements/run.txt ($(grep -c == requirements/run.txt))."
