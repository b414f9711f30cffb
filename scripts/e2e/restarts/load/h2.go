package load

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"cutover/scripts/e2e/restarts/wire"
)

// errGoing says that a connection takes no more requests. Nothing was written.
var errGoing = errors.New("the connection takes no more requests")

// conn2 is an HTTP/2 connection whose streams are written once each.
type conn2 struct {
	conn *tls.Conn
	load *Load
	done chan struct{} // closed when the reader has ended

	writing sync.Mutex // of frames, and of what goes with their order
	framer  *http2.Framer
	fields  *hpack.Encoder
	encoded bytes.Buffer
	next    uint32 // stream

	mu      sync.Mutex
	streams map[uint32]*stream
	going   bool  // GOAWAY came
	ended   error // why the reader ended
	window  int64 // for bodies, of the connection
	more    *sync.Cond
	resting bool // the client closes
}

// stream is a request under way.
type stream struct {
	id     uint32
	status string
	body   []byte
	seen   int64
	ended  chan error // one value
}

// dial2 opens a connection, and reads from it until it is closed.
func (l *Load) dial2() (*conn2, error) {
	conn, err := l.dialTLS(nil, "h2")
	if err != nil {
		return nil, err
	}
	c := &conn2{conn: conn, load: l, done: make(chan struct{}), framer: http2.NewFramer(conn, conn), next: 1, streams: map[uint32]*stream{}, window: 65535}
	c.more = sync.NewCond(&c.mu)
	c.fields = hpack.NewEncoder(&c.encoded)
	c.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if err := c.greet(); err != nil {
		_ = conn.Close()
		return nil, during("h2 greeting", 0, err)
	}
	go c.read() // ends when the connection is closed; done tells
	return c, nil
}

func (c *conn2) greet() error {
	_, err := c.conn.Write([]byte(http2.ClientPreface))
	return errors.Join(err, c.framer.WriteSettings(http2.Setting{ID: http2.SettingEnablePush, Val: 0}), c.framer.WriteWindowUpdate(0, 1<<30))
}

// close ends the connection and waits for its reader.
func (c *conn2) close() {
	c.mu.Lock()
	c.resting = true
	c.mu.Unlock()
	_ = c.conn.Close()
	<-c.done
}

// post sends a body to /echo as a new stream and waits for the receipt. errGoing means that nothing was sent.
func (c *conn2) post(body []byte) error {
	if !c.take(int64(len(body))) {
		return errGoing
	}
	s, err := c.open(body)
	if err != nil {
		return err
	}
	timer := time.NewTimer(c.load.Patience)
	defer timer.Stop()
	select {
	case err = <-s.ended:
	case <-timer.C:
		return wrong("no end within the client's patience", 0, "stream %d", s.id)
	}
	if err != nil {
		return err
	}
	if s.status != "200" || string(s.body) != wire.ReceiptOf(body) {
		return wrong("status "+s.status, s.seen, "%.80q", s.body)
	}
	return nil
}

// take waits for room in the connection's window.
func (c *conn2) take(n int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.window < n && !c.going && c.ended == nil {
		c.more.Wait()
	}
	c.window -= n
	return !c.going && c.ended == nil
}

// open writes a request: its head and its body.
func (c *conn2) open(body []byte) (*stream, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	s := c.register()
	if s == nil {
		return nil, errGoing
	}
	c.encoded.Reset()
	for _, field := range []hpack.HeaderField{
		{Name: ":method", Value: http.MethodPost},
		{Name: ":scheme", Value: "https"},
		{Name: ":authority", Value: c.load.Host},
		{Name: ":path", Value: "/echo"},
		{Name: "content-length", Value: strconv.Itoa(len(body))},
	} {
		if err := c.fields.WriteField(field); err != nil {
			return nil, during("encoding", 0, err)
		}
	}
	err := c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: s.id, BlockFragment: c.encoded.Bytes(), EndHeaders: true})
	if err == nil {
		err = c.framer.WriteData(s.id, true, body)
	}
	if err != nil {
		c.forget(s.id)
		return nil, during("h2 write", 0, err)
	}
	return s, nil
}

// register gives a request its stream; nil if the connection takes no more.
func (c *conn2) register() *stream {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.going || c.ended != nil {
		return nil
	}
	s := &stream{id: c.next, ended: make(chan error, 1)}
	c.streams[s.id] = s
	c.next += 2
	return s
}

func (c *conn2) forget(id uint32) *stream {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.streams[id]
	delete(c.streams, id)
	return s
}

// read handles frames until the connection ends, and then tells all streams that are left.
func (c *conn2) read() {
	defer close(c.done)
	var err error
	for err == nil {
		var frame http2.Frame
		if err = c.load.renew(c.conn); err == nil {
			frame, err = c.framer.ReadFrame()
		}
		if err == nil {
			err = c.handle(frame)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.going && !c.resting && len(c.streams) == 0 {
		c.load.Record.failed("h2 connection", during("ended without GOAWAY", 0, err))
	}
	c.ended = err
	c.endAbove(0, func(s *stream) error { return during("h2 connection", s.seen, err) })
	c.more.Broadcast()
}

// endAbove ends all streams with greater ids. The caller holds mu.
func (c *conn2) endAbove(last uint32, why func(*stream) error) {
	for id, s := range c.streams {
		if id > last {
			delete(c.streams, id)
			s.ended <- why(s)
		}
	}
}

func (c *conn2) handle(frame http2.Frame) error {
	switch f := frame.(type) {
	case *http2.SettingsFrame:
		return c.settings(f)
	case *http2.PingFrame:
		return c.pong(f)
	case *http2.WindowUpdateFrame:
		c.widen(f)
	case *http2.MetaHeadersFrame:
		c.headers(f)
	case *http2.DataFrame:
		return c.data(f)
	case *http2.RSTStreamFrame:
		if s := c.forget(f.StreamID); s != nil {
			s.ended <- wrong("RST_STREAM "+f.ErrCode.String(), s.seen, "stream %d", f.StreamID)
		}
	case *http2.GoAwayFrame:
		c.goAway(f)
	}
	return nil
}

func (c *conn2) settings(f *http2.SettingsFrame) error {
	if f.IsAck() {
		return nil
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	return c.framer.WriteSettingsAck()
}

func (c *conn2) pong(f *http2.PingFrame) error {
	if f.IsAck() {
		return nil
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	return c.framer.WritePing(true, f.Data)
}

// widen gives room to bodies. That of a stream is never used up: bodies are smaller.
func (c *conn2) widen(f *http2.WindowUpdateFrame) {
	if f.StreamID != 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.window += int64(f.Increment)
	c.more.Broadcast()
}

func (c *conn2) headers(f *http2.MetaHeadersFrame) {
	c.mu.Lock()
	s := c.streams[f.StreamID]
	if s != nil {
		s.status = f.PseudoValue("status")
		s.seen += int64(f.Length)
	}
	c.mu.Unlock()
	if s != nil && f.StreamEnded() {
		c.end(f.StreamID)
	}
}

func (c *conn2) data(f *http2.DataFrame) error {
	c.mu.Lock()
	if s := c.streams[f.StreamID]; s != nil {
		s.body = append(s.body, f.Data()...)
		s.seen += int64(f.Length)
	}
	c.mu.Unlock()
	if f.StreamEnded() {
		c.end(f.StreamID)
	}
	return nil // the window for answers is far larger than all of them
}

func (c *conn2) end(id uint32) {
	if s := c.forget(id); s != nil {
		s.ended <- nil
	}
}

// goAway obeys RFC 9113 §6.8: no more streams, and those above the last one that is named are not served. That is a loss,
// since nothing here is sent twice; a server that names 2^31-1 first, and then waits, loses none.
func (c *conn2) goAway(f *http2.GoAwayFrame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.going {
		c.load.Record.count(func(r *Report) *int { return &r.GoAways })
	}
	c.going = true
	c.more.Broadcast()
	if f.LastStreamID == math.MaxInt32 {
		return
	}
	c.endAbove(f.LastStreamID, func(s *stream) error {
		return wrong("stream above GOAWAY's last", s.seen, "%w", fmt.Errorf("stream %d, the last is %d, %v", s.id, f.LastStreamID, f.ErrCode))
	})
}

// quiet reports whether a connection takes no more, and has nothing under way.
func (c *conn2) quiet() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return (c.going || c.ended != nil) && len(c.streams) == 0
}
