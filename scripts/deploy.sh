#!/usr/bin/env bash
# Deploys a release: copies it to the server and has it checked, swapped in, judged, and put back if it is worse, by
# 'cutover deploy'; see its --help. The exit code says whether the new release serves.
#
#   scripts/deploy.sh [--judge TIME] [--dry-run] [--force] [user@host | --host NAME] [FILE]
#
# Without FILE it takes the newest build in dist/, or builds one. Without a host it works on this machine, as root.
set -euo pipefail
# shellcheck source=scripts/lib/release.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/release.sh"

[[ " $* " != *" -h "* && " $* " != *" --help "* ]] || { usage 2,7; exit 0; }
arguments "$@"
find_file
if [[ -n $host ]]; then
  on_host deploy.sh ${dry:+--dry-run} ${force:+--force} ${judge:+--judge "$judge"}
  exit
fi
need_root "$@"
# The installed release does the work where it can: it is known to work here. A new one would judge itself.
deployer=$link
knows deploy || deployer=$(realpath "$file")
exec "$deployer" deploy ${dry:+--dry-run} ${force:+--force} ${judge:+--judge "$judge"} "$file"
