package smuggle

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
)

// Request is one that arrived at the server behind.
type Request struct {
	Method, Path string
	Head         []byte // as it came
	Body         string
}

// Recorder is the server behind the proxy. It answers each request with its path.
type Recorder struct {
	mu   sync.Mutex
	list []Request
}

// take returns what has arrived since the last time.
func (r *Recorder) take() []Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := r.list
	r.list = nil
	return list
}

// Serve accepts until ctx ends, and closes the listener.
func (r *Recorder) Serve(ctx context.Context, listener net.Listener) {
	var all sync.WaitGroup
	defer all.Wait()
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() })
	defer stop()
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		all.Go(func() {
			stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
			defer stop()
			defer func() { _ = conn.Close() }()
			r.serve(conn)
		})
	}
}

// serve reads requests one after the other, and remembers their bytes.
func (r *Recorder) serve(conn net.Conn) {
	var seen bytes.Buffer
	reader := bufio.NewReader(io.TeeReader(conn, &seen))
	for read := 0; ; {
		begin := read
		request, err := http.ReadRequest(reader)
		if err != nil {
			if rest := seen.Bytes()[begin:]; len(rest) > 0 && !errors.Is(err, io.EOF) {
				r.add(Request{Method: "nonsense", Path: fmt.Sprintf("%.40q", rest), Head: bytes.Clone(rest)})
			}
			return
		}
		head := seen.Bytes()[begin : seen.Len()-reader.Buffered()]
		if i := bytes.Index(head, []byte("\r\n\r\n")); i >= 0 {
			head = head[:i+2]
		}
		head = bytes.Clone(head)
		body, err := io.ReadAll(request.Body)
		read = seen.Len() - reader.Buffered()
		if err != nil {
			return // it broke off, so it was not forwarded
		}
		r.add(Request{Method: request.Method, Path: request.URL.Path, Head: head, Body: string(body)})
		if _, err := fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(request.URL.Path), request.URL.Path); err != nil {
			return
		}
	}
}

func (r *Recorder) add(request Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, request)
}
