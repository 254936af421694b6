#!/bin/sh
# Print the path of a program that some tests need; nothing if there is none.
#
#   scripts/program.sh PROGRAM PACKAGE          look for it; where the system's package manager may be used, install it
#   scripts/program.sh PROGRAM PACKAGE --find   only look
#
# Without it, the tests that are marked with its name are skipped. On CI that is an error.
set -eu

program=$1
package=$2

# nginx lies in /usr/sbin, which is not on everybody's PATH.
PATH=$PATH:/usr/sbin:/sbin

command -v "$program" && exit 0
[ "${3:-}" = --find ] && exit 0

as_root=none
if [ "$(id -u)" = 0 ]; then
    as_root=env
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    as_root='sudo env'
fi

if [ "$as_root" != none ] && command -v apt-get >/dev/null 2>&1; then
    echo "Installing $package for the tests (apt-get install $package) …" >&2
    # A package source that is down must not hide that another one has it: let the installation decide.
    $as_root apt-get update -qq >&2 || true
    $as_root DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$package" >&2 || true
    command -v "$program" && exit 0
fi

echo "No $program was found, so some tests cannot run. Install it (Debian: apt-get install $package)." >&2
case "${CI:-}" in
    '' | false | 0) exit 0 ;;
    *) exit 1 ;;
esac
