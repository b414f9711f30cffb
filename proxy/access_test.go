package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"cutover/rules"
)

// lastLine waits for an access line and returns it decoded.
func (s *site) lastLine(t *testing.T) map[string]any {
	t.Helper()
	eventually(t, "an access line", func() bool { return strings.HasSuffix(s.lines.String(), "\n") })
	text := strings.TrimSpace(s.lines.String())
	line := map[string]any{}
	if err := json.Unmarshal([]byte(text[strings.LastIndexByte(text, '\n')+1:]), &line); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return line
}

func TestTheLineOfASplitSaysTheBucketAndTheBytes(t *testing.T) {
	s := newSite(t, says("version one"), says("version two"), func(s *site) { s.addRule("a.test", 50) })
	s.raw(t, "POST /p%2Fq HTTP/1.1\nHost: a.test\nConnection: close\nContent-Length: 4\n\nbody")
	line := s.lastLine(t)
	for name, want := range map[string]any{
		"msg": "request", "method": "POST", "host": "a.test", "path": "/p%2Fq", "proto": "HTTP/1.1", "tls": false, "status": 200.0, "client": "127.0.0.1",
		"bytes_out": 11.0, "reason": "split", "rule": 1.0,
	} {
		if line[name] != want {
			t.Errorf("%s is %v, want %v", name, line[name], want)
		}
	}
	bucket, ok := line["bucket"].(float64)
	if !ok || (bucket < 5000) != (line["version"] == "v2") || line["upstream"] != line["version"] {
		t.Errorf("bucket %v with version %v of upstream %v", line["bucket"], line["version"], line["upstream"])
	}
	if waited, total := line["upstream_seconds"].(float64), line["seconds"].(float64); waited <= 0 || total < waited {
		t.Errorf("%v s until the header, %v s in all", waited, total)
	}
	if at, err := time.Parse(time.RFC3339, line["time"].(string)); err != nil || time.Since(at) > time.Minute {
		t.Errorf("time %v", line["time"])
	}
}

func TestTheLineCountsWhatWasUploaded(t *testing.T) {
	s := newSite(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }), nil, nil)
	s.raw(t, "POST / HTTP/1.1\nHost: a.test\nConnection: close\nTransfer-Encoding: chunked\n\n5\nhello\n0\n\n")
	if line := s.lastLine(t); line["bytes_in"] != 5.0 || line["bytes_out"] != 0.0 || line["reason"] != "default" {
		t.Errorf("%v", line)
	}
}

func TestTheLineOfARedirectNamesItAndNoUpstream(t *testing.T) {
	s := newSite(t, nil, nil, func(s *site) {
		s.rows.Redirects = []rules.Redirect{{ID: 7, Host: "a.test", Path: "/", Match: rules.KindPrefix, Status: 410, Enabled: true}}
	})
	s.get(t, "a.test", "/", nil)
	line := s.lastLine(t)
	if line["redirect"] != 7.0 || line["reason"] != "redirect" || line["status"] != 410.0 || line["upstream"] != nil || line["target"] != nil || line["bucket"] != nil {
		t.Errorf("%v", line)
	}
}

func TestTheLineOfAFailureSaysTheCause(t *testing.T) {
	s := newSite(t, nil, nil, nil)
	s.get(t, "a.test", "/", nil)
	if line := s.lastLine(t); line["status"] != 503.0 || !strings.Contains(line["error"].(string), "no target that is ready") {
		t.Errorf("%v", line)
	}
}

func TestWhatTheProcessAsksItselfGetsNoLineAndIsNotCounted(t *testing.T) {
	s := newSite(t, says("version one"), nil, nil)
	request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://a.test/self", nil)
	request.RemoteAddr = "pipe" // as net.Pipe says
	s.handler.ServeHTTP(httptest.NewRecorder(), request)
	s.get(t, "a.test", "/visitor", nil)
	if line := s.lastLine(t); line["path"] != "/visitor" || strings.Count(s.lines.String(), "\n") != 1 {
		t.Errorf("the log has %s", s.lines.String())
	}
	if got := s.handler.Metrics.Totals().Requests.Good; got != 1 {
		t.Errorf("%d requests are counted", got)
	}
}

func TestAVisitorCannotForgeALine(t *testing.T) {
	for _, text := range []bool{false, true} {
		s := newSite(t, says(""), nil, func(s *site) { s.handler.Access = NewAccessLog(s.lines, AccessOptions{Text: text}) })
		s.raw(t, "GET /%0Atime=x HTTP/1.1\nHost: a.test\nConnection: close\n\n")
		s.raw(t, "GET /\xe2\x80\xa8 HTTP/1.1\nHost: a.test\nConnection: close\n\n")
		eventually(t, "both lines", func() bool { return strings.Count(s.lines.String(), "\n") == 2 })
		if lines := s.lines.String(); strings.Count(lines, "msg") != 2 {
			t.Errorf("text %v:\n%s", text, lines)
		}
	}
}

func TestTextLinesAreKeysAndValues(t *testing.T) {
	s := newSite(t, says(""), nil, func(s *site) { s.handler.Access = NewAccessLog(s.lines, AccessOptions{Text: true}) })
	s.get(t, "a.test", "/", nil)
	eventually(t, "the line", func() bool {
		return strings.Contains(s.lines.String(), " msg=request ") && strings.Contains(s.lines.String(), " host=a.test ")
	})
}

func TestLinesThatAreLeftAreWrittenAtTheEnd(t *testing.T) {
	var out lockedBuffer
	a := NewAccessLog(&out, AccessOptions{})
	a.lines.Info("one")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.Run(ctx); err != nil || !strings.Contains(out.String(), `"msg":"one"`) {
		t.Errorf("%v, %q", err, out.String())
	}
}

func TestLinesThatNobodyReadsAreCountedNotKept(t *testing.T) {
	var out bytes.Buffer
	a := NewAccessLog(&out, AccessOptions{})
	long := strings.Repeat("x", 64<<10)
	for range 100 {
		a.lines.Info(long)
	}
	if size := a.pending.Len(); size > abandonAt+70<<10 {
		t.Errorf("%d bytes are kept", size)
	}
	spare := &bytes.Buffer{}
	a.flush(spare)
	kept := strings.Count(out.String(), `"msg":"xxx`)
	if kept == 0 || kept == 100 || !strings.Contains(out.String(), `"lines":`) {
		t.Errorf("%d lines were kept, and the rest is not told", kept)
	}
	out.Reset()
	a.lines.Info("again")
	a.flush(spare)
	if !strings.Contains(out.String(), "again") || strings.Contains(out.String(), "lost") {
		t.Errorf("after that: %q", out.String())
	}
}

func TestAFullBufferIsWrittenAtOnce(t *testing.T) {
	a := NewAccessLog(io.Discard, AccessOptions{})
	a.lines.Info(strings.Repeat("x", flushAt))
	select {
	case <-a.full:
	default:
		t.Error("Run is not woken")
	}
}

func TestSamplingKeepsTheShareThatWasAskedFor(t *testing.T) {
	a := NewAccessLog(io.Discard, AccessOptions{Sample: 0.25})
	kept := 0
	for range 40_000 {
		if a.wants(http.StatusOK) {
			kept++
		}
	}
	if kept < 9_000 || kept > 11_000 { // 10 standard deviations are 866
		t.Errorf("%d of 40,000", kept)
	}
}
