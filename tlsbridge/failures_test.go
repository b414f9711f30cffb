package tlsbridge

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestStreamsThatFailAreCountedEachAndSaidOnceAMinuteForEachHostAndReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		counted := map[string]int{}
		p := &Passthrough{Log: slog.New(slog.NewTextHandler(&log, nil)), OnResult: func(result string) { counted[result]++ }}
		fail := func(host string, reason string) {
			c, other := net.Pipe()
			p.failed(Stream{Conn: c, ServerName: host}, reason, errLoop)
			_, _ = c.Close(), other.Close()
		}
		for range 100 {
			fail("a.test", "dial")
			fail("a.test", "loop")
			time.Sleep(100 * time.Millisecond)
		}
		fail("b.test", "dial")
		if got := strings.Count(log.String(), "\n"); got != 3 || !strings.Contains(log.String(), "host=b.test") || !strings.Contains(log.String(), "others=99") {
			t.Errorf("%d lines:\n%s", got, log.String())
		}
		time.Sleep(time.Minute)
		fail("a.test", "dial")
		if got := strings.Count(log.String(), "\n"); got != 4 {
			t.Errorf("%d lines a minute later:\n%s", got, log.String())
		}
		if counted["dial"] != 102 || counted["loop"] != 100 {
			t.Errorf("counted %v", counted)
		}
	})
}

func TestStreamsThatFailForManyHostsAreSaidOnceASecondAndFillNoMemory(t *testing.T) {
	var f failures
	said, most := 0, 0
	now := time.Now()
	for i := range 20_000 {
		if _, say := f.say(fmt.Sprintf("%d.test", i), "dial", now); say {
			said++
		}
		most = max(most, len(f.hosts))
		now = now.Add(10 * time.Millisecond)
	}
	if said != 200 || most > 60 {
		t.Errorf("%d lines in 200 seconds, %d hosts are remembered", said, most)
	}
}
