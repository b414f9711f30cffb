#!/usr/bin/env bash
# Runs every linter: shellcheck on all scripts, golangci-lint on all Go modules, govulncheck on the product where its
# database can be reached. The linters themselves are pinned in scripts/tools/go.mod and built from there.
#
#   scripts/lint.sh         all; ends with an error if one of them has something to say
#   scripts/lint.sh --fix   format the Go code first
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/lib/packages.sh
source scripts/lib/packages.sh
# shellcheck source=scripts/lib/go.sh
source scripts/lib/go.sh

fix=''
case ${1:-} in
  '') ;;
  --fix) fix=1 ;;
  -h | --help) sed -n '2,6p' "${BASH_SOURCE[0]}" | cut -c3-; exit 0 ;;
  *) echo "lint: there is no option $1" >&2; exit 2 ;;
esac
need_go
need_commands git:git shellcheck:shellcheck

tools=$PWD/.dev/bin
mkdir -p "$tools"
for tool in github.com/golangci/golangci-lint/v2/cmd/golangci-lint golang.org/x/vuln/cmd/govulncheck; do
  go build -C scripts/tools -o "$tools/" "$tool"
done

# check_shell looks at every file that bash runs.
check_shell() {
  local files
  mapfile -t files < <(git ls-files --cached --others --exclude-standard '*.sh' .ci/run)
  shellcheck "${files[@]}"
}

# check_sleep refuses tests that sleep on the real clock: they are slow, and fail on a busy machine.
check_sleep() {
  local sleeping
  sleeping=$(git grep --untracked -l 'time\.Sleep(' -- '*_test.go' | xargs -r grep -L '"testing/synctest"') || true
  [[ -z $sleeping ]] || { printf '%s: time.Sleep without testing/synctest: wait for what you wait for\n' "$sleeping"; return 1; }
}

# check_go FOLDER looks at a Go module.
check_go() {
  local config=$PWD/.golangci.yml
  (
    cd "$1" || exit
    [[ -z $fix ]] || "$tools/golangci-lint" fmt --config "$config" ./...
    "$tools/golangci-lint" run --config "$config" ./...
  )
}

# check_vulnerabilities asks for known faults in what the product uses, Go's own library included.
check_vulnerabilities() (
  log=$(mktemp)
  trap 'rm -f "$log"' EXIT
  # A release is built with this one; faults of an older Go here do not reach it.
  use_release_go || true
  code=0
  "$tools/govulncheck" ${GOVULNDB:+-db="$GOVULNDB"} ./... >"$log" 2>&1 || code=$?
  if [[ $code == 0 ]]; then
    echo "no known vulnerability (with $(go env GOVERSION))"
  elif grep -q 'fetching vulnerabilities' "$log"; then
    printf '\n  govulncheck: NOT CHECKED (database not reachable)\n\n'
    sed 's/^/  /' "$log" | cut -c-200 | head -n 3
  else
    cat "$log"
    return 1
  fi
)

failed=''
echo "shellcheck"
check_shell || failed+=" shellcheck"
echo "sleeping tests"
check_sleep || failed+=" sleeping-tests"
while read -r module; do
  echo "golangci-lint in $module"
  check_go "$module" || failed+=" golangci-lint"
done < <(go_modules)
echo "govulncheck"
check_vulnerabilities || failed+=" govulncheck"
[[ -z $failed ]] || { echo "lint: something is wrong:$failed" >&2; exit 1; }
