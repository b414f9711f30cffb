package rules

import "time"

// Upstream is a row of the table upstreams with its rows of the table targets: a named pool. All times are in seconds.
type Upstream struct {
	Name string `json:"name"`
	// ResponseTimeout is how long the upstream may take until its first response header; 0 means no limit.
	ResponseTimeout float64 `json:"response_timeout"`
	Note            string  `json:"note"`
	UpdatedAt       string  `json:"updated_at"`
	// ProxyProtocol says what is sent first on a connection to a target; empty means off.
	ProxyProtocol ProxyProtocol `json:"proxy_protocol"`
	Check
	// TargetsOf is the name of another upstream whose targets serve this one, too: so a rule can have the same targets with
	// other settings. Empty means that it has its own.
	TargetsOf string  `json:"targets_of"`
	Balance   Balance `json:"balance"`
	Room
	Repeats
	Breaker
	Timeouts
	TargetTLS
	Repair
	FastCGI
	Targets []Target `json:"targets"`
}

// ProxyProtocol is a version of the PROXY protocol, by which a target learns the client's address.
type ProxyProtocol string

// The values of ProxyProtocol.
const (
	ProxyProtocolOff ProxyProtocol = "off"
	ProxyProtocolV1  ProxyProtocol = "v1" // as text
	ProxyProtocolV2  ProxyProtocol = "v2" // as bytes
)

// Balance says how a target is chosen among those that are ready and do not fail.
type Balance string

// The values of Balance.
const (
	BalanceP2C              Balance = "p2c"               // the better of two drawn by weight: fewer requests in flight, quicker answers
	BalanceRoundRobin       Balance = "round-robin"       // one after the other, by weight
	BalanceLeastConnections Balance = "least-connections" // the one with the fewest requests in flight for its weight
	BalanceVisitorHash      Balance = "visitor-hash"      // the same for a visitor, as long as it is there
)

// Room bounds how many requests a target has in flight, and how many wait for one that has room.
type Room struct {
	MaxInFlight  int     `json:"max_in_flight"` // to each target; 0 for no limit
	QueueLength  int     `json:"queue_length"`  // requests that wait, of the whole upstream
	QueueTimeout float64 `json:"queue_timeout"` // that one waits at most
}

// Repeats bounds how often a request is sent to another target.
type Repeats struct {
	Retries   int `json:"retries"`    // beyond the first attempt
	RetryBody int `json:"retry_body"` // bytes of a body that are kept to send them again, where the method allows it
}

// Breaker says when an upstream whose answers fail is left alone for a time.
type Breaker struct {
	Percent  float64 `json:"breaker_percent"`  // of answers in ten seconds that fail: errors and 500 to 599; 0 for never
	Requests int     `json:"breaker_requests"` // at least so many in that time
	Pause    float64 `json:"breaker_pause"`    // until one request may try
}

// Timeouts bounds what Check and ResponseTimeout do not.
type Timeouts struct {
	Connect float64 `json:"connect_timeout"` // until a target accepts a connection
	TLS     float64 `json:"tls_timeout"`     // of a handshake with a target
	Idle    float64 `json:"idle_timeout"`    // without a byte of the answer's body, nor of the request's; 0 for no limit
}

// TargetTLS says how https and h2 targets are known. Its files are named without their folder, which root owns.
type TargetTLS struct {
	ServerName  string `json:"tls_server_name"` // that the certificate must have; empty for the target's own host
	CA          string `json:"tls_ca"`          // NAME of NAME.pem, whose certificates are trusted; empty for the system's
	Certificate string `json:"tls_certificate"` // NAME of NAME.crt and NAME.key, by which we are known; empty for none
	// Pin lists SHA-256 sums of public keys (SPKI) in base64, separated by commas, of which the target must have one. Then
	// nothing else is asked of its certificate unless CA is set.
	Pin string `json:"tls_pin"`
}

// Repair says what is changed in requests to an upstream and in its answers. Prefixes begin with a slash and end with none.
type Repair struct {
	Host            string `json:"host"`             // that a target is asked for; empty for the visitor's
	OwnHosts        string `json:"own_hosts"`        // by which the upstream knows itself, separated by commas: become the visitor's in answers
	StripPrefix     string `json:"strip_prefix"`     // of paths, taken off in requests
	AddPrefix       string `json:"add_prefix"`       // of paths, put before them in requests, after StripPrefix was taken off
	CookieDomain    string `json:"cookie_domain"`    // that cookies get which name one of OwnHosts or Host; empty for none: the visitor's host alone
	CookiePrefix    string `json:"cookie_prefix"`    // of the names of cookies that the upstream sets, which it never sees
	RequestHeaders  string `json:"request_headers"`  // JSON object: "Name" sets, "+Name" adds, null removes
	ResponseHeaders string `json:"response_headers"` // likewise
}

// FastCGI is what applications that speak it are told.
type FastCGI struct {
	Root   string `json:"fcgi_root"`   // folder of the scripts; empty for an application without any
	Index  string `json:"fcgi_index"`  // script of a folder
	Split  string `json:"fcgi_split"`  // end of a script's name
	Front  string `json:"fcgi_front"`  // script for paths that name none; empty for 404
	Params string `json:"fcgi_params"` // JSON object of further parameters
	Keep   int    `json:"fcgi_keep"`   // connections that are kept, each of which occupies a worker of php-fpm
}

// DefaultUpstream is what a row has that says nothing but its name, which is left to the caller.
func DefaultUpstream() Upstream {
	return Upstream{
		ProxyProtocol: ProxyProtocolOff,
		Check:         Check{Interval: 10, Timeout: 5, Status: "200-399", Rise: 2, Fall: 3},
		Balance:       BalanceP2C,
		Room:          Room{QueueLength: 100, QueueTimeout: 10},
		Repeats:       Repeats{Retries: 3, RetryBody: 64 << 10},
		Breaker:       Breaker{Requests: 20, Pause: 10},
		Timeouts:      Timeouts{Connect: 3, TLS: 5},
		Repair:        Repair{RequestHeaders: "{}", ResponseHeaders: "{}"},
		FastCGI:       FastCGI{Index: "index.php", Split: ".php", Params: "{}"},
	}
}

// Seconds returns a column as a time.
func Seconds(n float64) time.Duration { return time.Duration(n * float64(time.Second)) }
