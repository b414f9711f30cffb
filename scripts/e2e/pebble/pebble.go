// Package pebble runs a real ACME server, Let's Encrypt's Pebble, in this process, with a DNS server of its own that
// answers every name with one address.
package pebble

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
	"github.com/miekg/dns"
)

// Options says where Pebble looks for the answers to its challenges.
type Options struct {
	HTTPPort, TLSPort int
	Answer            net.IP        // of every name; nil means 127.0.0.1
	Resolver          string        // host:port of a DNS server that is asked, on TCP, instead of one that answers so
	Names             string        // host:port of our own DNS server; empty means some port of 127.0.0.1
	Manage            string        // host:port where TXT records are set and cleared by HTTP, see records; empty for nowhere
	Validity          uint64        // of certificates, in seconds; 0 means 90 days
	Slow              time.Duration // how long the DNS takes to say that it does not know a broken name
	Log               io.Writer
	// Orders is how many orders are taken within OrdersWindow; 0 is no limit.
	Orders       int
	OrdersWindow time.Duration
}

// Server is a running Pebble.
type Server struct {
	api    *httptest.Server
	ca     *ca.CAImpl
	store  *db.MemoryStore
	names  []*dns.Server
	texts  *records
	answer net.IP
	orders atomic.Int64
	limit  *limiter
	slow   time.Duration

	mu     sync.Mutex
	broken map[string]bool
	down   bool
}

// Start starts Pebble. The caller closes it. It sets PEBBLE_* variables of this process, which Pebble reads.
func Start(o Options) (*Server, error) {
	for name, value := range map[string]string{"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0", "PEBBLE_AUTHZREUSE": "0"} {
		if err := os.Setenv(name, value); err != nil {
			return nil, err
		}
	}
	if o.Answer == nil {
		o.Answer = net.IPv4(127, 0, 0, 1)
	}
	if o.Validity == 0 {
		o.Validity = 90 * 24 * 3600
	}
	if o.Log == nil {
		o.Log = io.Discard
	}
	s := &Server{answer: o.Answer, broken: map[string]bool{}, slow: o.Slow, limit: &limiter{orders: o.Orders, window: o.OrdersWindow}, texts: &records{}}
	resolver, err := s.serveNames(cmp.Or(o.Names, "127.0.0.1:0"))
	if err != nil {
		return nil, err
	}
	if o.Manage != "" {
		if err := s.texts.serve(o.Manage); err != nil {
			return nil, err
		}
	}
	if o.Resolver != "" {
		resolver = o.Resolver
	}
	logger := log.New(o.Log, "", 0)
	store := db.NewMemoryStore()
	authority := ca.New(logger, store, "", "ecdsa", 0, 1, map[string]ca.Profile{"default": {Description: "default", ValidityPeriod: o.Validity}})
	validation := va.New(logger, o.HTTPPort, o.TLSPort, false, resolver, store)
	front := wfe.New(logger, store, validation, authority, []string{"pebble.test"}, false, false, 1, 1)
	s.ca, s.store = authority, store
	s.api = httptest.NewTLSServer(s.count(front.Handler()))
	return s, nil
}

// countPath is where the server says how many orders were made, for tests on other machines.
const countPath = "/count"

// count counts new orders, and fails everything while the server is down.
func (s *Server) count(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		down := s.down
		s.mu.Unlock()
		if down {
			http.Error(w, "down for a test", http.StatusServiceUnavailable)
			return
		}
		if r.URL.Path == countPath {
			fmt.Fprintln(w, s.orders.Load())
			return
		}
		if strings.Contains(r.URL.Path, "order-plz") {
			s.orders.Add(1)
			s.limit.serve(w, r, next)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// serveNames answers DNS on TCP, which Pebble asks where its resolver is given, and on UDP, which others ask.
func (s *Server) serveNames(on string) (address string, err error) {
	var config net.ListenConfig
	listener, err := config.Listen(context.Background(), "tcp", on)
	if err != nil {
		return "", err
	}
	packets, err := config.ListenPacket(context.Background(), "udp", listener.Addr().String())
	if err != nil {
		return "", errors.Join(err, listener.Close())
	}
	s.names = []*dns.Server{{Listener: listener, Handler: dns.HandlerFunc(s.resolve)}, {PacketConn: packets, Handler: dns.HandlerFunc(s.resolve)}}
	for _, server := range s.names {
		go func() { _ = server.ActivateAndServe() }() // ends with Close
	}
	return listener.Addr().String(), nil
}

func (s *Server) resolve(w dns.ResponseWriter, question *dns.Msg) {
	answer := new(dns.Msg).SetReply(question)
	for _, q := range question.Question {
		name := strings.TrimSuffix(strings.ToLower(q.Name), ".")
		s.mu.Lock()
		broken := s.broken[name]
		s.mu.Unlock()
		if broken {
			<-time.After(s.slow)
			answer.Rcode = dns.RcodeNameError
			continue
		}
		answer.Answer = append(answer.Answer, s.answers(q, name)...)
	}
	_ = w.WriteMsg(answer) // the asker may have left
}

// Directory is the URL of the ACME directory.
func (s *Server) Directory() string { return s.api.URL + "/dir" }

// Root is the certificate that Directory's own https is signed by, as PEM.
func (s *Server) Root() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.api.Certificate().Raw})
}

// Roots is Root as a pool.
func (s *Server) Roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(s.api.Certificate())
	return pool
}

// Issuer is the root that the issued certificates lead to, as PEM: what a visitor of the websites trusts.
func (s *Server) Issuer() []byte { return s.ca.GetRootCert(0).PEM() }

// Orders counts the orders that were made.
func (s *Server) Orders() int64 { return s.orders.Load() }

// Revoked reports whether a certificate was revoked here.
func (s *Server) Revoked(serial *big.Int) bool {
	return s.store.GetRevokedCertificateBySerial(serial) != nil
}

// Break makes validations of a name fail, or succeed again.
func (s *Server) Break(name string, broken bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken[name] = broken
}

// Down takes the server down, or up again.
func (s *Server) Down(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
}

// Close ends the server.
func (s *Server) Close() error {
	s.api.Close()
	problems := []error{s.texts.close()}
	for _, server := range s.names {
		problems = append(problems, server.Shutdown())
	}
	return errors.Join(problems...)
}
