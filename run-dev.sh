#!/usr/bin/env bash
# The main job on your own machine, in one command: two demo services as v1 and v2, Cutover in front of them on
# sockets handed over by systemd-socket-activate, a local CA for https, and rules that you edit with sqlite3.
#
#   ./run-dev.sh           start, print what to try, rebuild and restart whenever a .go or .sql file is saved
#   ./run-dev.sh --fresh   the same with new rules, keys and certificates
#
# HTTP_PORT (8080), HTTPS_PORT (8443), V1_PORT (9001), V2_PORT (9002) and DEV_DIR (.dev, where all state is) may be set.
# Ctrl-C ends everything that it started.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

usage() { sed -n '2,9p' "${BASH_SOURCE[0]}" | cut -c3-; }
say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
fail() { printf 'run-dev: %s\n' "$1" >&2; [[ -z ${2:-} ]] || printf 'hint: %s\n' "$2" >&2; exit 1; }

http_port=${HTTP_PORT:-8080} https_port=${HTTPS_PORT:-8443} v1_port=${V1_PORT:-9001} v2_port=${V2_PORT:-9002}
dev_dir=${DEV_DIR:-.dev} host=shop.localhost
dev=$(realpath -m "$dev_dir")
case ${1:-} in
  '') ;;
  --fresh) rm -rf "$dev/state" ;;
  -h | --help) usage; exit 0 ;;
  *) usage >&2; exit 2 ;;
esac

# shellcheck source=scripts/lib/packages.sh
source scripts/lib/packages.sh
# shellcheck source=scripts/lib/go.sh
source scripts/lib/go.sh
need_commands go:golang cc:gcc systemd-socket-activate:systemd sqlite3:sqlite3 curl:curl

# --- build -----------------------------------------------------------------------------------------------------
mkdir -p "$dev/bin" "$dev/run"
say "Building (the first time takes a minute or two: SQLite is compiled)"
go build -o "$dev/bin/" ./cmd/cutover ./cmd/cutover-demo
go build -modfile=scripts/tools/go.mod -o "$dev/bin/reflex" github.com/cespare/reflex
mkdir -p "$dev/state" && chmod 0700 "$dev/state"

export CUTOVER_CONFIG=$dev/cutover.toml
cat >"$CUTOVER_CONFIG" <<TOML
# written by run-dev.sh at each start
state_dir = "$dev/state"
runtime_dir = "$dev/run"
log_format = "text"

[acme]
issuer = "local"
TOML
cutover() { "$dev/bin/cutover" "$@"; }

# --- start -----------------------------------------------------------------------------------------------------
children=()
# shellcheck disable=SC2317 # called by the trap
stop() {
  trap - EXIT INT TERM
  for child in "${children[@]}"; do kill -TERM "$child" 2>/dev/null || true; done
  wait
  say "Stopped. The state is kept in $dev_dir; ./run-dev.sh --fresh begins anew."
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

answers() { curl --silent --output /dev/null --max-time 2 "$1"; }
wait_for() { # URL WHAT LOG
  for _ in $(seq 100); do
    if answers "$1"; then return; fi
    sleep 0.1
  done
  [[ ! -s $3 ]] || tail -n 20 "$3" >&2
  fail "$2 did not answer at $1 within 10 seconds" "is the port taken? Set ${4} to another one"
}

for port in "$http_port" "$https_port" "$v1_port" "$v2_port"; do
  if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
    fail "something listens on 127.0.0.1:$port already" "end it, or set HTTP_PORT, HTTPS_PORT, V1_PORT or V2_PORT to a free one"
  fi
done

"$dev/bin/cutover-demo" -name v1 -listen "127.0.0.1:$v1_port" 2>"$dev/v1.log" & children+=($!)
"$dev/bin/cutover-demo" -name v2 -listen "127.0.0.1:$v2_port" 2>"$dev/v2.log" & children+=($!)
wait_for "http://127.0.0.1:$v1_port/" "the demo service v1" "$dev/v1.log" V1_PORT
wait_for "http://127.0.0.1:$v2_port/" "the demo service v2" "$dev/v2.log" V2_PORT

# Seed the rules once, with the same verbs that an operator types.
cutover upstreams set v1 "http://127.0.0.1:$v1_port" >/dev/null
cutover upstreams set v2 "http://127.0.0.1:$v2_port" >/dev/null
if [[ ! -e $dev/state/seeded ]]; then
  cutover rules set "$host" --percent 0 --note "the demo domain" >/dev/null
  cutover redirects set "$host/old" "http://$host:$http_port/new" --keep-path >/dev/null
  touch "$dev/state/seeded"
fi

# The sockets stay open in this process tree while reflex rebuilds and restarts what serves them, so that a request
# made meanwhile waits instead of failing. LISTEN_PID must name the process that serves, hence $$ just before exec.
cat >"$dev/serve.sh" <<SH
#!/usr/bin/env bash
set -euo pipefail
if ! go build -o "$dev/bin/cutover" ./cmd/cutover; then
  echo "run-dev: it does not build; the binary from before serves on" >&2
fi
exec env LISTEN_PID=\$\$ "$dev/bin/cutover" serve
SH
systemd-socket-activate --listen="127.0.0.1:$http_port" --listen="127.0.0.1:$https_port" --fdname=http:https \
  --setenv=PATH --setenv=HOME --setenv=GOFLAGS --setenv=GOPROXY --setenv=GOTOOLCHAIN --setenv=GOCACHE --setenv=GOMODCACHE --setenv=CGO_CFLAGS --setenv=CUTOVER_CONFIG \
  "$dev/bin/reflex" --decoration=none --start-service --shutdown-timeout=15s --regex='\.(go|sql)$' --inverse-regex='(^|/)\.dev/' \
  -- bash "$dev/serve.sh" >"$dev/cutover.log" 2>&1 </dev/null & children+=($!)
wait_for "http://127.0.0.1:$http_port/" "Cutover" "$dev/cutover.log" HTTP_PORT

# --- what to try -----------------------------------------------------------------------------------------------
say "Cutover runs. Try this in another terminal, in this folder:"
cat <<TRY

  # the demo domain is on v1
  curl http://$host:$http_port/

  # move it to v2 at the sqlite3 prompt; the next request obeys
  sqlite3 $dev_dir/state/rules.db "UPDATE rules SET percent = 100 WHERE host = '$host'"
  curl http://$host:$http_port/

  # 10 % of the visitors: each address of 127.0.0.0/8 is a visitor of its own here
  sqlite3 $dev_dir/state/rules.db "UPDATE rules SET percent = 10 WHERE host = '$host'"
  for i in \$(seq 100); do curl -s --interface 127.0.1.\$i http://$host:$http_port/; done | cut -c1-2 | sort | uniq -c

  # a visitor is known by a cookie from then on, wherever he comes from
  for i in \$(seq 100); do curl -s -c $dev_dir/jar --interface 127.0.1.\$i http://$host:$http_port/ | grep -q ^v2 && break; done
  for i in \$(seq 200 210); do curl -s -b $dev_dir/jar --interface 127.0.1.\$i http://$host:$http_port/; done

  # content that has moved
  curl -i "http://$host:$http_port/old/page?a=1"

  # https with a certificate from the local CA, made at the first handshake
  curl --cacert $dev_dir/state/certs/local/root.pem https://$host:$https_port/

  # nonsense is refused in plain words
  sqlite3 $dev_dir/state/rules.db "UPDATE rules SET percent = 'half' WHERE host = '$host'"

  # what Cutover would do, and why; how it is doing
  export CUTOVER_CONFIG=$CUTOVER_CONFIG PATH=$dev/bin:\$PATH
  cutover explain http://$host/
  cutover status

The log follows. Ctrl-C ends everything.

TRY
tail -n +1 -f "$dev/cutover.log" & children+=($!)
wait "${children[2]}"
