# shellcheck shell=bash
# Installs what a script lacks, through the system's package manager, and says so; sourced by the scripts.

# may_be_root: this user is root, or becomes it by sudo without a question.
may_be_root() { [[ $EUID == 0 ]] || { command -v sudo >/dev/null && sudo -n true 2>/dev/null; }; }

# as_root CMD…: runs a command as root; false if this user may not.
as_root() {
  if [[ $EUID == 0 ]]; then
    "$@"
  else
    may_be_root && sudo -n "$@"
  fi
}

# has COMMAND: it is there, if need be in a folder that only root has in its PATH.
has() { PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null; }

# package_manager prints the one that this system has.
package_manager() {
  local manager
  for manager in apt-get dnf pacman zypper; do
    if has "$manager"; then echo "$manager"; return; fi
  done
  return 1
}

# package_name MANAGER PACKAGE prints what another system calls a package of Debian's.
package_name() {
  case $1:$2 in
    pacman:golang) echo go ;;
    dnf:gcc) echo gcc glibc-static ;;
    zypper:gcc) echo gcc glibc-devel-static ;;
    dnf:libc6-dev) echo glibc-devel glibc-static ;;
    pacman:libc6-dev) echo glibc ;;
    zypper:libc6-dev) echo glibc-devel glibc-devel-static ;;
    dnf:sqlite3 | pacman:sqlite3) echo sqlite ;;
    dnf:shellcheck | zypper:shellcheck) echo ShellCheck ;;
    dnf:iproute2) echo iproute ;;
    dnf:procps | pacman:procps) echo procps-ng ;;
    dnf:dbus) echo dbus-daemon ;;
    zypper:dbus) echo dbus-1 ;;
    pacman:openssh-server) echo openssh ;;
    *) echo "$2" ;;
  esac
}

# install_line MANAGER prints the beginning of the line that installs packages.
install_line() {
  case $1 in
    apt-get) echo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends ;;
    dnf) echo dnf install -y --setopt=install_weak_deps=False ;;
    pacman) echo pacman -S --needed --noconfirm ;;
    zypper) echo zypper --non-interactive install --no-recommends ;;
  esac
}

# install_packages PACKAGE…: installs packages, named as Debian does, saying so first. It ends the script if it cannot.
install_packages() {
  local manager package line packages=()
  if ! manager=$(package_manager); then
    echo "hint: install them with your package manager; Debian calls the packages: $*" >&2
    exit 1
  fi
  for package in "$@"; do
    read -ra line < <(package_name "$manager" "$package")
    packages+=("${line[@]}")
  done
  read -ra line < <(install_line "$manager")
  if ! may_be_root; then
    echo "hint: run: sudo ${line[*]} ${packages[*]}" >&2
    exit 1
  fi
  echo "Installing with $manager: ${packages[*]}"
  # Lists that cannot be brought up to date may still be good enough.
  [[ $manager != apt-get ]] || as_root apt-get update -qq || true
  if ! as_root "${line[@]}" "${packages[@]}"; then
    echo "hint: that failed; mend it and run: sudo ${line[*]} ${packages[*]}" >&2
    exit 1
  fi
}

# need_commands COMMAND:PACKAGE…: makes sure that commands are there. Packages are named as Debian does.
need_commands() {
  local pair missing=() packages=()
  for pair in "$@"; do
    has "${pair%%:*}" && continue
    missing+=("${pair%%:*}")
    [[ " ${packages[*]} " == *" ${pair#*:} "* ]] || packages+=("${pair#*:}")
  done
  [[ ${#missing[@]} -gt 0 ]] || return 0
  echo "Not on this machine: ${missing[*]}"
  install_packages "${packages[@]}"
  hash -r
  for pair in "${missing[@]}"; do
    has "$pair" || { echo "$pair is still missing after the installation" >&2; exit 1; }
  done
}

# need_c_compiler: there is a C compiler with a C library to link statically.
need_c_compiler() {
  need_commands cc:gcc
  [[ $(cc -print-file-name=libc.a) != libc.a && $(cc -print-file-name=crt1.o) != crt1.o ]] && return
  echo "Not on this machine: the C library's headers and libc.a"
  install_packages libc6-dev
}

# unpack_packages FOLDER PACKAGE…: unpacks packages of Debian's to FOLDER, since installing a server would start it.
unpack_packages() {
  local folder=$1 package
  shift
  if ! has apt-get; then
    echo "hint: this needs packages of Debian's, which it does not install: $*" >&2
    return 1
  fi
  echo "Unpacking to $folder, not installing: $*" >&2
  mkdir -p "$folder"
  (cd "$folder" && { apt-get download -qq "$@" || { as_root apt-get update -qq && apt-get download -qq "$@"; }; }) >&2 || {
    echo "hint: that failed; the line was: apt-get download $*" >&2
    return 1
  }
  for package in "$folder"/*.deb; do dpkg -x "$package" "$folder"; done
}

# unpack_server COMMAND FOLDER PACKAGE…: makes sure that a server program of others is there for tests: the installed one,
# or one unpacked to FOLDER. Prints the program's path.
unpack_server() {
  local command=$1 folder=$2
  shift 2
  if PATH=$PATH:/usr/sbin:/sbin command -v "$command"; then return; fi
  if [[ ! -x $folder/usr/sbin/$command ]]; then
    if ! has apt-get; then
      echo "Not on this machine: $command" >&2
      echo "hint: install it; Debian calls the packages: $*" >&2
      return 1
    fi
    unpack_packages "$folder" "$@"
  fi
  echo "$folder/usr/sbin/$command"
}

# need_php makes sure of a php-fpm for tests: an installed one, or one of Debian's unpacked to .dev/php, where nothing starts it.
need_php() {
  local package program
  if compgen -G '/usr/sbin/php-fpm*' >/dev/null || compgen -G '/usr/local/sbin/php-fpm*' >/dev/null; then return; fi
  if [[ $(package_manager) != apt-get ]]; then
    need_commands php-fpm:php-fpm
    return
  fi
  if ! compgen -G "$PWD/.dev/php/usr/sbin/php-fpm*" >/dev/null; then
    # The package without a version has nothing but the name of the one with.
    package=$(apt-cache depends php-fpm | sed -n 's/.*Depends: \(php[0-9.]*-fpm\)$/\1/p')
    if [[ -z $package ]]; then
      as_root apt-get update -qq || true
      package=$(apt-cache depends php-fpm | sed -n 's/.*Depends: \(php[0-9.]*-fpm\)$/\1/p')
    fi
    unpack_packages "$PWD/.dev/php" "${package:-php-fpm}"
  fi
  program=$(compgen -G "$PWD/.dev/php/usr/sbin/php-fpm*") || { echo "hint: php-fpm was not unpacked; run: apt-get install php-fpm" >&2; return 1; }
  # The command line's program has the same libraries, and no service.
  ! ldd "$program" | grep -q 'not found' || install_packages php-cli libapparmor1 libacl1
}

# php_program prints the path of the php-fpm that need_php has made sure of.
php_program() {
  local found
  found=$(compgen -G '/usr/sbin/php-fpm*' || compgen -G '/usr/local/sbin/php-fpm*' || compgen -G "$PWD/.dev/php/usr/sbin/php-fpm*")
  echo "${found%%$'\n'*}"
}

# php_application unpacks an application of Debian's in PHP, with the php-fpm and the modules that it wants, and prints the folder.
php_application() {
  local program version folder=$PWD/.dev/adminer
  program=$(php_program)
  version=${program##*php-fpm}
  [[ -n $version ]] || version=$(apt-cache depends php-fpm | sed -n 's/.*Depends: php\([0-9.]*\)-fpm$/\1/p')
  [[ -f $folder/usr/share/adminer/adminer.php ]] || unpack_packages "$folder" adminer "php$version-fpm" "php$version-common" "php$version-sqlite3"
  echo "$folder"
}
