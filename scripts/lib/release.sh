# shellcheck shell=bash
# What install.sh, deploy.sh and rollback.sh share. They run on the server itself; with user@host as argument they send
# themselves there by ssh first.

prefix=/opt/cutover
releases=$prefix/releases
link=$prefix/cutover
previous=$prefix/previous
units=/etc/systemd/system
keep=10

# A line that nobody reads any more, since the connection broke, must not end a deploy half-way.
say() { printf '%s: %s\n' "${0##*/}" "$*" 2>/dev/null || true; }
fail() {
  printf '%s: %s\n' "${0##*/}" "$1" >&2 || true
  [[ -z ${2:-} ]] || printf 'hint: %s\n' "$2" >&2 || true
  exit 1
}

# usage LINES prints the lines of the script's own head.
usage() { sed -n "$1p" "$0" | cut -c3-; }

# need_server: this is root, on a machine that systemd runs.
need_server() {
  [[ $EUID == 0 ]] || fail "this needs root" "sudo $0 $*"
  [[ -d /run/systemd/system ]] || fail "systemd does not run this machine" "Cutover's sockets need it; to try it out: ./run-dev.sh"
}

# only_one: a second deploy at the same time waits for nothing, it fails. The lock goes with the process.
only_one() {
  mkdir -p "$prefix"
  exec 9>"$prefix/.deploy.lock"
  flock --nonblock 9 || fail "another deploy is under way" "wait for it to end"
}

# arguments ARG…: reads what all three scripts take into $host, $file and $dry; the rest is a mistake.
# shellcheck disable=SC2034 # for the scripts that source this
arguments() {
  host='' file='' dry=''
  while [[ $# -gt 0 ]]; do
    case $1 in
      --dry-run) dry=1 ;;
      --host) host=${2:-} ; shift || true; [[ -n $host ]] || fail "--host needs a name" "$0 --help" ;;
      --host=*) host=${1#*=} ;;
      -*) fail "there is no option $1" "$0 --help" ;;
      *@*) host=$1 ;;
      *) [[ -z $file ]] || fail "$1 is one argument too many" "$0 --help"; file=$1 ;;
    esac
    shift || true
  done
  [[ $host != -* ]] || fail "$host is no host" "$0 --help"
}

# find_file: without a FILE it is the newest build in dist/, which is built if there is none.
find_file() {
  local top newest
  if [[ -z $file ]]; then
    top=$(dirname "${BASH_SOURCE[0]}")/../..
    newest=$(find "$top/dist" -maxdepth 1 -name 'cutover-[0-9]*' ! -name '*.part' -printf '%f\n' 2>/dev/null | sort | tail -n 1)
    if [[ -n $newest ]]; then file=$top/dist/$newest; else file=$("$top/scripts/build.sh"); fi
  fi
  [[ -f $file ]] || fail "$file does not exist" "build it with scripts/build.sh"
  [[ ${file##*/} =~ ^cutover-[0-9]{14}$ ]] || fail "$file is not named cutover-YYYYMMDDHHMMSS" "build it with scripts/build.sh"
}

# on_host SCRIPT [ARG…]: sends the scripts, and FILE unless it is empty, to $host in one stream, and runs SCRIPT there.
on_host() {
  local script=$1 folder remote run
  shift
  folder=$(dirname "${BASH_SOURCE[0]}")/..
  local send=(-C "$folder" install.sh deploy.sh rollback.sh lib/release.sh)
  run=$script
  [[ $# == 0 ]] || run+=$(printf ' %q' "$@")
  if [[ -n $file ]]; then
    send+=(-C "$(cd "$(dirname "$file")" && pwd)" "${file##*/}")
    run+=" ./${file##*/}"
  fi
  # shellcheck disable=SC2016 # expanded there
  remote='set -e; d=$(mktemp -d /tmp/cutover-deploy.XXXXXX); trap '\''rm -rf "$d"'\'' EXIT; cd "$d"; tar --no-same-owner -xf -
    sudo=""; if [ "$(id -u)" != 0 ]; then sudo="sudo -n"; $sudo true || { echo "hint: let $(id -un) use sudo without a password, or log in as root" >&2; exit 1; }; fi
    $sudo bash ./'$run' </dev/null'
  say "sending to $host"
  # shellcheck disable=SC2029 # put together on purpose
  tar -cf - "${send[@]}" | ssh "$host" "$remote"
}

# as_cutover CMD…: runs a command as the service's user, with its folders and nothing of ours, for 20 s at most.
as_cutover() {
  env -i PATH=/usr/bin:/bin STATE_DIRECTORY=/var/lib/cutover RUNTIME_DIRECTORY=/run/cutover \
    timeout --kill-after=5 20 setpriv --reuid=cutover --regid=cutover --clear-groups "$@"
}

# put_release: copies $file among the releases and prints its place there. A release is never another one later.
put_release() {
  local name=${file##*/}
  mkdir -p "$releases"
  rm -f "$releases"/.cutover-*.new # of a copy that was cut short
  if [[ -e $releases/$name ]]; then
    cmp -s "$file" "$releases/$name" || fail "$releases/$name is there already, and is another one; nothing was changed" "build a release anew, or remove that one if it is not in use"
  else
    install -m 0755 "$file" "$releases/.$name.new"
    sync "$releases/.$name.new"
    mv -T "$releases/.$name.new" "$releases/$name"
  fi
  echo "$releases/$name"
}

# point LINK FILE: makes a symlink lead to a file, in one step.
point() {
  ln -s "$2" "$1.new.$$"
  mv -T "$1.new.$$" "$1"
}

# check_release FILE: lets a release check itself just as the service would run it, beside the one that runs: with its user,
# sandbox, environment, drop-ins and sockets. It is cutover.service with another command, and it is gone afterwards.
check_release() {
  local unit=cutover-check-$$.service output code=0
  # What was changed in the units, and not made known to systemd yet, holds from the restart on: so for the check, too.
  # NeedDaemonReload is not asked: it can miss a drop-in whose folder is new.
  systemctl daemon-reload
  output=$(mktemp /run/cutover-check.XXXXXX)
  {
    systemctl cat cutover.service
    cat <<UNIT
[Unit]
CollectMode=inactive-or-failed
FailureAction=none
SuccessAction=none
[Service]
Type=oneshot
Restart=no
RemainAfterExit=no
RuntimeDirectoryPreserve=yes
TimeoutStartSec=60
WatchdogSec=0
StandardOutput=file:$output
StandardError=inherit
ExecCondition=
ExecStartPre=
ExecStart=
ExecStart=$1 serve --check
ExecStartPost=
ExecReload=
ExecStop=
ExecStopPost=
UNIT
  } >"/run/systemd/system/$unit"
  systemctl start "$unit" >/dev/null 2>&1 || code=$?
  cat "$output"
  if [[ $code != 0 && ! -s $output ]]; then
    journalctl --no-pager -o cat -n 5 -u "$unit" || true
  fi
  rm -f "/run/systemd/system/$unit" "$output"
  return "$code"
}

# tell_of_units FILE: says so if a release comes with other units than those that are installed.
tell_of_units() {
  local folder file
  folder=$(mktemp -d)
  chown cutover "$folder"
  if as_cutover "$1" units install --dir "$folder" >/dev/null 2>&1; then
    while read -r file; do
      cmp -s "$folder/$file" "$units/$file" || say "note: $units/$file differs from what this release comes with; install.sh writes it"
    done < <(cd "$folder" && find . -type f -printf '%P\n' | sort)
  fi
  rm -rf "$folder"
}

# restart: true if systemd says that the service has started.
restart() {
  systemctl reset-failed cutover.service 2>/dev/null || true
  systemctl restart cutover.service || { say "the restart failed"; return 1; }
}

# judge FILE: true if the service runs this release, stays up for a while, and says itself that it is ready.
judge() {
  local pid restarts status
  pid=$(systemctl show -P MainPID cutover.service)
  restarts=$(systemctl show -P NRestarts cutover.service)
  for _ in $(seq "${CUTOVER_JUDGE_SECONDS:-3}"); do
    sleep 1
    systemctl is-active --quiet cutover.service || { say "the service is $(systemctl is-active cutover.service)"; return 1; }
    [[ $(systemctl show -P NRestarts cutover.service) == "$restarts" && $(systemctl show -P MainPID cutover.service) == "$pid" ]] ||
      { say "the process ended and was started again"; return 1; }
  done
  [[ /proc/$pid/exe -ef $1 ]] || { say "process $pid does not run $1"; return 1; }
  status=$(as_cutover "$1" status -o json 2>&1) || { say "it does not say that it is ready: $status"; return 1; }
  [[ $status =~ \"pid\":\ *$pid, ]] || { say "another process than $pid answers on the admin socket"; return 1; }
}

# restart_and_judge FILE: true if the service runs this release then.
restart_and_judge() { restart && judge "$1"; }

# switch_to FILE: points to a release, restarts, and goes back to the one before if that fails. It is not to be interrupted.
switch_to() {
  local old=''
  trap '' HUP INT PIPE TERM
  [[ ! -L $link ]] || old=$(readlink "$link")
  say "swapping the symlink to $1"
  point "$link" "$1"
  if restart_and_judge "$1"; then
    [[ -z $old || $old == "$1" ]] || point "$previous" "$old"
    return 0
  fi
  journalctl -u cutover.service -n 20 --no-pager >&2 2>/dev/null || true
  [[ -n $old && $old != "$1" ]] || fail "$1 does not serve, and there is no release before it" "read: journalctl -u cutover"
  say "putting $old back"
  point "$link" "$old"
  restart_and_judge "$old" || fail "$1 does not serve, and neither does $old" "read: journalctl -u cutover"
  return 1
}

# prune: removes all but the newest releases, never the one in use or the one before it.
prune() {
  local name
  find "$releases" -maxdepth 1 -name 'cutover-[0-9]*' -printf '%f\n' | sort -r | tail -n +$((keep + 1)) | while read -r name; do
    [[ $releases/$name -ef $link || $releases/$name -ef $previous ]] && continue
    say "removing the old release $name"
    rm -f "$releases/$name"
  done
}
