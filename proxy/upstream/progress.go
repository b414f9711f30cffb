package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptrace"
)

// progress notes how far an attempt has come.
type progress struct {
	asked, connected bool
	idle             *idle                  // is told of the connection
	outer            *httptrace.ClientTrace // of whoever makes the request; nil if he follows nothing
}

// follow returns a context by which the progress is told.
func (p *progress) follow(ctx context.Context, idle *idle) context.Context {
	p.idle = idle
	trace := &httptrace.ClientTrace{}
	if p.outer = httptrace.ContextClientTrace(ctx); p.outer != nil {
		*trace = *p.outer
		ctx = untraced{ctx}
	}
	trace.GetConn, trace.GotConn = p.getConn, p.gotConn
	return httptrace.WithClientTrace(ctx, trace)
}

// getConn is called again where a connection from before has died and the request may be repeated.
func (p *progress) getConn(address string) {
	p.asked, p.connected = true, false
	if p.outer != nil && p.outer.GetConn != nil {
		p.outer.GetConn(address)
	}
}

func (p *progress) gotConn(info httptrace.GotConnInfo) {
	p.connected = true
	p.idle.sendsOver(info.Conn)
	if p.outer != nil && p.outer.GotConn != nil {
		p.outer.GotConn(info)
	}
}

// untraced is a context without its trace: httptrace would join that to another by reflection, at each request.
type untraced struct{ context.Context } //nolint:containedctx // it is one

// Value returns what the context has, but for a trace.
func (c untraced) Value(key any) any {
	value := c.Context.Value(key)
	if _, isTrace := value.(*httptrace.ClientTrace); isTrace {
		return nil
	}
	return value
}

// fate is what became of a request that got no answer.
type fate int

const (
	unsent fate = iota // no connection could be made
	sent               // the target may have got something of it
	unfit              // net/http refuses to send it, and would for every target alike
)

func (p *progress) fate() fate {
	switch {
	case p.connected:
		return sent
	case p.asked:
		return unsent
	}
	return unfit
}

var errUnfit = errors.New("the request cannot be sent")

func (p *progress) explain(err error) error {
	switch p.fate() {
	case unsent:
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	case unfit:
		return fmt.Errorf("%w: %w", errUnfit, err)
	}
	return err
}
