package admin

import (
	"io"
	"net/http"
	"strconv"
	"sync"
)

// inProcess is a transport that calls a handler.
type inProcess struct{ handler http.Handler }

// RoundTrip implements http.RoundTripper. The answer is read while it is written.
func (t inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	request := r.Clone(r.Context())
	request.RequestURI = r.URL.RequestURI()
	if request.Body == nil {
		request.Body = http.NoBody
	}
	body, out := io.Pipe()
	w := &pipeWriter{header: http.Header{}, out: out, began: make(chan struct{})}
	go func() {
		defer func() { _ = request.Body.Close() }() // a transport closes the body
		out.CloseWithError(w.serve(t.handler, request))
	}()
	select {
	case <-w.began:
	case <-r.Context().Done():
		body.CloseWithError(r.Context().Err())
		return nil, r.Context().Err()
	}
	return &http.Response{
		StatusCode: w.status, Status: http.StatusText(w.status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: w.sent, Body: body, ContentLength: length(w.sent), Request: r,
	}, nil
}

// pipeWriter is the ResponseWriter of a handler whose answer is read at the same time.
type pipeWriter struct {
	header, sent http.Header
	out          *io.PipeWriter
	status       int
	written      int64
	once         sync.Once
	began        chan struct{} // closed when status and sent are there
}

// serve calls the handler; one that breaks off half-way makes the reader fail.
func (w *pipeWriter) serve(handler http.Handler, r *http.Request) (err error) {
	defer func() {
		if problem := recover(); problem != nil {
			if problem != http.ErrAbortHandler { //nolint:errorlint // net/http compares it so
				panic(problem)
			}
			err = io.ErrUnexpectedEOF
		}
		w.WriteHeader(http.StatusOK) // if nothing was written
	}()
	handler.ServeHTTP(w, r)
	if w.written < length(w.header) {
		return io.ErrUnexpectedEOF
	}
	return nil
}

// length is what a header says that the answer's length is; -1 if it does not.
func length(header http.Header) int64 {
	length, err := strconv.ParseInt(header.Get("Content-Length"), 10, 64)
	if err != nil {
		return -1
	}
	return length
}

func (w *pipeWriter) Header() http.Header { return w.header }

func (w *pipeWriter) WriteHeader(status int) {
	w.once.Do(func() {
		w.status, w.sent = status, w.header.Clone()
		close(w.began)
	})
}

func (w *pipeWriter) Write(data []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	n, err := w.out.Write(data)
	w.written += int64(n)
	return n, err
}

// Flush implements http.Flusher: nothing is kept back.
func (w *pipeWriter) Flush() {}
