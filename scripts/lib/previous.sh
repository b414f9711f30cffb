# shellcheck shell=bash
# The build before this one, which takeovers are tested against; sourced by test.sh, after go.sh, in the project's top folder.

# previous_commit prints what the build before this one was made of: the newest tag, or else the newest commit before the last
# one that changed what is built. False where history does not tell.
previous_commit() {
  local built=(go.mod go.sum cmd proxy rules systemd tlsbridge ':!*_test.go') skip=1
  git rev-parse --verify --quiet 'HEAD^{commit}' >/dev/null || return
  git rev-list -n 1 "$(git describe --tags --abbrev=0 'HEAD^' 2>/dev/null)" -- 2>/dev/null && return
  [[ -z $(git status --porcelain -- "${built[@]}") ]] || skip=0 # then HEAD itself is the one before
  git rev-list --first-parent --max-count=1 --skip=$skip HEAD -- "${built[@]}" | grep .
}

# previous_build prints the path of the build before this one, which it makes in .dev/previous unless it is there. False if
# there is none to be had; it has said why.
previous_build() {
  local commit folder
  commit=$(previous_commit) || { echo "history does not tell of an earlier build; is this a shallow clone?" >&2; return 1; }
  folder=$PWD/.dev/previous/$commit
  if [[ ! -s $folder/built ]]; then
    rm -rf "$PWD/.dev/previous"
    mkdir -p "$folder"
    git archive "$commit" | tar -x -C "$folder" || return
    # The same Go as this build's: what has not changed is not compiled again. Its git must not take this folder for its own.
    (use_release_go || true; GIT_CEILING_DIRECTORIES=$PWD/.dev/previous "$folder/scripts/build.sh" --dev) >"$folder/path" || return
    mv "$folder/path" "$folder/built"
  fi
  cat "$folder/built"
}
