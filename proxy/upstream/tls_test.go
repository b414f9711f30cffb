package upstream

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cutover/rules"
)

// authority signs certificates for tests.
type authority struct {
	*x509.Certificate
	key *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) authority {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	return authority{signed(t, template, template, key, key), key}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func signed(t *testing.T, template, parent *x509.Certificate, key, by *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, by)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

// issue returns a certificate for a name; change may change it before it is signed.
func (a authority) issue(t *testing.T, name string, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, SerialNumber: big.NewInt(2), DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if change != nil {
		change(template)
	}
	leaf := signed(t, template, a.Certificate, key, a.key)
	return tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
}

func pemOf(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// put writes a file as tools do that renew certificates: the name never stands for half a file.
func put(t *testing.T, dir, name string, content []byte) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := errors.Join(os.WriteFile(path+".new", content, 0o600), os.Rename(path+".new", path)); err != nil {
		t.Fatal(err)
	}
}

func putPair(t *testing.T, dir, name string, pair tls.Certificate) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	put(t, dir, name+".crt", pemOf("CERTIFICATE", pair.Certificate[0]))
	put(t, dir, name+".key", pemOf("PRIVATE KEY", der))
}

// secured is a target that shows a certificate, and says by what name it was asked and who asked.
func secured(t *testing.T, pair tls.Certificate, change func(*tls.Config)) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who := "nobody"
		if len(r.TLS.PeerCertificates) > 0 {
			who = r.TLS.PeerCertificates[0].Subject.CommonName
		}
		resumed := map[bool]string{true: "resumed", false: "full"}[r.TLS.DidResume]
		_, _ = io.WriteString(w, strings.Join([]string{r.Proto, r.TLS.ServerName, who, resumed}, " "))
	}))
	server.EnableHTTP2 = true
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	if change != nil {
		change(server.TLS)
	}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}

// known is an upstream of one target with what is said of its TLS.
func known(url string, row rules.TargetTLS) *rules.Upstream {
	u := upstreamOf(url)
	u.TargetTLS = row
	return u
}

// askOnce asks over a connection of its own.
func askOnce(t *testing.T, p *Pool) (string, error) {
	t.Helper()
	text, err := do(t.Context(), t, p, http.MethodGet, "")
	p.closeIdle(nil)
	return text, err
}

func TestATargetIsKnownByAnAuthorityOfItsOwnUnderTheNameThatTheRowSays(t *testing.T) {
	ca := newAuthority(t, "Ours")
	server := secured(t, ca.issue(t, "app.internal", nil), nil)
	dir := t.TempDir()
	put(t, dir, "ours.pem", pemOf("CERTIFICATE", ca.Raw))
	for kind, proto := range map[string]string{"https": "HTTP/1.1", "h2": "HTTP/2.0"} {
		url := strings.Replace(server.URL, "https", kind, 1)
		set := newSet(t, Options{FilesDir: dir, Roots: x509.NewCertPool()})
		got, err := askOnce(t, set.For(known(url, rules.TargetTLS{CA: "ours", ServerName: "app.internal"})))
		if want := proto + " app.internal nobody full"; err != nil || got != want {
			t.Errorf("%s: %q, %v", kind, got, err)
		}
	}
}

func TestAnAuthorityThatTheRowDoesNotNameIsNotBelieved(t *testing.T) {
	ca, other := newAuthority(t, "Ours"), newAuthority(t, "Other")
	server := secured(t, other.issue(t, "app.internal", nil), nil)
	dir := t.TempDir()
	put(t, dir, "ours.pem", pemOf("CERTIFICATE", ca.Raw))
	everybody := x509.NewCertPool()
	everybody.AddCert(other.Certificate)
	_, err := askOnce(t, newSet(t, Options{FilesDir: dir, Roots: everybody}).For(known(server.URL, rules.TargetTLS{CA: "ours"})))
	if want := "signed by CN=Other, which " + dir + "/ours.pem does not hold"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestAnErrorOfTLSSaysWhichTargetAndWhyAndWhatToDo(t *testing.T) {
	ca := newAuthority(t, "Ours")
	dir := t.TempDir()
	put(t, dir, "ours.pem", pemOf("CERTIFICATE", ca.Raw))
	good := secured(t, ca.issue(t, "app.internal", nil), nil)
	ended := secured(t, ca.issue(t, "app.internal", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }), nil)
	early := secured(t, ca.issue(t, "app.internal", func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }), nil)
	plain := newScript(t)
	only1 := secured(t, ca.issue(t, "app.internal", nil), func(c *tls.Config) { c.NextProtos = []string{"http/1.1"} })
	for _, row := range []struct {
		url  string
		tls  rules.TargetTLS
		want string
	}{
		{good.URL, rules.TargetTLS{CA: "ours", ServerName: "shop.test"}, "its certificate is for app.internal, 127.0.0.1, not for shop.test: set tls_server_name"},
		{ended.URL, rules.TargetTLS{CA: "ours"}, "its certificate ended on "},
		{early.URL, rules.TargetTLS{CA: "ours"}, "its certificate begins on "},
		{good.URL, rules.TargetTLS{}, "signed by CN=Ours, which nobody here trusts: put that authority's certificate into " + dir + "/NAME.pem and set tls_ca"},
		{strings.Replace(plain.URL, "http", "https", 1), rules.TargetTLS{}, "speaks no TLS there: write its url with http://"},
		{strings.Replace(only1.URL, "https", "h2", 1), rules.TargetTLS{CA: "ours"}, "no HTTP/2 there (ALPN h2): write its url with https://"},
		{good.URL, rules.TargetTLS{CA: "missing"}, "tls_ca: open " + dir + "/missing.pem: no such file"},
		{good.URL, rules.TargetTLS{CA: "../x"}, "tls_ca: the name must be"},
		{good.URL, rules.TargetTLS{Pin: "x"}, "tls_pin must be"},
	} {
		u := known(row.url, row.tls)
		_, err := askOnce(t, newSet(t, Options{FilesDir: dir, Roots: x509.NewCertPool()}).For(u))
		if err == nil || !strings.Contains(err.Error(), row.want) || !strings.Contains(err.Error(), row.url) || !errors.Is(err, ErrUnreachable) {
			t.Errorf("%s %+v:\n got %v\nwant %s", row.url, row.tls, err, row.want)
		}
	}
}

func TestAPinnedKeyNeedsNoAuthorityNoNameAndNoDate(t *testing.T) {
	pair := newAuthority(t, "Whoever").issue(t, "other.test", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	server := secured(t, pair, nil)
	right, wrong := curlsPin(pinOf(pair.Leaf)), curlsPin(pin{1})
	set := newSet(t, Options{Roots: x509.NewCertPool()})
	for range 2 { // the second may be resumed
		if got, err := askOnce(t, set.For(known(server.URL, rules.TargetTLS{Pin: wrong + "," + strings.TrimPrefix(right, "sha256//")}))); err != nil {
			t.Errorf("%q, %v", got, err)
		}
	}
	_, err := askOnce(t, set.For(known(server.URL, rules.TargetTLS{Pin: wrong})))
	if want := "the key of its certificate is " + right + ", which tls_pin does not name"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestACertificateThatATargetOnlySendsAlongIsNotItsPin(t *testing.T) {
	ca := newAuthority(t, "Ours")
	pinned := ca.issue(t, "app.internal", nil)
	thief := ca.issue(t, "app.internal", nil)
	thief.Certificate = append(thief.Certificate, pinned.Certificate[0])
	server := secured(t, thief, nil)
	if got, err := askOnce(t, newSet(t, Options{}).For(known(server.URL, rules.TargetTLS{Pin: curlsPin(pinOf(pinned.Leaf))}))); err == nil {
		t.Errorf("it answered %q", got)
	}
}

func TestWithAPinAndAnAuthorityBothAreAsked(t *testing.T) {
	ca, other := newAuthority(t, "Ours"), newAuthority(t, "Other")
	dir := t.TempDir()
	put(t, dir, "ours.pem", pemOf("CERTIFICATE", ca.Raw))
	good, foreign := ca.issue(t, "app.internal", nil), other.issue(t, "app.internal", nil)
	for _, row := range []struct {
		shown, pinned tls.Certificate
		ok            bool
	}{{good, good, true}, {good, foreign, false}, {foreign, foreign, false}} {
		server := secured(t, row.shown, nil)
		_, err := askOnce(t, newSet(t, Options{FilesDir: dir}).For(known(server.URL, rules.TargetTLS{CA: "ours", Pin: curlsPin(pinOf(row.pinned.Leaf))})))
		if (err == nil) != row.ok {
			t.Errorf("%s with the pin of %s: %v", row.shown.Leaf.Issuer, row.pinned.Leaf.Issuer, err)
		}
	}
}

// asksForCertificates is a target that wants to know who asks.
func asksForCertificates(t *testing.T, ca authority) *httptest.Server {
	t.Helper()
	clients := x509.NewCertPool()
	clients.AddCert(ca.Certificate)
	return secured(t, ca.issue(t, "app.internal", nil), func(c *tls.Config) {
		c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, clients
	})
}

func TestChangedFilesOfAClientCertificateAreUsedForTheNextHandshake(t *testing.T) {
	ca := newAuthority(t, "Ours")
	server := asksForCertificates(t, ca)
	dir := t.TempDir()
	put(t, dir, "ours.pem", pemOf("CERTIFICATE", ca.Raw))
	for kind, proto := range map[string]string{"https": "HTTP/1.1", "h2": "HTTP/2.0"} {
		putPair(t, dir, "me", ca.issue(t, "first", nil))
		p := newSet(t, Options{FilesDir: dir}).For(known(strings.Replace(server.URL, "https", kind, 1), rules.TargetTLS{CA: "ours", Certificate: "me"}))
		for _, want := range []string{"first full", "first resumed"} {
			if got, err := askOnce(t, p); err != nil || got != proto+"  "+want {
				t.Errorf("%s: %q, %v, want %q", kind, got, err, want)
			}
		}
		putPair(t, dir, "me", ca.issue(t, "second", nil))
		if got, err := askOnce(t, p); err != nil || got != proto+"  second full" {
			t.Errorf("%s: %q, %v", kind, got, err)
		}
	}
}

func TestATargetThatWantsACertificateSaysSo(t *testing.T) {
	ca := newAuthority(t, "Ours")
	server := asksForCertificates(t, ca)
	dir := t.TempDir()
	put(t, dir, "ours.pem", pemOf("CERTIFICATE", ca.Raw))
	putPair(t, dir, "stranger", newAuthority(t, "Other").issue(t, "x", nil))
	for name, want := range map[string]string{
		"":         "the target wants a client certificate: set tls_certificate",
		"stranger": "the target does not take the client certificate stranger",
	} {
		_, err := askOnce(t, newSet(t, Options{FilesDir: dir}).For(known(server.URL, rules.TargetTLS{CA: "ours", Certificate: name})))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestWhileNewFilesAreBadTheLastGoodOnesHoldAndTheStatusAndTheLogSayWhy(t *testing.T) {
	ca := newAuthority(t, "Ours")
	server := asksForCertificates(t, ca)
	dir := t.TempDir()
	put(t, dir, "ours.pem", pemOf("CERTIFICATE", ca.Raw))
	putPair(t, dir, "me", ca.issue(t, "first", nil))
	u := known(server.URL, rules.TargetTLS{CA: "ours", Certificate: "me"})
	var lines lockedLines
	set := newSet(t, Options{FilesDir: dir, Log: slog.New(slog.NewTextHandler(&lines, nil)), Upstreams: func() []*rules.Upstream { return []*rules.Upstream{u} }})
	if got, err := askOnce(t, set.For(u)); err != nil || !strings.Contains(got, "first") {
		t.Fatalf("%q, %v", got, err)
	}
	put(t, dir, "me.key", []byte("nonsense"))
	put(t, dir, "ours.pem", nil)
	problem := set.Status()[0].Targets[0].TLSProblem
	if want := "tls_ca: " + dir + "/ours.pem holds no certificate: it must be PEM, -----BEGIN CERTIFICATE-----; the last good files hold"; problem != want {
		t.Errorf("the status says %q, want %q", problem, want)
	}
	for range 3 {
		if got, err := askOnce(t, set.For(u)); err != nil || !strings.Contains(got, "first") {
			t.Errorf("%q, %v", got, err)
		}
	}
	if n := strings.Count(lines.String(), "ours.pem holds no certificate"); n != 1 {
		t.Errorf("the log says it %d times:\n%s", n, lines.String())
	}
	put(t, dir, "ours.pem", pemOf("CERTIFICATE", ca.Raw))
	putPair(t, dir, "me", ca.issue(t, "second", nil))
	if got, err := askOnce(t, set.For(u)); err != nil || !strings.Contains(got, "second") || set.Status()[0].Targets[0].TLSProblem != "" {
		t.Errorf("%q, %v, %+v", got, err, set.Status())
	}
}

type lockedLines struct {
	mu sync.Mutex
	bytes.Buffer
}

func (l *lockedLines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Buffer.Write(b)
}

func (l *lockedLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Buffer.String()
}

func TestATargetWhoseFilesNeverWereGoodFailsUntilTheyAre(t *testing.T) {
	ca := newAuthority(t, "Ours")
	server := secured(t, ca.issue(t, "app.internal", nil), nil)
	dir := t.TempDir()
	set := runSet(t, Options{FilesDir: dir})
	p := set.For(known(server.URL, rules.TargetTLS{CA: "late"}))
	for !p.targets[0].fails() {
		if _, err := askOnce(t, p); err == nil || !strings.Contains(err.Error(), "late.pem") {
			t.Fatalf("got %v", err)
		}
	}
	put(t, dir, "late.pem", pemOf("CERTIFICATE", ca.Raw))
	eventually(t, "the target to be well", func() bool { return !p.targets[0].fails() })
}

func TestAHandshakeIsBoundedByTheRow(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") // the kernel accepts, and nobody answers
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	for _, kind := range []string{"https://", "h2://"} {
		u := upstreamOf(kind + listener.Addr().String())
		u.Timeouts.TLS = 0.05
		_, err := do(t.Context(), t, newSet(t, Options{}).For(u), http.MethodGet, "")
		if !IsTimeout(err) || !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "the TLS handshake took longer than 50ms") {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

func TestRequestsShareAConnectionOfHTTP2OverTLS(t *testing.T) {
	ca := newAuthority(t, "Ours")
	var handshakes atomic.Int64
	server := secured(t, ca.issue(t, "app.internal", nil), func(c *tls.Config) {
		c.VerifyConnection = func(tls.ConnectionState) error { handshakes.Add(1); return nil }
	})
	roots := x509.NewCertPool()
	roots.AddCert(ca.Certificate)
	p := newSet(t, Options{Roots: roots}).For(upstreamOf(strings.Replace(server.URL, "https", "h2", 1)))
	for n := range 20 {
		method := []string{http.MethodGet, http.MethodPost}[n%2]
		if got, err := do(t.Context(), t, p, method, ""); err != nil || !strings.HasPrefix(got, "HTTP/2.0") {
			t.Fatalf("%q, %v", got, err)
		}
	}
	if n := handshakes.Load(); n > 3 { // see TestRequestsShareAConnectionOfHTTP2
		t.Errorf("%d handshakes", n)
	}
}

// upgrading is a target over TLS that changes the protocol, with what it says it speaks.
func upgrading(t *testing.T, ca authority, protocols ...string) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			w.WriteHeader(http.StatusHTTPVersionNotSupported)
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nhello")
		_ = c.Close()
	}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "app.internal", nil)}, NextProtos: protocols}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}

func TestWhatWantsToLeaveHTTPGoesToAnHTTP2TargetAsHTTP1IfItsALPNAllowsIt(t *testing.T) {
	ca := newAuthority(t, "Ours")
	roots := x509.NewCertPool()
	roots.AddCert(ca.Certificate)
	for _, row := range []struct {
		protocols []string
		want      string
	}{{[]string{"h2", "http/1.1"}, ""}, {[]string{"h3"}, "the target's ALPN allows no HTTP/1.1"}} {
		server := upgrading(t, ca, row.protocols...)
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		r.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"x"}}
		response, err := newSet(t, Options{Roots: roots}).For(upstreamOf(strings.Replace(server.URL, "https", "h2", 1))).RoundTrip(r)
		if row.want != "" {
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("%v: got %v", row.protocols, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%v: %v", row.protocols, err)
			continue
		}
		text, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil || response.StatusCode != http.StatusSwitchingProtocols || string(text) != "hello" {
			t.Errorf("%v: %s %q, %v", row.protocols, response.Status, text, err)
		}
	}
}

func TestATargetOfHTTP2IsCheckedOverTLS(t *testing.T) {
	ca := newAuthority(t, "Ours")
	server := secured(t, ca.issue(t, "app.internal", nil), nil)
	roots := x509.NewCertPool()
	roots.AddCert(ca.Certificate)
	c := newSet(t, Options{Roots: roots}).For(upstreamOf(strings.Replace(server.URL, "https", "h2", 1))).targets[0].connections
	if err := c.try(context.Background()); err != nil {
		t.Error(err)
	}
}

// Root can read a file whatever its permissions are, so it is seen by its being read anew that they have changed.
func TestAFileWhosePermissionsChangeIsReadAnew(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "ours.pem", pemOf("CERTIFICATE", newAuthority(t, "Ours").Raw))
	files := newTLSFiles(dir, slog.New(slog.DiscardHandler))
	first, err := files.get(tlsNames{ca: "ours"})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "it to be read anew", func() bool { // dates are not exact
		if err := os.Chmod(filepath.Join(dir, "ours.pem"), 0o640); err != nil {
			t.Fatal(err)
		}
		now, err := files.get(tlsNames{ca: "ours"})
		return err == nil && now != first
	})
}
