package system

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"testing"
	"time"
)

// underLoad runs work while clients ask without pause, and returns what they saw.
func (m *machine) underLoad(work func()) *report {
	m.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	command := m.Command(ctx, "env", "E2E_LOAD=600", tools+"/service")
	var output bytes.Buffer
	command.Stdout, command.Stderr = &output, os.Stderr
	input, err := command.StdinPipe()
	if err != nil {
		m.t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.moreRequests()
	work()
	m.moreRequests()
	if err := input.Close(); err != nil {
		m.t.Fatal(err)
	}
	if err := command.Wait(); err != nil {
		m.t.Fatalf("the load generator: %v", err)
	}
	r := &report{}
	if err := json.Unmarshal(output.Bytes(), r); err != nil {
		m.t.Fatalf("%v in %q", err, output.String())
	}
	return r
}

// moreRequests waits until the running process has answered some more.
func (m *machine) moreRequests() {
	m.t.Helper()
	before := m.served()
	m.Eventually(20*time.Second, "requests under load", func() bool { return m.served() > before+50 })
}

// served counts the requests that the running process has answered.
func (m *machine) served() int {
	output, err := m.Try(`curl -s --unix-socket /run/cutover/admin.sock http://admin/metrics | awk '/^cutover_requests_total/{n+=$2} END{print n+0}'`)
	if err != nil {
		return 0
	}
	var n int
	_, _ = fmt.Sscan(output, &n) // what is no number counts as none
	return n
}

func (r *report) expectNoFailure(t *testing.T) {
	t.Helper()
	total := 0
	for kind, n := range r.Requests {
		total += n
		if n < 50 {
			t.Errorf("only %d requests by %s: that is no load", n, kind)
		}
	}
	t.Logf("%d requests %v, %d failed, slowest %v", total, r.Requests, r.Failures, r.Slowest)
	if r.Failures > 0 {
		t.Errorf("%d of %d requests failed, such as:", r.Failures, total)
	}
	for _, failure := range r.Failed {
		t.Error(failure)
	}
}

// withHTTPS lets the local CA issue for the host of the load.
func (m *machine) withHTTPS() {
	m.t.Helper()
	m.configure("[acme]\nissuer = \"local\"\n")
	m.Run("/opt/cutover/cutover rules set shop.test && systemctl restart cutover.service")
	m.get("--cacert /var/lib/cutover/certs/local/root.pem https://shop.test/")
}
