package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"cutover/rules"
)

// finder is an Expander whose answers a test sets.
type finder struct {
	mu         sync.Mutex
	generation uint64
	urls       []string
	known      chan struct{} // closed once it was asked
}

func newFinder(urls ...string) *finder {
	f := &finder{known: make(chan struct{})}
	if len(urls) > 0 {
		f.finds(urls...)
	}
	return f
}

func (f *finder) finds(urls ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.urls = urls
	if f.generation++; f.generation == 1 {
		close(f.known)
	}
}

func (f *finder) Targets(row rules.Target) (list []rules.Target) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, url := range f.urls {
		row.URL = url
		list = append(list, row)
	}
	return list
}

func (f *finder) Generation() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.generation
}

func (f *finder) Await(ctx context.Context, _ []rules.Target) {
	select {
	case <-f.known:
	case <-ctx.Done():
	}
}

func TestRequestsGoToWhatRowsStandForAtTheMoment(t *testing.T) {
	a, b := named(t, "a"), named(t, "b")
	f := newFinder(a.URL)
	set := newSet(t, Options{Expand: f})
	u := upstreamOf("dns+http://app.test:8080")
	for _, row := range []struct{ target, want string }{{a.URL, "a"}, {b.URL, "b"}} {
		f.finds(row.target)
		for range 3 {
			if text, err := ask(t, set.For(u), ""); err != nil || text != row.want {
				t.Errorf("%q, %v", text, err)
			}
		}
		status := set.Status()[0].Targets
		if len(status) != 1 || status[0].URL != row.target || status[0].Source != u.Targets[0].URL || status[0].ID != u.Targets[0].ID {
			t.Errorf("%+v", status)
		}
	}
}

func TestATargetThatIsFoundAgainKeepsItsConnectionsAndCounts(t *testing.T) {
	address, connections := speaker(t, "tcp")
	f := newFinder("http://" + address)
	set := newSet(t, Options{Expand: f})
	u := upstreamOf("dns+http://app.test:8080")
	for n := range 3 {
		pool := set.For(u)
		if _, err := do(t.Context(), t, pool, http.MethodGet, ""); err != nil {
			t.Fatal(err)
		}
		isFree(t, pool.targets[0].connections.repeatable)
		f.finds("http://"+address, dead(t).URL)
		if n > 0 {
			continue
		}
		f.finds("http://" + address)
		if set.For(u) != pool {
			t.Error("another row's change makes a pool anew")
		}
	}
	var requests uint64
	for _, status := range set.Status()[0].Targets {
		if status.URL == "http://"+address {
			requests = status.Requests
		}
	}
	if n := connections.Load(); n != 1 || requests != 3 {
		t.Errorf("%d connections, %d requests", n, requests)
	}
}

func TestConnectionsToATargetThatIsNoLongerFoundAreClosedOnceIdle(t *testing.T) {
	leaving, open := counted(t)
	stays := named(t, "stays")
	f := newFinder(leaving)
	u := upstreamOf("dns+http://app.test:8080")
	set := runSet(t, Options{Expand: f, Upstreams: func() []*rules.Upstream { return []*rules.Upstream{u} }})
	if _, err := do(t.Context(), t, set.For(u), http.MethodGet, ""); err != nil {
		t.Fatal(err)
	}
	f.finds(stays.URL)
	eventually(t, "the end of the connection, without a request", func() bool { return open.Load() == 0 })
}

func TestTheFirstRequestWaitsForTheFirstAnswer(t *testing.T) {
	a := named(t, "a")
	f := newFinder()
	set := newSet(t, Options{Expand: f})
	u := upstreamOf("dns+http://app.test:8080")
	u.Connect = 60
	pool := set.For(u)
	var looked sync.WaitGroup
	looked.Go(func() { f.finds(a.URL) })
	defer looked.Wait()
	if text, err := ask(t, pool, ""); err != nil || text != "a" {
		t.Errorf("%q, %v", text, err)
	}
}

func TestTheFirstRequestWaitsNoLongerThanForAConnection(t *testing.T) {
	u := upstreamOf("dns+http://app.test:8080")
	u.Connect = 0.05
	began := time.Now()
	if _, err := ask(t, newSet(t, Options{Expand: newFinder()}).For(u), ""); !errors.Is(err, ErrNoTarget) || time.Since(began) < 50*time.Millisecond {
		t.Errorf("%v after %s", err, time.Since(began))
	}
}

func TestAURLThatTwoRowsLeadToIsOneTarget(t *testing.T) {
	a := named(t, "a")
	u := upstreamOf(a.URL, "dns+http://app.test:8080", "dns+http://other.test:8080")
	set := newSet(t, Options{Expand: newFinder(a.URL)})
	if n := len(set.For(u).targets); n != 1 {
		t.Errorf("%d targets", n)
	}
}

func TestATargetThatWasFoundMustHaveTheCertificateOfTheName(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.TLS.ServerName != "example.com" {
			panic(http.ErrAbortHandler)
		}
	}))
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate()) // of example.com and 127.0.0.1
	for row, good := range map[string]bool{"dns+https://example.com:1": true, "srv+https://_web._tcp.example.com": true, "dns+https://other.test:1": false} {
		set := newSet(t, Options{Roots: roots, Expand: newFinder(server.URL)})
		u := upstreamOf(row)
		_, err := do(t.Context(), t, set.For(u), http.MethodGet, "")
		var wrong *tls.CertificateVerificationError
		if good != (err == nil) || !good && !errors.As(err, &wrong) {
			t.Errorf("%s: %v", row, err)
		}
		if err := set.For(u).targets[0].connections.try(t.Context()); good != (err == nil) {
			t.Errorf("%s: a look at it: %v", row, err)
		}
	}
}

func TestAnOlderRowStillHasItsPoolWhenTargetsChange(t *testing.T) {
	f := newFinder(named(t, "a").URL)
	set := newSet(t, Options{Expand: f})
	before, after := upstreamOf("dns+http://app.test:8080"), upstreamOf("dns+http://app.test:8080")
	old := set.For(before)
	_ = set.For(after)
	f.finds(named(t, "b").URL)
	_ = set.For(after)
	if set.For(before) != old {
		t.Error("it has another")
	}
	if text, err := ask(t, set.For(after), ""); err != nil || !strings.Contains(text, "b") {
		t.Errorf("%q, %v", text, err)
	}
}

func TestARequestThatStillWentToATargetThatIsGoneLeavesNoConnectionBehind(t *testing.T) {
	url, open := counted(t)
	f := newFinder(url)
	u := upstreamOf("dns+http://app.test:8080")
	set := runSet(t, Options{Expand: f, Upstreams: func() []*rules.Upstream { return []*rules.Upstream{u} }})
	before := set.For(u)
	f.finds(named(t, "b").URL)
	if set.For(u) == before {
		t.Fatal("the pool is the same")
	}
	if _, err := do(t.Context(), t, before, http.MethodGet, ""); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the end of the connection", func() bool { return open.Load() == 0 })
}

// counted is a target that counts the connections to it that are open.
func counted(t *testing.T) (url string, open *atomic.Int64) {
	t.Helper()
	open = new(atomic.Int64)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			open.Add(1)
		case http.StateClosed:
			open.Add(-1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	return server.URL, open
}

// editedRows returns rows of one upstream, as they follow each other when it is edited, and a Set that knows which of them is there.
func editedRows(t *testing.T, o Options, n int) (rows []*rules.Upstream, set *Set, edit func()) {
	t.Helper()
	for range n {
		rows = append(rows, upstreamOf("dns+http://app.test:80"))
	}
	var at atomic.Int64
	o.Upstreams = func() []*rules.Upstream { return rows[at.Load()%int64(n):][:1] }
	set = newSet(t, o)
	return rows, set, func() { set.For(rows[at.Add(1)]) }
}

func TestARequestThatOutlivesTwoChangesOfItsRowDoesNotBringTheRowBack(t *testing.T) {
	f := newFinder("http://10.0.0.1:80")
	rows, set, edit := editedRows(t, Options{Expand: f}, 3)
	set.For(rows[0])
	edit()
	edit()
	if p := set.For(rows[0]); p.upstream != rows[2] { // the request may have waited for its password to be checked
		t.Error("it gets the pool of a row that is gone")
	}
	f.finds("http://10.0.0.2:80")
	p := set.For(rows[2])
	if p.targets[0].row.URL != "http://10.0.0.2:80" || p.line.pool.upstream != rows[2] {
		t.Errorf("the row has the target %s, and those in line wait for the one of row %p", p.targets[0].row.URL, p.line.pool.upstream)
	}
}

func TestARequestThatAwaitsItsTargetsGetsThoseOfTheRowAsItIsThen(t *testing.T) {
	a := named(t, "a")
	for changes := range 3 {
		f := newFinder()
		rows, set, edit := editedRows(t, Options{Expand: f, DialTimeout: time.Minute}, 3)
		p := set.For(rows[0])
		for range changes {
			edit()
		}
		f.finds(a.URL)
		if text, err := ask(t, p, ""); err != nil || text != "a" {
			t.Errorf("after %d changes: %q, %v", changes, text, err)
		}
	}
}

func TestATargetThatOneAnswerOfTheDNSLeavesOutIsTheSameWhenItComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFinder("http://10.0.0.1:80", "http://10.0.0.2:80")
		set := NewSet(Options{Expand: f})
		u := upstreamOf("dns+http://app.test:80")
		u.Room = rules.Room{MaxInFlight: 1}
		one := set.For(u).targets[0]
		one.occupy()
		_ = set.For(u).failed(httptest.NewRequest(http.MethodGet, "/", nil), one, fmt.Errorf("%w: %w", ErrUnreachable, context.DeadlineExceeded))
		set.takeFailed()
		for _, away := range []time.Duration{time.Second, lingers / 2, 3 * lingers} { // with a request in flight it is not forgotten
			f.finds("http://10.0.0.2:80")
			set.For(u)
			for range away / time.Second {
				time.Sleep(time.Second)
				set.closeLeft()
			}
			f.finds("http://10.0.0.1:80", "http://10.0.0.2:80")
			back := set.For(u).targets[0]
			if back.state != one.state || back.connections != one.connections || !set.For(u).isFull(back) || !back.fails() {
				t.Errorf("after %v it is another", away)
			}
			if probes := set.takeFailed(); len(probes) != 1 || probes[0].target.state != back.state || len(set.left) != 0 {
				t.Errorf("after %v nobody looks whether it can be reached again: %v, or its connections are closed: %v", away, probes, set.left)
			}
		}
	})
}

func TestATargetThatHasLeftForLongIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFinder("http://10.0.0.1:80", "http://10.0.0.2:80")
		var gone []string
		set := NewSet(Options{Expand: f, OnGone: func(upstream, target string) { gone = append(gone, upstream+" "+target) }})
		u := upstreamOf("dns+http://app.test:80")
		one := set.For(u).targets[0]
		f.finds("http://10.0.0.2:80")
		p := set.For(u)
		time.Sleep(2 * lingers)
		set.closeLeft()
		f.finds("http://10.0.0.1:80", "http://10.0.0.2:80")
		if len(p.absent) != 0 || set.For(u).targets[0].state == one.state {
			t.Error("it is still known")
		}
		if want := []string{"v1 http://10.0.0.1:80"}; !slices.Equal(gone, want) {
			t.Errorf("%q are gone", gone)
		}
		set.Keep(nil)
		if slices.Sort(gone); len(gone) != 3 {
			t.Errorf("with the upstream, %q are gone", gone)
		}
	})
}
