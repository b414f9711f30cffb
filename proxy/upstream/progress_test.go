package upstream

import (
	"net/http/httptrace"
	"strings"
	"testing"
)

func TestWhoeverFollowsARequestIsToldWhileItsProgressIsNoted(t *testing.T) {
	var told []string
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		GetConn:              func(address string) { told = append(told, "get "+address) },
		GotConn:              func(httptrace.GotConnInfo) { told = append(told, "got") },
		GotFirstResponseByte: func() { told = append(told, "byte") },
	})
	p := &progress{}
	trace := httptrace.ContextClientTrace(p.follow(ctx, &idle{}))
	if p.fate() != unfit {
		t.Error(p.fate())
	}
	trace.GetConn("a:80")
	if p.fate() != unsent {
		t.Error(p.fate())
	}
	trace.GotConn(httptrace.GotConnInfo{})
	if p.fate() != sent {
		t.Error(p.fate())
	}
	trace.GotFirstResponseByte()
	if got := strings.Join(told, ", "); got != "get a:80, got, byte" {
		t.Error(got)
	}
}
