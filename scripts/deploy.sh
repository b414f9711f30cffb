#!/usr/bin/env bash
# Deploys a release: copies it, lets it check itself beside the one that runs, swaps the symlink, restarts, judges the
# result, and puts the old release back if it fails. Keeps the ten newest releases. The exit code says whether the new
# release serves.
#
#   scripts/deploy.sh [user@host | --host NAME] [FILE]
#
# Without FILE it takes the newest build in dist/, or builds one. Without a host it works on this machine, as root.
# CUTOVER_JUDGE_SECONDS (3) says for how long the new process must stay up.
set -euo pipefail
# shellcheck source=scripts/lib/release.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/release.sh"

[[ " $* " != *" -h "* && " $* " != *" --help "* ]] || { usage 2,9; exit 0; }
arguments "$@"
[[ -z $dry ]] || fail "a deploy has no --dry-run: it checks the release before it changes anything" "$0 --help"
find_file
if [[ -n $host ]]; then
  on_host deploy.sh
  exit
fi

need_server "$@"
only_one
if ! id cutover >/dev/null 2>&1 || [[ ! -L $link ]]; then
  fail "Cutover is not installed here" "scripts/install.sh first"
fi
new=''
[[ -e $releases/${file##*/} ]] || new=1
# forget: a release that was refused is no release; the one in use stays in any case.
forget() { [[ -z $new ]] || rm -f "$release"; }

release=$(put_release)
say "checking $release beside what runs"
if ! check_release "$release"; then
  forget
  fail "the new release refuses to serve here; nothing was changed" "mend what it says above, then deploy again"
fi
tell_of_units "$release"
if ! switch_to "$release"; then
  forget
  fail "$release does not serve; $(readlink "$link") serves again" "read: journalctl -u cutover"
fi
prune
say "$release serves"
