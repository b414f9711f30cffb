#!/usr/bin/env bash
# Measures what visitors notice when targets fail, on the real program, and prints a table with bars: one of three targets
# that dies or vanishes under load and comes back, and targets that hang, reset, answer slowly, answer garbage, flap or break
# off. It needs root, which it asks sudo for: it makes a network of its own, in which a machine can vanish.
#
#   scripts/bench/upstreams.sh                in full: some four minutes, and what apps.sh and fastcgi.sh take
#   scripts/bench/upstreams.sh --short        smaller numbers, for CI: a minute and a half
#   scripts/bench/upstreams.sh --only NAME,…  some parts: refused, black-hole, faults, apps, fastcgi
#   scripts/bench/upstreams.sh --strict       a bar that is missed is an error, but for times
#   scripts/bench/upstreams.sh --json FILE    all figures of the first three parts, for programs
#   scripts/bench/upstreams.sh --docs         puts the table into docs/upstreams.md, in the place of the one there
#
# RELEASE may name the build to measure; otherwise one is made. The exit status says whether everything could be measured, and
# with --strict whether every bar was held.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=scripts/lib/packages.sh
source scripts/lib/packages.sh
# shellcheck source=scripts/lib/go.sh
source scripts/lib/go.sh

fail() { printf 'upstreams: %s\nhint: %s --help\n' "$1" "$0" >&2; exit 2; }

options=() only='' short='' strict='' docs=''
while [[ $# -gt 0 ]]; do
  case $1 in
    -h | --help) sed -n '2,15p' "${BASH_SOURCE[0]}" | cut -c3-; exit 0 ;;
    --only) only=${2:-}; [[ -n $only ]] || fail "$1 needs a value"; shift ;;
    --json) [[ -n ${2:-} ]] || fail "$1 needs a value"; options+=("$1" "$2"); shift ;;
    --short) short=--short; options+=(--short) ;;
    --strict) strict=--strict; options+=(--strict) ;;
    --docs) docs=docs/upstreams.md ;;
    *) fail "there is no option $1" ;;
  esac
  shift
done
# wanted PART: it is among those that were asked for; none asked for means all.
wanted() { [[ -z $only || ,$only, == *,$1,* ]]; }
for part in ${only//,/ }; do
  [[ " refused black-hole faults apps fastcgi " == *" $part "* ]] || fail "there is no part $part"
done

need_commands go:golang cc:gcc ip:iproute2
may_be_root || { echo "upstreams: a network of its own needs root, and sudo is not there or asks for a password" >&2; echo "hint: run: sudo -v && $0" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p .dev/bin

# by_itself measures what needs nothing but targets.
by_itself() {
  go build -C scripts/bench -o "$PWD/.dev/bin/upstreams" ./upstreams
  as_root "$PWD/.dev/bin/upstreams" -binary "$(realpath "${RELEASE:-$(scripts/build.sh --dev)}")" --summary "$work/by-itself.row" --only "$1" ${options[@]+"${options[@]}"}
}

# table_of PART WHAT BAR SCRIPT [SHORT] prints the table of what a script of its own measures, or a row that says that it was not
# measured. SHORT is its argument for the short form, which leaves out a script without one: that takes a machine of its own.
table_of() {
  local code=0
  wanted "$1" || return 0
  if [[ -n $short && -z ${5:-} || ! -x $4 ]]; then
    echo "| $2 | not measured | $3 | |" | tee "$work/$1.row"
    return
  fi
  STRICT=${strict:+1} "$4" ${short:+"$5"} >"$work/$1.out" || code=$?
  echo
  grep '^|' "$work/$1.out" | tee "$work/$1.table" || { cat "$work/$1.out" >&2; code=1; }
  return "$code"
}

# into_docs puts the figures between the two marks in docs/upstreams.md. Rows of parts that were not measured are not there.
into_docs() {
  local size=full table
  [[ -z $short ]] || size=short
  {
    echo
    echo "On $(date -u +%Y-%m-%d), at commit $(git rev-parse --short HEAD), with $(nproc) processors, in $size:"
    printf '\n| what | measured | bar | |\n|---|---|---|---|\n'
    cat "$work"/*.row 2>/dev/null || true
    for table in "$work"/*.table; do
      [[ ! -s $table ]] || { echo; cat "$table"; }
    done
    echo
  } >"$work/figures"
  grep -q '^<!-- figures -->$' "$docs" || { echo "upstreams: $docs has no line <!-- figures -->" >&2; return 1; }
  sed -i -e "/^<!-- figures -->\$/,/^<!-- end -->\$/{/^<!-- figures -->\$/{p;r $work/figures
    };/^<!-- end -->\$/p;d}" "$docs"
}

code=0
inner=$(tr , '\n' <<<"$only" | grep -vxE 'apps|fastcgi' | paste -sd, || true)
if [[ -z $only || -n $inner ]]; then by_itself "$inner" || code=$?; fi
table_of apps "a dead managed program, 100 requests waiting" "one start; all answered within its start time + 50 ms" scripts/bench/apps.sh 1 || code=$?
table_of fastcgi "FastCGI CPU per request against nginx, same php-fpm" "at most 1.5 ×" scripts/bench/fastcgi.sh || code=$?
[[ -z $docs ]] || into_docs
exit "$code"
