#!/bin/sh
# Install requirements/test.txt into .venv: with uv, which is one of its pins and takes seconds where pip takes minutes;
# or with pip where uv cannot, since uv reads none of pip's settings (an index or a certificate of one's own).
# Both refuse whatever does not have the hash of the file.
set -eu
cd "$(dirname "$0")/.."
lock=requirements/test.txt
python=.venv/bin/python
pin=.venv/uv.txt

export PIP_DISABLE_PIP_VERSION_CHECK=1
# The pin with its hashes, which are the indented lines that follow.
awk '/^[^ ]/ { wanted = /^uv==/ } wanted' "$lock" >"$pin"
"$python" -m pip install --quiet --no-compile --require-hashes -r "$pin"
if ! "$python" -m uv pip install --quiet --python "$python" --compile-bytecode --require-hashes -r "$lock"; then
    echo "uv could not, so pip does it, which takes longer …" >&2
    "$python" -m pip install --quiet --require-hashes -r "$lock"
fi
