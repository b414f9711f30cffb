package upstream

import (
	"context"
	"net"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"
)

// sipping is a target that reads a few bytes again and again, all of its life, and never answers.
func sipping(t *testing.T, every time.Duration) (url string) {
	t.Helper()
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096) })
	}}
	listener, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		again := time.NewTicker(every)
		defer again.Stop()
		for buffer := make([]byte, 2048); ; {
			select {
			case <-ctx.Done():
				return
			case <-again.C:
			}
			if _, err := conn.Read(buffer); err != nil {
				return
			}
		}
	})
	t.Cleanup(func() {
		stop()
		_ = listener.Close()
		serving.Wait()
	})
	return "http://" + listener.Addr().String()
}

func TestATargetThatTakesAnUploadSlowlyIsNotIdle(t *testing.T) {
	u := upstreamOf(sipping(t, 50*time.Millisecond))
	u.Timeouts.Idle = 1.5
	p := newSet(t, Options{}).For(u)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	r, _ := http.NewRequestWithContext(ctx, http.MethodPost, "/", zeroBody{})
	r.ContentLength = 64 << 20
	began := time.Now()
	if _, err := p.RoundTrip(r); ctx.Err() == nil {
		t.Errorf("%v after %v", err, time.Since(began))
	}
}

type zeroBody struct{ zeros }

func (zeroBody) Close() error { return nil }
