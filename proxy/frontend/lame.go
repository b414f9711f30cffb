package frontend

import (
	"net/http"
	"sync/atomic"
)

// lameWriter tells an HTTP/1.1 client with its answer that the connection ends, while the server drains: then no request
// of the client's can cross the closing (RFC 9112 §9.6).
type lameWriter struct {
	http.ResponseWriter
	draining *atomic.Bool
	wrote    bool
}

func (w *lameWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *lameWriter) WriteHeader(status int) {
	if status >= 200 {
		w.begin()
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *lameWriter) Write(b []byte) (int, error) {
	w.begin()
	return w.ResponseWriter.Write(b)
}

// FlushError sends the head if nothing has yet, so it must be complete.
func (w *lameWriter) FlushError() error {
	w.begin()
	return http.NewResponseController(w.ResponseWriter).Flush()
}

func (w *lameWriter) begin() {
	if !w.wrote && w.draining.Load() {
		w.Header().Set("Connection", "close")
	}
	w.wrote = true
}
