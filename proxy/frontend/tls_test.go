package frontend

import (
	"crypto/tls"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

func dialTLS(t *testing.T, site *site, protocol string) *wire {
	t.Helper()
	c, err := net.Dial("tcp", site.secure.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return secureWire(t, site, c, protocol)
}

// counted counts what comes below TLS: crypto/tls does not tell an end with a close_notify from one without.
type counted struct {
	net.Conn
	bytes atomic.Int64
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.bytes.Add(int64(n))
	return n, err
}

// dialCounted is dialTLS for HTTP/1.1, with the count of the bytes that came.
func dialCounted(t *testing.T, site *site) (*wire, *atomic.Int64) {
	t.Helper()
	c, err := net.Dial("tcp", site.secure.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	below := &counted{Conn: c}
	return secureWire(t, site, below, "http/1.1"), &below.bytes
}

func secureWire(t *testing.T, site *site, c net.Conn, protocol string) *wire {
	t.Helper()
	secure := tls.Client(c, &tls.Config{RootCAs: site.roots, ServerName: "shop.example.com", NextProtos: []string{protocol}})
	if err := secure.Handshake(); err != nil {
		t.Fatal(err)
	}
	return newWire(t, secure)
}

// frames is a raw HTTP/2 client.
type frames struct {
	*wire
	*http2.Framer
	block   headerBlock
	encoder *hpack.Encoder
}

type headerBlock struct{ bytes []byte }

func (b *headerBlock) Write(p []byte) (int, error) {
	b.bytes = append(b.bytes, p...)
	return len(p), nil
}

// dialFrames shakes hands for HTTP/2 and says nothing more.
func dialFrames(t *testing.T, site *site) *frames {
	t.Helper()
	w := dialTLS(t, site, "h2")
	f := &frames{wire: w, Framer: http2.NewFramer(w, w.in)}
	f.encoder = hpack.NewEncoder(&f.block)
	return f
}

func (f *frames) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *frames) preface() {
	f.t.Helper()
	f.send(http2.ClientPreface)
	f.must(f.WriteSettings())
}

func (f *frames) request(stream uint32, path string) {
	f.t.Helper()
	f.block.bytes = nil
	for _, field := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "shop.example.com"}, {":path", path}} {
		f.must(f.encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]}))
	}
	f.must(f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: f.block.bytes, EndStream: true, EndHeaders: true}))
}

// goAwayFrame waits for a GOAWAY and returns its last stream.
func (f *frames) goAwayFrame() uint32 {
	f.t.Helper()
	for {
		frame, err := f.ReadFrame()
		f.must(err)
		if away, ok := frame.(*http2.GoAwayFrame); ok {
			if away.ErrCode != http2.ErrCodeNo {
				f.t.Fatalf("GOAWAY with %v", away.ErrCode)
			}
			return away.LastStreamID
		}
	}
}

// wholeAnswer waits for the end of a stream's answer.
func (f *frames) wholeAnswer(stream uint32) {
	f.t.Helper()
	for {
		frame, err := f.ReadFrame()
		f.must(err)
		switch frame := frame.(type) {
		case *http2.RSTStreamFrame:
			f.t.Fatalf("stream %d was reset: %v", frame.StreamID, frame.ErrCode)
		case *http2.DataFrame:
			if frame.StreamID == stream && frame.StreamEnded() {
				return
			}
		}
	}
}

func TestHTTP2IsWarnedFirstAndToldLater(t *testing.T) {
	site, handler := newSite(t), newStages()
	server := site.serve(t, Options{Handler: handler, GoAwayDelay: 300 * time.Millisecond})
	c := dialFrames(t, site)
	c.preface()
	c.request(1, "/")
	c.wholeAnswer(1)
	began := time.Now()
	result := drainOf(t, server, time.Minute)
	if last := c.goAwayFrame(); last != 1<<31-1 {
		t.Errorf("the warning names stream %d as the last", last)
	}
	c.request(3, "/") // as a client does that has not seen the warning yet
	c.wholeAnswer(3)
	if last := c.goAwayFrame(); last != 3 {
		t.Errorf("the second GOAWAY names stream %d as the last", last)
	}
	if passed := time.Since(began); passed < 300*time.Millisecond {
		t.Errorf("the second GOAWAY came after %v", passed)
	}
	_ = c.Close()
	if err := <-result; err != nil {
		t.Errorf("Drain: %v", err)
	}
}

func TestAnHTTP2ConnectionThatHasNotSpokenYetGetsItsFirstRequestServed(t *testing.T) {
	site := newSite(t)
	server := site.serve(t, Options{Handler: newStages(), IdleGrace: time.Minute, GoAwayDelay: 20 * time.Millisecond})
	c := dialFrames(t, site)
	until(t, "the connection is open", func() bool { return server.Stats().New == 1 })
	result := drainOf(t, server, time.Minute)
	until(t, "the others would have been told", server.http2Told)
	c.preface()
	c.request(1, "/")
	c.wholeAnswer(1)
	c.ended2()
	if err := <-result; err != nil {
		t.Errorf("Drain: %v", err)
	}
}

// http2Told reports whether Shutdown was called on the HTTP/2 role: its queue has ended.
func (s *Server) http2Told() bool {
	select {
	case <-s.http2.queue.ended:
		return true
	default:
		return false
	}
}

// ended2 reads until the server closes the connection.
func (f *frames) ended2() {
	f.t.Helper()
	for {
		if _, err := f.ReadFrame(); err != nil {
			return
		}
	}
}

func TestALongAnswerOverHTTP2IsFinishedAfterTheSecondGoAway(t *testing.T) {
	site, handler := newSite(t), newStages()
	server := site.serve(t, Options{Handler: handler, GoAwayDelay: 20 * time.Millisecond})
	c := dialFrames(t, site)
	c.preface()
	c.request(1, "/slow")
	<-handler.begun
	result := drainOf(t, server, time.Minute)
	if first, second := c.goAwayFrame(), c.goAwayFrame(); first != 1<<31-1 || second != 1 {
		t.Errorf("last streams %d, then %d", first, second)
	}
	handler.finish <- struct{}{}
	c.wholeAnswer(1)
	_ = c.Close()
	if err := <-result; err != nil {
		t.Errorf("Drain: %v", err)
	}
}

func TestAnHTTP2ClientThatNeverReadsDoesNotHoldTheOthersUp(t *testing.T) {
	site := newSite(t)
	flood := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 32<<10)); err != nil {
				return
			}
		}
	})
	server := site.serve(t, Options{Handler: flood, GoAwayDelay: 20 * time.Millisecond})
	stuck := dialFrames(t, site)
	stuck.send(http2.ClientPreface)
	stuck.must(stuck.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1}))
	stuck.must(stuck.WriteWindowUpdate(0, 1<<31-1-65535))
	stuck.request(1, "/")
	until(t, "the request is in flight", func() bool { return server.Stats().Requests == 1 })
	other := dialFrames(t, site)
	other.preface()
	until(t, "the other connection is idle", func() bool { return server.Stats().Idle == 1 })
	result := drainOf(t, server, 3*time.Second)
	if first, second := other.goAwayFrame(), other.goAwayFrame(); first != 1<<31-1 || second != 0 {
		t.Errorf("last streams %d, then %d", first, second)
	}
	if err := <-result; err == nil {
		t.Error("the client that does not read was not cut")
	}
}
