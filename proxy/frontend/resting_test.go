package frontend

import (
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// bubble runs a server on pipes, in a bubble where time costs nothing.
func bubble(t *testing.T, o Options, test func(t *testing.T, server *Server)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		server := New(o)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- server.Run(ctx) }()
		test(t, server)
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

// pipe hands a connection over.
func pipe(server *Server) net.Conn {
	ours, theirs := net.Pipe()
	server.Plain().ServeConn(theirs)
	return ours
}

// watch tells when the server closes the connection.
func watch(c net.Conn, closed chan<- time.Time) {
	_, _ = io.Copy(io.Discard, c)
	closed <- time.Now()
}

// request sends a request on a pipe and reads its answer.
func request(t *testing.T, c net.Conn, path string) *http.Response {
	t.Helper()
	w := newWire(t, c)
	answer, _ := w.get(path)
	return answer
}

func TestIdleConnectionsAreClosedOldestFirstInTheLastQuarterOfTheGrace(t *testing.T) {
	bubble(t, Options{Handler: newStages(), IdleGrace: 4 * time.Second}, func(t *testing.T, server *Server) {
		const count = 8
		ended := make([]chan time.Time, count)
		for i := range ended {
			c := pipe(server)
			request(t, c, "/")
			ended[i] = make(chan time.Time, 1)
			go watch(c, ended[i])
			time.Sleep(time.Second) // in the bubble: the next one is a second younger
		}
		silent := pipe(server) // never had a request: it goes last, though it could be older
		silentEnded := make(chan time.Time, 1)
		go watch(silent, silentEnded)
		synctest.Wait()
		began := time.Now()
		if err := server.Drain(t.Context(), Grace{}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 4*time.Second+2*lookEvery {
			t.Errorf("the drain took %v, longer than the grace", took)
		}
		var times []time.Duration
		for _, closed := range append(ended, silentEnded) {
			times = append(times, (<-closed).Sub(began))
		}
		if !slices.IsSorted(times) || times[0] < 3*time.Second || times[0] == times[count] {
			t.Errorf("closed after %v; wanted one after the other, from 3 s on", times)
		}
	})
}

func TestAConnectionThatBecomesIdleLateHasItsWholeGrace(t *testing.T) {
	// The answer's head is out before the drain begins, without Connection: close; its end takes 10 s.
	stream := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1")
		_ = http.NewResponseController(w).Flush()
		time.Sleep(10 * time.Second)
		_, _ = w.Write([]byte("x"))
	})
	bubble(t, Options{Handler: stream, IdleGrace: 4 * time.Second}, func(t *testing.T, server *Server) {
		w := newWire(t, pipe(server))
		w.send("GET / HTTP/1.1\r\nHost: shop.example.com\r\n\r\n")
		answer, err := http.ReadResponse(w.in, nil)
		if err != nil || answer.Close {
			t.Fatalf("%v, %v", answer, err)
		}
		result := make(chan error, 1)
		go func() { result <- server.Drain(t.Context(), Grace{}) }()
		if _, err := io.ReadAll(answer.Body); err != nil {
			t.Fatal(err)
		}
		idleSince := time.Now()
		w.ended()
		if rested := time.Since(idleSince); rested < 4*time.Second || rested > 5*time.Second {
			t.Errorf("closed after %v of idling", rested)
		}
		if err := <-result; err != nil {
			t.Error(err)
		}
	})
}

func TestTunnelsHaveTheTimeThatGraceGivesThemButForItsLastQuarter(t *testing.T) {
	bubble(t, Options{Handler: newStages()}, func(t *testing.T, server *Server) {
		c := pipe(server)
		request(t, c, "/tunnel")
		closed := make(chan time.Time, 1)
		go watch(c, closed)
		began := time.Now()
		if err := server.Drain(t.Context(), Grace{Tunnels: 8 * time.Second}); err != nil {
			t.Fatal(err)
		}
		if lived := (<-closed).Sub(began); lived < 6*time.Second || lived > 8*time.Second+2*lookEvery {
			t.Errorf("the tunnel was closed after %v", lived)
		}
	})
}

func TestADrainEndsWithItsLastTunnel(t *testing.T) {
	bubble(t, Options{Handler: newStages()}, func(t *testing.T, server *Server) {
		c := pipe(server)
		request(t, c, "/tunnel")
		time.AfterFunc(5*time.Second, func() { _ = c.Close() })
		began := time.Now()
		if err := server.Drain(t.Context(), Grace{Tunnels: time.Hour}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 5*time.Second+2*lookEvery {
			t.Errorf("the drain took %v", took)
		}
	})
}

func TestARequestThatBeginsLateHasItsGraceFromItsOwnBegin(t *testing.T) {
	var handler endless // its channels must be of the bubble
	late := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.ServeHTTP(w, r) })
	bubble(t, Options{Handler: late, IdleGrace: time.Minute}, func(t *testing.T, server *Server) {
		handler = endless{newStages()}
		result := make(chan error, 1)
		kept, c := newWire(t, pipe(server)), newWire(t, pipe(server))
		kept.get("/polite") // so that the drain goes on
		go func() {
			result <- server.Drain(t.Context(), Grace{Requests: 5 * time.Second, Tunnels: 16 * time.Second})
		}()
		time.Sleep(4 * time.Second)
		c.send("GET /slow HTTP/1.1\r\nHost: shop.example.com\r\n\r\n")
		<-handler.begun
		time.Sleep(4 * time.Second)
		handler.finish <- struct{}{}
		if _, body := c.answer(); body != "ok " {
			t.Errorf("%q", body)
		}
		go func() { _, _ = io.Copy(io.Discard, kept.in) }()
		if err := <-result; err != nil {
			t.Error(err)
		}
	})
}

func TestAHandlerThatIgnoresTheEndIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		entered := make(chan struct{})
		server := New(Options{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			close(entered)
			time.Sleep(time.Minute) // deaf; in the bubble it costs nothing
		})})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- server.Run(ctx) }()
		c := pipe(server)
		go func() { _, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: shop.example.com\r\n\r\n") }()
		<-entered
		cancel()
		if err := <-ended; err == nil || err.Error() != "1 requests do not end though they are cancelled" {
			t.Errorf("Run: %v", err)
		}
		_ = c.Close()
		time.Sleep(time.Minute) // until the handler has returned
	})
}

func TestAWholeGraceGivenToIdleConnectionsIsTheirs(t *testing.T) {
	site := newSite(t)
	server := site.serve(t, Options{Handler: newStages(), IdleGrace: time.Millisecond})
	late := dial(t, site.plain.Addr().String())
	until(t, "the connection is open", func() bool { return server.Stats().Open == 1 })
	began := time.Now()
	result := make(chan error, 1)
	go func() { result <- server.Drain(t.Context(), Grace{Idle: 2 * time.Second}) }()
	until(t, "longer than the server's own grace", func() bool { return time.Since(began) > 200*time.Millisecond })
	late.send("GET / HTTP/1.1\r\nHost: shop.example.com\r\n\r\n")
	late.answer()
	if err := <-result; err != nil {
		t.Error(err)
	}
}
