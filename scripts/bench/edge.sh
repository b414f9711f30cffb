#!/usr/bin/env bash
# Measures what strangers on the internet can do to Cutover, on a real systemd in a box of its own, and prints a table with
# bars: floods of handshakes while the CA fails, slow clients and bombs, floods of HTTP/2 frames, each beside a calm load;
# then what sslscan, testssl.sh and h2spec find, request smuggling, and the unit's sandbox. It needs root, which it asks
# sudo for, and ports, processes and files of the box only.
#
#   scripts/bench/edge.sh                    in full: at most twenty minutes
#   scripts/bench/edge.sh --short            smaller numbers, for CI: some four minutes
#   scripts/bench/edge.sh --only NAME,…      some parts: handshakes, slow-heads, held-heads, slow-bodies, head-bombs,
#                                            h2-rapid-reset, h2-made-you-reset, h2-continuation, h2-settings, h2-ping,
#                                            h2-empty-data, scans, h2spec, smuggling, unit, tests
#   scripts/bench/edge.sh --strict           a bar that is missed is an error, but for times
#   scripts/bench/edge.sh --json FILE        all figures, for programs
#   scripts/bench/edge.sh --docs             puts the table in short into docs/edge.md, in the place of the one there
#
# RELEASE may name the build to measure; otherwise one is made. The scanners are unpacked to .dev/others, never installed.
# What is not measured after twenty minutes is left out. The exit status says whether everything could be measured, and with
# --strict whether every bar was held.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=scripts/lib/packages.sh
source scripts/lib/packages.sh
# shellcheck source=scripts/lib/go.sh
source scripts/lib/go.sh

# left SECONDS prints how many of so many are left, as Go writes times.
left() { echo "$(($1 > SECONDS ? $1 - SECONDS : 1))s"; }

fail() { printf 'edge: %s\nhint: %s --help\n' "$1" "$0" >&2; exit 2; }

options=() only='' short='' docs=''
while [[ $# -gt 0 ]]; do
  case $1 in
    -h | --help) sed -n '2,18p' "${BASH_SOURCE[0]}" | cut -c3-; exit 0 ;;
    --only) only=${2:-}; [[ -n $only ]] || fail "$1 needs a value"; shift ;;
    --json) [[ -n ${2:-} ]] || fail "$1 needs a value"; options+=("$1" "$2"); shift ;;
    --short) short=--short; options+=(--short) ;;
    --docs) docs=docs/edge.md ;;
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

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
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
    --summary "$work/summary" --within "$(left 1000)" --only "$1" ${options[@]+"${options[@]}"}
}

# try_test FILE FOLDER PACKAGE TEST runs a test, and keeps what it says in FILE.
try_test() {
  local code=0
  echo "edge: $4" >&2
  go test -C "$2" -count=1 -v -timeout="$(left 1190)" -run="^$4\$" "$3" >"$1" 2>&1 || code=$?
  [[ $code == 0 ]] || { cat "$1" >&2; return "$code"; }
}

# figure FILE NAME prints a figure that a test has stated as an attribute. A test that failed early has not stated it.
figure() {
  local value
  value=$(sed -n "s/^ *=== ATTR  *[^ ]* $2 //p" "$1")
  echo "${value:-?}"
}

# row WHAT MEASURED BAR CODE prints a row; CODE is 0 if the bar is held.
row() {
  local verdict=held
  [[ $4 == 0 ]] || verdict=missed
  printf '| %s | %s | %s | %s |\n' "$1" "$2" "$3" "$verdict"
  return "$4"
}

# outage_row: the time is not real, so that it is the same in short and in full.
outage_row() {
  local said=$work/outage code=0
  try_test "$said" . ./tlsbridge TestThirtyDaysWithoutACA || code=1
  f() { figure "$said" "$1"; }
  row "the CA is down for 30 simulated days, with $(f restarts) restarts" \
    "$(f certificates) certificates served $(f visits) times, all valid; $(f attempts) orders tried; the last renewed $(f renewed-after) after the CA's return; at most $(f orders) new orders in 3 h of $(f orders-limit)" \
    "all served while valid; renewed within 1 h; within the budget" "$code"
}

# prefetch_row: a short time stands for the three hours of the CA's limit.
prefetch_row() {
  local said=$work/prefetch code=0
  if [[ -z $short ]]; then
    export CUTOVER_PREFETCH_NAMES=1000 CUTOVER_PREFETCH_ORDERS=300 CUTOVER_PREFETCH_WINDOW=30
  fi
  try_test "$said" scripts/e2e ./acme TestAQueueIsWorkedOffWithinTheCAsLimitThroughKills || code=1
  f() { figure "$said" "$1"; }
  row "$(f names) names are prefetched, the CA allows $(f limit) orders in 3 h ($(f window) here)" \
    "$(f certificates) certificates for $(f orders) orders in $(f took); at most $(f most) orders in $(f window), $(f refused) refused; killed with -9 and resumed at $(f resumed) done" \
    "no order beyond the limit; resumes; says how far it is" "$code"
}

# by_tests prints the rows of tests, which run at once, below a head of their own. It fails if a bar is missed.
by_tests() {
  local code=0 outage prefetch
  outage_row >"$work/outage.row" & outage=$!
  prefetch_row >"$work/prefetch.row" & prefetch=$!
  wait "$outage" || code=1
  wait "$prefetch" || code=1
  printf '\n### Certificates over time\n\n| what | measured | bar | |\n|---|---|---|---|\n'
  cat "$work/outage.row" "$work/prefetch.row"
  return "$code"
}

# into_docs puts the figures between the two marks in docs/edge.md. Rows of parts that were not measured are not there.
into_docs() {
  local size=full
  [[ -z $short ]] || size=short
  {
    echo
    echo "On $(date -u +%Y-%m-%d), at commit $(git rev-parse --short HEAD), with $(nproc) processors, in $size:"
    echo
    cat "$work/summary" 2>/dev/null || echo '| what | measured | bar | |'$'\n''|---|---|---|---|'
    cat "$work"/*.row 2>/dev/null || true
    echo
  } >"$work/figures"
  sed -i -e "/^<!-- figures -->\$/,/^<!-- end -->\$/{/^<!-- figures -->\$/{p;r $work/figures
    };/^<!-- end -->\$/p;d}" "$docs"
}

code=0
inner=$(tr , '\n' <<<"$only" | grep -vx tests | paste -sd, || true)
if [[ -z $only || -n $inner ]]; then in_box "$inner" || code=$?; fi
if wanted tests; then by_tests || code=$?; fi
[[ -z $docs ]] || into_docs
exit "$code"
