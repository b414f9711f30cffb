# shellcheck shell=bash
# Which Go there is, and which Go modules the project has; sourced by the scripts, in the project's top folder.

# SQLite without statistics of its own memory, which nobody reads: to count takes a lock for each piece, a third of the time
# of a scan. The rest is what Go gives the C compiler by itself.
export CGO_CFLAGS=${CGO_CFLAGS:--O2 -g -DSQLITE_DEFAULT_MEMSTATUS=0}

# Go before 1.26.9 has a fault by which any HTTP/2 client can crash a server.
least_go=1.26.9

# go_is_least: the Go that 'go' stands for is new enough for a release.
go_is_least() {
  local version
  version=$(go env GOVERSION 2>/dev/null) || return 1
  [[ $(printf '%s\n%s\n' "$least_go" "${version#go}" | sort -V | head -n 1) == "$least_go" ]]
}

# use_release_go makes 'go' one that a release may be built with; Go fetches it by itself. False if it cannot.
use_release_go() {
  go_is_least && return
  export GOTOOLCHAIN=go$least_go+auto
  go_is_least && return
  unset GOTOOLCHAIN
  return 1
}

# need_go: there is a Go that can build the project. Distributions have older ones, so it is not installed for you.
need_go() {
  if command -v go >/dev/null && go version >/dev/null 2>&1 && go list -f '{{.Name}}' ./cmd/cutover >/dev/null 2>&1; then
    return
  fi
  if command -v go >/dev/null; then
    echo "The Go here, $(go env GOVERSION 2>/dev/null || command -v go), cannot build this project:" >&2
    go list ./cmd/cutover 2>&1 >/dev/null | head -n 3 >&2 || true
  else
    echo "Not on this machine: go" >&2
    [[ ! -x /usr/local/go/bin/go ]] || echo "hint: it is in /usr/local/go/bin; run: export PATH=\$PATH:/usr/local/go/bin" >&2
  fi
  echo "hint: install Go $least_go or newer: https://go.dev/dl" >&2
  exit 1
}

# go_modules prints the folder of each Go module, the product's first. The tools' module holds no code.
go_modules() {
  git ls-files --cached --others --exclude-standard go.mod '*/go.mod' | grep -v '^scripts/tools/' | xargs -n 1 dirname
}
