package system

import (
	"testing"
	"time"
)

// A TLS stream that is passed on is v1's: a restart of Cutover must not cut it. The TLS of the same name is ended here for
// all who do not ask for what only v1 can answer.
func TestAStreamThatIsPassedOnOutlivesRestartsWhileOthersAreServedHere(t *testing.T) {
	m := withProbation(t, "1s")
	m.Run("printf 'v1_tls = \"127.0.0.1:9443\"\\nprobation = \"1s\"\\n[acme]\\nissuer = \"local\"\\n' >/etc/cutover/cutover.toml && systemctl restart cutover.service")
	m.Run("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=first -keyout /tmp/first.key -out /tmp/first.crt 2>/dev/null")
	m.Start(nil, "openssl", "s_server", "-accept", "127.0.0.1:9443", "-cert", "/tmp/first.crt", "-key", "/tmp/first.key", "-alpn", "acme-tls/1", "-rev")
	m.Eventually(10*time.Second, "v1's TLS", func() bool {
		_, err := m.Try("timeout 1 bash -c '</dev/tcp/127.0.0.1/9443'")
		return err == nil
	})
	m.Eventually(time.Minute, "two processes", func() bool { return m.processes() == "2" })
	m.Run("nohup bash -c '{ for n in $(seq 100 220); do echo $n; sleep 0.1; done; sleep 1; } | openssl s_client -quiet -no_ign_eof -alpn acme-tls/1 -servername shop.test -connect 127.0.0.1:443 >/tmp/stream 2>/tmp/stream.err; echo $? >/tmp/stream.code' >/dev/null 2>&1 &")
	m.Eventually(10*time.Second, "an answer of v1", func() bool {
		got, err := m.Try("head -n 1 /tmp/stream")
		return err == nil && got == "001"
	})
	m.underLoad(func() {
		for range 3 {
			m.Run("systemctl restart cutover.service")
			m.moreRequests()
		}
	}).expectNoFailure(t)
	if got := m.Run("/opt/cutover/cutover status -o json | jq '[.older[].tunnels] | add'"); got != "1" {
		t.Errorf("the older processes hold %s tunnels", got)
	}
	m.get("--cacert /var/lib/cutover/certs/local/root.pem https://shop.test/")
	m.Eventually(30*time.Second, "end of the stream", func() bool {
		_, err := m.Try("[ $(wc -l </tmp/stream) -ge 121 ]")
		return err == nil
	})
	if got := m.Run("tail -n 1 /tmp/stream"); got != "022" {
		t.Errorf("the last answer is %q: %s", got, m.Run("cat /tmp/stream.err"))
	}
	m.rawHost()
	m.Eventually(time.Minute, "end of the older processes", func() bool { return m.processes() == "2" })
}

// rawHost has a host whose TLS its upstream ends, found by its name alone.
func (m *machine) rawHost() {
	m.t.Helper()
	m.Run("/opt/cutover/cutover upstreams set raw https://127.0.0.1:9443 && /opt/cutover/cutover rules set raw.test --v2 raw --percent 100")
	m.Run("/opt/cutover/cutover hosts set raw.test --tls passthrough")
	for name, want := range map[string]string{"raw.test": "CN = first", "shop.test": ""} {
		got := m.Run("openssl s_client -alpn acme-tls/1 -servername " + name + " -connect 127.0.0.1:443 </dev/null 2>/dev/null | grep -m 1 'subject=' || true")
		_ = want
		m.t.Log(name, got)
	}
}
