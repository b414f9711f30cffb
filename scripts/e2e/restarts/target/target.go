// Package target is the service behind the proxy that is measured: it does what its clients ask for, and says what it got.
package target

import (
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"net/http"
	"strconv"
	"time"

	"cutover/scripts/e2e/restarts/wire"
)

// Handler returns the service. Its paths:
//
//	/echo?ms=M                reads the body, waits M ms, and answers with its receipt
//	/download?bytes=B&ms=M    sends B bytes of the pattern, spread over M ms
//	/websocket                sends back every message
//	/events?count=C&ms=M      sends events with the ids 1 to C, one each M ms, and then one named end
//
// An answer says in X-Service who gives it.
func Handler(name string) http.Handler {
	s := &service{pattern: wire.NewPattern()}
	mux := http.NewServeMux()
	mux.HandleFunc("/echo", s.echo)
	mux.HandleFunc("/download", s.download)
	mux.HandleFunc("/websocket", s.webSocket)
	mux.HandleFunc("/events", s.events)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Service", name)
		mux.ServeHTTP(w, r)
	})
}

type service struct{ pattern *wire.Pattern }

func number(r *http.Request, name string) int64 {
	n, err := strconv.ParseInt(r.URL.Query().Get(name), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func pause(r *http.Request, moment time.Time) bool {
	timer := time.NewTimer(time.Until(moment))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.Context().Done():
		return false
	}
}

func (s *service) echo(w http.ResponseWriter, r *http.Request) {
	sum := crc32.NewIEEE()
	n, err := io.Copy(sum, r.Body)
	if err != nil {
		http.Error(w, fmt.Sprintf("the body ended after %d bytes: %v", n, err), http.StatusBadRequest)
		return
	}
	if ms := number(r, "ms"); ms > 0 && !pause(r, time.Now().Add(time.Duration(ms)*time.Millisecond)) {
		return
	}
	answer(w, n, sum)
}

func answer(w http.ResponseWriter, n int64, sum hash.Hash32) {
	_, _ = io.WriteString(w, wire.Receipt(n, sum.Sum32())) // the client may have left
}

func (s *service) download(w http.ResponseWriter, r *http.Request) {
	total, lasting := number(r, "bytes"), time.Duration(number(r, "ms"))*time.Millisecond
	w.Header().Set("Content-Length", strconv.FormatInt(total, 10))
	w.WriteHeader(http.StatusOK)
	_ = http.NewResponseController(w).Flush() // the next write would tell
	began, buffer := time.Now(), make([]byte, 64<<10)
	for sent := int64(0); sent < total; {
		part := buffer[:min(int64(len(buffer)), total-sent)]
		s.pattern.Fill(part, sent)
		if !pause(r, began.Add(time.Duration(float64(lasting)*float64(sent)/float64(total)))) {
			return
		}
		n, err := w.Write(part)
		if err != nil {
			return
		}
		sent += int64(n)
	}
}

func (s *service) webSocket(w http.ResponseWriter, r *http.Request) {
	conn, both, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer func() { _ = conn.Close() }()
	fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %s\r\n\r\n",
		wire.Accept(r.Header.Get("Sec-WebSocket-Key")))
	for {
		opcode, payload, err := wire.ReadFrame(both.Reader)
		if err != nil || wire.WriteFrame(conn, opcode, payload, false) != nil || opcode == wire.Close {
			return
		}
	}
}

func (s *service) events(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	count, every := number(r, "count"), time.Duration(number(r, "ms"))*time.Millisecond
	began, control := time.Now(), http.NewResponseController(w)
	for id := int64(1); id <= count; id++ {
		if !pause(r, began.Add(time.Duration(id-1)*every)) {
			return
		}
		fmt.Fprintf(w, "id: %d\ndata: %d\n\n", id, time.Now().UnixNano())
		if control.Flush() != nil {
			return
		}
	}
	_, _ = io.WriteString(w, "event: end\ndata: 0\n\n") // the client may have left
}
