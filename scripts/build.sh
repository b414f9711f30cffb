#!/usr/bin/env bash
# Builds a release: a static binary dist/cutover-YYYYMMDDHHMMSS (UTC) that knows its version. Prints its path.
#
#   scripts/build.sh          build; needs Go 1.26.9 or newer, which Go fetches by itself if the one here is older
#   scripts/build.sh --dev    build with the Go that is here, for trying things out; never for a server
#
# Go before 1.26.9 has a fault by which any HTTP/2 client can crash a server, so a release refuses it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
least=1.26.9

fail() { printf 'build: %s\nhint: %s\n' "$1" "$2" >&2; exit 1; }

dev=''
case ${1:-} in
  '') ;;
  --dev) dev=1 ;;
  -h | --help) sed -n '2,8p' "${BASH_SOURCE[0]}" | cut -c3-; exit 0 ;;
  *) fail "there is no option ${1}" "scripts/build.sh --help" ;;
esac
command -v go >/dev/null || fail "go is not on this machine" "install Go $least or newer: https://go.dev/dl"
command -v cc >/dev/null || fail "there is no C compiler" "sudo apt-get install -y gcc libc6-dev"

at_least() { [[ $(printf '%s\n%s\n' "$least" "$1" | sort -V | head -n 1) == "$least" ]]; }
if [[ -z $dev ]]; then
  version=$(go env GOVERSION)
  if ! at_least "${version#go}"; then
    export GOTOOLCHAIN=go$least+auto
    version=$(go env GOVERSION) || fail "Go $least could not be fetched" "install Go $least or newer: https://go.dev/dl"
  fi
  at_least "${version#go}" || fail "this is $version, and a release needs Go $least or newer" "install it: https://go.dev/dl"
fi

stamp=$(date -u +%Y%m%d%H%M%S)
commit=$(git rev-parse --short HEAD 2>/dev/null || echo unknown)
[[ -z $(git status --porcelain 2>/dev/null) ]] || commit=$commit-modified
output=dist/cutover-$stamp
mkdir -p dist
echo "Building $output with $(go env GOVERSION)" >&2
CGO_ENABLED=1 go build -trimpath -tags netgo,osusergo,sqlite_omit_load_extension \
  -ldflags "-s -w -X main.version=$stamp+$commit -linkmode external -extldflags '-static'" -o "$output" ./cmd/cutover
if ldd "$output" >/dev/null 2>&1; then
  rm -f "$output"
  fail "the binary is not static" "check CGO_ENABLED, CC and that static libc is there (Debian: libc6-dev)"
fi
echo "$output"
