# shellcheck shell=bash
# Runs go test so that a person sees a line for each package and everything about a failure, and so that tests are counted;
# sourced by test.sh, which sets $work to a folder for the records.

# run_tests FOLDER ARG…: go test in a module. With verbose=1 there is a line for each test. Fails if a test was skipped.
run_tests() {
  local folder=$1 code=0 record
  shift
  record=$(mktemp "${work:?}/tests.XXXXXX")
  go test -C "$folder" -json "$@" | tee "$record" | jq -Rrj --unbuffered --arg verbose "${verbose:-}" '
    fromjson? |
    if .Action == "build-output" then .Output
    elif .Action == "output" and .Test == null and (.Output | test("^(ok  |FAIL)\t")) then .Output
    elif $verbose != "" and .Test != null and (.Test | contains("/") | not) and (.Action == "pass" or .Action == "fail")
      then "--- \(.Action | ascii_upcase): \(.Test) (\(.Elapsed)s)\n"
    else empty end' || code=$?
  if [[ $code != 0 ]]; then
    failures "$record"
    return "$code"
  fi
  if [[ $(count skip "$record") != 0 ]]; then
    jq -Rr 'fromjson? | select(.Action == "skip" and .Test != null) | "skipped: \(.Package) \(.Test)"' "$record"
    echo "test: a test that is skipped tests nothing" >&2
    return 1
  fi
}

# failures RECORD prints all that the failed tests and packages said.
failures() {
  jq -Rrj '[inputs | fromjson?] as $all
    | ([$all[] | select(.Action == "fail") | {key: "\(.Package) \(.Test // "")", value: true}] | from_entries) as $failed
    | $all[] | select(.Action == "output" and $failed["\(.Package) \(.Test // "")"]) | .Output' -n "$1"
}

# count ACTION RECORD… counts tests that ended so.
count() {
  local action=$1
  shift
  cat "$@" | jq -Rrn --arg action "$action" '[inputs | fromjson? | select(.Action == $action and .Test != null)] | length'
}

# unchecked prints what tests said that they could not check here.
unchecked() {
  local records=("${work:?}"/tests.*)
  [[ -e ${records[0]} ]] || return 0
  cat "${records[@]}" | jq -Rr 'fromjson? | select(.Action == "output") | .Output | capture("(?<what>NOT CHECKED: .*)").what' | sort -u
}

# summary prints how many tests all runs came to.
summary() {
  local records=("${work:?}"/tests.*)
  [[ -e ${records[0]} ]] || return 0
  echo "tests: $(count pass "${records[@]}") passed, $(count fail "${records[@]}") failed, $(count skip "${records[@]}") skipped"
}
