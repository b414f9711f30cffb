#!/usr/bin/env bash
# Runs every linter: golangci-lint on all Go modules, shellcheck on all scripts, govulncheck where its database can be
# reached. The linters themselves are pinned in scripts/tools/go.mod and built from there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/lib/packages.sh
source scripts/lib/packages.sh
need_commands go:golang shellcheck:shellcheck

tools=$PWD/.dev/bin
mkdir -p "$tools"
for tool in github.com/golangci/golangci-lint/v2/cmd/golangci-lint golang.org/x/vuln/cmd/govulncheck; do
  go build -C scripts/tools -o "$tools/" "$tool"
done

echo "shellcheck"
mapfile -t shells < <(git ls-files --cached --others --exclude-standard '*.sh' .ci/run)
shellcheck --external-sources "${shells[@]}"

while read -r module; do
  echo "golangci-lint in ${module%/go.mod}"
  (cd "$(dirname "$module")" && "$tools/golangci-lint" run --config "$OLDPWD/.golangci.yml" ./...)
done < <(git ls-files --cached --others --exclude-standard 'go.mod' '*/go.mod' | grep -v '^scripts/tools/')

echo "govulncheck"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if "$tools/govulncheck" ./... >"$log" 2>&1; then
  echo "no known vulnerability"
elif grep -qE 'fetching vulnerabilities|dial tcp|no such host|403|connection refused' "$log"; then
  echo "govulncheck: NOT CHECKED: its database cannot be reached from here"
else
  cat "$log"
  if [[ $(go env GOVERSION) < go1.26.9 ]]; then
    echo "note: the Go here is $(go env GOVERSION); releases are built with 1.26.9 or newer. Faults of the older one do not count."
    grep -q 'Your code is affected by .* from .* module' "$log" && exit 1
  else
    exit 1
  fi
fi
