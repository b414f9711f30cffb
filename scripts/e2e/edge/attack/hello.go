package attack

import (
	"bytes"
	"context"
	crand "crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// newHello is the ClientHello record that a client of today sends for a name.
func newHello(name string) ([]byte, error) {
	client, server := net.Pipe()
	var asking sync.WaitGroup
	asking.Go(func() {
		secure := tls.Client(client, &tls.Config{ServerName: name, NextProtos: []string{"h2", "http/1.1"}, InsecureSkipVerify: true}) //nolint:gosec // nothing is ever received
		_ = secure.HandshakeContext(context.Background())                                                                             // the other side leaves
	})
	defer asking.Wait()
	defer func() { _ = server.Close() }()
	head := make([]byte, 5)
	if _, err := io.ReadFull(server, head); err != nil {
		return nil, err
	}
	body := make([]byte, binary.BigEndian.Uint16(head[3:]))
	_, err := io.ReadFull(server, body)
	return append(head, body...), err
}

// randomAt is where a ClientHello's 32 random bytes are: after the heads of record and message, and the version.
const randomAt = 5 + 4 + 2

const (
	strangerForm = "%016x.stranger.test"
	knownEvery   = 100
)

// greeter makes ClientHellos at hardly any cost: those of strangers differ in their name and random bytes alone.
type greeter struct {
	stranger, placeholder []byte
	known                 [][]byte
}

func newGreeter(names []string) (*greeter, error) {
	placeholder := fmt.Sprintf(strangerForm, 0)
	stranger, err := newHello(placeholder)
	if err != nil {
		return nil, err
	}
	g := &greeter{stranger: stranger, placeholder: []byte(placeholder)}
	for _, name := range names {
		hello, err := newHello(name)
		if err != nil {
			return nil, err
		}
		g.known = append(g.known, hello)
	}
	return g, nil
}

// next is the ClientHello number n.
func (g *greeter) next(n int) []byte {
	var hello []byte
	if n%knownEvery == 0 && len(g.known) > 0 {
		hello = bytes.Clone(g.known[n/knownEvery%len(g.known)])
	} else {
		hello = bytes.Replace(g.stranger, g.placeholder, fmt.Appendf(nil, strangerForm, rand.Uint64()), 1)
	}
	_, _ = crand.Read(hello[randomAt : randomAt+32]) // it never fails
	return hello
}

// atOnce bounds the handshakes under way.
const atOnce = 2000

// handshakes sends Total ClientHellos and reads what the server says first.
func handshakes(ctx context.Context, a *attacker) {
	greeter, err := newGreeter(a.Names)
	if err != nil {
		a.tally.answer("no ClientHello: " + err.Error())
		return
	}
	var all sync.WaitGroup
	defer all.Wait()
	room := make(chan struct{}, atOnce)
	for n := 0; (a.Total == 0 || n < a.Total) && a.pacer.wait(ctx, 1); n++ {
		room <- struct{}{}
		all.Go(func() {
			a.shake(ctx, greeter.next(n))
			<-room
		})
	}
}

func (a *attacker) shake(ctx context.Context, hello []byte) {
	v, err := a.dial(ctx, a.Secure)
	if err != nil {
		return
	}
	a.tally.sent(1)
	_ = v.SetDeadline(time.Now().Add(patience))
	answer := make([]byte, 7)
	if _, err = v.Write(hello); err == nil {
		_, err = io.ReadFull(v, answer)
	}
	a.tally.answer(firstWord(answer, err))
	v.over(err)
}

const (
	recordAlert     = 21
	recordHandshake = 22
)

// firstWord says what a server has answered to a ClientHello.
func firstWord(record []byte, err error) string {
	var timeout net.Error
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		return "silence"
	case err != nil:
		return "closed"
	case record[0] == recordAlert:
		return "alert " + tls.AlertError(record[6]).Error()
	case record[0] == recordHandshake:
		return "handshake"
	default:
		return fmt.Sprintf("record %d", record[0])
	}
}
