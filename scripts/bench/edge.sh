#!/usr/bin/env bash
# Measures what strangers on the internet can do to Cutover, on a real systemd in a box of its own, and prints a table with
# bars: floods of handshakes while the CA fails, slow clients and bombs, floods of HTTP/2 frames, each beside a calm load;
# then what sslscan, testssl.sh and h2spec find, request smuggling, and the unit's sandbox. It needs root, which it asks
# sudo for, and ports, processes and files of the box only.
#
#   scripts/bench/edge.sh                    in full: about twenty minutes
#   scripts/bench/edge.sh --short            smaller numbers, for CI: some three minutes
#   scripts/bench/edge.sh --only NAME,…      some parts: handshakes, slow-heads, held-heads, slow-bodies, head-bombs,
#                                            h2-rapid-reset, h2-made-you-reset, h2-continuation, h2-settings, h2-ping,
#                                            h2-empty-data, scans, h2spec, smuggling, unit, others
#   scripts/bench/edge.sh --strict           a bar that is missed is an error, but for times
#   scripts/bench/edge.sh --json FILE        all figures, for programs
#
# RELEASE may name the build to measure; otherwise one is made. The scanners are unpacked to .dev/others, never installed.
# The exit status says whether everything could be measured, and with --strict whether every bar was held.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=scripts/lib/packages.sh
source scripts/lib/packages.sh
# shellcheck source=scripts/lib/go.sh
source scripts/lib/go.sh

# Rows that are measured elsewhere: commands, each with its arguments in one word, that print lines of the form
# "| what | measured | bar | held |" and fail if a bar is missed. Called with the option --short where this script is.
rows_of_others=()

fail() { printf 'edge: %s\nhint: %s --help\n' "$1" "$0" >&2; exit 2; }

options=() only='' short=''
while [[ $# -gt 0 ]]; do
  case $1 in
    -h | --help) sed -n '2,16p' "${BASH_SOURCE[0]}" | cut -c3-; exit 0 ;;
    --only) only=${2:-}; [[ -n $only ]] || fail "$1 needs a value"; shift ;;
    --json) [[ -n ${2:-} ]] || fail "$1 needs a value"; options+=("$1" "$2"); shift ;;
    --short) short=--short; options+=(--short) ;;
    --strict) options+=(--strict) ;;
    *) fail "there is no option $1" ;;
  esac
  shift
done
# wanted PART: it is among those that were asked for; none asked for means all.
wanted() { [[ -z $only || ,$only, == *,$1,* ]]; }

need_commands go:golang cc:gcc openssl:openssl sqlite3:sqlite3 curl:curl systemctl:systemd systemd-analyze:systemd dbus-daemon:dbus \
  ip:iproute2 unshare:util-linux runuser:util-linux hexdump:bsdextrautils ps:procps
may_be_root || { echo "edge: a box needs root, and sudo is not there or asks for a password" >&2; echo "hint: run: sudo -v && $0" >&2; exit 1; }

others=$PWD/.dev/others
mkdir -p "$others" .dev/bin
if wanted scans; then
  [[ -x $others/sslscan/usr/bin/sslscan ]] || unpack_packages "$others/sslscan" sslscan
  [[ -n $short || -x $others/testssl/usr/bin/testssl ]] || unpack_packages "$others/testssl" testssl.sh
fi
if wanted h2spec; then
  go build -C scripts/tools -o "$others/h2spec" github.com/summerwind/h2spec/cmd/h2spec
fi

# in_box measures all that this script measures itself.
in_box() {
  go build -C scripts/e2e -o "$PWD/.dev/bin/edge" ./edge
  as_root "$PWD/.dev/bin/edge" --release "$(realpath "${RELEASE:-$(scripts/build.sh --dev)}")" --scripts "$PWD/scripts" --others "$others" \
    --only "$1" ${options[@]+"${options[@]}"}
}

# elsewhere prints the rows of others below a head of their own.
elsewhere() {
  local command code=0
  [[ ${#rows_of_others[@]} -gt 0 ]] || return 0
  printf '\n### Certificates over time\n\n| what | measured | bar | |\n|---|---|---|---|\n'
  for command in "${rows_of_others[@]}"; do
    # shellcheck disable=SC2086 # a command and its arguments
    $command $short || code=1
  done
  return "$code"
}

code=0
inner=$(tr , '\n' <<<"$only" | grep -vx others | paste -sd, || true)
if [[ -z $only || -n $inner ]]; then in_box "$inner" || code=$?; fi
if wanted others; then elsewhere || code=$?; fi
exit "$code"
