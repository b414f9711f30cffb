package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/bcrypt"

	"cutover/rules"
)

func guardRow(id int64, host string, change func(*rules.GuardRow)) rules.GuardRow {
	row := rules.GuardRow{ID: id, Host: host, Path: "/", Enabled: true, Needs: 1}
	if change != nil {
		change(&row)
	}
	return row
}

func hashed(t testing.TB, name, password string) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return name + ":" + string(hash)
}

// guardedSite is a proxy before a v1 that keeps what it gets, with guards for a.test.
func guardedSite(t *testing.T, some ...rules.GuardRow) (*site, *seen) {
	t.Helper()
	v1 := &seen{}
	s := newSite(t, v1, nil, func(s *site) {
		trustLoopback(s)
		s.rows.Guards = some
		s.rows.Redirects = []rules.Redirect{{ID: 1, Host: "a.test", Path: "/old", Match: rules.KindPrefix, ToURL: "https://b.test/", Status: 301, Enabled: true, Needs: 1}}
	})
	return s, v1
}

func from(client string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set("X-Forwarded-For", client) }
}

func basic(name, password string) func(*http.Request) {
	return func(r *http.Request) { r.SetBasicAuth(name, password) }
}

func TestAnAddressThatAGuardRefusesReachesNeitherRedirectNorTarget(t *testing.T) {
	s, v1 := guardedSite(t, guardRow(1, "a.test", func(r *rules.GuardRow) { r.Deny = "192.0.2.0/24" }))
	for _, path := range []string{"/", "/old"} {
		if got := s.get(t, "a.test", path, from("192.0.2.7")); got.StatusCode != http.StatusForbidden || got.Header.Get("Set-Cookie") != "" || !strings.Contains(got.body, "403 Forbidden") {
			t.Errorf("%s: %d %q", path, got.StatusCode, got.body)
		}
	}
	if v1.last.Load() != nil {
		t.Error("the target was asked")
	}
	if got := s.get(t, "a.test", "/", from("198.51.100.1")); got.StatusCode != http.StatusOK {
		t.Errorf("another address gets %d", got.StatusCode)
	}
	if got := s.get(t, "b.test", "/", from("192.0.2.7")); got.StatusCode != http.StatusOK {
		t.Errorf("another host answers %d", got.StatusCode)
	}
	eventually(t, "the access line", func() bool {
		return strings.Contains(s.lines.String(), `"guard":1,"refused":"address","error"`) && strings.Contains(s.lines.String(), `"status":403`)
	})
	if text := metricsOf(t, s); !strings.Contains(text, `cutover_refused_total{reason="address"} 2`) || strings.Contains(text, `code="4xx",target="",upstream="v1"`) {
		t.Error(text)
	}
}

func metricsOf(t *testing.T, s *site) string {
	t.Helper()
	var lines []string
	recorder := newRecorder()
	s.handler.Metrics.Handler().ServeHTTP(recorder, &http.Request{Method: http.MethodGet, Header: http.Header{}})
	for line := range strings.Lines(recorder.text.String()) {
		if strings.HasPrefix(line, "cutover_re") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

// textRecorder is a ResponseWriter that keeps the text.
type textRecorder struct {
	header http.Header
	text   strings.Builder
}

func newRecorder() *textRecorder                       { return &textRecorder{header: http.Header{}} }
func (r *textRecorder) Header() http.Header            { return r.header }
func (r *textRecorder) WriteHeader(int)                {}
func (r *textRecorder) Write(text []byte) (int, error) { return r.text.Write(text) }

func TestAPathThatCanBeReadPastAGuardIsRefused(t *testing.T) {
	s, v1 := guardedSite(t, guardRow(1, "a.test", func(r *rules.GuardRow) { r.Path, r.Allow = "/admin", "192.0.2.1" }))
	for _, path := range []string{"//admin", "/x/..%2fadmin", "/admin;x/y"} {
		if got := s.get(t, "a.test", path, nil); got.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %d", path, got.StatusCode)
		}
	}
	if v1.last.Load() != nil {
		t.Error("the target was asked")
	}
}

func TestAClientThatComesTooOftenIsToldWhenToComeAgain(t *testing.T) {
	s, _ := guardedSite(t, guardRow(1, "a.test", func(r *rules.GuardRow) { r.Rate, r.Burst = 0.1, 2 }))
	codes := map[string][]int{}
	for _, client := range []string{"192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2", "2001:db8:0:1::1", "2001:db8:0:1::2", "2001:db8:0:1::3", "2001:db8:0:2::1"} {
		got := s.get(t, "a.test", "/", from(client))
		codes[client] = append(codes[client], got.StatusCode)
		if wait := got.Header.Get("Retry-After"); got.StatusCode == http.StatusTooManyRequests && wait != "10" && wait != "9" {
			t.Errorf("to come again in %q", wait)
		}
	}
	want := "map[192.0.2.1:[200 200 429] 192.0.2.2:[200] 2001:db8:0:1::1:[200] 2001:db8:0:1::2:[200] 2001:db8:0:1::3:[429] 2001:db8:0:2::1:[200]]"
	if got := fmt.Sprint(codes); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestLimitsComeBackWithTimeAndFollowTheRow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l limits
		key := limitKey{1, netip.MustParseAddr("192.0.2.1")}
		if l.take(key, 2, 1, time.Now()) != 0 || l.take(key, 2, 1, time.Now()) != 500*time.Millisecond {
			t.Error("two a second are not one each half second")
		}
		time.Sleep(500 * time.Millisecond)
		if l.left(key, 2, 1, time.Now()) != 0 || l.take(key, 2, 1, time.Now()) != 0 {
			t.Error("there is no room again")
		}
		if l.take(key, 2, 5, time.Now()) == 0 {
			t.Error("a greater burst is not earned yet")
		}
		time.Sleep(10 * time.Second)
		for range 5 {
			if l.take(key, 2, 5, time.Now()) != 0 {
				t.Error("the new burst is not in force")
			}
		}
	})
}

func TestManyClientsFillNoMemory(t *testing.T) {
	var l limits
	now := time.Now()
	for i := range maxLimits + 100 {
		l.take(limitKey{1, netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})}, 1, 1, now)
		l.take(limitKey{2, netip.AddrFrom4([4]byte{192, 0, 2, 1})}, 1, 1, now) // who comes all the time is not forgotten
	}
	if len(l.known) != maxLimits || l.recent.Len() != maxLimits || l.left(limitKey{2, netip.AddrFrom4([4]byte{192, 0, 2, 1})}, 1, 1, now) == 0 {
		t.Errorf("%d, %d are known", len(l.known), l.recent.Len())
	}
}

func TestAPasswordIsAskedForAndKeptFromTheTarget(t *testing.T) {
	s, v1 := guardedSite(t, guardRow(1, "a.test", func(r *rules.GuardRow) {
		r.Path, r.Users = "/admin", hashed(t, "anna", "se:cret")+" "+hashed(t, "bo", "")
	}))
	for name, change := range map[string]func(*http.Request){
		"no password": nil, "a wrong one": basic("anna", "x"), "an unknown name": basic("carl", "se:cret"), "another's": basic("bo", "se:cret"), "a long one": basic("anna", "se:cret"+strings.Repeat("x", 100)),
		"another scheme": func(r *http.Request) { r.Header.Set("Authorization", "Bearer x") },
	} {
		got := s.get(t, "a.test", "/admin/x", change)
		if got.StatusCode != http.StatusUnauthorized || got.Header.Get("WWW-Authenticate") != `Basic realm="a.test", charset="UTF-8"` || got.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d %v", name, got.StatusCode, got.Header)
		}
	}
	if v1.last.Load() != nil {
		t.Error("the target was asked")
	}
	for range 2 { // checked, then remembered
		if got := s.get(t, "a.test", "/admin/x", basic("anna", "se:cret")); got.StatusCode != http.StatusOK {
			t.Errorf("the right one: %d", got.StatusCode)
		}
		if _, there := v1.last.Load().Header["Authorization"]; there {
			t.Error("the target got the password")
		}
	}
	s.get(t, "a.test", "/", basic("for", "v1"))
	if name, _, _ := v1.last.Load().BasicAuth(); name != "for" {
		t.Error("what no guard asked for does not reach the target")
	}
}

func TestARightPasswordIsForgottenWhenItIsChanged(t *testing.T) {
	s, _ := guardedSite(t, guardRow(1, "a.test", func(r *rules.GuardRow) { r.Users = hashed(t, "anna", "old") }))
	if got := s.get(t, "a.test", "/", basic("anna", "old")); got.StatusCode != http.StatusOK {
		t.Error(got.StatusCode)
	}
	s.rows.Guards[0].Users = hashed(t, "anna", "new")
	s.publish(t)
	if got := s.get(t, "a.test", "/", basic("anna", "old")); got.StatusCode != http.StatusUnauthorized {
		t.Error("the old one:", got.StatusCode)
	}
	if got := s.get(t, "a.test", "/", basic("anna", "new")); got.StatusCode != http.StatusOK {
		t.Error("the new one:", got.StatusCode)
	}
}

func TestWhoGuessesPasswordsHasToWaitAndOthersHaveNot(t *testing.T) {
	s, _ := guardedSite(t, guardRow(1, "a.test", func(r *rules.GuardRow) { r.Users = hashed(t, "anna", "right") }))
	guess := func(client, password string) answer {
		return s.get(t, "a.test", "/", func(r *http.Request) { from(client)(r); r.SetBasicAuth("anna", password) })
	}
	guess("192.0.2.2", "right") // is remembered
	for range failureBurst {
		if got := guess("192.0.2.1", "wrong"); got.StatusCode != http.StatusUnauthorized {
			t.Fatal(got.StatusCode)
		}
	}
	if got := guess("192.0.2.1", "wrong"); got.StatusCode != http.StatusTooManyRequests || got.Header.Get("Retry-After") == "" {
		t.Errorf("the next guess: %d", got.StatusCode)
	}
	if got := guess("192.0.2.1", "right"); got.StatusCode != http.StatusOK {
		t.Errorf("what is known to be right: %d", got.StatusCode)
	}
	if got := guess("192.0.2.3", "wrong"); got.StatusCode != http.StatusUnauthorized {
		t.Errorf("somebody else: %d", got.StatusCode)
	}
}

func TestAPasswordIsNotAskedForInClearTextWhereTheHostAsksForHTTPS(t *testing.T) {
	s := newSite(t, says("v1"), nil, func(s *site) {
		s.rows.Hosts = []rules.Host{{Host: "*.test", HTTPS: rules.HTTPSRedirect, Needs: 1}}
		s.rows.Guards = []rules.GuardRow{guardRow(1, "*", func(r *rules.GuardRow) { r.Users = hashed(t, "anna", "x") })}
		s.handler.CertificateReady = func(string) bool { return true }
	})
	if got := s.get(t, "a.test", "/", nil); got.StatusCode != http.StatusPermanentRedirect {
		t.Error(got.StatusCode)
	}
}

func TestClearTextOfAHostThatIsPassedThroughIsRedirectedWithoutACertificate(t *testing.T) {
	s := newSite(t, says("v1"), nil, func(s *site) {
		s.rows.Hosts = []rules.Host{{Host: "a.test", HTTPS: rules.HTTPSRedirect, TLS: rules.TLSPassthrough, Needs: 1}}
		s.handler.PrepareCertificate = func(string, netip.Addr) { t.Error("a certificate is asked for") }
	})
	if got := s.get(t, "a.test", "/", nil); got.StatusCode != http.StatusPermanentRedirect {
		t.Error(got.StatusCode)
	}
}

func compiledGuard(t *testing.T, users string) *rules.Guard {
	t.Helper()
	view, problems := rules.Compile(rules.Rows{Guards: []rules.GuardRow{guardRow(1, "a.test", func(r *rules.GuardRow) { r.Users = users })}}, nil, time.Now())
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return view.Guard("a.test", "/")
}

func TestFewPasswordsAreCheckedAtOnceAndNobodyWaitsForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p passwords
		p.prepare()
		for range cap(p.slots) {
			p.slots <- struct{}{}
		}
		guard := compiledGuard(t, hashed(t, "anna", "x"))
		began := time.Now()
		var waiting sync.WaitGroup
		for range 20 {
			waiting.Go(func() {
				if _, err := p.check(context.Background(), &credentials{guard, "anna", "x"}, always); !errors.Is(err, errBusy) {
					t.Error(err)
				}
			})
		}
		waiting.Wait()
		if took := time.Since(began); took != checkWait {
			t.Error(took)
		}
	})
}

func TestRightPasswordsAreRememberedForAWhileAndOnlySoMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p passwords
		c := &credentials{compiledGuard(t, hashed(t, "anna", "x")), "anna", "x"}
		if right, err := p.check(t.Context(), c, always); !right || err != nil || !p.knows(c, time.Now()) {
			t.Error(right, err)
		}
		if wrong := *c; wrong.guard != nil {
			wrong.password = "y"
			if right, _ := p.check(t.Context(), &wrong, always); right || p.knows(&wrong, time.Now()) {
				t.Error("a wrong one is right")
			}
		}
		time.Sleep(knownFor)
		if p.knows(c, time.Now()) {
			t.Error("it is remembered for ever")
		}
		for i := range 2 * maxKnown {
			p.remember([32]byte{byte(i), byte(i >> 8)}, time.Now())
		}
		if len(p.known) > maxKnown {
			t.Errorf("%d are remembered", len(p.known))
		}
	})
}

func TestGuardingSaysWhatAGuardWouldDo(t *testing.T) {
	s, _ := guardedSite(t, guardRow(7, "*.test", func(r *rules.GuardRow) {
		r.Deny, r.Rate, r.Users, r.Path = "192.0.2.1", 2.5, hashed(t, "anna", "x"), "/admin"
	}))
	ask := func(path, client string) Guarding {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://a.test"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.RemoteAddr = client + ":1"
		return s.handler.Guarding(r)
	}
	if g := ask("/", "192.0.2.1"); g.Guard != nil || g.Status != 0 || g.Why != nil {
		t.Errorf("%+v", g)
	}
	if g := ask("/admin", "192.0.2.1"); g.Guard.ID != 7 || g.Status != 403 || !strings.Contains(g.Why[0], "Guard 7 (*.test/admin) holds: it refuses the address 192.0.2.1") {
		t.Errorf("%+v", g)
	}
	if g := ask("/admin", "192.0.2.2"); g.Status != 0 || !strings.Contains(strings.Join(g.Why, " "), "2.5 requests a second, and 3 at once") || !strings.Contains(strings.Join(g.Why, " "), "anna") {
		t.Errorf("%+v", g)
	}
	if g := ask("//admin", "192.0.2.2"); g.Status != 400 {
		t.Errorf("%+v", g)
	}
}

func BenchmarkARequestThatAGuardLetsIn(b *testing.B) {
	view, _ := rules.Compile(rules.Rows{Guards: []rules.GuardRow{guardRow(1, "a.test", func(r *rules.GuardRow) { r.Rate, r.Deny = 1e6, "192.0.2.0/24" })}}, nil, time.Now())
	h := &Handler{}
	r, err := http.NewRequestWithContext(b.Context(), http.MethodGet, "http://a.test/x", nil)
	if err != nil {
		b.Fatal(err)
	}
	e := &exchange{in: r, host: "a.test", client: netip.MustParseAddr("198.51.100.1")}
	b.ReportAllocs()
	for b.Loop() {
		_ = h.admit(e, view) // a fast machine comes more often than a million times a second
	}
}

func always() bool { return true }

func TestWrongPasswordsThatComeAtOnceAreNoMoreThanOthers(t *testing.T) {
	s, _ := guardedSite(t, guardRow(1, "a.test", func(r *rules.GuardRow) { r.Users = hashed(t, "anna", "right") }))
	var guesses sync.WaitGroup
	var checked atomic.Int64
	for i := range 60 {
		guesses.Go(func() {
			r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/", nil)
			r.Host = "a.test"
			r.SetBasicAuth("anna", fmt.Sprint("wrong", i))
			a, err := s.Client().Do(r)
			if err != nil {
				t.Error(err)
				return
			}
			_ = a.Body.Close()
			if a.StatusCode == http.StatusUnauthorized {
				checked.Add(1)
			}
		})
	}
	guesses.Wait()
	if n, most := checked.Load(), int64(failureBurst+2*runtime.GOMAXPROCS(0)); n < failureBurst || n > most {
		t.Errorf("%d of 60 guesses were checked, want %d to %d", n, failureBurst, most)
	}
}

func TestAPathIsGuardedAsTheTargetGetsIt(t *testing.T) {
	s, _ := guardedSite(t, guardRow(1, "a.test", func(r *rules.GuardRow) { r.Path, r.Deny = "/admin", "127.0.0.1" }))
	for path, want := range map[string]string{
		`/admin/..%2Fpublic"`: "400", `/admin/x"`: "403", "/caf\xc3\xa9": "200", `/public"`: "200", "//admin/%252e%252e/": "400",
	} {
		got := s.raw(t, "GET "+path+" HTTP/1.1\nHost: a.test\nConnection: close\n\n")
		if !strings.HasPrefix(got, "HTTP/1.1 "+want) {
			t.Errorf("%s: %.30q, want %s", path, got, want)
		}
	}
}

// bcrypt's cost is a power of two. A name that is not there must take as long as one that is, whatever its hash costs.
func TestAWrongPasswordCostsTheSameWhoeverHasIt(t *testing.T) {
	users := ""
	for name, cost := range map[string]int{"anna": 4, "bo": 6, "carl": 5} {
		hash, err := bcrypt.GenerateFromPassword([]byte("right"), cost)
		if err != nil {
			t.Fatal(err)
		}
		users += " " + name + ":" + string(hash)
	}
	guard := compiledGuard(t, users)
	for _, name := range []string{"anna", "bo", "carl", "nobody"} {
		c := &credentials{guard, name, "wrong"}
		hash, there := c.hash()
		if there != (name != "nobody") || there && hash != guard.Users[name] {
			t.Errorf("%s: compared with %s, %v", name, hash, there)
		}
		work := 0
		for _, hash := range append(c.fillers(hash), hash) {
			cost, err := bcrypt.Cost([]byte(hash))
			if err != nil || !errors.Is(bcrypt.CompareHashAndPassword([]byte(hash), []byte("wrong")), bcrypt.ErrMismatchedHashAndPassword) {
				t.Fatal(hash, err)
			}
			work += 1 << cost
		}
		if work != 1<<6 {
			t.Errorf("%s: %d rounds, want %d", name, work, 1<<6)
		}
	}
	if c := (&credentials{guard, "bo", "right"}); len(c.fillers(guard.Users["bo"])) != 0 {
		t.Error("the costliest is filled up")
	}
}
