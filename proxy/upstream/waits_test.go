package upstream

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"cutover/rules"
)

// machine is a target that takes requests and answers none: neither of those that a test sends, nor checks. When it vanishes it
// takes no connections any more.
type machine struct {
	*httptest.Server
	listener *vanishingListener
	requests atomic.Int64
	heard    atomic.Int64 // bytes of bodies
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{listener: &vanishingListener{TCPListener: listener.(*net.TCPListener), gone: make(chan struct{}), held: make(chan struct{}), ended: make(chan struct{})}}
	release := make(chan struct{})
	m.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		m.requests.Add(1)
		n, _ := io.Copy(io.Discard, r.Body)
		m.heard.Add(n)
		<-release
	}))
	_ = m.Listener.Close()
	m.Listener = m.listener
	m.Start()
	t.Cleanup(func() {
		close(release)
		m.Close()
	})
	return m
}

// vanish has connecting hang from now on.
func (m *machine) vanish(t *testing.T) {
	t.Helper()
	dial := func() error {
		c, err := (&net.Dialer{Timeout: 300 * time.Millisecond}).DialContext(t.Context(), "tcp", m.listener.Addr().String())
		if err == nil {
			t.Cleanup(func() { _ = c.Close() })
		}
		return err
	}
	close(m.listener.gone)
	_ = dial()
	wait(t, "the machine to take no more", m.listener.held)
	raw, err := m.listener.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var failed error
	if err := errors.Join(raw.Control(func(fd uintptr) { failed = syscall.Listen(int(fd), 0) }), failed); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if dial() != nil {
			return
		}
	}
	t.Fatal("the queue of a socket never fills")
}

type vanishingListener struct {
	*net.TCPListener

	gone, held, ended chan struct{}
	ending            sync.Once
}

func (l *vanishingListener) Accept() (net.Conn, error) {
	conn, err := l.TCPListener.Accept()
	if err != nil {
		return nil, err
	}
	select {
	case <-l.gone:
		close(l.held)
		<-l.ended
		return nil, errors.Join(net.ErrClosed, conn.Close())
	default:
		return conn, nil
	}
}

func (l *vanishingListener) Close() error {
	l.ending.Do(func() { close(l.ended) })
	return l.TCPListener.Close()
}

// pending is a request whose answer is awaited.
type pending struct {
	answered chan struct{}
	text     string
	err      error
}

// begin sends a request and returns when the machine has it.
func (m *machine) begin(ctx context.Context, t *testing.T, p *Pool, method, body string) *pending {
	t.Helper()
	before := m.requests.Load()
	one := &pending{answered: make(chan struct{})}
	var sending sync.WaitGroup
	sending.Go(func() {
		one.text, one.err = do(ctx, t, p, method, body)
		close(one.answered)
	})
	t.Cleanup(sending.Wait)
	eventually(t, "the machine to get a request", func() bool { return m.requests.Load() > before && m.heard.Load() >= int64(len(body)) })
	return one
}

func (one *pending) is(text string) bool { return one.err == nil && one.text == text }

func (one *pending) hasEnded() bool {
	select {
	case <-one.answered:
		return true
	default:
		return false
	}
}

// firstOf returns an upstream whose first target is asked first.
func firstOf(targets ...string) *rules.Upstream {
	u := upstreamOf(targets...)
	u.Balance, u.Targets[0].Weight = rules.BalanceRoundRobin, 1000
	return u
}

func TestWhoWaitsForAMachineThatVanishesGoesOnToAnotherIfThatDoesNoHarm(t *testing.T) {
	m, good := newMachine(t), newScript(t)
	var broken atomic.Int64
	set := runSet(t, Options{OnFailure: func(_, _, cause string) {
		if cause == "broken" {
			broken.Add(1)
		}
	}})
	p := set.For(firstOf(m.URL, good.URL))
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	safe, put, unsafe := m.begin(ctx, t, p, http.MethodGet, ""), m.begin(ctx, t, p, http.MethodPut, "x"), m.begin(ctx, t, p, http.MethodPost, "x")
	m.vanish(t)
	began := time.Now()
	eventually(t, "the requests to go on", func() bool {
		if text, err := do(t.Context(), t, p, http.MethodGet, ""); err != nil || text != "ok" {
			t.Fatalf("%q, %v", text, err)
		}
		return safe.hasEnded() && put.hasEnded()
	})
	t.Logf("after %v", time.Since(began).Round(time.Millisecond))
	if !safe.is("ok") || !put.is("ok") || broken.Load() != 2 {
		t.Errorf("%q, %v; %q, %v; %d failures", safe.text, safe.err, put.text, put.err, broken.Load())
	}
	if unsafe.hasEnded() {
		t.Errorf("the POST has not stayed: %q, %v", unsafe.text, unsafe.err)
	}
	stop()
	wait(t, "the POST", unsafe.answered)
	if s := set.Status()[0].Targets; s[0].InFlight != 0 || s[1].InFlight != 0 || Cause(unsafe.err) != "canceled" {
		t.Errorf("%+v, %v", s, unsafe.err)
	}
}

func TestAMachineThatVanishesIsNoticedByASingleRequest(t *testing.T) {
	m, good := newMachine(t), newScript(t)
	p := runSet(t, Options{DialTimeout: 300 * time.Millisecond}).For(firstOf(m.URL, good.URL))
	one := m.begin(t.Context(), t, p, http.MethodGet, "")
	m.vanish(t)
	eventually(t, "the request to go on", one.hasEnded)
	if !one.is("ok") || !p.targets[0].fails() {
		t.Errorf("%q, %v", one.text, one.err)
	}
}

func TestWhoWaitsForATargetWhoseChecksHangGoesOnToAnother(t *testing.T) {
	m, good := newMachine(t), newPatient(t)
	u := firstOf(m.URL, good.URL)
	set, current := watched(t, u)
	one := m.begin(t.Context(), t, set.For(u), http.MethodGet, "")
	checked := *u
	checked.Check = checkOf("/up")
	checked.Check.Timeout = 0.1
	current.Store(&checked)
	eventually(t, "the request to go on", one.hasEnded)
	if !one.is("") {
		t.Errorf("%q, %v", one.text, one.err)
	}
}

func TestWhoCannotGoElsewhereWaitsForAMachineThatVanishes(t *testing.T) {
	long := strings.Repeat("x", 100<<10) // than what is kept
	for name, row := range map[string]struct {
		method, body string
		change       func(*rules.Upstream)
	}{
		"a body that is too long":    {http.MethodPut, long, func(*rules.Upstream) {}},
		"no retries":                 {http.MethodGet, "", func(u *rules.Upstream) { u.Retries = 0 }},
		"the other target is filled": {http.MethodGet, "", func(u *rules.Upstream) { u.Targets[1].State = rules.StateDrain }},
	} {
		m := newMachine(t)
		u := firstOf(m.URL, newScript(t).URL)
		row.change(u)
		p := newSet(t, Options{}).For(u)
		ctx, stop := context.WithCancel(t.Context())
		one := m.begin(ctx, t, p, row.method, row.body)
		waits := &p.targets[0].state.waits
		if moved := waits.takeMovable(time.Now().Add(time.Hour)); len(moved) != 0 {
			t.Errorf("%s: it was moved", name)
		}
		stop()
		wait(t, name, one.answered)
		if Cause(one.err) != "canceled" || len(waits.all) != 0 {
			t.Errorf("%s: %v, and %d wait", name, one.err, len(waits.all))
		}
	}
}

// waitingFor has requests wait, and returns how many were told to leave.
func waitingFor(t *testing.T, p *Pool, number int) (list []*waiting, left *atomic.Int64) {
	t.Helper()
	left = new(atomic.Int64)
	for range number {
		w := &wish{tried: p.targets[:1]}
		ctx := p.withAlternative(t.Context(), w)
		one := p.targets[0].state.waits.enter(ctx, true, nil, &idle{cancel: func(error) { left.Add(1) }})
		list = append(list, one)
	}
	return list, left
}

func TestThoseForWhomTheBudgetDoesNotLastGoOnOnceItDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewSet(Options{}).For(balanced("", 1, 1))
		_, left := waitingFor(t, p, fewestRepeats+5)
		waits := &p.targets[0].state.waits
		if waits.move(); left.Load() != 0 {
			t.Errorf("%d were moved at once", left.Load())
		}
		time.Sleep(movesAfter)
		if waits.move(); left.Load() != fewestRepeats {
			t.Errorf("%d were moved", left.Load())
		}
		for range 25 {
			p.repeats.earn()
		}
		if waits.move(); left.Load() != fewestRepeats+5 || len(waits.all) != 0 {
			t.Errorf("later %d were moved", left.Load())
		}
	})
}

func TestAnAnswerToARequestThatWasMovedAtTheSameMomentIsNotUsed(t *testing.T) {
	p := NewSet(Options{}).For(balanced("", 1, 1))
	list, _ := waitingFor(t, p, 3)
	waits := &p.targets[0].state.waits
	if _, err := list[1].end(&http.Response{Body: http.NoBody}, nil); err != nil || len(waits.all) != 2 {
		t.Errorf("answered: %v", err)
	}
	waits.takeMovable(time.Now().Add(time.Hour))
	body := &closing{Reader: strings.NewReader("late")}
	if response, err := list[0].end(&http.Response{Body: body}, nil); !errors.Is(err, errMoved) || response != nil || !body.closed {
		t.Errorf("moved: %v, %v", response, err)
	}
}

type closing struct {
	io.Reader

	closed bool
}

func (c *closing) Close() error {
	c.closed = true
	return nil
}

func TestItIsLookedAtATargetOnceInAWhileIfSomebodyWaitsForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewSet(Options{}).For(balanced("", 1, 1))
		waitingFor(t, p, 1)
		waits := &p.targets[0].state.waits
		looks := 0
		for range 100 { // in 10 s
			if waits.arouseSuspicion(time.Now()) {
				looks++
			}
			time.Sleep(100 * time.Millisecond)
		}
		if looks != 2 {
			t.Errorf("%d looks", looks)
		}
	})
}

// BenchmarkRoundTrip is a small request to one of two targets, the target's own work included.
func BenchmarkRoundTrip(b *testing.B) {
	var urls []string
	for range 2 {
		server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		b.Cleanup(server.Close)
		urls = append(urls, server.URL)
	}
	set := NewSet(Options{})
	b.Cleanup(set.Close)
	p := set.For(upstreamOf(urls...))
	b.ReportAllocs()
	for b.Loop() {
		r, _ := http.NewRequestWithContext(b.Context(), http.MethodGet, "/", nil)
		response, err := p.RoundTrip(r)
		if err != nil {
			b.Fatal(err)
		}
		_ = response.Body.Close()
	}
}
