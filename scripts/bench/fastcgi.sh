#!/usr/bin/env bash
# Measures how much processor time a request to php-fpm takes in front of it, user and system: in nginx, and in Cutover, with the
# same php-fpm in one run; and a request to a target that speaks HTTP. Prints a table with the bar. All on 127.0.0.1 and a unix socket.
#
#   scripts/bench/fastcgi.sh            5 rounds of 20,000 requests of each kind: some minutes
#   scripts/bench/fastcgi.sh 2000 1     fewer requests, and rounds
#   STRICT=1 scripts/bench/fastcgi.sh   a bar that is missed is an error
#
# php-fpm and nginx are unpacked to .dev where they are not installed. The exit status says whether everything could be measured.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
case ${1:-} in
  -h | --help) sed -n '2,9p' "${BASH_SOURCE[0]}" | cut -c3-; exit 0 ;;
esac
# shellcheck source=scripts/lib/packages.sh
source scripts/lib/packages.sh
# shellcheck source=scripts/lib/go.sh
source scripts/lib/go.sh
need_commands go:golang
need_php

nginx=$(unpack_server nginx "$PWD/.dev/nginx" nginx)
mkdir -p .dev/bench
go build -C scripts/bench -o "$PWD/.dev/bench/fastcgi" ./fastcgi
go build -o .dev/bench/cutover ./cmd/cutover
strict=()
[[ -z ${STRICT:-} ]] || strict=(-strict)
exec .dev/bench/fastcgi -php "$(php_program)" -nginx "$nginx" -cutover "$PWD/.dev/bench/cutover" -requests "${1:-20000}" -rounds "${2:-5}" "${strict[@]}"
