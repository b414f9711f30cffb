package upstream

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"cutover/rules"
)

func named(t *testing.T, name string) rules.Target {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = io.WriteString(w, name+string(body))
	}))
	t.Cleanup(server.Close)
	return rules.Target{URL: server.URL, Weight: 1, State: rules.StateReady}
}

// dead is a target on which nobody listens.
func dead(t *testing.T) rules.Target {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return rules.Target{URL: "http://" + listener.Addr().String(), Weight: 1, State: rules.StateReady}
}

// rowOf is upstreamOf for targets that are rows.
func rowOf(targets ...rules.Target) *rules.Upstream {
	u := upstreamOf()
	u.Targets = targets
	return u
}

func ask(t *testing.T, p *Pool, body string) (string, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "/", struct{ io.Reader }{strings.NewReader(body)})
	if err != nil {
		t.Fatal(err)
	}
	r.ContentLength = int64(len(body))
	response, err := p.RoundTrip(r)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	return string(text), err
}

func newSet(t *testing.T, o Options) *Set {
	t.Helper()
	s := NewSet(o)
	t.Cleanup(s.Close)
	return s
}

func TestOnlyReadyTargetsGetRequests(t *testing.T) {
	a, b, c, d := named(t, "a"), named(t, "b"), named(t, "c"), named(t, "d")
	a.State, b.State, c.Weight = rules.StateDrain, rules.StateMaint, 0
	set := newSet(t, Options{})
	p := set.For(rowOf(a, b, c, d))
	for range 4 {
		if text, err := ask(t, p, ""); err != nil || text != "d" {
			t.Errorf("%q, %v", text, err)
		}
	}
	p = set.For(rowOf(a))
	if _, err := ask(t, p, ""); !errors.Is(err, ErrNoTarget) {
		t.Errorf("got %v", err)
	}
}

func TestATargetThatCannotBeReachedPassesTheWholeRequestOn(t *testing.T) {
	var failures []string
	o := Options{OnFailure: func(_, target, cause string) { failures = append(failures, target+" "+cause) }}
	gone := dead(t)
	p := newSet(t, o).For(rowOf(gone, named(t, "a")))
	for n := 0; n < 100 && len(failures) == 0; n++ { // which one is asked first is drawn
		if text, err := ask(t, p, "body"); err != nil || text != "abody" {
			t.Errorf("%q, %v", text, err)
		}
	}
	if len(failures) == 0 || failures[0] != gone.URL+" dial" {
		t.Errorf("failures: %v", failures)
	}
}

func TestEachTargetIsTriedOnce(t *testing.T) {
	n := 0
	p := newSet(t, Options{OnFailure: func(string, string, string) { n++ }}).For(rowOf(dead(t), dead(t), dead(t)))
	if _, err := ask(t, p, ""); Cause(err) != "dial" || n != 3 {
		t.Errorf("%v after %d attempts", err, n)
	}
}

func TestARequestThatWasSentIsNeverSentToAnother(t *testing.T) {
	var hits atomic.Int64
	cut := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hits.Add(1); panic(http.ErrAbortHandler) }))
	t.Cleanup(cut.Close)
	row := rules.Target{URL: cut.URL, Weight: 1, State: rules.StateReady}
	p := newSet(t, Options{}).For(rowOf(row, rules.Target{ID: 2, URL: cut.URL + "/", Weight: 1, State: rules.StateReady}))
	if _, err := ask(t, p, "x"); err == nil || hits.Load() != 1 {
		t.Errorf("%v after %d hits", err, hits.Load())
	}
}

func TestCountsOutliveAChangeAndVanishWithTheUpstream(t *testing.T) {
	set := newSet(t, Options{})
	a := named(t, "a")
	if _, err := ask(t, set.For(rowOf(a)), ""); err != nil {
		t.Fatal(err)
	}
	changed := rowOf(a, named(t, "b"))
	if first, second := set.For(changed), set.For(changed); first != second {
		t.Error("the same upstream has two pools")
	}
	if status := set.Status(); len(status) != 1 || status[0].Targets[0].Requests != 1 || status[0].Targets[0].InFlight != 0 {
		t.Errorf("%+v", status)
	}
	set.Keep(nil)
	if status := set.Status(); len(status) != 0 {
		t.Errorf("%+v", status)
	}
}
