package smuggle

import (
	"context"
	"net"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
)

// recorder runs a server behind, for the time of a test.
func recorder(t *testing.T) (r *Recorder, address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	r = &Recorder{}
	go func() {
		defer close(ended)
		r.Serve(ctx, listener)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return r, listener.Addr().String()
}

func TestGoodRequestsPassThroughAGoodProxy(t *testing.T) {
	r, behind := recorder(t)
	proxy := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: behind})
		r.Out.Host = r.In.Host
	}})
	t.Cleanup(proxy.Close)
	p := &Prover{Address: proxy.Listener.Addr().String(), Recorder: r}
	for _, v := range good() {
		if o, err := p.Prove(t.Context(), v); err != nil || !o.Passed {
			t.Errorf("%s: %s, %v", v.Name, o.Got, err)
		}
	}
}

// A pipe is the worst proxy there is: it forwards every byte, over one connection.
func TestWhatIsSmuggledIsSeen(t *testing.T) {
	for _, name := range []string{"CL.TE: a request behind the last chunk", "two lengths that agree"} {
		r, behind := recorder(t)
		p := &Prover{Address: behind, Recorder: r}
		for _, v := range Vectors() {
			if v.Name != name {
				continue
			}
			o, err := p.Prove(t.Context(), v)
			if err != nil || o.Passed {
				t.Errorf("%s passed: %s, %v", v.Name, o.Got, err)
			}
		}
	}
}

func TestEachVectorHasANameOfItsOwn(t *testing.T) {
	seen := map[string]bool{}
	for _, v := range Vectors() {
		if seen[v.Name] || strings.ContainsAny(v.Name, "\r\n|") {
			t.Errorf("%q", v.Name)
		}
		seen[v.Name] = true
	}
}
