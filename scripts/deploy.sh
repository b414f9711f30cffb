#!/usr/bin/env bash
# Deploys a release: copies it, lets it check itself beside the one that runs, swaps the symlink, restarts, judges the
# result, and puts the old release back if it fails. Keeps the ten newest releases. The exit code says whether the new
# release serves.
#
#   scripts/deploy.sh [user@host] [FILE]
#
# Without FILE it takes the newest build in dist/, or builds one. Without user@host it works on this machine, as root.
# CUTOVER_JUDGE_SECONDS (3) says for how long the new process must stay up.
set -euo pipefail
# shellcheck source=scripts/lib/release.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/release.sh"

host='' file=''
for argument in "$@"; do
  case $argument in
    -h | --help) sed -n '2,10p' "${BASH_SOURCE[0]}" | cut -c3-; exit 0 ;;
    *@*) host=$argument ;;
    -*) fail "there is no option $argument" "$0 --help" ;;
    *) file=$argument ;;
  esac
done
[[ -n $file ]] || file=$(newest_build)
[[ -f $file ]] || fail "$file does not exist" "build it with scripts/build.sh"
if [[ -n $host ]]; then
  on_host "$host" deploy.sh "$file"
  exit
fi

need_root "$@"
only_one
id cutover >/dev/null 2>&1 || fail "Cutover is not installed here" "scripts/install.sh first"
release=$(put_release "$file")
say "checking $release beside what runs"
if ! as_cutover "$release" serve --check; then
  [[ $release -ef $link ]] || rm -f "$release"
  fail "the new release refuses to serve here; nothing was changed" "mend what it says above, then deploy again"
fi
switch_to "$release"
prune
say "$release serves"
