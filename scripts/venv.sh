#!/bin/sh
# Make .venv with the interpreter named by the first argument, unless there is a usable one already.
set -eu
cd "$(dirname "$0")/.."
python=$1

if ! command -v "$python" >/dev/null 2>&1; then
    echo "There is no '$python' here. Install Python 3.11 or newer, or name yours: make PYTHON=/path/to/python3." >&2
    exit 1
fi
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    found=$("$python" -c 'import platform; print(platform.python_version())') || found='no working Python'
    echo "Hookbrook needs Python 3.11 or newer, and '$python' is $found. Name another: make PYTHON=/path/to/python3." >&2
    exit 1
fi

if .venv/bin/python -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    exit 0
fi

# Debian and Ubuntu ship the module venv without the ensurepip that it needs, so asking for venv alone would not tell.
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    echo "'$python' cannot make virtual environments (it has no ensurepip)." \
        "On Debian and Ubuntu: apt-get install python3-venv. Then run make again." >&2
    exit 1
fi
"$python" -m venv --clear .venv
