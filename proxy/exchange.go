package proxy

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"net/http"
	"net/netip"
	"time"

	"cutover/rules"
)

// exchange is a request and its answer on their way.
type exchange struct {
	in       *http.Request
	out      *recorder
	began    time.Time
	id       string     // request id
	trusted  bool       // the peer's forwarding headers are believed
	client   netip.Addr // behind trusted proxies
	host     string     // in normal form
	decision rules.Decision
	target   string        // URL of the target that was tried last
	waited   time.Duration // from the start until the upstream's first header
	cause    error         // why it failed; nil if it did not
	finished bool          // the answer did not break off
}

func (h *Handler) begin(w http.ResponseWriter, r *http.Request) *exchange {
	e := &exchange{in: r, out: &recorder{ResponseWriter: w}, began: time.Now(), decision: rules.Decision{Bucket: -1}}
	e.trusted = h.trusts(peerOf(r))
	e.client = h.clientOf(r)
	e.id = e.requestID()
	return e
}

// requestID keeps the id that a trusted proxy gave, and makes one otherwise.
func (e *exchange) requestID() string {
	if id := e.in.Header.Get("X-Request-Id"); e.trusted && validID(id) {
		return id
	}
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails: crypto/rand ends the program instead
	return hex.EncodeToString(id[:])
}

func validID(id string) bool {
	if id == "" || len(id) > 128 {
		return false
	}
	for i := range len(id) {
		if id[i] <= ' ' || id[i] > '~' {
			return false
		}
	}
	return true
}

var errBrokeOff = errors.New("the answer broke off: the target or the visitor closed the connection")

// end counts and logs the exchange.
func (h *Handler) end(e *exchange) {
	took := time.Since(e.began)
	if !e.finished && e.cause == nil {
		e.cause = errBrokeOff
	}
	status := e.out.status
	if status == 0 {
		status = http.StatusOK // nothing was written: net/http answers so
		if e.cause != nil {
			status = statusClientGone
		}
	}
	h.Metrics.Request(e.decision.Version, e.decision.Upstream, status, took)
	if h.Access != nil {
		h.Access.write(e, status, took)
	}
}

// recorder notes what is answered. It hides nothing: http.ResponseController finds the rest through Unwrap.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	return n, err
}
