package upstream

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"cutover/rules"
)

// Pool forwards to the targets of one upstream. It is an http.RoundTripper for requests whose URL has no scheme and
// host yet: those are the target's.
type Pool struct {
	upstream  *rules.Upstream
	transport *http.Transport
	targets   []*target
	onFailure func(upstream, target, cause string)

	mu sync.Mutex // for the targets' current weights
}

// target is a row with its counts.
type target struct {
	row    rules.Target
	url    *url.URL
	counts *counts

	current int // of smooth weighted round robin
}

// counts outlives a change of the row, as long as the URL stays.
type counts struct {
	inFlight           atomic.Int64
	requests, failures atomic.Uint64
	lastError          atomic.Pointer[string]
}

func (t *target) status() TargetStatus {
	s := TargetStatus{Target: t.row, InFlight: t.counts.inFlight.Load(), Requests: t.counts.requests.Load(), Failures: t.counts.failures.Load()}
	if text := t.counts.lastError.Load(); text != nil {
		s.LastError = *text
	}
	return s
}

func newPool(u *rules.Upstream, last *Pool, o Options) *Pool {
	p := &Pool{upstream: u, onFailure: o.OnFailure}
	kept := map[string]*counts{}
	if last != nil {
		for _, t := range last.targets {
			kept[t.row.URL] = t.counts
		}
		if last.upstream.ResponseTimeout == u.ResponseTimeout {
			p.transport = last.transport
		}
	}
	if p.transport == nil {
		p.transport = newTransport(u, o)
	}
	for _, row := range u.Targets {
		address, err := url.Parse(row.URL)
		if err != nil {
			continue // rules.Target.Validate refuses such a row
		}
		t := &target{row: row, url: address, counts: kept[row.URL]}
		if t.counts == nil {
			t.counts = &counts{}
		}
		p.targets = append(p.targets, t)
	}
	return p
}

// newTransport speaks HTTP/1.1 to targets: it carries WebSocket, and hands trailers and early answers through as
// they are. HTTP_PROXY is ignored, and bodies are left compressed or not as the target sent them.
func newTransport(u *rules.Upstream, o Options) *http.Transport {
	dialer := &net.Dialer{Timeout: o.dialTimeout(), KeepAlive: 30 * time.Second}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, address)
		},
		Protocols:              protocols,
		TLSClientConfig:        &tls.Config{RootCAs: o.Roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    5 * time.Second,
		ExpectContinueTimeout:  time.Second, // the target decides whether it wants the body
		DisableCompression:     true,
		MaxIdleConnsPerHost:    256,
		IdleConnTimeout:        55 * time.Second, // below the 60 s and more that servers keep connections for
		ResponseHeaderTimeout:  time.Duration(u.ResponseTimeout * float64(time.Second)),
		MaxResponseHeaderBytes: 256 << 10,
		WriteBufferSize:        16 << 10,
		ReadBufferSize:         16 << 10,
	}
}

// RoundTrip sends a request to a target. Where no connection can be made, nothing was sent, and the next target is
// tried; each at most once. The body is never read for an attempt that fails so.
func (p *Pool) RoundTrip(r *http.Request) (*http.Response, error) {
	tried := make([]*target, 0, 4)
	var last error
	for {
		t := p.pick(tried)
		if t == nil {
			if last == nil {
				last = ErrNoTarget
			}
			return nil, fmt.Errorf("upstream %q: %w", p.upstream.Name, last)
		}
		tried = append(tried, t)
		response, err := p.attempt(t, r)
		if err == nil {
			return response, nil
		}
		p.noteFailure(t, err)
		last = fmt.Errorf("target %s: %w", t.row.URL, err)
		if !isDial(err) || r.Context().Err() != nil {
			return nil, fmt.Errorf("upstream %q: %w", p.upstream.Name, last)
		}
	}
}

func (p *Pool) attempt(t *target, r *http.Request) (*http.Response, error) {
	out := r.Clone(r.Context())
	out.URL.Scheme, out.URL.Host = t.url.Scheme, t.url.Host
	out.Trailer = r.Trailer // the same map: its values come when the body ends
	if r.Body != nil && r.Body != http.NoBody {
		// The transport closes a body even when it cannot connect; it must stay for the next target.
		out.Body = &heldBody{ReadCloser: r.Body}
	}
	t.counts.requests.Add(1)
	t.counts.inFlight.Add(1)
	if chosen := chosenTarget(r.Context()); chosen != nil {
		*chosen = t.row.URL
	}
	response, err := p.transport.RoundTrip(out)
	if err != nil {
		t.counts.inFlight.Add(-1)
		return nil, err
	}
	response.Body = countedBody(response.Body, t.counts)
	return response, nil
}

func (p *Pool) noteFailure(t *target, err error) {
	cause := Cause(err)
	if cause == "canceled" {
		return // the visitor left
	}
	t.counts.failures.Add(1)
	text := err.Error()
	t.counts.lastError.Store(&text)
	if p.onFailure != nil {
		p.onFailure(p.upstream.Name, t.row.URL, cause)
	}
}

// pick chooses among the targets that are ready and were not tried: smooth weighted round robin, which spreads a
// heavy target's turns evenly.
func (p *Pool) pick(tried []*target) *target {
	p.mu.Lock()
	defer p.mu.Unlock()
	var best *target
	total := 0
	for _, t := range p.targets {
		if t.row.State != rules.StateReady || t.row.Weight == 0 || contains(tried, t) {
			continue
		}
		t.current += t.row.Weight
		total += t.row.Weight
		if best == nil || t.current > best.current {
			best = t
		}
	}
	if best != nil {
		best.current -= total
	}
	return best
}

func contains(list []*target, t *target) bool {
	for _, each := range list {
		if each == t {
			return true
		}
	}
	return false
}
