#!/usr/bin/env bash
# Installs Cutover on a machine that has none, or mends an installation: user, folders, binary, units, sockets. Says each
# step before doing it. Running it again changes only what differs; it restarts nothing that runs.
#
#   scripts/install.sh [--dry-run] [user@host | --host NAME] [FILE]
#
# Without FILE it takes the newest build in dist/, or builds one. Without a host it works on this machine, as root.
# --dry-run says the steps and does none.
set -euo pipefail
# shellcheck source=scripts/lib/release.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/release.sh"

[[ " $* " != *" -h "* && " $* " != *" --help "* ]] || { usage 2,8; exit 0; }
arguments "$@"
find_file
if [[ -n $host ]]; then
  on_host install.sh ${dry:+--dry-run}
  exit
fi

# step TEXT CMD…: says what is done, then does it.
step() {
  say "$1"
  shift
  [[ -n $dry ]] || "$@"
}

# look: what would stop the installation half-way stops it before it begins.
look() {
  local version unit port holder
  version=$(systemctl --version | awk 'NR == 1 { print $2 }')
  [[ ${version%%[!0-9]*} -ge 247 ]] || fail "this is systemd $version; Cutover needs 247 or newer" "Debian 11, Ubuntu 22.04 and RHEL 9 have one"
  for unit in http:80 https:443; do
    port=${unit#*:}
    systemctl is-active --quiet "cutover-${unit%:*}.socket" && continue
    holder=$(ss -Hltnp "sport = :$port" 2>/dev/null | sed -n 's/.*users:(("\([^"]*\)",pid=\([0-9]*\).*/\1 (process \2)/p' | sort -u | head -n 1)
    [[ -z $holder ]] || fail "port $port is held by $holder; nothing was changed" "let it listen on another port, which becomes the upstream v1, then run this again"
  done
}

copy() { put_release >/dev/null; }
write_units() {
  "$releases/${file##*/}" units install --dir "$units"
  systemctl daemon-reload
}
make_user() { systemd-sysusers "$units/cutover.sysusers"; }
make_folders() {
  install -d -m 0755 /etc/cutover
  install -d -o cutover -g cutover -m 0700 /var/lib/cutover
}
open_sockets() {
  systemctl enable --quiet cutover-http.socket cutover-https.socket cutover-hold.service cutover.service
  systemctl start cutover-http.socket cutover-https.socket
  systemctl start cutover-hold.service
}
check() {
  check_release "$(readlink -f "$link")" && return
  if ! systemctl is-active --quiet cutover.service; then
    say "closing the ports again"
    systemctl stop cutover-http.socket cutover-https.socket cutover-hold.service
  fi
  fail "it cannot serve here" "mend what it says above, then run this again"
}
start() {
  if systemctl is-active --quiet cutover.service; then
    say "cutover.service runs already, and is left alone"
    return
  fi
  systemctl reset-failed cutover.service 2>/dev/null || true
  if ! systemctl start cutover.service || ! judge "$(readlink -f "$link")"; then
    journalctl -u cutover.service -n 20 --no-pager >&2 2>/dev/null || true
    fail "cutover.service does not serve" "read: journalctl -u cutover"
  fi
}

if [[ -z $dry ]]; then
  need_server "$@"
  only_one
  look
fi
step "putting ${file##*/} into $releases" copy
step "writing the units to $units" write_units
step "making the user cutover" make_user
step "making /etc/cutover, and /var/lib/cutover for that user alone" make_folders
if [[ -L $link ]]; then
  say "$link leads to $(readlink "$link") already: deploy.sh changes it"
else
  step "letting $link lead to it" point "$link" "$releases/${file##*/}"
fi
if [[ ! -e /usr/local/bin/cutover && ! -L /usr/local/bin/cutover ]]; then
  step "linking /usr/local/bin/cutover to $link, for the command line" ln -s "$link" /usr/local/bin/cutover
fi
step "opening ports 80 and 443, now and at boot" open_sockets
step "checking that it can serve here" check
step "starting cutover.service" start
[[ -z $dry ]] || { say "nothing was done (--dry-run)"; exit 0; }
say "Cutover serves. Next, on that machine: sudo cutover upstreams set v1 http://127.0.0.1:PORT"
