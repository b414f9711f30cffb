package frontend

import (
	"io"
	"net/http"
	"strings"
)

// stages is a handler whose requests to /slow wait in the middle.
type stages struct {
	begun  chan struct{} // gets a value for each request to /slow
	finish chan struct{} // lets one go on
}

func newStages() *stages { return &stages{make(chan struct{}, 16), make(chan struct{}, 16)} }

func (s *stages) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case strings.HasPrefix(r.URL.Path, "/slow"):
		s.begun <- struct{}{}
		select {
		case <-s.finish:
		case <-r.Context().Done():
			return
		}
	case r.URL.Path == "/tunnel":
		echo(w)
		return
	case r.URL.Path == "/panic":
		panic("a bug")
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	_, _ = w.Write(append([]byte("ok "), body...))
}

// echo is the other end of a tunnel.
func echo(w http.ResponseWriter) {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer func() { _ = conn.Close() }()
	_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	_, _ = io.Copy(conn, buffered)
}
