#!/usr/bin/env bash
# Measures what visitors wait for when a managed program is dead, on a real systemd in a box of its own, and prints a table with
# bars: the program takes a second to start, and 100 requests come at once. It needs root, which it asks sudo for.
#
#   scripts/bench/apps.sh            10 rounds: a minute and a half
#   scripts/bench/apps.sh 1          fewer rounds
#   STRICT=1 scripts/bench/apps.sh   a bar that is missed is an error, but for times
#
# A start takes what one request alone waits; the bar is for what the slowest of 100 waits beyond that. Beside it, both are
# compared with the program's own part: from its exec to the first connection that it accepts. That alone counts where systemd
# has begun before the requests come, earlier one time and later another. RELEASE may name the build to measure; otherwise one
# is made. The exit status says whether it could be measured.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
case ${1:-10} in
  -h | --help) sed -n '2,12p' "${BASH_SOURCE[0]}" | cut -c3-; exit 0 ;;
  *[!0-9]* | 0*) printf 'apps: "%s" is no number of rounds\nhint: %s --help\n' "$1" "$0" >&2; exit 2 ;;
esac
# shellcheck source=scripts/lib/packages.sh
source scripts/lib/packages.sh
# shellcheck source=scripts/lib/go.sh
source scripts/lib/go.sh
need_commands go:golang cc:gcc curl:curl jq:jq systemctl:systemd journalctl:systemd dbus-daemon:dbus ip:iproute2 unshare:util-linux useradd:passwd
may_be_root || { echo "apps: a box needs root, and sudo is not there or asks for a password" >&2; echo "hint: run: sudo -v && $0" >&2; exit 1; }

rounds=${1:-10} bar=50
release=$(realpath "${RELEASE:-$(scripts/build.sh --dev)}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# What the test finds wrong is a bar that is missed; that it says nothing means that nothing was measured.
code=0
go test -C scripts/e2e -count=1 -v -timeout="$((5 + rounds))m" -run='^TestADeadProgramIsStartedOnceForAHundredRequestsThatWait$' \
  -exec "$( ((EUID == 0)) || echo 'sudo -n ')env 'CUTOVER_REVIVALS=$rounds' 'CUTOVER_RELEASE=$release' 'CUTOVER_SOURCE=$PWD'" ./system >"$work/said" 2>&1 || code=$?
figure() { sed -n "s/^ *=== ATTR  *[^ ]* $1 //p" "$work/said"; }
starts=$(figure starts) wrong=$(figure wrong)
if [[ -z $starts || -z $wrong ]]; then
  cat "$work/said" >&2
  echo "apps: nothing was measured" >&2
  exit 1
fi

# row WHAT MEASURED BAR HELD prints a row; HELD is a condition.
row() {
  local verdict=missed
  ! (($4)) || verdict=held
  printf '| %s | %s | %s | %s |\n' "$1" "$2" "$3" "$verdict"
}

printf '| what | measured | bar | |\n|---|---|---|---|\n'
row "a dead managed program, 100 requests waiting" "at most $starts start each time, $wrong wrong answers, in $((2 * rounds)) rounds" "one start, 0 wrong" "starts == 1 && wrong == 0"
row "… stopped; the first of them starts it: the last of 100, beyond what one alone waits" \
  "median $(figure stopped-median-more) ms, worst $(figure stopped-worst-more) ms; beyond the program's own part $(figure stopped-median) and $(figure stopped-worst) ms, one alone $(figure stopped-alone-median) and $(figure stopped-alone-worst) ms" \
  "$bar ms" "$(figure stopped-worst-more) <= bar"
row "… killed 0.2 s before; systemd has begun to start it: the last of 100, beyond the program's own part" \
  "median $(figure killed-median) ms, worst $(figure killed-worst) ms" "$bar ms" "$(figure killed-worst) <= bar"
if [[ $code != 0 ]]; then
  cat "$work/said" >&2
  [[ -z ${STRICT:-} ]] || exit 1
fi
