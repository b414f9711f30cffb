package admin

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

func TestStatusWithoutADaemonSaysSo(t *testing.T) {
	client := tester(t, &Server{Version: "1"})
	status, err := client.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if status.Running || status.Ready || status.PID != 0 || status.NotReady == "" {
		t.Errorf("got %+v", status)
	}
	if len(status.Upstreams) != 2 || status.Upstreams[0].Name != "v1" {
		t.Errorf("upstreams as the rows have them: %+v", status.Upstreams)
	}
}

func TestStatusCountsWhatIsInForce(t *testing.T) {
	client := tester(t, &Server{})
	mustEdit(t, client, rule(map[string]any{"host": "a.example.com"}), rule(map[string]any{"host": "b.example.com"}))
	status, err := client.Status(t.Context())
	if err != nil || status.Rules.Counts.Rules != 2 || status.Rules.Default != "v1" || status.Rules.LastEdit.IsZero() {
		t.Errorf("got %+v, %v", status.Rules, err)
	}
}

func TestStatusIsBounded(t *testing.T) {
	parts := Parts{StartedAt: time.Now().Add(-time.Hour), Certificates: &CertificateStatus{}}
	for i := range 250 {
		parts.Certificates.BackedOff = append(parts.Certificates.BackedOff, BackedOffStatus{Name: fmt.Sprintf("h%d.example.com", i)})
		parts.Upstreams = append(parts.Upstreams, UpstreamStatus{Name: fmt.Sprint("u", i)})
	}
	client := tester(t, &Server{Status: func() Parts { return parts }, Ready: func() error { return errors.New("draining") }})
	status, err := client.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(status.Certificates.BackedOff) != 100 || status.Certificates.BackedOffTotal != 250 || len(status.Upstreams) != 100 {
		t.Errorf("got %d of %d names, %d upstreams", len(status.Certificates.BackedOff), status.Certificates.BackedOffTotal, len(status.Upstreams))
	}
	if !status.Running || status.Ready || status.NotReady != "draining" || status.UptimeSeconds < 3600 || status.PID == 0 {
		t.Errorf("got %+v", status)
	}
}
