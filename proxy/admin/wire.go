package admin

import (
	"time"

	"cutover/proxy"
	"cutover/proxy/metrics"
	"cutover/rules"
	"cutover/rules/store"
)

// RuleList is the answer to GET /v1/rules.
type RuleList struct {
	Default  rules.Default   `json:"default"` // where requests go that nothing matches
	Rules    []rules.Rule    `json:"rules"`
	More     bool            `json:"more,omitempty"` // there are more rows than a list may hold: export has all
	Problems []rules.Problem `json:"problems"`       // of the rows in this list and of the default
}

// RedirectList is the answer to GET /v1/redirects.
type RedirectList struct {
	Redirects []rules.Redirect `json:"redirects"`
	More      bool             `json:"more,omitempty"`
	Problems  []rules.Problem  `json:"problems"`
}

// UpstreamList is the answer to GET /v1/upstreams.
type UpstreamList struct {
	Upstreams []rules.Upstream `json:"upstreams"`
	Problems  []rules.Problem  `json:"problems"` // of upstreams and of their targets
}

// HostList is the answer to GET /v1/hosts.
type HostList struct {
	Hosts    []rules.Host    `json:"hosts"`
	More     bool            `json:"more,omitempty"`
	Problems []rules.Problem `json:"problems"`
}

// GuardList is the answer to GET /v1/guards. Users has hashes of passwords.
type GuardList struct {
	Guards   []rules.GuardRow `json:"guards"`
	More     bool             `json:"more,omitempty"`
	Problems []rules.Problem  `json:"problems"`
}

// EditRequest is the body of POST /v1/edits. All of its edits are made, in one transaction, or none.
type EditRequest struct {
	Edits  []store.Edit `json:"edits"`
	DryRun bool         `json:"dry_run,omitempty"` // say what would change, and change nothing
}

// HistoryList is the answer to GET /v1/history: the newest change first.
type HistoryList struct {
	Changes []store.Change `json:"changes"`
}

// UndoRequest is the body of POST /v1/undo, whose answer is a store.Reversal. All of the changes are undone, or none.
type UndoRequest struct {
	Changes []int64 `json:"changes"` // by their numbers
	DryRun  bool    `json:"dry_run,omitempty"`
}

// RestoreRequest is the body of POST /v1/restore, whose answer is a store.Reversal.
type RestoreRequest struct {
	At     time.Time `json:"at"` // everything becomes as it stood then
	DryRun bool      `json:"dry_run,omitempty"`
}

// ExplainRequest is the body of POST /v1/explain: a request that nobody makes.
type ExplainRequest struct {
	URL     string              `json:"url"`               // absolute, http or https
	Method  string              `json:"method,omitempty"`  // default GET
	Headers map[string][]string `json:"headers,omitempty"` // as a client would send them
	Cookie  string              `json:"cookie,omitempty"`  // "a=1; b=2", as in a Cookie header
	IP      string              `json:"ip,omitempty"`      // the client's address; default 127.0.0.1
}

// The values of Explanation.Action.
const (
	ActionForward     = "forward"
	ActionRedirect    = "redirect"
	ActionGone        = "gone"
	ActionMisdirected = "misdirected"
	ActionRefused     = "refused" // by a guard
)

// Explanation is the answer to POST /v1/explain: what a request would meet, and why.
type Explanation struct {
	URL      string          `json:"url"` // as it was understood: host in ASCII, path never empty
	Method   string          `json:"method"`
	Action   string          `json:"action"` // forward, redirect, gone, misdirected or refused
	Status   int             `json:"status,omitempty"`
	Location string          `json:"location,omitempty"`
	Version  string          `json:"version,omitempty"`  // v1 or v2
	Upstream string          `json:"upstream,omitempty"` // name of the upstream
	Targets  []rules.Target  `json:"targets,omitempty"`  // of the upstream
	Reason   rules.Reason    `json:"reason"`
	Rule     *rules.Rule     `json:"rule,omitempty"`     // the rule that decided
	Redirect *rules.Redirect `json:"redirect,omitempty"` // the redirect that decided
	Percent  float64         `json:"percent"`
	Guard    *GuardBrief     `json:"guard,omitempty"` // the guard that holds
	// Bucket is the visitor's place from 0 to 9,999; -1 where no split is in force.
	Bucket int          `json:"bucket"`
	Sticky rules.Sticky `json:"sticky,omitempty"`
	// VisitorReturned says that the request carried a valid visitor cookie.
	VisitorReturned bool        `json:"visitor_returned"`
	HTTPS           rules.HTTPS `json:"https,omitempty"`
	HSTS            int64       `json:"hsts"`
	Why             []string    `json:"why"`                // sentences
	Warnings        []string    `json:"warnings,omitempty"` // what would go wrong with this request
}

// GuardBrief names a guard.
type GuardBrief struct {
	ID   int64  `json:"id"`
	Host string `json:"host"`
	Path string `json:"path"`
}

// Status is the answer to GET /v1/status. Lists in it are bounded; where one was cut, a total says so.
type Status struct {
	Version       string    `json:"version"`
	Running       bool      `json:"running"` // false: no process serves, these are the rules as they are on disk
	PID           int       `json:"pid"`
	StartedAt     time.Time `json:"started_at,omitzero"`
	UptimeSeconds int64     `json:"uptime_seconds"`
	Ready         bool      `json:"ready"`
	NotReady      string    `json:"not_ready,omitempty"` // why not
	Sockets       []string  `json:"sockets,omitempty"`

	Rules        RulesStatus        `json:"rules"`
	Store        store.Health       `json:"store"`
	Connections  *ConnectionStatus  `json:"connections,omitempty"`
	Certificates *CertificateStatus `json:"certificates,omitempty"`
	Upstreams    []UpstreamStatus   `json:"upstreams"`
	// Older are the workers that were replaced and have not ended yet, the oldest first.
	Older  []GenerationStatus `json:"older,omitempty"`
	Totals *metrics.Totals    `json:"totals,omitempty"` // what was counted since the process started
	Memory *MemoryStatus      `json:"memory,omitempty"`
	// ErrorPages are those of the operator\'s own.
	ErrorPages *proxy.PagesStatus `json:"error_pages,omitempty"`
}

// MemoryStatus says how much memory the process has, and what it tries to stay within.
type MemoryStatus struct {
	Used  int64  `json:"used"`  // bytes
	Limit int64  `json:"limit"` // bytes; 0 for no limit
	From  string `json:"from"`  // who set the limit
}

// RulesStatus says which rules are in force.
type RulesStatus struct {
	Default       rules.Default   `json:"default"`
	Counts        rules.Counts    `json:"counts"`
	LoadedAt      time.Time       `json:"loaded_at,omitzero"`
	LastEdit      time.Time       `json:"last_edit,omitzero"`
	NextChange    time.Time       `json:"next_change,omitzero"` // the next starts_at or ends_at
	ProblemsTotal int             `json:"problems_total"`
	Problems      []rules.Problem `json:"problems"` // the first hundred
}

// ConnectionStatus counts connections of clients by what they do.
type ConnectionStatus struct {
	Open        int `json:"open"`
	Active      int `json:"active"`
	Idle        int `json:"idle"`
	Handshaking int `json:"handshaking"`
	Requests    int `json:"requests"` // in flight
	Tunnels     int `json:"tunnels"`
	Streams     int `json:"event_streams"`
}

// CertificateStatus counts certificates and lists the names that wait after a failure.
type CertificateStatus struct {
	Issuer         string            `json:"issuer"`            // acme, local or off
	Problem        string            `json:"problem,omitempty"` // why nothing at all is issued
	Stored         int               `json:"stored"`
	InFlight       int               `json:"in_flight"`
	BackedOffTotal int               `json:"backed_off_total"`
	BackedOff      []BackedOffStatus `json:"backed_off,omitempty"` // the first hundred
	Late           int               `json:"late"`                 // renewals that are due and did not succeed yet
	Outage         string            `json:"outage,omitempty"`     // why nothing is ordered, where the CA does not work
	Budget         *BudgetStatus     `json:"budget,omitempty"`     // nil where orders are not bounded
	// States counts the certificates by state, and Ending lists those in the rules that end within 7 days or have ended, the
	// first of them first.
	States      map[CertificateState]int `json:"states,omitempty"`
	EndingTotal int                      `json:"ending_total"`
	Ending      []EndingStatus           `json:"ending,omitempty"` // the first hundred
	// Files lists pairs of files that cannot be read; an older version of them may serve.
	Files []FileStatus `json:"files,omitempty"`
}

// BudgetStatus says how many certificates were ordered, and what new ones wait for.
type BudgetStatus struct {
	Orders        int          `json:"orders"` // of the account, within the window
	Limit         int          `json:"limit"`
	WindowSeconds int64        `json:"window_seconds"`
	HoldsTotal    int          `json:"holds_total"`
	Holds         []BudgetHold `json:"holds,omitempty"` // the first hundred
}

// BudgetHold is a budget without room: of the account, of a registered domain or of a name.
type BudgetHold struct {
	Budget string    `json:"budget"`
	Until  time.Time `json:"until"`
	Reason string    `json:"reason"`
}

// BackedOffStatus is a name whose certificate could not be had, and is not asked for again before Next.
type BackedOffStatus struct {
	Name     string    `json:"name"`
	Failures int       `json:"failures"`
	Next     time.Time `json:"next,omitzero"`
	Error    string    `json:"error"`
}

// EndingStatus is a certificate whose end is near or past.
type EndingStatus struct {
	Name    string    `json:"name"`
	Expires time.Time `json:"expires"`
}

// FileStatus is a pair of files that cannot be read.
type FileStatus struct {
	Name    string `json:"name"`
	Problem string `json:"problem"`
	Serving bool   `json:"serving"` // an older version of it serves
}

// UpstreamStatus is an upstream as it is right now.
type UpstreamStatus struct {
	Name    string         `json:"name"`
	Targets []TargetStatus `json:"targets"`
}

// TargetStatus is a target as it is right now.
type TargetStatus struct {
	URL       string      `json:"url"`
	State     rules.State `json:"state"`
	Weight    int         `json:"weight"`
	InFlight  int64       `json:"in_flight"`
	Requests  uint64      `json:"requests"` // since the process started
	Failures  uint64      `json:"failures"` // of those, without an answer from the target
	LastError string      `json:"last_error,omitempty"`
	// TLSProblem is why the files that tls_ca and tls_certificate name cannot be read; good ones of before hold meanwhile.
	TLSProblem string `json:"tls_problem,omitempty"`
	// FailingSince is when the target began to fail: since then it gets no requests while another of its upstream does not.
	FailingSince   time.Time `json:"failing_since,omitzero"`
	FailingBecause string    `json:"failing_because,omitempty"`
	LatencyMS      float64   `json:"latency_ms,omitempty"` // to the first header of an answer, on average over the last seconds
}

// Parts is what only the daemon can know of Status. A nil part is left out.
type Parts struct {
	StartedAt    time.Time
	Sockets      []string
	Connections  *ConnectionStatus
	Certificates *CertificateStatus
	Upstreams    []UpstreamStatus
	Older        []GenerationStatus
	Totals       *metrics.Totals
	Memory       *MemoryStatus
	ErrorPages   *proxy.PagesStatus
}

// GenerationStatus is a worker that was replaced, and what it still has to finish.
type GenerationStatus struct {
	PID         int       `json:"pid"`
	Version     string    `json:"version"`
	StartedAt   time.Time `json:"started_at"`
	State       string    `json:"state"` // paused: it would serve again, should its successor die; draining
	Connections int       `json:"connections"`
	Requests    int       `json:"requests"`
	Tunnels     int       `json:"tunnels"`
	Streams     int       `json:"streams"` // endless answers, such as server-sent events
	Late        int       `json:"late"`    // connections accepted since its successor accepts: 0, or something is wrong
	Ends        time.Time `json:"ends"`    // what is left by then is cut
}

// maxListed is how many entries a list in Status may have.
const maxListed = 100
