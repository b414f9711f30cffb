package rules

import (
	"net/http"
	"net/netip"
)

// Request is what a decision depends on. The caller keeps the ownership of all it points to.
type Request struct {
	Method   string
	Host     string // as NormalizeHost returns it
	Path     string // the escaped path as the client sent it; starts with /
	RawQuery string
	Header   http.Header
	ClientIP netip.Addr // the client, behind trusted proxies; may be invalid
	// Identify tells who the visitor is. Match calls it at most once, and only where a split is in force. Without
	// it each request is its own visitor with the zero ID.
	Identify func(r *Request, sticky Sticky) Visitor
}

// Visitor is whoever holds one visitor id.
type Visitor struct {
	ID       [16]byte
	Returned bool // the id came with the request, in a valid cookie
}

// Action is what is to be done with a request.
type Action uint8

// The values of Action.
const (
	Forward     Action = iota // to Decision.Upstream
	Moved                     // answer Decision.Status with Decision.Location
	Gone                      // answer 410
	Misdirected               // answer 421: no rule knows this host, and the default is to refuse
)

// Decision is what is to be done with a request, and why.
type Decision struct {
	Action   Action
	Upstream string // Forward: the name of the upstream
	Version  string // Forward: V1 or V2, the side of the migration
	Status   int    // Moved, Gone and Misdirected
	Location string // Moved

	RuleID     int64 // 0 if no rule decided
	RedirectID int64 // 0 if no redirect decided
	Reason     Reason

	Percent float64
	// Bucket is the visitor's place from 0 to 9,999, compared with Percent × 100; -1 where no split is in force.
	Bucket  int
	Visitor Visitor // valid only where a split is in force
	Sticky  Sticky
	// VaryCookie says that another Cookie header could have changed this decision.
	VaryCookie bool

	// HTTPS and HSTS are the host's; they apply to whatever Action says.
	HTTPS HTTPS
	HSTS  int64
}

// Split reports whether the decision depends on who the visitor is.
func (d *Decision) Split() bool { return d.Bucket >= 0 }

// Reason names, in one word for logs and metrics, what led to a decision.
type Reason string

// The values of Reason.
const (
	ReasonRule      Reason = "rule"      // a rule of 0 or 100 percent
	ReasonSplit     Reason = "split"     // a rule between, and the visitor's bucket
	ReasonRedirect  Reason = "redirect"  // a redirect or a 410
	ReasonDefault   Reason = "default"   // nothing matched
	ReasonChallenge Reason = "challenge" // a CA asks for a token that is not ours
)
