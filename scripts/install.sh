#!/usr/bin/env bash
# Installs Cutover on a machine that has none, or mends an installation: user, folders, binary, units, sockets. Says each
# step before doing it. Running it again changes only what differs; it restarts nothing that runs.
#
#   scripts/install.sh [--dry-run] [--judge TIME] [user@host | --host NAME] [FILE]
#
# Without FILE it takes the newest build in dist/, or builds one. Without a host it works on this machine, as root.
# --dry-run says the steps and does none. The new process is watched for the time of --judge (3s).
set -euo pipefail
umask 022 # what it makes must be read by users that are not root
# shellcheck source=scripts/lib/release.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/release.sh"

[[ " $* " != *" -h "* && " $* " != *" --help "* ]] || { usage 2,8; exit 0; }
arguments "$@"
find_file
if [[ -n $host ]]; then
  on_host install.sh ${dry:+--dry-run} ${judge:+--judge "$judge"}
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
  [[ -d /run/systemd/system ]] || fail "systemd does not run this machine" "Cutover's sockets need it; to try it out: ./run-dev.sh"
  version=$(systemctl --version | awk 'NR == 1 { print $2 }')
  [[ ${version%%[!0-9]*} -ge 247 ]] || fail "this is systemd $version; Cutover needs 247 or newer" "Debian 11, Ubuntu 22.04 and RHEL 9 have one"
  for unit in http:80 https:443; do
    port=${unit#*:}
    systemctl is-active --quiet "cutover-${unit%:*}.socket" && continue
    holder=$(ss -Hltnp "sport = :$port" 2>/dev/null | sed -n 's/.*users:(("\([^"]*\)",pid=\([0-9]*\).*/\1 (process \2)/p' | sort -u | head -n 1)
    [[ -z $holder ]] || fail "port $port is held by $holder; nothing was changed" "let it listen on another port, which becomes the upstream v1, then run this again"
  done
}

write_units() {
  "$program" units install
  systemctl daemon-reload
}
make_user() { systemd-sysusers /etc/systemd/system/cutover.sysusers; }
make_folders() {
  install -d -m 0755 /etc/cutover
  install -d -m 0755 /etc/cutover/targets # files of targets: that user reads them, root alone writes them
  install -d -m 0755 /etc/cutover/apps /opt/cutover /opt/cutover/apps # managed programs: what root says of them, and executables
  install -d -g cutover -m 0750 /etc/cutover/certificates # keys: that user reads them, and nobody else
  install -d -o cutover -g cutover -m 0700 /var/lib/cutover
}
open_sockets() {
  systemctl enable --quiet cutover-http.socket cutover-https.socket cutover-hold.service cutover.service
  systemctl start cutover-http.socket cutover-https.socket
  systemctl start cutover-hold.service
}

# begin takes the release into use, or the one that is linked already. What runs is only checked.
begin() {
  local release=$program
  [[ ! -L $link ]] || release=$(readlink -f "$link")
  if systemctl is-active --quiet cutover.service; then
    "$program" deploy --dry-run "$release"
    say "cutover.service runs already, and is left alone"
  elif ! "$program" deploy --judge "${judge:-3s}" "$release"; then
    systemctl is-active --quiet cutover.service && return 1
    say "closing the ports again"
    systemctl stop cutover-http.socket cutover-https.socket cutover-hold.service
    return 1
  fi
}

if [[ -z $dry ]]; then
  need_root "$@"
  look
fi
program=$(realpath "$file")
step "writing the units to /etc/systemd/system" write_units
step "making the user cutover" make_user
step "making /etc/cutover, and its certificates and /var/lib/cutover for that user alone" make_folders
step "opening ports 80 and 443, now and at boot" open_sockets
if [[ -L $link ]]; then
  step "$link leads to $(readlink "$link") already, which deploy.sh changes; checking that" begin
else
  step "putting ${file##*/} into /opt/cutover/releases, and taking it into use" begin
fi
if [[ ! -e /usr/local/bin/cutover && ! -L /usr/local/bin/cutover ]]; then
  step "linking /usr/local/bin/cutover to $link, for the command line" ln -s "$link" /usr/local/bin/cutover
fi
[[ -z $dry ]] || { say "nothing was done (--dry-run)"; exit 0; }
say "Cutover serves. Next, on that machine: sudo cutover upstreams set v1 http://127.0.0.1:PORT"
