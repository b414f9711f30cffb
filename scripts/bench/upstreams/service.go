package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// answerTo is the header by which an answer says whose it is.
const answerTo = "X-Answer-To"

// bytesOf are the n bytes that belong to a request: no other has the same.
func bytesOf(id string, n int) []byte {
	return []byte(strings.Repeat(id+" ", n/(len(id)+1)+1)[:n])
}

// sentBytes is how long the bodies of requests are.
const sentBytes = 3000

// service answers properly: ?id=ID&bytes=N with the bytes of that request, and says so if it got another's.
type service struct {
	address string
	served  atomic.Int64

	mu     sync.Mutex
	server *http.Server
	ended  chan struct{}
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.served.Add(1)
	wait(r.Context(), serviceTakes)
	id, n := wish(r)
	if got, err := io.ReadAll(r.Body); err == nil && r.Method == http.MethodPost && !bytes.Equal(got, bytesOf(id, sentBytes)) {
		http.Error(w, "the body is another request's", http.StatusConflict)
		return
	}
	w.Header().Set(answerTo, id)
	w.Header().Set("Content-Length", strconv.Itoa(n))
	_, _ = w.Write(bytesOf(id, n)) // who asked may have left
}

// serviceTakes is how long an answer takes, so that some are under way at any time.
const serviceTakes = 3 * time.Millisecond

// wish reads what a request wants.
func wish(r *http.Request) (id string, n int) {
	n, _ = strconv.Atoi(r.URL.Query().Get("bytes")) // none is 0
	return r.URL.Query().Get("id"), n
}

// start listens. The caller calls kill.
func (s *service) start(ctx context.Context) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", s.address)
	if err != nil {
		return fmt.Errorf("a target: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.server, s.ended = &http.Server{Handler: s, ReadHeaderTimeout: time.Minute}, make(chan struct{})
	go func(server *http.Server, ended chan struct{}) { // kill ends it and waits
		defer close(ended)
		_ = server.Serve(listener) // until it is closed
	}(s.server, s.ended)
	return nil
}

// kill ends the service as that of its process does: nobody listens, every connection breaks.
func (s *service) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server == nil {
		return
	}
	_ = s.server.Close()
	<-s.ended
	s.server = nil
}
