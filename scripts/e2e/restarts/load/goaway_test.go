package load

import (
	"io"
	"math"
	"net"
	"strconv"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"cutover/scripts/e2e/restarts/wire"
)

// peer is the server's end of an HTTP/2 connection, by hand.
type peer struct {
	*http2.Framer
	conn   net.Conn
	bodies map[uint32][]byte
}

// newPeer reads the preface.
func newPeer(conn net.Conn) *peer {
	p := &peer{Framer: http2.NewFramer(conn, conn), conn: conn, bodies: map[uint32][]byte{}}
	if _, err := io.ReadFull(conn, make([]byte, len(http2.ClientPreface))); err != nil {
		return nil
	}
	if p.WriteSettings() != nil {
		return nil
	}
	return p
}

// next waits for a request and returns its stream; 0 when the connection has ended.
func (p *peer) next() uint32 {
	for {
		frame, err := p.ReadFrame()
		if err != nil {
			return 0
		}
		if f, ok := frame.(*http2.DataFrame); ok {
			p.bodies[f.StreamID] = append(p.bodies[f.StreamID], f.Data()...)
			_ = p.WriteWindowUpdate(0, f.Length)
			if f.StreamEnded() {
				return f.StreamID
			}
		}
	}
}

// answer answers a request.
func (p *peer) answer(stream uint32) {
	receipt := wire.ReceiptOf(p.bodies[stream])
	var block writer
	fields := hpack.NewEncoder(&block)
	_ = fields.WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
	_ = fields.WriteField(hpack.HeaderField{Name: "content-length", Value: strconv.Itoa(len(receipt))})
	_ = p.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block, EndHeaders: true})
	_ = p.WriteData(stream, true, []byte(receipt))
}

type writer []byte

func (w *writer) Write(b []byte) (int, error) {
	*w = append(*w, b...)
	return len(b), nil
}

// framed is a server of HTTP/2 by hand.
func framed(t *testing.T, work func(*peer)) *Load {
	t.Helper()
	return both(t, func(conn net.Conn) {
		if p := newPeer(conn); p != nil {
			work(p)
		}
	})
}

func TestAStreamAboveTheLastOfAOneStepGoAwayIsAFailure(t *testing.T) {
	l := framed(t, func(p *peer) {
		for n := 0; ; n++ {
			stream := p.next()
			if stream == 0 {
				return
			}
			if n < 20 {
				p.answer(stream)
			} else if n == 20 { // as if this one had crossed it
				_ = p.WriteGoAway(stream-2, http2.ErrCodeNo, nil)
			}
		}
	})
	expectFailure(t, l, "h2 16 streams", "stream above GOAWAY's last")
}

func TestATwoStepGoAwayThatWaitsLosesNothing(t *testing.T) {
	l := framed(t, func(p *peer) {
		last := uint32(0)
		for n := 0; ; n++ {
			stream := p.next()
			if stream == 0 {
				return
			}
			last = max(last, stream)
			p.answer(stream)
			if n == 20 {
				_ = p.WriteGoAway(math.MaxInt32, http2.ErrCodeNo, nil)
				_ = p.WritePing(false, [8]byte{1}) // whoever answers has seen the first
				for {
					frame, err := p.ReadFrame()
					if err != nil {
						return
					}
					if f, ok := frame.(*http2.DataFrame); ok && f.StreamEnded() {
						p.bodies[f.StreamID] = append([]byte(nil), f.Data()...)
						last = max(last, f.StreamID)
						p.answer(f.StreamID)
					}
					if f, ok := frame.(*http2.PingFrame); ok && f.IsAck() {
						break
					}
				}
				_ = p.WriteGoAway(last, http2.ErrCodeNo, nil)
			}
		}
	})
	r := run(t, l, "h2 16 streams", func(r Report) bool { return r.GoAways >= 4 })
	if len(r.Failed) > 0 {
		t.Errorf("it counts %q", r.Failed[0].Detail)
	}
}

func TestAConnectionThatIsToldToGoBeforeItIsUsedIsReplaced(t *testing.T) {
	var connections atomic.Int64
	l := framed(t, func(p *peer) {
		if connections.Add(1)%2 == 1 {
			_ = p.WriteGoAway(math.MaxInt32, http2.ErrCodeNo, nil)
		}
		for stream := p.next(); stream != 0; stream = p.next() {
			p.answer(stream)
		}
	})
	for _, kind := range []string{"h2 one stream", "h2 16 streams"} {
		if r := run(t, l, kind, asked(kind, 10)); len(r.Failed) > 0 {
			t.Errorf("it counts %q", r.Failed[0].Detail)
		}
	}
}

func TestAServerThatAlwaysTellsToGoServesNobody(t *testing.T) {
	l := framed(t, func(p *peer) {
		_ = p.WriteGoAway(0, http2.ErrCodeNo, nil)
		p.next()
	})
	r := run(t, l, "h2 one stream", asked("h2 one stream", 3))
	if r.Kinds["h2 one stream"].Failures < 3 {
		t.Errorf("it met %v", r.Reasons)
	}
}

func TestAStreamThatIsResetAndAConnectionThatEndsAreFailures(t *testing.T) {
	for want, work := range map[string]func(*peer){
		"RST_STREAM REFUSED_STREAM": func(p *peer) {
			for stream := p.next(); stream != 0; stream = p.next() {
				_ = p.WriteRSTStream(stream, http2.ErrCodeRefusedStream)
			}
		},
		"h2 connection: closed before any answer": func(p *peer) { p.next() },
	} {
		for _, kind := range []string{"h2 one stream", "h2 16 streams"} {
			expectFailure(t, framed(t, work), kind, want)
		}
	}
}

func TestAnIdleConnectionThatEndsWithoutGoAwayIsAFailure(t *testing.T) {
	l := framed(t, func(p *peer) { p.answer(p.next()) })
	expectFailure(t, l, "h2 16 streams", "h2 connection: ")
}
