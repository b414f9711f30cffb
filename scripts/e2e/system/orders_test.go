package system

import (
	"strconv"
	"strings"
	"testing"
	"time"
)

// tlsTarget starts a TLS server that answers each line with its characters in reverse, and has raw.test passed through to it.
func (m *machine) tlsTarget() {
	m.t.Helper()
	m.Run("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=raw.test -keyout /tmp/raw.key -out /tmp/raw.crt 2>/dev/null")
	m.Start(nil, "openssl", "s_server", "-accept", "127.0.0.1:9443", "-cert", "/tmp/raw.crt", "-key", "/tmp/raw.key", "-rev")
	m.Eventually(10*time.Second, "target", func() bool {
		_, err := m.Try("timeout 1 bash -c '</dev/tcp/127.0.0.1/9443'")
		return err == nil
	})
	m.Run("/opt/cutover/cutover upstreams set raw https://127.0.0.1:9443 && /opt/cutover/cutover rules set raw.test --v2 raw --percent 100 && " +
		"/opt/cutover/cutover hosts set raw.test --tls passthrough")
}

// holdTunnel opens a stream through the worker of the moment, which lives on for it when it is replaced.
func (m *machine) holdTunnel() {
	m.t.Helper()
	m.Run("nohup bash -c 'sleep 600 | openssl s_client -quiet -no_ign_eof -servername raw.test -connect 127.0.0.1:443' >/dev/null 2>&1 &")
	m.Eventually(20*time.Second, "a tunnel", func() bool {
		return m.Run("/opt/cutover/cutover status -o json | jq .connections.tunnels") == "1"
	})
}

// An order that fails takes a while. What was there before a restart, and lives on for its connections, must know of it as
// well as what comes after, and so must whoever comes after a kill in the middle of it.
func TestRestartsInTheMiddleOfAFailingOrderMakeNoMoreOrders(t *testing.T) {
	m := install(t)
	directory := m.startPebble("-broken", "broken.test")
	m.configure("probation = \"1s\"\n[acme]\ndirectory = \"" + directory + "\"\nroot = \"/etc/pebble-root.pem\"\norders_per_name = 100\n")
	m.tlsTarget()
	m.Run("/opt/cutover/cutover rules set broken.test && systemctl stop cutover.service && systemctl start cutover.service") // nobody lives on with another configuration
	orders := func() int {
		n, err := strconv.Atoi(m.Run("curl -sS --cacert /etc/pebble-root.pem " + strings.TrimSuffix(directory, "/dir") + "/count"))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	began, before := time.Now(), 0
	for round := range 6 {
		m.holdTunnel()
		m.Run("rm -f /tmp/visited; nohup bash -c 'curl -s --max-time 60 --resolve broken.test:443:127.0.0.1 https://broken.test/; echo >/tmp/visited' >/dev/null 2>&1 &")
		m.Eventually(time.Minute, "an order, or a refusal", func() bool {
			_, err := m.Try("[ -e /tmp/visited ]")
			return err == nil || orders() > before
		})
		before = orders()
		t.Logf("round %d: %d orders after %v", round, before, time.Since(began).Round(time.Second))
		if round%2 == 0 {
			m.Run("kill -KILL " + m.workerPID())
			m.expectServing("v1")
		} else {
			m.Run("systemctl restart cutover.service")
		}
	}
	if m.older() == "0" {
		t.Error("no older process is left, which was to be seen to keep still")
	}
	if got, most := orders(), attemptsWithin(time.Since(began)); got == 0 || got > most {
		t.Errorf("%d orders in %v, want at most %d", got, time.Since(began).Round(time.Second), most)
	}
}

// attemptsWithin returns how many attempts a name that fails may have had: each is one order, the second comes after a minute, and
// each further one after ten at the soonest; all may come a fifth earlier.
func attemptsWithin(span time.Duration) int {
	attempts := 1
	for next := time.Minute; next*4/5 <= span; next += 10 * time.Minute {
		attempts++
	}
	return attempts
}
