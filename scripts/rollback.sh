#!/usr/bin/env bash
# Goes back to the release before the one that runs, by 'cutover rollback'; see its --help. Running it twice goes forth again.
#
#   scripts/rollback.sh [--judge TIME] [--force] [user@host | --host NAME]
#
# Without a host it works on this machine, as root.
set -euo pipefail
# shellcheck source=scripts/lib/release.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/release.sh"

[[ " $* " != *" -h "* && " $* " != *" --help "* ]] || { usage 2,6; exit 0; }
arguments "$@"
[[ -z $file$dry ]] || fail "a rollback takes no file and no option but --judge, --force and --host" "$0 --help"
if [[ -n $host ]]; then
  on_host rollback.sh ${force:+--force} ${judge:+--judge "$judge"}
  exit
fi
need_root "$@"
knows rollback || fail "the release that is installed here is too old to know 'cutover rollback'" \
  "deploy the release that you want again: scripts/deploy.sh FILE"
exec "$link" rollback ${force:+--force} ${judge:+--judge "$judge"}
