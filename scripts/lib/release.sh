# shellcheck shell=bash
# What install.sh, deploy.sh and rollback.sh share. They run on the server itself; with user@host as argument they send
# themselves there by ssh first.

# shellcheck disable=SC2034 # for the scripts that source this
link=/opt/cutover/cutover

# A line that nobody reads any more, since the connection broke, must not end an installation half-way.
say() { printf '%s: %s\n' "${0##*/}" "$*" 2>/dev/null || true; }
fail() {
  printf '%s: %s\n' "${0##*/}" "$1" >&2 || true
  [[ -z ${2:-} ]] || printf 'hint: %s\n' "$2" >&2 || true
  exit 1
}

# usage LINES prints the lines of the script's own head.
usage() { sed -n "$1p" "$0" | cut -c3-; }

need_root() { [[ $EUID == 0 ]] || fail "this needs root" "sudo $0 $*"; }

# knows VERB: true if the installed release has a verb.
knows() { [[ $("$link" --help 2>/dev/null) == *$'\n'"  $1 "* ]]; }

# arguments ARG…: reads what all three scripts take into $host, $file, $dry, $force and $judge; the rest is a mistake.
# shellcheck disable=SC2034 # for the scripts that source this
arguments() {
  host='' file='' dry='' force='' judge=''
  while [[ $# -gt 0 ]]; do
    case $1 in
      --dry-run) dry=1 ;;
      --force) force=1 ;;
      --host) host=${2:-} ; shift || true; [[ -n $host ]] || fail "--host needs a name" "$0 --help" ;;
      --host=*) host=${1#*=} ;;
      --judge) judge=${2:-} ; shift || true; [[ -n $judge ]] || fail "--judge needs a time, such as 30s" "$0 --help" ;;
      --judge=*) judge=${1#*=} ;;
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

# on_host SCRIPT [ARG…]: sends the scripts, and FILE unless it is empty, to $host in one stream, and runs SCRIPT there. They
# go below /opt, since /tmp may be mounted so that nothing in it can be run.
on_host() {
  local folder remote
  local run=("$@")
  folder=$(dirname "${BASH_SOURCE[0]}")/..
  local send=(-C "$folder" install.sh deploy.sh rollback.sh lib/release.sh)
  if [[ -n $file ]]; then
    send+=(-C "$(cd "$(dirname "$file")" && pwd)" "${file##*/}")
    run+=("./${file##*/}")
  fi
  # shellcheck disable=SC2016 # expanded there
  remote='sudo=""; if [ "$(id -u)" != 0 ]; then sudo="sudo -n"; $sudo true || { echo "hint: let $(id -un) use sudo without a password, or log in as root" >&2; exit 1; }; fi
    $sudo bash -c '\''set -e; d=$(mktemp -d /opt/.cutover-sent.XXXXXX); trap "rm -rf $d" EXIT; cd "$d"; tar --no-same-owner -xf -
      bash "./$@" </dev/null'\'' bash'$(printf ' %q' "${run[@]}")
  say "sending to $host"
  # shellcheck disable=SC2029 # put together on purpose
  tar -cf - "${send[@]}" | ssh "$host" "$remote"
}
