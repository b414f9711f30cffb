package frontend

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
)

// serveHTTP1 is the handler of the roles that speak HTTP/1.1.
func (s *Server) serveHTTP1(w http.ResponseWriter, r *http.Request) {
	on := connectionOf(r)
	lame := newLameWriter(s.newAnswer(w, on))
	lame.last, lame.body = on.last(r), r.ContentLength != 0
	defer lame.finish()
	if r.ProtoMajor != 1 { // net/http lets HTTP/2's preface through, for handlers that would take it from there
		http.Error(lame, "HTTP/2 is spoken over TLS only", http.StatusHTTPVersionNotSupported)
		return
	}
	s.handle(lame, r)
}

// serveHTTP2 is the handler of the role that speaks HTTP/2. To net/http its connections are clear text.
func (s *Server) serveHTTP2(w http.ResponseWriter, r *http.Request) {
	on := connectionOf(r)
	r.TLS = on.framed.tls
	a := s.newAnswer(w, on)
	defer a.finish()
	s.handle(a, r)
}

func (s *Server) handle(w http.ResponseWriter, r *http.Request) {
	s.handlers.Add(1)
	defer s.handlers.Add(-1)
	defer s.reportPanic(r)
	s.options.Handler.ServeHTTP(w, r)
}

// reportPanic logs a handler's panic as the error it is and has net/http abort the answer; net/http's own line would
// drown among clients' mistakes.
func (s *Server) reportPanic(r *http.Request) {
	cause := recover()
	if cause == nil {
		return
	}
	if err, ok := cause.(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
		s.log.Error("the handler panicked", slog.String("cause", fmt.Sprint(cause)), slog.String("method", r.Method),
			slog.String("host", r.Host), slog.String("client", r.RemoteAddr), slog.String("stack", string(debug.Stack())))
	}
	panic(http.ErrAbortHandler)
}
