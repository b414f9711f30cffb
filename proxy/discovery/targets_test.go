package discovery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"cutover/proxy/upstream"
	"cutover/rules"
)

// machine is a target at an address of loopback, which says its address in each answer.
type machine struct {
	requests atomic.Int64
	open     atomic.Int64 // connections
}

// machines are targets on the same port of several addresses.
func machines(t *testing.T, addresses ...string) (port string, list []*machine) {
	t.Helper()
	port = "0"
	for _, address := range addresses {
		listener, err := net.Listen("tcp", net.JoinHostPort(address, port))
		if err != nil {
			t.Fatal(err)
		}
		_, port, _ = net.SplitHostPort(listener.Addr().String())
		m := &machine{}
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			m.requests.Add(1)
			_, _ = io.WriteString(w, address)
		}))
		_ = server.Listener.Close()
		server.Listener = listener
		server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				m.open.Add(1)
			case http.StateClosed, http.StateHijacked:
				m.open.Add(-1)
			}
		}
		server.Start()
		t.Cleanup(server.Close)
		list = append(list, m)
	}
	return port, list
}

// proxyFor runs a Finder and a Set for one row.
func proxyFor(t *testing.T, resolvers map[rules.SourceKind]Resolver, url string) (ask func() (string, error), finder *Finder) {
	t.Helper()
	u := &rules.Upstream{Name: "v1", Targets: []rules.Target{{ID: 1, Upstream: "v1", URL: url, Weight: 1, State: rules.StateReady}}}
	upstreams := func() []*rules.Upstream { return []*rules.Upstream{u} }
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	finder = New(Options{Upstreams: upstreams, Resolvers: resolvers, Log: log})
	set := upstream.NewSet(upstream.Options{Upstreams: upstreams, Expand: finder, Log: log})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	for _, run := range []func(context.Context) error{finder.Run, set.Run} {
		go func() { ended <- run(ctx) }()
	}
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-ended, <-ended); err != nil {
			t.Error(err)
		}
		set.Close()
	})
	return func() (string, error) {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
		if err != nil {
			return "", err
		}
		response, err := set.For(u).RoundTrip(r)
		if err != nil {
			return "", err
		}
		defer func() { _ = response.Body.Close() }()
		text, err := io.ReadAll(response.Body)
		return string(text), err
	}, finder
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for deadline := time.Now().Add(time.Minute); !is(); <-again.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func TestRequestsFollowTheAddressesOfAName(t *testing.T) {
	port, list := machines(t, "127.0.0.1", "127.0.0.2")
	s := newNameServer(t)
	s.has(t, "app.test.", dns.TypeA, "app.test. 1 A 127.0.0.1", "app.test. 1 A 127.0.0.2")
	ask, finder := proxyFor(t, map[rules.SourceKind]Resolver{rules.SourceDNS: s.system(t, "", "").Addresses}, "dns+http://app.test:"+port)
	eventually(t, "answers of both", func() bool {
		if _, err := ask(); err != nil {
			t.Fatal(err)
		}
		return list[0].requests.Load() > 0 && list[1].requests.Load() > 0
	})
	s.has(t, "app.test.", dns.TypeA, "app.test. 1 A 127.0.0.2")
	eventually(t, "the end of the other's connections, without a request", func() bool { return list[0].open.Load() == 0 })
	before := list[0].requests.Load()
	for range 20 {
		if text, err := ask(); err != nil || text != "127.0.0.2" {
			t.Fatalf("%q, %v", text, err)
		}
	}
	for _, code := range []int{dns.RcodeNameError, dns.RcodeServerFailure} {
		s.fails("app.test.", dns.TypeA, code)
		s.fails("app.test.", dns.TypeAAAA, code)
		eventually(t, "a failure that is shown", func() bool { return finder.Status()[0].FailingBecause != "" })
		if text, err := ask(); err != nil || text != "127.0.0.2" || list[0].requests.Load() != before {
			t.Errorf("%s: %q, %v", dns.RcodeToString[code], text, err)
		}
		s.has(t, "app.test.", dns.TypeA, "app.test. 1 A 127.0.0.2")
		s.has(t, "app.test.", dns.TypeAAAA)
		eventually(t, "the end of it", func() bool { return finder.Status()[0].FailingBecause == "" })
	}
}

func TestTheFirstRequestForANameIsAnswered(t *testing.T) {
	port, _ := machines(t, "127.0.0.1")
	s := newNameServer(t)
	s.has(t, "_web._tcp.app.test.", dns.TypeSRV, "_web._tcp.app.test. 60 SRV 0 1 "+port+" a.test.")
	s.has(t, "a.test.", dns.TypeA, "a.test. 60 A 127.0.0.1")
	ask, _ := proxyFor(t, map[rules.SourceKind]Resolver{rules.SourceSRV: s.system(t, "", "").Services}, "srv+http://_web._tcp.app.test")
	if text, err := ask(); err != nil || text != "127.0.0.1" {
		t.Errorf("%q, %v", text, err)
	}
}

func TestRequestsToANameThatNobodyKnowsFindNoTarget(t *testing.T) {
	s := newNameServer(t)
	ask, _ := proxyFor(t, map[rules.SourceKind]Resolver{rules.SourceDNS: s.system(t, "", "").Addresses}, "dns+http://app.test:80")
	if _, err := ask(); !errors.Is(err, upstream.ErrNoTarget) {
		t.Error(err)
	}
}

// TestTargetsFollowAFileWithoutAFailedRequest measures how soon they do, from the moment when the file is in place.
func TestTargetsFollowAFileWithoutAFailedRequest(t *testing.T) {
	port, list := machines(t, "127.0.0.1", "127.0.0.2", "127.0.0.3")
	dir := t.TempDir()
	path := filepath.Join(dir, "web")
	says := func(addresses ...string) {
		var text strings.Builder
		for _, address := range addresses {
			_, _ = fmt.Fprintf(&text, "http://%s\n", net.JoinHostPort(address, port))
		}
		if err := errors.Join(os.WriteFile(path+".new", []byte(text.String()), 0o600), os.Rename(path+".new", path)); err != nil {
			t.Fatal(err)
		}
	}
	says("127.0.0.1")
	ask, finder := proxyFor(t, map[rules.SourceKind]Resolver{rules.SourceFile: Files{Dir: dir, Owner: os.Getuid()}.Lookup}, "file:web")
	stopLoad := load(t, ask)
	for n, pool := range [][]string{{"127.0.0.2", "127.0.0.3"}, {"127.0.0.1"}, {"127.0.0.3"}} {
		says(pool...)
		edited := time.Now()
		eventually(t, "the edit", func() bool {
			return len(finder.Status()) == 1 && slices.EqualFunc(finder.Status()[0].Targets, pool, strings.Contains)
		})
		t.Logf("edit %d is followed after %s", n, time.Since(edited).Round(time.Millisecond))
	}
	if err := os.WriteFile(path, []byte("http://127.0.0.1:port\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "word of the bad line", func() bool { return strings.Contains(finder.Status()[0].FailingBecause, "line 1") })
	eventually(t, "the last of the others", func() bool { return list[0].open.Load()+list[1].open.Load() == 0 })
	before := list[2].requests.Load()
	eventually(t, "requests to the last good pool", func() bool { return list[2].requests.Load() > before+10 })
	if requests := stopLoad(); requests < 50 {
		t.Errorf("only %d requests were made", requests)
	}
}

// load makes requests one after the other, four at once, until it is stopped. None may fail.
func load(t *testing.T, ask func() (string, error)) (stop func() int64) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var asking sync.WaitGroup
	var requests atomic.Int64
	for range 4 {
		asking.Go(func() {
			for ctx.Err() == nil {
				if _, err := ask(); err != nil {
					t.Error(err)
					return
				}
				requests.Add(1)
			}
		})
	}
	stop = func() int64 {
		cancel()
		asking.Wait()
		return requests.Load()
	}
	t.Cleanup(func() { stop() })
	return stop
}
