#!/usr/bin/env bash
# Runs every test: linters, unit tests under the race detector, fuzz targets, ACME against Pebble, a release build, and the
# whole on a real systemd in a box of its own. Installs what is missing through the system's package manager, and says so.
#
#   scripts/test.sh              everything; what needs root asks sudo for it
#   scripts/test.sh PART…        some of it: lint unit fuzz bench modules build e2e restarts edge upstreams
#   FUZZTIME=5m scripts/test.sh  the same with longer fuzzing (20,000 inputs for each target otherwise)
#   RUN=Deploy scripts/test.sh e2e   only the end-to-end tests of that name
#
# A test that is skipped counts as failed. The last lines say how many tests passed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/lib/packages.sh
source scripts/lib/packages.sh
# shellcheck source=scripts/lib/go.sh
source scripts/lib/go.sh
# shellcheck source=scripts/lib/gotest.sh
source scripts/lib/gotest.sh
# shellcheck source=scripts/lib/previous.sh
source scripts/lib/previous.sh

parts=(lint unit fuzz bench modules build e2e restarts edge upstreams)
chosen=()
for argument in "$@"; do
  case $argument in
    -h | --help) sed -n '2,10p' "${BASH_SOURCE[0]}" | cut -c3-; exit 0 ;;
    *)
      [[ " ${parts[*]} " == *" $argument "* ]] || { echo "test: there is no part $argument; there are: ${parts[*]}" >&2; exit 2; }
      chosen+=("$argument")
      ;;
  esac
done
[[ ${#chosen[@]} -gt 0 ]] || chosen=("${parts[@]}")
wanted() { [[ " ${chosen[*]} " == *" $1 "* ]]; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bin=$PWD/.dev/bin
mkdir -p "$bin"
step() { printf '\n=== %s (%s, after %d s)\n' "$1" "$(date -u +%H:%M:%S)" "$SECONDS"; }

# note TEXT is said once more at the end.
note() { printf '%s\n' "$*" >>"$work/notes"; }

# part NAME TITLE FUNCTION runs a part if it is wanted. The others go on if it fails; the end says so.
part() {
  local code
  wanted "$1" || return 0
  step "$2"
  set +e
  (set -e; "$3")
  code=$?
  set -e
  [[ $code == 0 ]] || failed+=("$1")
}

# what_is_here makes sure of every program that the tests use, and of what the kernel must allow.
what_is_here() {
  need_go
  need_c_compiler
  need_commands git:git curl:curl sqlite3:sqlite3 shellcheck:shellcheck jq:jq openssl:openssl \
    systemctl:systemd systemd-socket-activate:systemd systemd-analyze:systemd systemd-sysusers:systemd journalctl:systemd \
    dbus-daemon:dbus ip:iproute2 ss:iproute2 unshare:util-linux nsenter:util-linux setpriv:util-linux flock:util-linux \
    pgrep:procps ssh:openssh-client ssh-keygen:openssh-client useradd:passwd
  go version
  if ! may_be_root; then
    echo "test: the tests on a real systemd need root, and sudo is not there or asks for a password" >&2
    echo "hint: run: sudo -v && $0      or: sudo env \"PATH=\$PATH\" $0" >&2
    exit 1
  fi
  if ! grep -q '\boverlay$' /proc/filesystems && ! as_root modprobe overlay; then
    echo "test: this kernel has no overlay file system, which a box is made of" >&2
    exit 1
  fi
  if ! grep -q ' cgroup2 ' /proc/mounts || ! as_root unshare --mount --pid --fork --uts --ipc --cgroup --net true; then
    echo "test: a box needs cgroup2 and namespaces, and this machine does not allow them" >&2
    echo "hint: run this on a machine of its own, or in a container with --privileged --cgroupns=private" >&2
    exit 1
  fi
}

lint() {
  scripts/lint.sh 2>&1 | tee "$work/lint"
  if grep 'NOT CHECKED' "$work/lint" >"$work/unchecked"; then note "$(sed 's/^ *//' "$work/unchecked")"; fi
}

# unit_tests runs the product's packages. Those with a test that needs root say so in these words, and get it.
unit_tests() {
  local rooted=() others=() package
  need_php
  if [[ $EUID != 0 ]]; then
    mapfile -t rooted < <(git grep --untracked -l 'needs root: run scripts/test.sh' -- '*_test.go' ':!scripts' | xargs -rn 1 dirname | sort -u)
  fi
  while read -r package; do
    [[ " ${rooted[*]} " == *" $package "* ]] || others+=("./$package")
  done < <(go list -f '{{.Dir}}' ./... | sed "s|^$PWD/\?||")
  run_tests . -race -shuffle=on "${others[@]}"
  [[ ${#rooted[@]} == 0 ]] || run_tests . -race -shuffle=on -exec "sudo -n env PATH=$PATH" "${rooted[@]/#/./}"
}

# fuzz_targets finds every fuzz target of every module. What they learn is kept in Go's cache for the next run. The bound is
# a number of inputs, since Go sometimes reports the end of a time as a failure ("context deadline exceeded").
fuzz_targets() {
  local file line target count=0
  while IFS=: read -r file line; do
    target=${line#func }
    target=${target%%(*}
    echo "$(dirname "$file") $target"
    if ! go test -C "$(dirname "$file")" -run='^$' -fuzz="^$target\$" -fuzztime="${FUZZTIME:-20000x}" . >"$work/fuzz" 2>&1; then
      cat "$work/fuzz"
      return 1
    fi
    count=$((count + 1))
  done < <(git grep --untracked -E '^func Fuzz\w*\(' -- '*_test.go')
  [[ $count -gt 0 ]] || { echo "test: no fuzz target was found" >&2; return 1; }
  note "$count fuzz targets, ${FUZZTIME:-20000x} each"
}

# module_tests runs the nested modules: all but the boxes, which are the last part.
module_tests() {
  local module packages
  while read -r module; do
    [[ $module != . ]] || continue
    mapfile -t packages < <(go list -C "$module" -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}' ./... | grep -v '/e2e/system$')
    [[ ${#packages[@]} -eq 0 ]] || run_tests "$module" -race -shuffle=on "${packages[@]}"
  done < <(go_modules)
}

# short_bench sees to it that everything can be measured; what is measured with so few rules says little.
short_bench() { scripts/bench/rules.sh 20000; }

# short_restarts sees to it that restarts lose nothing; the long form is scripts/bench/restarts.sh.
short_restarts() {
  [[ -s $work/release ]] || release_build
  RELEASE=$(cat "$work/release") scripts/bench/restarts.sh 10 --rtt 0,30 --strict
}

# short_edge sees to it that strangers can do no harm, times left out; the long form is scripts/bench/edge.sh.
short_edge() {
  [[ -s $work/release ]] || release_build
  RELEASE=$(cat "$work/release") scripts/bench/edge.sh --short --strict
}

# short_upstreams sees to it that failing targets harm no visitor, times left out; the long form is scripts/bench/upstreams.sh.
short_upstreams() {
  [[ -s $work/release ]] || release_build
  RELEASE=$(cat "$work/release") scripts/bench/upstreams.sh --short --strict
}

# release_build makes the binary that the end-to-end tests install.
release_build() {
  if (use_release_go); then
    scripts/build.sh >"$work/release"
  else
    note "the release build: NOT CHECKED (Go $least_go cannot be fetched); a --dev build was tested instead"
    scripts/build.sh --dev >"$work/release"
  fi
  "$(cat "$work/release")" version
}

end_to_end() {
  local sshd release previous application
  [[ -s $work/release ]] || release_build
  release=$(cat "$work/release")
  previous=$(previous_build) || previous=''
  need_php
  sshd=$(unpack_server sshd "$PWD/.dev/openssh" openssh-server libwrap0)
  application=$(php_application)
  go build -C scripts/e2e -o "$bin/pebble-box" ./cmd/pebble-box
  verbose=1 run_tests scripts/e2e -count=1 -timeout=20m ${RUN:+-run="$RUN"} \
    -exec "$( ((EUID == 0)) || echo 'sudo -n ')env 'CUTOVER_RELEASE=$release' 'CUTOVER_PREVIOUS=$previous' 'CUTOVER_SOURCE=$PWD' 'PEBBLE_BOX=$bin/pebble-box' 'SSHD=$sshd' 'PHP_FPM=$(php_program)' 'PHP_APP=$application'" ./system
}

step "what this machine has"
what_is_here
failed=()
part lint "linters" lint
part unit "unit tests" unit_tests
part fuzz "fuzz targets" fuzz_targets
part bench "measurements, in short" short_bench
part modules "nested modules: ACME against Pebble, the scripts" module_tests
part build "a release" release_build
part e2e "end to end on a real systemd" end_to_end
part restarts "restarts under load, in short" short_restarts
part edge "attacks from outside, in short" short_edge
part upstreams "failing targets, in short" short_upstreams

step "the end"
[[ ! -s $work/notes ]] || cat "$work/notes"
unchecked
summary
if [[ ${#failed[@]} -gt 0 ]]; then
  echo "FAIL: ${failed[*]}"
  exit 1
fi
printf 'PASS: %s, after %d s\n' "${chosen[*]}" "$SECONDS"
