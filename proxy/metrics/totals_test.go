package metrics

import (
	"maps"
	"strings"
	"testing"
	"time"
)

func TestTotalsTellOwnFailuresFromThoseOfOthers(t *testing.T) {
	m := New()
	if got := m.Totals(); !maps.Equal(got.OwnFailures, map[string]uint64{Panic: 0, Accept: 0}) {
		t.Errorf("at the start: %v", got)
	}
	m.OwnFailure(Panic)
	m.OwnFailure(Panic)
	m.Failure("shop", "http://a", "refused")
	m.Request("v1", "shop", "http://a", 200, time.Second)
	m.Request("v2", "shop", "http://b", 404, time.Second)
	m.Request("v2", "shop", "http://b", 502, time.Second)
	m.Event("handshake", "ok")
	m.Event("handshake", "passed")
	m.Event("handshake", "failed")
	m.Event("handshake", "refused")
	m.Event("certificate", "failed")
	got := m.Totals()
	if !maps.Equal(got.OwnFailures, map[string]uint64{Panic: 2, Accept: 0}) {
		t.Errorf("own failures %v", got.OwnFailures)
	}
	if want := (Outcome{2, 1}); got.Requests != want {
		t.Errorf("requests %v, want %v", got.Requests, want)
	}
	if want := (Outcome{2, 2}); got.Handshakes != want {
		t.Errorf("handshakes %v, want %v", got.Handshakes, want)
	}
	var none *Metrics
	none.OwnFailure(Panic)
}

func TestATargetThatIsForgottenHasNoSeriesAndItsRequestsStillCount(t *testing.T) {
	m := New()
	for _, target := range []string{"http://a", "http://b"} {
		m.Failure("shop", target, "refused")
		m.Request("v1", "shop", target, 200, time.Second)
		m.Request("v1", "shop", target, 502, time.Second)
	}
	before := m.Totals().Requests
	m.Forget("shop", "http://a")
	m.Forget("shop", "http://a")
	m.Forget("other", "http://b")
	if text := scrape(t, m); strings.Contains(text, `"http://a"`) || strings.Count(text, `"http://b"`) != 3 {
		t.Error(text)
	}
	if now := m.Totals().Requests; now != before || now != (Outcome{2, 2}) {
		t.Errorf("%v before, %v now", before, now)
	}
	var none *Metrics
	none.Forget("shop", "http://b")
}
