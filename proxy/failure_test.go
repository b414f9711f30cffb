package proxy

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"

	"cutover/rules"
)

// metricsText is what Prometheus would read.
func (s *site) metricsText(t *testing.T) string {
	t.Helper()
	w := httptest.NewRecorder()
	s.handler.Metrics.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
	return w.Body.String()
}

func TestAnUploadThatIsNonsenseIsTheVisitorsFault(t *testing.T) {
	s := newSite(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }), nil, nil)
	got := s.raw(t, "POST / HTTP/1.1\nHost: a.test\nConnection: close\nTransfer-Encoding: chunked\n\nzz\nbody\n0\n\n")
	if !strings.HasPrefix(got, "HTTP/1.1 400") {
		t.Errorf("got %.60q", got)
	}
	if status := s.handler.Upstreams.Status(); status[0].Targets[0].Failures != 0 {
		t.Errorf("the target is blamed: %+v", status)
	}
}

func TestAnUploadThatBreaksOffIsTheVisitorsFault(t *testing.T) {
	arrived := make(chan struct{})
	s := newSite(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = r.Body.Read(make([]byte, 1))
		close(arrived)
		_, _ = io.Copy(io.Discard, r.Body)
	}), nil, nil)
	c := s.dial(t)
	write(t, c, "POST / HTTP/1.1\nHost: a.test\nContent-Length: 1000\n\nhalf")
	<-arrived
	_ = c.Close()
	eventually(t, "the line", func() bool { return strings.Contains(s.lines.String(), `"status":499,"bytes_in":4,`) })
	if status := s.handler.Upstreams.Status(); status[0].Targets[0].Failures != 0 {
		t.Errorf("the target is blamed: %+v", status)
	}
}

func TestATargetThatBreaksOffIsNamedAndCounted(t *testing.T) {
	short := rawTarget(t, func(c net.Conn, _ *http.Request) {
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
	})
	s := newSite(t, says(""), nil, short)
	c := s.dial(t)
	write(t, c, "GET / HTTP/1.1\nHost: a.test\nConnection: close\n\n")
	if text, _ := io.ReadAll(c); strings.HasSuffix(string(text), "half") && !strings.Contains(string(text), "Content-Length: 10") {
		t.Errorf("half an answer looks whole: %q", text)
	}
	eventually(t, "the line", func() bool {
		return strings.Contains(s.lines.String(), "the target broke off in the middle of the answer")
	})
	if status := s.handler.Upstreams.Status(); status[0].Targets[0].Failures != 1 || status[0].Targets[0].InFlight != 0 {
		t.Errorf("%+v", status)
	}
}

func TestAVisitorWhoLeavesInTheMiddleIsNamed(t *testing.T) {
	gone := make(chan struct{})
	endless := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		block := make([]byte, 64<<10)
		for {
			if _, err := w.Write(block); err != nil {
				close(gone)
				return
			}
		}
	})
	s := newSite(t, endless, nil, nil)
	c := s.dial(t)
	write(t, c, "GET / HTTP/1.1\nHost: a.test\n\n")
	_, _ = io.ReadFull(c, make([]byte, 1<<20))
	_ = c.Close()
	<-gone
	eventually(t, "the line", func() bool { return strings.Contains(s.lines.String(), "the visitor left in the middle of the answer") })
	if status := s.handler.Upstreams.Status(); status[0].Targets[0].Failures != 0 {
		t.Errorf("the target is blamed: %+v", status)
	}
}

func TestAnAnswerThatEndsSinceTheVisitorLeftIsNotTheTargetsFault(t *testing.T) {
	ctx, leave := context.WithCancel(t.Context())
	for _, left := range []bool{false, true} {
		if left {
			leave()
		}
		e := &exchange{in: (&http.Request{}).WithContext(ctx)}
		body := &download{io.NopCloser(iotest.ErrReader(errors.New("cut"))), e}
		if _, err := body.Read(make([]byte, 1)); err == nil || errors.Is(e.broke, errVisitorLeft) != left {
			t.Errorf("left %v: %v, %v", left, err, e.broke)
		}
	}
	leave()
}

func TestATargetThatAnswersNonsenseIsABadGateway(t *testing.T) {
	s := newSite(t, says(""), nil, rawTarget(t, func(c net.Conn, _ *http.Request) { _, _ = io.WriteString(c, "SSH-2.0-OpenSSH_9\r\n") }))
	a := s.get(t, "a.test", "/", nil)
	if a.StatusCode != http.StatusBadGateway || strings.Contains(a.body, "SSH") || !strings.Contains(s.log.String(), "SSH") {
		t.Errorf("%d %q\n%s", a.StatusCode, a.body, s.log.String())
	}
	eventually(t, "the count", func() bool { return strings.Contains(s.metricsText(t), `code="5xx"`) })
}

func TestRulesThatNameNoUpstreamAnswerUnavailable(t *testing.T) {
	s := newSite(t, says("v1"), nil, nil)
	s.views.Store(nil)
	a := s.get(t, "a.test", "/", nil)
	if a.StatusCode != http.StatusServiceUnavailable || a.Header.Get("Retry-After") == "" || !strings.Contains(s.log.String(), errNoUpstream.Error()) {
		t.Errorf("%d %v", a.StatusCode, a.Header)
	}
}

func TestAnUnknownHostIsMisdirectedWhereTheDefaultIsToRefuse(t *testing.T) {
	s := newSite(t, says("v1"), nil, func(s *site) { s.rows.Default = rules.DefaultRefuse })
	if a := s.get(t, "a.test", "/", nil); a.StatusCode != http.StatusMisdirectedRequest || a.Header.Get("Retry-After") != "" {
		t.Errorf("%d %v", a.StatusCode, a.Header)
	}
}

func TestAnErrorHasNoBodyForHEADButItsLength(t *testing.T) {
	s := newSite(t, nil, nil, nil)
	got := s.raw(t, "HEAD / HTTP/1.1\nHost: a.test\nConnection: close\n\n")
	if !strings.HasPrefix(got, "HTTP/1.1 503") || !strings.HasSuffix(got, "\r\n\r\n") || strings.Contains(got, "Content-Length: 0") {
		t.Errorf("got %q", got)
	}
}

func TestAConnectionSurvivesAnError(t *testing.T) {
	s := newSite(t, nil, nil, nil)
	c := s.dial(t)
	back := bufio.NewReader(c)
	for range 3 {
		write(t, c, "GET / HTTP/1.1\nHost: a.test\n\n")
		response, err := http.ReadResponse(back, nil)
		if err != nil {
			t.Fatal(err)
		}
		if text, err := io.ReadAll(response.Body); err != nil || response.StatusCode != http.StatusServiceUnavailable || len(text) == 0 {
			t.Fatalf("%d %q, %v", response.StatusCode, text, err)
		}
		_ = response.Body.Close()
	}
}

func TestAnErrorEndsTheConnectionOfAnUploadThatWasNotRead(t *testing.T) {
	s := newSite(t, nil, nil, nil)
	c := s.dial(t)
	write(t, c, "POST / HTTP/1.1\nHost: a.test\nContent-Length: 4\n\nbodyGET / HTTP/1.1\nHost: a.test\n\n")
	all, err := io.ReadAll(c)
	if err != nil || strings.Count(string(all), "HTTP/1.1 503") != 1 || !strings.Contains(string(all), "\r\nConnection: close\r\n") {
		t.Errorf("%q, %v", all, err)
	}
}

func TestTheVisitorsFavouriteFormWins(t *testing.T) {
	for accept, want := range map[string]string{
		"": "text", "*/*": "text", "text/html,application/xhtml+xml,*/*;q=0.8": "html", "application/json": "json",
		"text/html;q=0.5, application/json": "json", "TEXT/HTML ; q=0.9,text/plain;q=0.1": "html", "text/html;q=0": "text", "text/html;q=x": "text", "image/png": "text",
	} {
		if got := preferred([]string{accept}, "text", "text/html", "application/json", "text/plain"); !strings.HasSuffix(got, want) && (want != "text" || got != "text") {
			t.Errorf("%q gets %s", accept, got)
		}
	}
}

func TestEveryStatusHasABuiltInPage(t *testing.T) {
	var pages *Pages
	for _, status := range []int{400, 405, 410, 421, 502, 503, 504, 508} {
		kind, body := pages.render(Page{Status: status, Title: http.StatusText(status), RequestID: "<id>", RetryAfter: 5}, "", []string{"text/html"})
		if !strings.HasPrefix(kind, "text/html") || !strings.Contains(string(body), http.StatusText(status)) || !strings.Contains(string(body), "&lt;id&gt;") || !strings.HasSuffix(string(body), "</html>\n") {
			t.Errorf("%d: %s\n%s", status, kind, body)
		}
	}
}

// faulty stands for a fault in the program.
type faulty struct{}

func (faulty) Load() *rules.View { panic("a fault") }

func TestAFaultOfTheProgramEndsOneRequestAndIsCountedAsItsOwn(t *testing.T) {
	s := newSite(t, says("v1"), nil, func(s *site) { s.handler.Views = faulty{} })
	c := s.dial(t)
	write(t, c, "GET / HTTP/1.1\nHost: a.test\n\n")
	if text, _ := io.ReadAll(c); len(text) > 0 {
		t.Errorf("got %q", text)
	}
	eventually(t, "the line", func() bool { return strings.Contains(s.lines.String(), "panic: a fault") })
	if got := s.handler.Metrics.Totals().OwnFailures["panic"]; got != 1 {
		t.Errorf("%d own failures", got)
	}
}

func TestAnAnswerThatBreaksOffIsNoFaultOfTheProgram(t *testing.T) {
	short := rawTarget(t, func(c net.Conn, _ *http.Request) {
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
	})
	s := newSite(t, says(""), nil, short)
	c := s.dial(t)
	write(t, c, "GET / HTTP/1.1\nHost: a.test\nConnection: close\n\n")
	_, _ = io.ReadAll(c) // to its early end
	eventually(t, "the line", func() bool { return strings.Contains(s.lines.String(), "broke off") })
	if got := s.handler.Metrics.Totals().OwnFailures["panic"]; got != 0 {
		t.Errorf("%d own failures", got)
	}
}
