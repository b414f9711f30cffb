#!/usr/bin/env bash
# Measures what docs/rules-at-scale.md promises of the rules, on the real program and the real sqlite3, and prints the table.
#
#   scripts/bench/rules.sh           with a million rules: some minutes, and 2 GB below BENCH_DIR (default .dev/bench)
#   scripts/bench/rules.sh 50000     with fewer
#   scripts/bench/rules.sh 50000 imports     only one part: starts, matches, edits, commits or imports
#
# A bar that is missed is said in the table. The exit status says whether everything could be measured.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
case ${1:-} in
  -h | --help) sed -n '2,9p' "${BASH_SOURCE[0]}" | cut -c3-; exit 0 ;;
esac
# shellcheck source=scripts/lib/packages.sh
source scripts/lib/packages.sh
# shellcheck source=scripts/lib/go.sh
source scripts/lib/go.sh
need_commands go:golang cc:gcc sqlite3:sqlite3

dir=${BENCH_DIR:-.dev/bench}
mkdir -p "$dir/data"
dir=$(realpath "$dir")
trap 'rm -rf "$dir/data"' EXIT
go build -tags netgo,osusergo,sqlite_omit_load_extension -o "$dir/cutover" ./cmd/cutover
go build -C scripts/bench -o "$dir/rules" ./rules
cd scripts/bench
"$dir/rules" -binary "$dir/cutover" -dir "$dir/data" -rows "${1:-1000000}" -only "${2:-}"
