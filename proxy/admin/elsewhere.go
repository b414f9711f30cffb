package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"

	"cutover/rules/store"
)

// authorHeader tells the writer of the rules on whose behalf another worker of the service asks.
const authorHeader = "Cutover-Author"

// atWriter is for handlers that change the rules: where another process is the writer, as it is during a restart, they are
// asked of that one. Bodies are kept, since a request may meet the very moment in which the writer changes.
func (s *Server) atWriter(h handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		if s.Elsewhere == nil {
			return h(w, r)
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if errors.As(err, new(*http.MaxBytesError)) {
			return refuse(http.StatusRequestEntityTooLarge, "send it in several requests", "the body is larger than %d bytes", maxBody)
		}
		if err != nil {
			return fmt.Errorf("read the request: %w", err)
		}
		return s.atWriterOf(h, w, r, func() { r.Body = io.NopCloser(bytes.NewReader(body)) })
	}
}

// atWriterStreamed is atWriter for a body of any size: a handler that says store.ErrNotWriter has not read it.
func (s *Server) atWriterStreamed(h handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error { return s.atWriterOf(h, w, r, func() {}) }
}

func (s *Server) atWriterOf(h handler, w http.ResponseWriter, r *http.Request, rewind func()) error {
	for {
		rewind()
		err := h(w, r)
		if s.Elsewhere == nil || !errors.Is(err, store.ErrNotWriter) {
			return err
		}
		transport, err := s.Elsewhere(r.Context())
		if err != nil {
			return &Error{Status: http.StatusServiceUnavailable, Message: "nothing was changed: " + err.Error(), Hint: "try again in some seconds", cause: err}
		}
		if transport != nil && r.Header.Get(authorHeader) != "" {
			return refuse(http.StatusServiceUnavailable, "try again in some seconds", "nothing was changed: the rules are changing hands")
		}
		if transport != nil {
			rewind()
			return forward(w, r, transport)
		}
	}
}

func forward(w http.ResponseWriter, r *http.Request, transport http.RoundTripper) error {
	author, err := json.Marshal(authorOf(r.Context()))
	if err != nil {
		return err
	}
	var failed error
	proxy := httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL.Scheme, p.Out.URL.Host = "http", "cutover"
			p.Out.Header.Set(authorHeader, string(author))
		},
		FlushInterval: -1,
		ErrorHandler:  func(_ http.ResponseWriter, _ *http.Request, err error) { failed = err },
	}
	proxy.ServeHTTP(w, r)
	if failed != nil {
		return &Error{
			Status: http.StatusServiceUnavailable, cause: failed,
			Message: "the process that holds the rules now could not be asked, and whether it made the change is not known",
			Hint:    "see 'cutover history', then try again",
		}
	}
	return nil
}

// onBehalf returns the author that another worker of the same service names, false if there is none: whoever else says so is
// not believed.
func (s *Server) onBehalf(ctx context.Context, r *http.Request) (store.Author, bool) {
	text := r.Header.Get(authorHeader)
	from, ok := ctx.Value(peerKey{}).(peer)
	if text == "" || s.TrustPeer == nil || !ok || from.err != nil || !s.TrustPeer(int(from.credentials.Pid), int(from.credentials.Uid)) {
		return store.Author{}, false
	}
	var author store.Author
	err := json.Unmarshal([]byte(text), &author)
	return author, err == nil && author.Name != ""
}
