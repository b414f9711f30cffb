package metrics

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func scrape(t *testing.T, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain") {
		t.Fatalf("%d %v", w.Code, w.Header())
	}
	return w.Body.String()
}

func expect(t *testing.T, m *Metrics, lines ...string) {
	t.Helper()
	text := scrape(t, m)
	for _, line := range lines {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("%s is missing", line)
		}
	}
}

func TestRequestsAreCountedByWhoAnsweredAndHow(t *testing.T) {
	m := New()
	m.Request("v1", "shop", "http://a", 200, 3*time.Millisecond)
	m.Request("v1", "shop", "http://a", 204, 3*time.Millisecond)
	m.Request("v2", "shop2", "http://b", 503, time.Second)
	m.Request("", "", "", 308, time.Millisecond)
	expect(t, m,
		`cutover_requests_total{code="2xx",target="http://a",upstream="shop",version="v1"} 2`,
		`cutover_requests_total{code="5xx",target="http://b",upstream="shop2",version="v2"} 1`,
		`cutover_requests_total{code="3xx",target="",upstream="",version=""} 1`,
		`cutover_request_duration_seconds_count{version="v1"} 2`,
		`cutover_request_duration_seconds_bucket{version="v1",le="0.0025"} 0`,
		`cutover_request_duration_seconds_bucket{version="v1",le="0.005"} 2`,
	)
}

func TestATunnelSaysNothingAboutSpeed(t *testing.T) {
	m := New()
	m.Request("v1", "shop", "http://a", 101, time.Hour)
	expect(t, m, `cutover_requests_total{code="1xx",target="http://a",upstream="shop",version="v1"} 1`)
	if strings.Contains(scrape(t, m), "cutover_request_duration_seconds_count") {
		t.Error("its duration was counted")
	}
}

func TestAStatusThatIsNoneIsOther(t *testing.T) {
	for status, want := range map[int]string{0: "other", 99: "other", 100: "1xx", 499: "4xx", 599: "5xx", 600: "other", -1: "other"} {
		if got := class(status); got != want {
			t.Errorf("%d is %s", status, got)
		}
	}
}

func TestFailuresEventsAndGaugesAreShown(t *testing.T) {
	m := New()
	m.Failure("v1", "http://a", "dial")
	m.Event("certificate", "obtained")
	value := 1.0
	m.Gauge("cutover_test", "A test.", func() float64 { return value })
	value = 42
	expect(t, m,
		`cutover_upstream_failures_total{cause="dial",target="http://a",upstream="v1"} 1`,
		`cutover_events_total{kind="certificate",outcome="obtained"} 1`,
		`cutover_test 42`,
	)
}

func TestTheProcessIsMeasuredAndTwoRegistriesAreApart(t *testing.T) {
	a, b := New(), New()
	a.Failure("v1", "http://a", "dial")
	if text := scrape(t, b); strings.Contains(text, `cause="dial"`) || !strings.Contains(text, "go_goroutines ") || !strings.Contains(text, "process_open_fds ") {
		t.Error("the metrics of another are shown, or the process is not measured")
	}
}

func TestWithoutMetricsNothingIsCounted(_ *testing.T) {
	var m *Metrics
	m.Request("v1", "v1", "", 200, time.Second)
	m.Failure("v1", "", "dial")
	m.Event("accept", "EMFILE")
}

func TestAGaugeCanHaveALabelWhoseValuesComeAndGo(t *testing.T) {
	m := New()
	values := map[string]float64{"shop.example.com": 42}
	m.GaugeBy("cutover_test", "A test.", "name", func() map[string]float64 { return values })
	expect(t, m, `cutover_test{name="shop.example.com"} 42`)
	values = map[string]float64{"other.example.com": -1}
	expect(t, m, `cutover_test{name="other.example.com"} -1`)
	if strings.Contains(scrape(t, m), "shop.example.com") {
		t.Error("a value that has gone is shown still")
	}
}
