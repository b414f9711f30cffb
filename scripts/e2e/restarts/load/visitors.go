package load

import (
	"context"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"time"
)

// once asks one thing over a connection of its own.
func (l *Load) once(kind string, due time.Time, meant time.Duration, connect func() (*conn1, error), ask func(*conn1) error) {
	conn, err := connect()
	if err == nil {
		err = ask(conn)
		_ = conn.Close()
	}
	l.Record.note(kind, due, meant, err)
}

// newConnections ask over a new connection each time, at a steady pace.
func newConnections(ctx context.Context, l *Load) {
	every(ctx, 20*time.Millisecond, func(due time.Time) {
		l.once("h1 new", due, 0, l.plain, func(c *conn1) error {
			_, err := c.post("/echo", l.body(200), "Connection: close\r\n")
			return err
		})
	})
}

// slowHandlers ask for what takes a while, so that some requests are under way at each restart.
func slowHandlers(ctx context.Context, l *Load) {
	every(ctx, 250*time.Millisecond, func(due time.Time) {
		l.once("h1 slow handler", due, l.Slow, l.plain, func(c *conn1) error {
			_, err := c.post(fmt.Sprintf("/echo?ms=%d", l.Slow.Milliseconds()), l.body(200), "Connection: close\r\n")
			return err
		})
	})
}

// fullHandshakes never resume.
func fullHandshakes(ctx context.Context, l *Load) {
	every(ctx, 100*time.Millisecond, func(due time.Time) {
		l.once("TLS full", due, 0, l.secure, func(c *conn1) error {
			_, err := c.post("/echo", l.body(200), "Connection: close\r\n")
			return err
		})
	})
}

// resuming connect anew each time, and resume the session before: all but the first handshake ought to be short.
func resuming(ctx context.Context, l *Load) {
	many(4, func(int) {
		cache, first := tls.NewLRUClientSessionCache(1), true
		for wait(ctx, 200*time.Millisecond+rand.N(100*time.Millisecond)) {
			l.once("TLS resumed", time.Now(), 0, func() (*conn1, error) { return l.resume(cache, first) }, func(c *conn1) error {
				_, err := c.post("/echo", l.body(200), "Connection: close\r\n")
				return err
			})
			first = false
		}
	})
}

func (l *Load) resume(cache tls.ClientSessionCache, first bool) (*conn1, error) {
	conn, err := l.dialTLS(cache, "http/1.1")
	if err != nil {
		return nil, err
	}
	switch {
	case conn.ConnectionState().DidResume:
		l.Record.count(func(r *Report) *int { return &r.Resumed })
	case !first:
		l.Record.count(func(r *Report) *int { return &r.FullHandshakes })
	}
	return l.newConn1(conn), nil
}

// keptAlive think for up to 5 s between two requests on a connection.
func keptAlive(ctx context.Context, l *Load) {
	many(40, func(int) { l.keep(ctx, "h1 keep-alive", 0, l.Think, l.plain) })
}

// busy hardly think.
func busy(ctx context.Context, l *Load) {
	many(4, func(int) {
		l.keep(ctx, "h1 busy keep-alive", 20*time.Millisecond, 30*time.Millisecond, l.plain)
	})
}

// keptAliveTLS think for up to 5 s between two requests on a connection with TLS.
func keptAliveTLS(ctx context.Context, l *Load) {
	many(20, func(int) { l.keep(ctx, "TLS h1 keep-alive", 0, l.Think, l.secure) })
}

// keep asks on one connection for as long as the server keeps it, and then on the next.
func (l *Load) keep(ctx context.Context, kind string, least, most time.Duration, connect func() (*conn1, error)) {
	var conn *conn1
	defer func() { closeAll(conn) }()
	for ctx.Err() == nil {
		due, err := time.Now(), error(nil)
		if conn == nil {
			conn, err = connect()
		}
		last := true
		if err == nil {
			last, err = conn.post("/echo", l.body(100+rand.IntN(2000)), "")
		}
		l.Record.note(kind, due, 0, err)
		usable := false
		if !last {
			usable = l.think(ctx, kind, conn, least+rand.N(most-least))
		} else {
			wait(ctx, least+rand.N(most-least))
		}
		if !usable {
			closeAll(conn)
			conn = nil
		}
	}
}

// think rests for a while; when ctx ends, for a moment at most. It notes what goes wrong meanwhile.
func (l *Load) think(ctx context.Context, kind string, conn *conn1, long time.Duration) (usable bool) {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Now()) })
	defer stop()
	usable, err := conn.rest(time.Now().Add(long))
	switch {
	case err != nil:
		l.Record.failed(kind, err)
	case !usable:
		l.Record.count(func(r *Report) *int { return &r.IdleCloses })
	}
	return usable
}

func closeAll(conn *conn1) {
	if conn != nil {
		_ = conn.Close()
	}
}

// posts send bodies that cannot be sent again, over kept connections, with and without TLS.
func posts(ctx context.Context, l *Load) {
	many(4, func(i int) {
		connect := l.plain
		if i%2 == 1 {
			connect = l.secure
		}
		l.post64(ctx, connect)
	})
}

func (l *Load) post64(ctx context.Context, connect func() (*conn1, error)) {
	const kind = "POST 64 KiB"
	var conn *conn1
	defer func() { closeAll(conn) }()
	for ctx.Err() == nil {
		due, err := time.Now(), error(nil)
		if conn == nil {
			conn, err = connect()
		}
		last := true
		if err == nil {
			last, err = conn.post("/echo", l.body(64<<10), "")
		}
		l.Record.note(kind, due, 0, err)
		if last || !l.think(ctx, kind, conn, 100*time.Millisecond) {
			closeAll(conn)
			conn = nil
			wait(ctx, 100*time.Millisecond)
		}
	}
}
