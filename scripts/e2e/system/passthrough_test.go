package system

import (
	"testing"
	"time"
)

// A TLS stream that is passed on is its target's: a restart of Cutover must not cut it.
func TestAStreamThatIsPassedOnOutlivesRestartsWhileOthersAreServedHere(t *testing.T) {
	m := withProbation(t, "1s")
	m.tlsTarget()
	m.Eventually(time.Minute, "two processes", func() bool { return m.processes() == "2" })
	m.Run("nohup bash -c '{ for n in $(seq 100 220); do echo $n; sleep 0.1; done; sleep 1; } | openssl s_client -quiet -no_ign_eof " +
		"-CAfile /tmp/raw.crt -verify_return_error -servername raw.test -connect 127.0.0.1:443 >/tmp/stream 2>/tmp/stream.err' >/dev/null 2>&1 &")
	m.Eventually(10*time.Second, "first answer", func() bool {
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
	m.Eventually(time.Minute, "end of the older processes", func() bool { return m.processes() == "2" })
}
