#!/bin/sh
# Print the path of a Chromium for the browser tests; nothing if there is none.
#
#   scripts/chromium.sh          look for one; where the system's package manager may be used, install it
#   scripts/chromium.sh --find   only look
#
# Without a browser the tests marked `browser` are skipped. On CI that is an error: a skipped promise is not a kept one.
set -eu

find_chromium() {
    if [ -n "${HOOKBROOK_CHROMIUM:-}" ]; then
        command -v "$HOOKBROOK_CHROMIUM"
        return
    fi
    for candidate in chromium chromium-browser google-chrome google-chrome-stable \
        /snap/bin/chromium /opt/google/chrome/chrome \
        "/Applications/Chromium.app/Contents/MacOS/Chromium" \
        "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome" \
        "${HOME:-/nonexistent}"/.cache/ms-playwright/chromium-*/chrome-linux*/chrome; do
        # The wrapper that Ubuntu installs instead of a browser is found on PATH too, but cannot run.
        if command -v "$candidate" >/dev/null 2>&1 && "$candidate" --version >/dev/null 2>&1; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

find_chromium && exit 0
[ "${1:-}" = --find ] && exit 0

if [ -n "${HOOKBROOK_CHROMIUM:-}" ]; then
    echo "HOOKBROOK_CHROMIUM names '$HOOKBROOK_CHROMIUM', which cannot be executed." >&2
    exit 1
fi

as_root=none
if [ "$(id -u)" = 0 ]; then
    as_root=env
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    as_root='sudo env'
fi

if [ "$as_root" != none ] && command -v apt-get >/dev/null 2>&1; then
    echo "Installing Chromium for the browser tests (apt-get install chromium) …" >&2
    # A package source that is down must not hide that another one has the browser: let the installation decide.
    $as_root apt-get update -qq >&2 || true
    $as_root DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium >&2 || true
    find_chromium && exit 0
fi

cat >&2 <<'NOTE'
------------------------------------------------------------------------------------------
No Chromium was found, so the browser tests cannot run. Install it (Debian: apt-get install
chromium) or name yours: HOOKBROOK_CHROMIUM=/path/to/chromium make test
------------------------------------------------------------------------------------------
NOTE
case "${CI:-}" in
    '' | false | 0) exit 0 ;;
    *) exit 1 ;;
esac
