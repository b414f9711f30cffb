package frontend

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// once is a body that a client cannot send a second time by itself.
type once struct{ io.Reader }

// visitors are clients that send one request after the other, each of which must succeed.
type visitors struct {
	t        *testing.T
	served   atomic.Int64
	stopping atomic.Bool
	running  sync.WaitGroup
}

func (v *visitors) add(client *http.Client, url string) {
	v.running.Go(func() {
		for i := 0; !v.stopping.Load(); i++ {
			if err := post(client, url, fmt.Sprintf("request %d", i)); err != nil {
				v.t.Errorf("request %d to %s: %v", i, url, err)
				return
			}
			v.served.Add(1)
		}
	})
}

// post sends a request, and again only if not even its head was written: Go's HTTP/2 client, when a GOAWAY comes between
// choosing a connection and using it, gives the request up with its body closed instead of taking another connection.
func post(client *http.Client, url, text string) error {
	for {
		begun, err := postOnce(client, url, text)
		if err == nil || begun || !strings.Contains(err.Error(), "cannot rewind body") {
			return err
		}
	}
}

func postOnce(client *http.Client, url, text string) (begun bool, err error) {
	var wrote atomic.Bool
	ctx := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{
		WroteHeaderField: func(string, []string) { wrote.Store(true) },
		WroteHeaders:     func() { wrote.Store(true) },
	})
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, once{strings.NewReader(text)})
	if err != nil {
		return false, err
	}
	request.ContentLength = int64(len(text))
	answer, err := client.Do(request)
	if err != nil {
		return wrote.Load(), err
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	if err == nil && (answer.StatusCode != http.StatusOK || string(body) != "ok "+text) {
		err = fmt.Errorf("%s: %q", answer.Status, body)
	}
	return true, err
}

func (v *visitors) stop() {
	v.stopping.Store(true)
	v.running.Wait()
}

// comers opens visitors of every kind.
func (v *visitors) comers(site *site, plain, secure string) {
	for range 3 {
		v.add(site.client(v.t, false, true), "http://"+plain)    // kept alive
		v.add(site.client(v.t, false, false), "http://"+plain)   // a connection for each request
		v.add(site.client(v.t, false, true), "https://"+secure)  // kept alive
		v.add(site.client(v.t, false, false), "https://"+secure) // a handshake for each request
		v.add(site.client(v.t, true, true), "https://"+secure)   // HTTP/2, a stream at a time
	}
}

func TestNoRequestFailsWhileOneServerDrainsAndAnotherTakesOver(t *testing.T) {
	for _, roundTrip := range []time.Duration{0, 30 * time.Millisecond} {
		t.Run(fmt.Sprint("round trip ", roundTrip), func(t *testing.T) {
			site := newSite(t)
			server := site.serve(t, Options{Handler: newStages(), IdleGrace: 500 * time.Millisecond, GoAwayDelay: 200 * time.Millisecond})
			plain, secure := site.plain.Addr().String(), site.secure.Addr().String()
			if roundTrip > 0 {
				plain, secure = relayed(t, plain, roundTrip/2), relayed(t, secure, roundTrip/2)
			}
			load := &visitors{t: t}
			load.comers(site, plain, secure)
			for range 3 {
				passed := load.served.Load()
				until(t, "the load goes on", func() bool { return load.served.Load() > passed+150 })
				server = replace(t, site, server)
			}
			load.stop()
			t.Logf("%d requests served", load.served.Load())
		})
	}
}

// replace drains a server while its successor gets the new connections, and returns the successor.
func replace(t *testing.T, site *site, old *Server) *Server {
	t.Helper()
	successor := site.serve(t, old.options)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := old.Drain(ctx, Grace{}); err != nil {
		t.Errorf("Drain: %v", err)
	}
	return successor
}
