#!/usr/bin/env bash
# Measures what visitors notice of restarts of Cutover, on a real systemd in a box of its own, and prints a table for each
# round-trip time, with what failed. Clients of every kind ask throughout; none asks twice. Beside it stands a control
# without restarts. It needs root, which it asks sudo for, and ports, processes and files of the box only.
#
#   scripts/bench/restarts.sh                    100 restarts at 0, 30 and 150 ms: about half an hour
#   scripts/bench/restarts.sh 10 --rtt 0,30      fewer, for CI: some three minutes
#   scripts/bench/restarts.sh 10 --strict        a bar that is missed is an error, but for times
#   scripts/bench/restarts.sh 10 --json FILE     all figures, for programs
#   scripts/bench/restarts.sh 10 --subject NAME  another program: nginx-reload, nginx-upgrade, haproxy-reload, caddy-restart;
#                                                it is unpacked to .dev/others, never installed
#
# RELEASE may name the build to measure; otherwise one is made. The exit status says whether everything could be measured,
# and with --strict whether every bar was held.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=scripts/lib/packages.sh
source scripts/lib/packages.sh
# shellcheck source=scripts/lib/go.sh
source scripts/lib/go.sh

fail() { printf 'restarts: %s\nhint: %s --help\n' "$1" "$0" >&2; exit 2; }

restarts=100 subject=cutover options=()
while [[ $# -gt 0 ]]; do
  case $1 in
    -h | --help) sed -n '2,14p' "${BASH_SOURCE[0]}" | cut -c3-; exit 0 ;;
    --rtt | --json) [[ -n ${2:-} ]] || fail "$1 needs a value"; options+=("$1" "$2"); shift ;;
    --subject) subject=${2:-}; shift || true ;;
    --strict) options+=(--strict) ;;
    [0-9]*) restarts=$1 ;;
    *) fail "there is no option $1" ;;
  esac
  shift
done
need_commands go:golang cc:gcc openssl:openssl sqlite3:sqlite3 curl:curl systemctl:systemd dbus-daemon:dbus ip:iproute2 pgrep:procps unshare:util-linux runuser:util-linux
may_be_root || { echo "restarts: a box needs root, and sudo is not there or asks for a password" >&2; echo "hint: run: sudo -v && $0" >&2; exit 1; }

others=$PWD/.dev/others
case $subject in
  cutover) options+=(--release "$(realpath "${RELEASE:-$(scripts/build.sh --dev)}")" --scripts "$PWD/scripts") ;;
  nginx-reload | nginx-upgrade) packages=(nginx nginx-common) ;;
  haproxy-reload) packages=(haproxy liblua5.3-0 libopentracing-c-wrapper0 libopentracing1) ;;
  caddy-restart) packages=(caddy) ;;
  *) fail "there is no subject ${subject:-without a name}" ;;
esac
if [[ $subject != cutover ]]; then
  folder=$others/${packages[0]}
  [[ -d $folder/usr ]] || unpack_packages "$folder" "${packages[@]}"
  options+=(--others "$folder")
fi
mkdir -p .dev/bin
go build -C scripts/e2e -o "$PWD/.dev/bin/restarts" ./restarts
as_root "$PWD/.dev/bin/restarts" --subject "$subject" --restarts "$restarts" "${options[@]}"
