package upstream

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cutover/rules"
)

// patient is a target whose answers to checks a test sets: a status, and a body.
type patient struct {
	*httptest.Server
	status  atomic.Int64
	body    atomic.Value
	checks  atomic.Int64
	askedOf atomic.Value
}

func newPatient(t *testing.T) *patient {
	t.Helper()
	p := &patient{}
	p.status.Store(http.StatusOK)
	p.body.Store("all is well")
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/up" {
			p.askedOf.Store(r.Host + " " + r.URL.RawQuery)
			p.checks.Add(1)
			w.WriteHeader(int(p.status.Load()))
			_, _ = io.WriteString(w, p.body.Load().(string))
		}
	}))
	t.Cleanup(p.Close)
	return p
}

func checkOf(path string) rules.Check {
	return rules.Check{Path: path, Interval: 0.02, Timeout: 5, Status: "200-299,304", Rise: 2, Fall: 2}
}

// watched runs a set that checks an upstream as it is at the moment.
func watched(t *testing.T, u *rules.Upstream) (*Set, *atomic.Pointer[rules.Upstream]) {
	t.Helper()
	current := &atomic.Pointer[rules.Upstream]{}
	current.Store(u)
	return runSet(t, Options{Upstreams: func() []*rules.Upstream { return []*rules.Upstream{current.Load()} }}), current
}

func failingOf(s *Set, u *rules.Upstream, target int) bool { return s.For(u).targets[target].fails() }

func TestATargetWhoseChecksAreBadGetsNoRequestsUntilTheyAreGoodAgain(t *testing.T) {
	sick, well := newPatient(t), newPatient(t)
	u := upstreamOf(sick.URL, well.URL)
	u.Check = checkOf("/up?deep=1")
	u.Check.Host, u.Check.Body = "shop.test", "well"
	s, _ := watched(t, u)
	for name, spoil := range map[string]func(){
		"status": func() { sick.status.Store(http.StatusServiceUnavailable) },
		"body":   func() { sick.body.Store("all is lost") },
	} {
		spoil()
		eventually(t, "the fault by "+name, func() bool { return failingOf(s, u, 0) })
		if status := s.Status()[0].Targets; !strings.Contains(status[0].FailingBecause, "check /up") || !status[1].FailingSince.IsZero() {
			t.Errorf("%+v", status)
		}
		sick.status.Store(http.StatusOK)
		sick.body.Store("all is well")
		eventually(t, "the end of it", func() bool { return !failingOf(s, u, 0) })
	}
	if got := sick.askedOf.Load(); got != "shop.test deep=1" {
		t.Errorf("it was asked %q", got)
	}
}

func TestTheStatusSaysHowLongACheckTookForAsLongAsThereAreChecks(t *testing.T) {
	u := upstreamOf(newPatient(t).URL)
	u.Check = checkOf("/up")
	s, current := watched(t, u)
	eventually(t, "a check", func() bool { return s.Status()[0].Targets[0].Checked > 0 })
	current.Store(upstreamOf(u.Targets[0].URL))
	eventually(t, "its end", func() bool { return s.Status()[0].Targets[0].Checked == 0 })
}

func TestARequestThatIsAnsweredDoesNotEndAFaultThatChecksFound(t *testing.T) {
	sick := newPatient(t)
	sick.status.Store(http.StatusServiceUnavailable)
	u := upstreamOf(sick.URL)
	u.Check = checkOf("/up")
	s, _ := watched(t, u)
	eventually(t, "the fault", func() bool { return failingOf(s, u, 0) })
	if _, err := do(t.Context(), t, s.For(u), http.MethodGet, ""); err != nil {
		t.Errorf("the last target is given up: %v", err)
	}
	if !failingOf(s, u, 0) {
		t.Error("it does")
	}
}

func TestChecksFollowTheRows(t *testing.T) {
	p := newPatient(t)
	p.status.Store(http.StatusNotFound)
	with := upstreamOf(p.URL)
	with.Check = checkOf("/up")
	s, current := watched(t, with)
	eventually(t, "the fault", func() bool { return failingOf(s, with, 0) })
	changed := upstreamOf(p.URL)
	changed.Check = checkOf("/up")
	changed.Check.Status = "404"
	current.Store(changed)
	eventually(t, "what the change makes good", func() bool { return !failingOf(s, changed, 0) })
	without := upstreamOf(p.URL)
	current.Store(without)
	eventually(t, "an end of checks", func() bool { return !s.For(without).targets[0].state.health.checked.Load() })
}

func TestATargetThatNoLongerIsCheckedIsTriedInstead(t *testing.T) {
	p := newPatient(t)
	p.status.Store(http.StatusNotFound)
	with := upstreamOf(p.URL)
	with.Check = checkOf("/up")
	s, current := watched(t, with)
	eventually(t, "the fault", func() bool { return failingOf(s, with, 0) })
	without := upstreamOf(p.URL)
	current.Store(without)
	eventually(t, "the end of the fault", func() bool { return !failingOf(s, without, 0) })
}

func TestATargetOutOfServiceIsNotChecked(t *testing.T) {
	p, other := newPatient(t), newPatient(t)
	u := upstreamOf(p.URL, other.URL)
	u.Targets[0].State = rules.StateMaint
	u.Check = checkOf("/up")
	_, _ = watched(t, u)
	eventually(t, "checks of the other", func() bool { return other.checks.Load() > 3 })
	if p.checks.Load() > 0 {
		t.Error("it is")
	}
}

func TestACheckDoesNotGiveUpTheConnectionThatRequestsShare(t *testing.T) {
	address, connections := speaker(t, "tcp")
	u := upstreamOf("h2c://" + address)
	u.Check = checkOf("/up")
	s, _ := watched(t, u)
	requests := s.For(u).targets[0].state
	eventually(t, "checks", func() bool {
		if _, err := do(t.Context(), t, s.For(u), http.MethodPost, "body"); err != nil {
			t.Fatal(err)
		}
		return requests.health.isGood(5)
	})
	if n := connections.Load(); n > 3 { // see TestRequestsShareAConnectionOfHTTP2
		t.Errorf("%d connections", n)
	}
}

func TestATargetThatNeverWasWellIsLeftOutByItsFirstBadCheck(t *testing.T) {
	var h health
	check := checkOf("/up")
	if began, _ := h.look(errBroken, &check, time.Now()); began == nil {
		t.Error("it is not")
	}
	h = health{}
	_, _ = h.look(nil, &check, time.Now())
	if began, _ := h.look(errBroken, &check, time.Now()); began != nil {
		t.Error("one that was well is")
	}
}

// isGood reports whether so many checks in a row were.
func (h *health) isGood(checks int) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.good >= checks
}
