#!/usr/bin/env bash
# Goes back to the release before the one that runs: swaps the symlink, restarts, judges. Running it twice goes forth again.
#
#   scripts/rollback.sh [user@host]
#
# Without user@host it works on this machine, as root.
set -euo pipefail
# shellcheck source=scripts/lib/release.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/release.sh"

case ${1:-} in
  -h | --help) sed -n '2,6p' "${BASH_SOURCE[0]}" | cut -c3-; exit 0 ;;
  *@*) on_host "$1" rollback.sh ''; exit ;;
  '') ;;
  *) fail "$1 is neither an option nor user@host" "$0 --help" ;;
esac

need_root "$@"
only_one
previous=$(readlink -f "$prefix/previous" 2>/dev/null) || true
[[ -n $previous && -x $previous ]] || fail "there is no release before this one" "ls $releases"
say "checking $previous beside what runs"
as_cutover "$previous" serve --check || fail "the release before refuses to serve here; nothing was changed" "mend what it says above"
switch_to "$previous"
say "$previous serves"
