// Package admin is the API by which operators see and change what runs: JSON over HTTP, on a unix socket for the
// machine's own operators and on an optional TCP socket for the holders of an API key.
//
// # Who may do what
//
// The unix socket has mode 0600, and who edits is told by the kernel (SO_PEERCRED), never by the client. The TCP
// socket asks for "Authorization: Bearer KEY" on everything but /healthz. Whoever gets in may do everything.
//
// # Errors
//
// An answer other than 2xx is {"error": "…", "hint": "…"}: what is wrong, and the next step.
//
// The package holds the client as well, so that the wire types exist once. Dial talks to a running daemon; Direct
// talks to a Handler in the same process, which is how the command line works where no daemon runs.
package admin

import (
	"context"
	"log/slog"
	"net/http"
	"os"

	"cutover/proxy"
	"cutover/rules"
	"cutover/rules/store"
)

// Server answers the API. Store is required, the other fields may be left zero.
type Server struct {
	Store *store.Store
	// Decide says what a request would meet; explain needs it. It must not keep r.
	Decide func(r *http.Request) rules.Decision
	// Guarding says what a guard would do with such a request; nil leaves it out. It must not keep r either.
	Guarding func(r *http.Request) proxy.Guarding
	// Status adds what only the daemon knows; nil means that this is no daemon.
	Status func() Parts
	// Ready returns why the process should get no new requests; nil means always ready.
	Ready func() error
	// Elsewhere is asked where the writer of the rules is, when the store says that it is not: it returns how to reach
	// that process, or waits and returns nil if it is the store again. nil means that the store always is the writer.
	Elsewhere func(ctx context.Context) (http.RoundTripper, error)
	// TrustPeer reports whether a process is another worker of this service, which may ask on behalf of others; nil trusts
	// none.
	TrustPeer func(pid, uid int) bool
	// CheckTarget looks at the url of a target before an edit writes it: an error refuses it, a doubt is told with the result. It may
	// take as long as ctx; nil lets everything pass.
	CheckTarget func(ctx context.Context, url string) (doubt string, err error)
	// Prefetcher orders certificates before anybody asks for them; nil means that this is no daemon.
	Prefetcher Prefetcher
	// Certificates is asked for what concerns them; nil means that there are none to speak of.
	Certificates Certificates
	Metrics      http.Handler // for /metrics
	Keys         *Keys        // API keys for TCP; nil refuses everybody
	Log          *slog.Logger // nil discards
	Version      string       // of the program
}

func (s *Server) log() *slog.Logger {
	if s.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return s.Log
}

// Handler returns the API. With local, edits are by the process at the other end of the unix socket, as ServeUnix
// has it, or by the author that As gives; else everything but /healthz needs an API key, whose name is the author.
func (s *Server) Handler(local bool) http.Handler {
	routes := s.routes()
	if local {
		return s.answering(func(w http.ResponseWriter, r *http.Request) error {
			author, err := localAuthor(r.Context())
			if err != nil {
				return err
			}
			if other, ok := s.onBehalf(r.Context(), r); ok {
				author = other
			}
			routes.ServeHTTP(w, r.WithContext(withAuthor(r.Context(), author)))
			return nil
		})
	}
	return s.answering(func(w http.ResponseWriter, r *http.Request) error {
		if r.URL.Path == "/healthz" {
			routes.ServeHTTP(w, r)
			return nil
		}
		author, err := s.keyAuthor(r)
		if err != nil {
			w.Header().Set("WWW-Authenticate", `Bearer realm="cutover"`)
			return err
		}
		routes.ServeHTTP(w, r.WithContext(withAuthor(r.Context(), author)))
		return nil
	})
}

// health says that the process runs and can answer, and nothing else.
func (s *Server) health(w http.ResponseWriter, _ *http.Request) error {
	writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
	return nil
}

// ready answers 503 while the process drains, so that a load balancer sends no more.
func (s *Server) ready(w http.ResponseWriter, _ *http.Request) error {
	if err := s.readiness(); err != nil {
		return &Error{Status: http.StatusServiceUnavailable, Message: err.Error(), Hint: "send new requests elsewhere", cause: err}
	}
	writeJSON(w, http.StatusOK, map[string]string{"status": "ready"})
	return nil
}

func (s *Server) readiness() error {
	if s.Ready == nil {
		return nil
	}
	return s.Ready()
}

func (s *Server) metrics(w http.ResponseWriter, r *http.Request) error {
	if s.Metrics == nil {
		return refuse(http.StatusNotFound, "start the daemon: systemctl start cutover", "there are no metrics without a running daemon")
	}
	s.Metrics.ServeHTTP(w, r)
	return nil
}

func (s *Server) pid() int {
	if s.Status == nil {
		return 0
	}
	return os.Getpid()
}
