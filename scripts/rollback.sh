#!/usr/bin/env bash
# Goes back to the release before the one that runs: checks it, swaps the symlink, restarts, judges. Running it twice goes
# forth again.
#
#   scripts/rollback.sh [user@host | --host NAME]
#
# Without a host it works on this machine, as root.
set -euo pipefail
# shellcheck source=scripts/lib/release.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/release.sh"

[[ " $* " != *" -h "* && " $* " != *" --help "* ]] || { usage 2,7; exit 0; }
arguments "$@"
[[ -z $file$dry ]] || fail "a rollback takes no file and no option but --host" "$0 --help"
if [[ -n $host ]]; then
  on_host rollback.sh
  exit
fi

need_server "$@"
only_one
release=$(readlink "$previous" 2>/dev/null) || fail "there is no release before this one" "ls $releases"
[[ -x $release ]] || fail "the release before this one, $release, is gone" "ls $releases"
say "checking $release beside what runs"
check_release "$release" || fail "the release before refuses to serve here; nothing was changed" "mend what it says above"
switch_to "$release" || fail "$release does not serve; $(readlink "$link") serves again" "read: journalctl -u cutover"
say "$release serves"
