# shellcheck shell=bash
# What install.sh, deploy.sh and rollback.sh share. They run on the server itself; with user@host as argument they copy
# themselves there by ssh first.

# shellcheck disable=SC2034 # used by the scripts that source this
prefix=/opt/cutover
releases=$prefix/releases
link=$prefix/cutover
keep=10

# Who listens may have gone, such as an ssh connection: that must not end a deploy half-way.
say() { printf '%s: %s\n' "${0##*/}" "$*" 2>/dev/null || true; }
fail() { printf '%s: %s\n' "${0##*/}" "$1" >&2; [[ -z ${2:-} ]] || printf 'hint: %s\n' "$2" >&2; exit 1; }

need_root() { [[ $EUID == 0 ]] || fail "this needs root" "sudo $0 $*"; }

# only_one: a second deploy at the same time waits for nothing, it fails. The lock goes with the process.
only_one() {
  mkdir -p "$prefix"
  exec 9>"$prefix/.deploy.lock"
  flock --nonblock 9 || fail "another deploy is under way" "wait for it to end"
}

# on_host user@host SCRIPT [FILE] [ARG…]: copies the scripts (and FILE, if not empty) to a host and runs SCRIPT there.
on_host() {
  local host=$1 script=$2 file=$3 folder remote
  shift 3
  folder=$(dirname "${BASH_SOURCE[0]}")/..
  remote=$(ssh "$host" 'mktemp -d /tmp/cutover-deploy.XXXXXX')
  say "copying to $host"
  # shellcheck disable=SC2029 # expanded here on purpose
  tar -C "$folder" -cf - install.sh deploy.sh rollback.sh lib | ssh "$host" "tar -C $remote -xf -"
  if [[ -n $file ]]; then
    scp -q "$file" "$host:$remote/$(basename "$file")"
    set -- "$remote/$(basename "$file")" "$@"
  fi
  local code=0
  # shellcheck disable=SC2029 # expanded here on purpose
  ssh "$host" "if [ \$(id -u) = 0 ]; then bash $remote/$script $*; else sudo bash $remote/$script $*; fi" || code=$?
  # shellcheck disable=SC2029 # expanded here on purpose
  ssh "$host" "rm -rf $remote"
  return "$code"
}

# as_cutover CMD…: runs a command as the service's user, with its folders.
as_cutover() {
  setpriv --reuid=cutover --regid=cutover --clear-groups env STATE_DIRECTORY=/var/lib/cutover RUNTIME_DIRECTORY=/run/cutover "$@"
}

# newest_build prints the newest release in dist/, building one if there is none.
newest_build() {
  local root newest
  root=$(dirname "${BASH_SOURCE[0]}")/../..
  newest=$(find "$root/dist" -maxdepth 1 -name 'cutover-[0-9]*' -printf '%f\n' 2>/dev/null | sort | tail -n 1)
  if [[ -n $newest ]]; then echo "$root/dist/$newest"; else "$root/scripts/build.sh"; fi
}

# put_release FILE: copies a binary among the releases and prints its place. Its name must say when it was built.
put_release() {
  local name
  name=$(basename "$1")
  [[ $name =~ ^cutover-[0-9]{14}$ ]] || fail "$1 is not named cutover-YYYYMMDDHHMMSS" "build it with scripts/build.sh"
  mkdir -p "$releases"
  if [[ ! $1 -ef $releases/$name ]]; then
    install -m 0755 "$1" "$releases/.$name.new"
    mv -T "$releases/.$name.new" "$releases/$name"
  fi
  echo "$releases/$name"
}

# point_to FILE: makes the symlink lead to a release, in one step.
point_to() {
  ln -s "$1" "$prefix/.cutover.new.$$"
  mv -T "$prefix/.cutover.new.$$" "$link"
}

# restart_and_judge: restarts the service; true if it then runs, stays up and answers.
restart_and_judge() {
  local restarts pid
  systemctl reset-failed cutover.service 2>/dev/null || true
  systemctl restart cutover.service || { say "the restart failed"; return 1; }
  restarts=$(systemctl show -P NRestarts cutover.service)
  pid=$(systemctl show -P MainPID cutover.service)
  for _ in $(seq "${CUTOVER_JUDGE_SECONDS:-3}"); do
    sleep 1
    systemctl is-active --quiet cutover.service || { say "the service is $(systemctl is-active cutover.service)"; return 1; }
    [[ $(systemctl show -P NRestarts cutover.service) == "$restarts" && $(systemctl show -P MainPID cutover.service) == "$pid" ]] ||
      { say "the process ended and was started again"; return 1; }
  done
  as_cutover "$link" status -o json >/dev/null || { say "the process does not answer on its admin socket"; return 1; }
}

# switch_to FILE: points to a release, restarts, and goes back to the one before if that fails. Once begun, it is not
# interrupted: a symlink to a release that nobody has judged must not stay.
switch_to() {
  local old=''
  trap '' HUP INT TERM PIPE
  [[ ! -L $link ]] || old=$(readlink "$link")
  say "swapping the symlink to $1"
  point_to "$1"
  if restart_and_judge; then
    [[ -z $old || $old == "$1" ]] || ln -sfn "$old" "$prefix/previous"
    trap - HUP INT TERM PIPE
    return 0
  fi
  journalctl -u cutover.service -n 20 --no-pager 2>/dev/null | tail -n 20 >&2 || true
  [[ -n $old && $old != "$1" ]] || fail "$1 does not serve, and there is no release before it" "read: journalctl -u cutover"
  say "putting $old back"
  point_to "$old"
  [[ $1 -ef $prefix/previous ]] || rm -f "$1" # or it would count among the releases that are kept
  restart_and_judge || fail "$1 does not serve, and neither does $old" "read: journalctl -u cutover"
  fail "$1 does not serve; $old serves again" "read: journalctl -u cutover"
}

# prune: removes all but the newest releases, never the one in use or the one before it.
prune() {
  local file
  find "$releases" -maxdepth 1 -name 'cutover-[0-9]*' -printf '%f\n' | sort -r | tail -n +$((keep + 1)) | while read -r file; do
    if [[ ! $releases/$file -ef $link && ! $releases/$file -ef $prefix/previous ]]; then
      say "removing the old release $file"
      rm -f "$releases/$file"
    fi
  done
}
