package main

import (
	"fmt"
	"slices"
	"strings"

	"cutover/scripts/e2e/box"
)

// subject is a program whose replacement under load is measured: cutover, or another for the table in docs/.
type subject struct {
	name    string
	unit    string // systemd's
	replace string // the shell line that an operator types
	root    string // PEM file that trusts its certificate
	program string // below the folder of the other programs; empty for cutover
	files   map[string]string
}

const (
	otherRoot = "/etc/other/cert.pem" // self-signed
	otherKey  = "/etc/other/key.pem"
)

// subjects lists what can be measured. The others are set up for what their manuals call a change without interruption, with
// session tickets that outlive it, unbuffered bodies, and no limits on the length of a connection.
func subjects() []subject {
	nginx := map[string]string{"/etc/other/nginx.conf": nginxConfig, "/etc/systemd/system/nginx.service": nginxUnit}
	haproxy := map[string]string{"/etc/other/haproxy.cfg": haproxyConfig, "/etc/systemd/system/haproxy.service": haproxyUnit}
	caddy := map[string]string{"/etc/other/Caddyfile": caddyConfig, "/etc/systemd/system/caddy.service": caddyUnit}
	return []subject{
		{name: "cutover", unit: "cutover.service", replace: "systemctl restart cutover.service", root: "/var/lib/cutover/certs/local/root.pem"},
		{name: "nginx-reload", unit: "nginx.service", replace: "systemctl reload nginx.service", root: otherRoot, program: "usr/sbin/nginx", files: nginx},
		{name: "nginx-upgrade", unit: "nginx.service", replace: nginxUpgrade, root: otherRoot, program: "usr/sbin/nginx", files: nginx},
		{name: "haproxy-reload", unit: "haproxy.service", replace: "systemctl reload haproxy.service", root: otherRoot, program: "usr/sbin/haproxy", files: haproxy},
		{name: "caddy-restart", unit: "caddy.service", replace: "systemctl restart caddy.service", root: otherRoot, program: "usr/bin/caddy", files: caddy},
	}
}

func findSubject(name string) (subject, error) {
	all := subjects()
	i := slices.IndexFunc(all, func(s subject) bool { return s.name == name })
	if i < 0 {
		return subject{}, fmt.Errorf("there is no subject %q", name)
	}
	return all[i], nil
}

// isCutover: it has edits, a status and an installer of its own.
func (s *subject) isCutover() bool { return s.program == "" }

// installOther starts a subject that is not cutover. others is the folder where its package was unpacked.
func (s *subject) installOther(b *box.Box, others string) {
	b.Run("mkdir -p /etc/other /var/lib/nginx /var/log/nginx && cd /etc/other && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 " +
		"-subj /CN=" + loadHost + " -addext subjectAltName=DNS:" + loadHost + " -keyout key.pem -out cert.pem 2>/dev/null && " +
		"cat cert.pem key.pem >both.pem && openssl rand 80 >ticket.key && for i in 1 2 3; do openssl rand -base64 48; done >tickets && chmod 0644 *")
	for path, text := range s.files {
		text = strings.NewReplacer("PROGRAM", others+"/"+s.program, "LIBRARIES", others+"/usr/lib/x86_64-linux-gnu", "HOST", loadHost).Replace(text)
		b.Run("mkdir -p $(dirname " + path + ") && cat >" + path + " <<'END'\n" + text + "END")
	}
	b.Run("mkdir -p /var/lib/caddy && systemctl daemon-reload && { systemctl start " + s.unit + " || { journalctl --no-pager -n 20 -u " + s.unit + "; exit 1; }; }")
}

const nginxConfig = `user nobody nogroup;
worker_processes 2;
pid /run/nginx.pid;
error_log stderr;
events { worker_connections 8192; }
http {
  access_log off;
  client_max_body_size 0;
  keepalive_requests 100000000;
  map $http_upgrade $upgrade { default upgrade; '' ''; }
  ssl_session_ticket_key /etc/other/ticket.key;
  ssl_session_cache shared:tls:10m;
  upstream v1 { server 127.0.0.1:9001; keepalive 64; }
  server {
    listen 80 backlog=4096;
    listen 443 ssl http2 backlog=4096;
    ssl_certificate /etc/other/cert.pem;
    ssl_certificate_key /etc/other/key.pem;
    location / {
      proxy_pass http://v1;
      proxy_http_version 1.1;
      proxy_set_header Host $host;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $upgrade;
      proxy_request_buffering off;
      proxy_buffering off;
    }
  }
}
`

const nginxUnit = `[Service]
Type=forking
PIDFile=/run/nginx.pid
ExecStart=PROGRAM -c /etc/other/nginx.conf
ExecReload=/bin/sh -c 'kill -HUP $(cat /run/nginx.pid)'
KillMode=mixed
`

// nginxUpgrade is what nginx's manual says ("Upgrading Executable on the Fly"), each step waited for. A master whose predecessor
// is still its parent ignores the signal: so the one before has to be gone first, with all that it held.
const nginxUpgrade = `await() {
  i=0
  until eval "$1"; do
    i=$((i + 1)); [ $i -lt 1200 ] || { echo "nginx: in vain: $1"; exit 1; }
    sleep 0.05
  done
}
old=$(cat /run/nginx.pid)
await '[ $(cut -d " " -f 4 /proc/$old/stat) = 1 ] && [ ! -e /run/nginx.pid.oldbin ]'
kill -USR2 $old
await '[ -s /run/nginx.pid ] && [ $(cat /run/nginx.pid) != $old ]'
new=$(cat /run/nginx.pid)
await '[ $(pgrep -c -P $new -f "^nginx: worker process") = 2 ]' # so they are called once they accept
kill -WINCH $old
await '! pgrep -P $old -f "^nginx: worker process$" >/dev/null' # what is left is shutting down
kill -QUIT $old
`

const haproxyConfig = `global
  stats socket /run/haproxy.sock mode 600 level admin expose-fd listeners
  maxconn 8192
defaults
  mode http
  option http-no-delay
  timeout connect 60s
  timeout client 120s
  timeout server 120s
  timeout tunnel 1h
frontend f
  bind :80 backlog 4096
  bind :443 backlog 4096 ssl crt /etc/other/both.pem alpn h2,http/1.1 tls-ticket-keys /etc/other/tickets
  default_backend b
backend b
  server v1 127.0.0.1:9001
`

const haproxyUnit = `[Service]
Type=notify
Environment=LD_LIBRARY_PATH=LIBRARIES
ExecStart=PROGRAM -Ws -f /etc/other/haproxy.cfg -p /run/haproxy.pid
ExecReload=/bin/kill -USR2 $MAINPID
KillMode=mixed
LimitNOFILE=65536
`

const caddyConfig = `{
  admin off
  auto_https off
}
(site) {
  reverse_proxy 127.0.0.1:9001 {
    flush_interval -1
  }
}
http://HOST {
  import site
}
https://HOST {
  tls /etc/other/cert.pem /etc/other/key.pem
  import site
}
`

// caddyUnit is that of Caddy's own packages, as far as it concerns a restart.
const caddyUnit = `[Service]
Type=notify
Environment=HOME=/var/lib/caddy
ExecStart=PROGRAM run --config /etc/other/Caddyfile --adapter caddyfile
TimeoutStopSec=5s
LimitNOFILE=1048576
`
