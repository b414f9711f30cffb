#!/usr/bin/env bash
# Builds a release: a static binary dist/cutover-YYYYMMDDHHMMSS (UTC) that knows its version. Prints its path.
#
#   scripts/build.sh          build; needs Go 1.26.9 or newer, which Go fetches by itself if the one here is older
#   scripts/build.sh --dev    build with the Go that is here, to .dev/builds, for trying things out; never for a server
#
# Go before 1.26.9 has a fault by which any HTTP/2 client can crash a server, so a release refuses it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/lib/go.sh
source scripts/lib/go.sh

fail() { printf 'build: %s\nhint: %s\n' "$1" "$2" >&2; exit 1; }

dev='' folder=$PWD/dist
case ${1:-} in
  '') ;;
  --dev) dev=-dev folder=$PWD/.dev/builds ;;
  -h | --help) sed -n '2,7p' "${BASH_SOURCE[0]}" | cut -c3-; exit 0 ;;
  *) fail "there is no option $1" "scripts/build.sh --help" ;;
esac
command -v go >/dev/null || fail "go is not on this machine" "install Go $least_go or newer: https://go.dev/dl"
command -v cc >/dev/null || fail "there is no C compiler" "sudo apt-get install -y gcc libc6-dev"
[[ $(cc -print-file-name=libc.a) != libc.a ]] || fail "there is no C library to link statically" "sudo apt-get install -y libc6-dev (Fedora: glibc-static)"
[[ -n $dev ]] || use_release_go ||
  fail "this is $(go env GOVERSION), a release needs Go $least_go or newer, and it could not be fetched" "install it: https://go.dev/dl"

stamp=$(date -u +%Y%m%d%H%M%S)
commit=$(git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
[[ -z $(git status --porcelain 2>/dev/null) ]] || commit+=-modified
output=$folder/cutover-$stamp
mkdir -p "$folder"
echo "Building ${output#"$PWD"/} with $(go env GOVERSION)" >&2
trap 'rm -f "$output.part"' EXIT
# netgo and osusergo: the static C library would look up names and users through files of the machine it was built on.
CGO_ENABLED=1 go build -trimpath -buildvcs=false -tags netgo,osusergo,sqlite_omit_load_extension \
  -ldflags "-s -w -X main.version=$stamp+$commit$dev -linkmode external -extldflags '-static'" -o "$output.part" ./cmd/cutover
headers=$(readelf --program-headers "$output.part") || fail "readelf is not on this machine" "sudo apt-get install -y binutils"
if [[ $headers == *INTERP* ]]; then
  fail "the binary is not static" "check CGO_ENABLED, CC and that a static C library is there (Debian: libc6-dev)"
fi
mv "$output.part" "$output"
echo "$output"
