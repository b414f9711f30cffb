package main

import (
	"bytes"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cutover/proxy/metrics"
)

func TestARefusalIsCountedEachTimeAndLoggedOnceASecondForEachReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lines bytes.Buffer
		counted := metrics.New()
		r := newRefusals(counted, slog.New(slog.NewTextHandler(&lines, nil)))
		client := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}
		for range 5 {
			r.count("connections", client)
			r.count("h2_resets", nil)
		}
		time.Sleep(time.Second)
		r.count("connections", client)
		if got := strings.Count(lines.String(), "\n"); got != 3 || !strings.Contains(lines.String(), "client=192.0.2.1:1 others=4") {
			t.Errorf("%d lines:\n%s", got, lines.String())
		}
		if totals := counted.Totals().Refused; totals["connections"] != 6 || totals["h2_resets"] != 5 {
			t.Errorf("counted %v", totals)
		}
	})
}
