package load

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"
)

// oneStreams open a connection for each request.
func oneStreams(ctx context.Context, l *Load) {
	every(ctx, 100*time.Millisecond, func(due time.Time) {
		v := &visitor2{load: l}
		l.Record.note("h2 one stream", due, 0, v.post(l.body(500)))
		v.close()
	})
}

// manyStreams keep 16 streams going on a connection.
func manyStreams(ctx context.Context, l *Load) {
	many(2, func(int) {
		v := &visitor2{load: l}
		many(16, func(int) {
			for wait(ctx, rand.N(200*time.Millisecond)) {
				due := time.Now()
				l.Record.note("h2 16 streams", due, 0, v.post(l.body(1000)))
			}
		})
		v.close()
	})
}

// visitor2 is a client with one connection at a time for new streams. Those on the one before go on.
type visitor2 struct {
	load *Load

	mu      sync.Mutex
	current *conn2
	earlier []*conn2
}

// manyConnections is how often a client tries to get one that takes a request.
const manyConnections = 20

// post asks on the current connection; where it was told to go before it could send anything, on the next.
func (v *visitor2) post(body []byte) error {
	for range manyConnections {
		conn, err := v.connection()
		if err != nil {
			return err
		}
		if err = conn.post(body); !errors.Is(err, errGoing) {
			return err
		}
		v.leave(conn)
	}
	return wrong("no connection takes a request", 0, "%d were told to go before anything was sent", manyConnections)
}

func (v *visitor2) connection() (conn *conn2, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.current == nil {
		if v.current, err = v.load.dial2(); err != nil {
			v.current = nil
		}
	}
	return v.current, err
}

// leave puts a connection aside, and closes those on which nothing is under way any more.
func (v *visitor2) leave(conn *conn2) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.current == conn {
		v.current = nil
		v.earlier = append(v.earlier, conn)
	}
	kept := v.earlier[:0]
	for _, c := range v.earlier {
		if c.quiet() {
			c.close()
		} else {
			kept = append(kept, c)
		}
	}
	v.earlier = kept
}

// close ends all. No stream may be under way.
func (v *visitor2) close() {
	for _, c := range append(v.earlier, v.current) {
		if c != nil {
			c.close()
		}
	}
}
