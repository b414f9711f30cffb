#!/usr/bin/env bash
# Installs Cutover on a machine that has none, or mends an installation: user, folders, binary, units, sockets. Says each
# step before doing it. Running it again changes only what differs; it never restarts a socket.
#
#   scripts/install.sh [--dry-run] [user@host] [FILE]
#
# Without FILE it takes the newest build in dist/, or builds one. Without user@host it works on this machine, as root.
set -euo pipefail
# shellcheck source=scripts/lib/release.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/release.sh"

host='' file='' dry=''
for argument in "$@"; do
  case $argument in
    -h | --help) sed -n '2,7p' "${BASH_SOURCE[0]}" | cut -c3-; exit 0 ;;
    --dry-run) dry=1 ;;
    *@*) host=$argument ;;
    -*) fail "there is no option $argument" "$0 --help" ;;
    *) file=$argument ;;
  esac
done
[[ -n $file ]] || file=$(newest_build)
[[ -f $file ]] || fail "$file does not exist" "build it with scripts/build.sh"
if [[ -n $host ]]; then
  on_host "$host" install.sh "$file" ${dry:+--dry-run}
  exit
fi

# step TEXT CMD…: says what is done, then does it.
step() {
  say "$1"
  shift
  [[ -n $dry ]] || "$@"
}

make_user() {
  "$file" units install --dir /etc/systemd/system
  systemd-sysusers /etc/systemd/system/cutover.sysusers
}
make_folders() {
  mkdir -p "$releases" /etc/cutover
  install -d -o cutover -g cutover -m 0700 /var/lib/cutover
}
first_release() { point_to "$(put_release "$file")"; }
check() { as_cutover "$link" serve --check; }
enable_all() {
  systemctl enable --quiet cutover-http.socket cutover-https.socket cutover-hold.service cutover.service
  systemctl start cutover-http.socket cutover-https.socket cutover-hold.service
}

[[ -n $dry ]] || { need_root "$@"; only_one; }
chmod +x "$file"
step "writing the units to /etc/systemd/system and making the user cutover" make_user
step "making $releases, /etc/cutover and /var/lib/cutover (0700)" make_folders
if [[ -L $link ]]; then
  say "$link leads to $(readlink "$link") already: deploy.sh changes it"
else
  step "putting $(basename "$file") into $releases, with $link leading to it" first_release
fi
step "checking that it can serve here" check
step "reading the units" systemctl daemon-reload
step "opening ports 80 and 443 and enabling all at boot" enable_all
step "starting cutover.service" systemctl start cutover.service
[[ -z $dry ]] || { say "nothing was done (--dry-run)"; exit 0; }
say "Cutover serves. Next: cutover upstreams set v1 http://127.0.0.1:PORT, with PATH=$prefix:\$PATH"
