package tlsbridge

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// orders counts orders as they go over the wire: an attempt is one order, but a second one where the CA has lost our account or
// refuses what an order replaces, and the CA counts both.
type orders struct {
	directory string
	client    *http.Client
	budget    *budget

	mu       sync.Mutex
	newOrder string // the CA's URL for orders; empty until it was asked
}

const (
	directoryTime = 10 * time.Second
	maxDirectory  = 1 << 20
)

func newOrders(directory string, roots *x509.CertPool, b *budget) *orders {
	transport := newTransport(roots)
	transport.DisableKeepAlives = true // it is asked once
	return &orders{directory: directory, budget: b, client: &http.Client{Transport: transport, Timeout: directoryTime}}
}

// payment is an attempt at a certificate, whose first order is paid for.
type payment struct {
	name  string
	spare bool // leaves a part of the budget to others

	mu    sync.Mutex
	begun bool // the first order was made
}

type paymentKey struct{}

// first reports whether this is the attempt's first order.
func (p *payment) first() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	first := !p.begun
	p.begun = true
	return first
}

// proxy is the proxy function of the ACME client, which is asked before each request: the place to see one that is an order,
// and to stop it.
func (o *orders) proxy(r *http.Request) (*url.URL, error) {
	paid, ok := r.Context().Value(paymentKey{}).(*payment)
	if ok && r.Method == http.MethodPost && r.URL.String() == o.url() && !paid.first() {
		if err := o.budget.spend(r.Context(), paid.name, paid.spare); err != nil {
			return nil, err
		}
	}
	return http.ProxyFromEnvironment(r)
}

func (o *orders) url() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.newOrder
}

// learn asks the CA once where orders go. A CA that does not answer costs no order.
func (o *orders) learn(ctx context.Context) error {
	if o == nil || o.url() != "" {
		return nil
	}
	var directory struct {
		NewOrder string `json:"newOrder"`
	}
	if err := o.ask(ctx, &directory); err != nil {
		return fmt.Errorf("the CA's directory: %w", err)
	}
	if directory.NewOrder == "" {
		return errors.New("the CA's directory names no place for orders: is it an ACME directory?")
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.newOrder = directory.NewOrder
	return nil
}

func (o *orders) ask(ctx context.Context, into any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, o.directory, nil)
	if err != nil {
		return err
	}
	response, err := o.client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }() // it was only read
	if response.StatusCode != http.StatusOK {
		return errors.New(response.Status)
	}
	return json.NewDecoder(io.LimitReader(response.Body, maxDirectory)).Decode(into)
}
