package frontend

import (
	"crypto/tls"
	"encoding/binary"
	"io"
	"sync/atomic"
	"time"
)

// Reasons for which the server breaks off a connection, or a request. Those that begin with h2_ are floods of HTTP/2 frames,
// each of which costs a server more than it costs the client.
const (
	HeaderBytes     = "header_bytes"       // a request's head is too long; the client gets 431
	SlowHeader      = "slow_header"        // a request's head was begun and not ended in time
	Stalled         = "stalled"            // the client has not taken anything of an answer for too long
	Resting         = "resting"            // it rested, and room was needed for others
	Resets          = "h2_resets"          // requests that the client takes back (rapid reset)
	ProvokedResets  = "h2_provoked_resets" // requests that the server has to reset (MadeYouReset)
	StreamFlood     = "h2_streams"         // requests far beyond what SETTINGS allows at once
	SettingsFlood   = "h2_settings"
	PingFlood       = "h2_pings"
	ControlFlood    = "h2_control" // PRIORITY, WINDOW_UPDATE and what else takes part in no request
	EmptyData       = "h2_empty_data"
	EmptyHeaders    = "h2_continuation" // a head in too many CONTINUATION frames, which may be empty
	headPieces      = 64                // CONTINUATION frames that a head may have
	creditPerFrame  = 2                 // control frames that a client may send for each DATA frame that it gets, for the stream and the connection,
	bytesPerCredit  = 512               // and one more for so many bytes, whoever sends them
	streamSlack     = 1000              // requests beyond the bound that a client may send until it knows of it
	lingerAtMost    = 500 * time.Millisecond
	lingerBytes     = 8 << 20
	nanosecondsEach = float64(time.Second)
)

// allowance is how much of a kind of frames a connection may send: so many at once, and so many a second for ever.
type allowance struct{ burst, perSecond float64 }

// allowanceFor is for clients at their worst: a browser that leaves a page with hundreds of pictures under way takes as many
// requests back at once, and some clients answer every piece of an answer with two WINDOW_UPDATE. PING is sent
//   - by gRPC for Go and by hyper with DATA that comes, the next as soon as the last is answered: over a short way that is
//     thousands a second, which DATA earns them, and no more than one with each round trip;
//   - by .NET four times at once and then every 2 s;
//   - by Go's client with a request that it takes back, if nothing has come since the last;
//   - by browsers, curl, OkHttp and gRPC for C++ after a rest, or a few times a second at most; by h2load not at all.
func allowanceFor(reason string) allowance {
	switch reason {
	case Resets, ProvokedResets:
		return allowance{500, 20}
	case SettingsFlood:
		return allowance{50, 1}
	case PingFlood:
		return allowance{500, 50}
	case ControlFlood:
		return allowance{2000, 200}
	default: // EmptyData
		return allowance{200, 10}
	}
}

// budget is what is left of an allowance. The zero value has all of it.
type budget struct {
	used float64
	last time.Time
}

// take takes one and reports whether it was there.
func (b *budget) take(a allowance, now time.Time) bool {
	b.used = max(0, b.used-a.perSecond*float64(now.Sub(b.last))/nanosecondsEach)
	b.last = now
	b.used++
	return b.used <= a.burst
}

// flood counts what a client of HTTP/2 sends beside its requests, and what it makes the server send. The methods but
// answered belong to the one who reads.
type flood struct {
	arrivals arrivals
	budgets  map[string]*budget
	streams  int    // that may be under way
	trusted  bool   // nothing is too much
	pieces   int    // CONTINUATION frames of the head that is under way
	uploaded int    // bytes of DATA that have not made a credit yet
	exceeded string // the reason, once there is one
	now      time.Time

	highest  atomic.Uint32 // stream that the client has opened
	open     atomic.Int64  // streams that nobody has ended; at most
	credit   atomic.Int64  // control frames that DATA has earned the client
	provoked atomic.Int64  // streams that the server has reset since the last look
}

func newFlood(streams int) *flood {
	return &flood{arrivals: newArrivals(), budgets: map[string]*budget{}, streams: streams}
}

// follow goes on by what the client has sent, and returns why that is too much; "" if it is not.
func (f *flood) follow(b []byte, now time.Time) (reason string) {
	f.now = now
	for range f.provoked.Swap(0) {
		f.take(ProvokedResets)
	}
	f.arrivals.follow(b, f.count)
	return f.exceeded
}

func (f *flood) exceed(reason string) {
	if f.exceeded == "" && !f.trusted {
		f.exceeded = reason
	}
}

func (f *flood) take(reason string) {
	b := f.budgets[reason]
	if b == nil {
		b = &budget{last: f.now}
		f.budgets[reason] = b
	}
	if !b.take(allowanceFor(reason), f.now) {
		f.exceed(reason)
	}
}

// count counts a frame of the client's.
func (f *flood) count(head frameHead, padding byte) {
	switch head.kind {
	case frameHeaders:
		f.pieces = 0
		f.begin(head.stream)
	case frameContinuation:
		if f.pieces++; f.pieces > headPieces {
			f.exceed(EmptyHeaders)
		}
	case frameData:
		if head.empty(padding) {
			f.take(EmptyData)
			return
		}
		f.uploaded += head.length
		f.credit.Add(int64(f.uploaded / bytesPerCredit))
		f.uploaded %= bytesPerCredit
	case frameResetStream:
		f.open.Add(-1)
		f.take(Resets)
	case frameSettings:
		f.take(SettingsFlood)
	case framePing:
		f.spendOrTake(PingFlood)
	default:
		f.spendOrTake(ControlFlood)
	}
}

// spendOrTake takes one that DATA has earned the client, or else one of its allowance.
func (f *flood) spendOrTake(reason string) {
	if f.credit.Add(-1) < 0 {
		f.credit.Add(1)
		f.take(reason)
	}
}

// begin notes a stream, unless it is there and this its trailer. net/http, too, would refuse those beyond the bound one by
// one; a server that falls behind with that closes the connection without a word.
func (f *flood) begin(stream uint32) {
	if stream <= f.highest.Load() {
		return
	}
	f.highest.Store(stream)
	if f.open.Add(1) > int64(f.streams+streamSlack) {
		f.exceed(StreamFlood)
	}
}

// answered notes the header of a frame that the server sends.
func (f *flood) answered(kind, flags byte, length int) {
	switch kind {
	case frameData:
		f.credit.Add(creditPerFrame + int64(length)/bytesPerCredit)
	case frameResetStream:
		f.provoked.Add(1)
		f.open.Add(-1)
	}
	if (kind == frameData || kind == frameHeaders) && flags&flagEndStream != 0 {
		f.open.Add(-1)
	}
}

// Read counts what the client sends. Where that is too much, or a head does not end in time, it ends the connection.
func (c *framedConn) Read(b []byte) (int, error) {
	c.head.beforeRead(c.Conn)
	n, err := c.connection.Read(b)
	if c.head.late(err) {
		c.refused(SlowHeader)
		return 0, c.dismiss(noError)
	}
	if n == 0 {
		return n, err
	}
	if reason := c.flood.follow(b[:n], time.Now()); reason != "" {
		c.refused(reason)
		return 0, c.dismiss(enhanceYourCalm)
	}
	c.head.afterRead(c.Conn, c.flood.arrivals.headOpen())
	return n, err
}

// dismiss ends the connection of a client that sends too much, or too slowly, so that it can read why.
func (c *framedConn) dismiss(code uint32) error {
	c.over.Store(true)
	c.sayGoAway(code)
	c.linger()
	c.cut()
	return errDismissed
}

// sayGoAway says GOAWAY as soon as a frame has ended; that it is the last is the caller's business.
func (c *framedConn) sayGoAway(code uint32) {
	c.farewell.Store(code + 1)
	c.wanted.Store(true)
	c.insertIfDue()
}

// linger swallows what is still to come, below TLS and for a moment: the kernel would answer it with a reset, which may
// overtake the GOAWAY.
func (c *framedConn) linger() {
	conn := c.Conn
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	_ = conn.SetReadDeadline(time.Now().Add(lingerAtMost))
	_, _ = io.CopyN(io.Discard, conn, lingerBytes)
}

// goAwayWith returns the frame GOAWAY.
func goAwayWith(lastStream, code uint32) []byte {
	frame := []byte{0, 0, 8, frameGoAway, 0, 0, 0, 0, 0}
	frame = binary.BigEndian.AppendUint32(frame, lastStream)
	return binary.BigEndian.AppendUint32(frame, code)
}
