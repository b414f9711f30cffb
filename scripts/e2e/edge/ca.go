package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"cutover/scripts/e2e/pebble"
)

// How the CA fails.
const (
	caUp       = "up"       // it does not; but the names that fail do not resolve
	caRefusing = "refusing" // orders are answered with 500
	caSilent   = "silent"   // orders are not answered
)

const (
	controlAddress = "127.0.0.1:14001"
	caRootFile     = "/etc/edge-ca.pem"
	issuerFile     = "/etc/edge-issuer.pem"
)

// authority is Pebble behind a front that counts new orders by name, and fails as it is told.
type authority struct {
	pass http.Handler

	mu     sync.Mutex
	mode   string
	orders map[string]int
	asked  map[string]time.Time // when a name was ordered last
}

func newAuthority(directory string, root *http.Transport) (*authority, error) {
	to, err := url.Parse(directory)
	if err != nil {
		return nil, err
	}
	pass := &httputil.ReverseProxy{Transport: root, Rewrite: func(r *httputil.ProxyRequest) {
		r.Out.URL.Scheme, r.Out.URL.Host = to.Scheme, to.Host // Host stays: the directory's URLs are made of it
	}}
	return &authority{pass: pass, mode: caUp, orders: map[string]int{}, asked: map[string]time.Time{}}, nil
}

const (
	newOrderPath = "/order-plz" // Pebble's
	silence      = 2 * time.Minute
)

func (a *authority) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != newOrderPath {
		a.pass.ServeHTTP(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	switch a.count(namesOf(body)) {
	case caRefusing:
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = io.WriteString(w, `{"type":"urn:ietf:params:acme:error:serverInternal","detail":"out of order","status":500}`) // the asker may have left
	case caSilent:
		wait(r.Context(), silence)
	default:
		a.pass.ServeHTTP(w, r)
	}
}

// sameOrder is within what time the ACME client asks again where it is answered 500: of which the CA has made no order.
const sameOrder = 5 * time.Second

// count counts an order and returns the mode.
func (a *authority) count(names []string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, name := range names {
		if a.mode != caRefusing || time.Since(a.asked[name]) > sameOrder {
			a.orders[name]++
		}
		a.asked[name] = time.Now()
	}
	return a.mode
}

// namesOf returns the names of an order, which is signed but not secret (RFC 8555 §7.4).
func namesOf(body []byte) (names []string) {
	var signed struct{ Payload string }
	var order struct{ Identifiers []struct{ Value string } }
	if json.Unmarshal(body, &signed) != nil {
		return []string{"no JWS"}
	}
	payload, err := base64.RawURLEncoding.DecodeString(signed.Payload)
	if err != nil || json.Unmarshal(payload, &order) != nil {
		return []string{"no order"}
	}
	for _, identifier := range order.Identifiers {
		names = append(names, strings.ToLower(identifier.Value))
	}
	return names
}

// control lets the measurement ask for the orders, and change how the CA fails.
func (a *authority) control() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /orders", func(w http.ResponseWriter, _ *http.Request) {
		a.mu.Lock()
		orders := maps.Clone(a.orders)
		a.mu.Unlock()
		_ = json.NewEncoder(w).Encode(orders) // the asker may have left
	})
	mux.HandleFunc("POST /mode/{mode}", func(_ http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.mode = r.PathValue("mode")
	})
	return mux
}

// runCA runs a CA in the box until ctx ends. It prints its directory's URL.
func runCA(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("edge ca", flag.ContinueOnError)
	fail := flags.String("fail", "", "names that do not resolve, separated by commas")
	if err := parse(flags, args, stderr); err != nil {
		return err
	}
	server, err := pebble.Start(pebble.Options{HTTPPort: 80, TLSPort: 443})
	if err != nil {
		return err
	}
	for name := range strings.SplitSeq(*fail, ",") {
		server.Break(name, true)
	}
	err = serveCA(ctx, server, stdout)
	return errors.Join(err, server.Close())
}

func serveCA(ctx context.Context, server *pebble.Server, stdout io.Writer) error {
	transport := &http.Transport{TLSClientConfig: rooted(server.Roots())}
	defer transport.CloseIdleConnections()
	ca, err := newAuthority(server.Directory(), transport)
	if err != nil {
		return err
	}
	front := httptest.NewTLSServer(ca)
	defer front.Close()
	if err := errors.Join(os.WriteFile(caRootFile, pemOf(front.Certificate()), 0o644), os.WriteFile(issuerFile, server.Issuer(), 0o644)); err != nil { //nolint:gosec // certificates are for all
		return err
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", controlAddress)
	if err != nil {
		return err
	}
	control := &http.Server{Handler: ca.control(), ReadHeaderTimeout: time.Minute}
	stop := context.AfterFunc(ctx, func() { _ = control.Close() })
	defer stop()
	fmt.Fprintln(stdout, front.URL+"/dir")
	if err := control.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
