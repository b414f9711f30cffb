# shellcheck shell=bash
# Installs what a script lacks, through the system's package manager, and says so; sourced by the scripts.

# as_root CMD…: runs a command as root, by sudo if need be and allowed without a question; false otherwise.
as_root() {
  if [[ $EUID == 0 ]]; then
    "$@"
  elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    sudo -n "$@"
  else
    return 1
  fi
}

# need_commands COMMAND:PACKAGE…: makes sure that commands are there. Packages are named as Debian and Ubuntu do.
need_commands() {
  local pair missing=() packages=()
  for pair in "$@"; do
    if ! PATH=$PATH:/usr/sbin:/sbin command -v "${pair%%:*}" >/dev/null; then
      missing+=("${pair%%:*}")
      packages+=("${pair#*:}")
    fi
  done
  [[ ${#missing[@]} -gt 0 ]] || return 0
  echo "Not on this machine: ${missing[*]}"
  if ! command -v apt-get >/dev/null; then
    echo "hint: install them with your package manager; on Debian the packages are: ${packages[*]}" >&2
    exit 1
  fi
  echo "Installing with apt-get: ${packages[*]}"
  if ! { as_root apt-get update -qq && as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}"; }; then
    echo "hint: run: sudo apt-get update && sudo apt-get install -y ${packages[*]}" >&2
    exit 1
  fi
}
