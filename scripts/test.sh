#!/usr/bin/env bash
# Runs every test: linters, unit tests under the race detector, fuzz targets, ACME against Pebble, and the whole on a
# real systemd in a box of its own. Installs what is missing with apt-get, and says so.
#
#   scripts/test.sh               everything; the part on a real systemd needs root, and asks sudo for it
#   FUZZ_TIME=5m scripts/test.sh  the same with longer fuzzing (3s for each target otherwise)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
case ${1:-} in
  '') ;;
  -h | --help) sed -n '2,6p' "${BASH_SOURCE[0]}" | cut -c3-; exit 0 ;;
  *) echo "test: there is no option $1" >&2; exit 2 ;;
esac
# shellcheck source=scripts/lib/packages.sh
source scripts/lib/packages.sh

step() { printf '\n=== %s (%s)\n' "$1" "$(date -u +%H:%M:%S)"; }

step "what this machine has"
need_commands go:golang cc:gcc git:git curl:curl sqlite3:sqlite3 shellcheck:shellcheck jq:jq openssl:openssl \
  systemd-socket-activate:systemd systemd-analyze:systemd dbus-daemon:dbus ip:iproute2 unshare:util-linux nsenter:util-linux \
  setpriv:util-linux pgrep:procps journalctl:systemd systemd-sysusers:systemd
if [[ $EUID != 0 ]] && ! sudo -n true 2>/dev/null; then
  echo "test: the tests on a real systemd need root, and sudo asks for a password" >&2
  echo "hint: run 'sudo -v' first, then this again; or: sudo env \"PATH=\$PATH\" $0" >&2
  exit 1
fi
go version

step "linters"
scripts/lint.sh

step "unit tests"
go test -race -shuffle=on ./...

step "fuzz targets"
targets=0
while IFS=: read -r file line; do
  target=${line#func } target=${target%%(*}
  echo "$(dirname "$file") $target"
  go test -run='^$' -fuzz="^$target\$" -fuzztime="${FUZZ_TIME:-3s}" "./$(dirname "$file")" >/tmp/fuzz.$$ 2>&1 || { cat /tmp/fuzz.$$; rm -f /tmp/fuzz.$$; exit 1; }
  targets=$((targets + 1))
done < <(git grep -E '^func Fuzz' -- '*_test.go')
rm -f /tmp/fuzz.$$
[[ $targets -gt 0 ]] || { echo "test: no fuzz target was found" >&2; exit 1; }
echo "$targets fuzz targets"

step "ACME against Pebble"
go test -C scripts/e2e -race -shuffle=on ./acme/...

step "a release"
release=$PWD/$(scripts/build.sh)

step "end to end on a real systemd"
suite=$PWD/.dev/bin/system.test
go test -C scripts/e2e -c -o "$suite" ./system
go build -C scripts/e2e -o "$PWD/.dev/bin/pebble-box" ./cmd/pebble-box
as_root env CUTOVER_RELEASE="$release" CUTOVER_SOURCE="$PWD" PEBBLE_BOX="$PWD/.dev/bin/pebble-box" "$suite" -test.v -test.timeout=20m
step "all passed"
