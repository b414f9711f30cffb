package proxy

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"net/http"
	"net/netip"
	"time"

	"cutover/proxy/repair"
	"cutover/proxy/upstream"
	"cutover/rules"
)

// exchange is a request and its answer on their way.
type exchange struct {
	in       *http.Request
	out      *recorder
	upload   *upload // nil where the request has no body
	patience *patience
	began    time.Time
	id       string         // request id
	peer     netip.AddrPort // the other end of the connection; may be invalid
	trusted  bool           // the peer's forwarding headers are believed
	secure   bool           // the visitor speaks https, to us or to a trusted proxy
	client   netip.Addr     // behind trusted proxies; may be invalid
	network  netip.Addr     // that it is counted for; invalid for none
	host     string         // in normal form
	decision rules.Decision
	repair   *repair.Plan  // nil for none
	paths    repair.Paths  // where there is one
	guard    *rules.Guard  // nil if none holds
	refused  string        // why a guard or a limit did not let it in, in a word
	consumed bool          // the Authorization header was the guard's
	target   string        // URL of the target that was tried last
	waited   time.Duration // from the start until the upstream's first header
	broke    error         // what ended the target's answer too early
	parting  *parting      // of a tunnel or an event stream; nil for other answers
	cause    error         // why it failed; nil if it did not
	finished bool          // the answer did not break off
}

// begin looks at a request.
func (h *Handler) begin(w http.ResponseWriter, r *http.Request) *exchange {
	e := &exchange{in: r, out: &recorder{ResponseWriter: w}, began: time.Now(), decision: rules.Decision{Bucket: -1}}
	if r.Body != nil && r.Body != http.NoBody {
		e.upload = &upload{ReadCloser: r.Body}
	}
	e.peer = peerOf(r)
	e.trusted = h.trusts(e.peer.Addr())
	e.secure = e.scheme() == "https"
	e.client = h.clientBehind(e.peer.Addr(), e.trusted, r.Header)
	e.id = e.requestID()
	return e
}

// scheme returns what the visitor speaks, as far as it can be believed.
func (e *exchange) scheme() string {
	if e.trusted {
		switch proto := e.in.Header.Get("X-Forwarded-Proto"); proto {
		case "http", "https":
			return proto
		}
	}
	if e.in.TLS != nil {
		return "https"
	}
	return "http"
}

// origin is what an application is told that does not read forwarding headers.
func (e *exchange) origin() upstream.Origin {
	return upstream.Origin{Client: e.from(), HTTPS: e.secure, RequestID: e.id}
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
	return isPrintable(id)
}

// isPrintable reports whether text is of visible ASCII alone.
func isPrintable(text string) bool {
	for i := range len(text) {
		if text[i] <= ' ' || text[i] > '~' {
			return false
		}
	}
	return true
}

var errBrokeOff = errors.New("the answer broke off")

// ourselves is the remote address of a net.Pipe: over one, this process asks itself whether it answers.
const ourselves = "pipe"

// end counts and logs the exchange, but not what this process asks itself.
func (h *Handler) end(e *exchange) {
	if e.in.RemoteAddr == ourselves {
		return
	}
	took := time.Since(e.began)
	if !e.finished && e.cause == nil {
		e.cause = firstError(e.out.err, e.broke, errBrokeOff)
	}
	status := e.out.status
	if status == 0 {
		status = http.StatusOK // nothing was written: net/http answers so
		if e.cause != nil {
			status = statusClientGone
		}
	}
	h.Metrics.Request(e.decision.Version, e.decision.Upstream, e.target, status, took)
	if h.Access != nil {
		h.Access.write(e, status, took)
	}
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// traffic returns how many bytes of bodies came from the visitor and went to him.
func (e *exchange) traffic() (in, out int64) {
	if e.upload != nil {
		in = e.upload.bytes.Load()
	}
	out = e.out.bytes
	if e.out.tunnel != nil {
		in, out = in+e.out.tunnel.in.Load(), out+e.out.tunnel.out.Load()
	}
	return in, out
}
