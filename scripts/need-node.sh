#!/bin/sh
# Say what is missing if Node.js is: some judges of the tests are npm packages.
set -eu
for program in node npm; do
    if ! command -v "$program" >/dev/null 2>&1; then
        echo "The tests need Node.js, and there is no '$program' here. Install Node.js 20 or newer with npm" \
            "(Debian: apt-get install nodejs npm). 'make demo' does without." >&2
        exit 1
    fi
done
