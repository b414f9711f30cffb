package rules

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"path"
	"strconv"
	"strings"
	"time"
)

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
	Host            string `json:"send_host"`        // that a target is asked for; empty for the visitor's
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

// Validate returns why the row makes no sense by itself, nil if it does. Its targets are rows of their own.
func (u *Upstream) Validate() error {
	if !(u.ResponseTimeout >= 0 && u.ResponseTimeout <= 86400) {
		return errors.New("response_timeout must be a number of seconds from 0 (no limit) to 86400")
	}
	switch u.ProxyProtocol {
	case "", ProxyProtocolOff, ProxyProtocolV1, ProxyProtocolV2:
	default:
		return errors.New("proxy_protocol must be off, v1 or v2")
	}
	if u.Balance.isWrong() {
		return errors.New("balance must be p2c, round-robin, least-connections or visitor-hash")
	}
	if u.TargetsOf != "" && (u.TargetsOf == u.Name || validateName(u.TargetsOf) != nil) {
		return errors.New("targets_of must be the name of another upstream, or empty")
	}
	return firstError(validateName(u.Name), u.Check.validate(), u.Room.validate(), u.Repeats.validate(), u.Breaker.validate(),
		u.Timeouts.validate(), u.TargetTLS.validate(), u.FastCGI.validate())
}

// withoutTypos returns the row without those of its settings that only say how well it works: a typo in one of them must not take a
// whole upstream away.
func (u *Upstream) withoutTypos() Upstream {
	row, initial := *u, DefaultUpstream()
	if row.Balance.isWrong() {
		row.Balance = initial.Balance
	}
	row.Check = Check{}
	row.Room, row.Repeats, row.Breaker, row.Timeouts = initial.Room, initial.Repeats, initial.Breaker, initial.Timeouts
	return row
}

// sameSettings reports whether two rows say the same but for their notes and targets.
func sameSettings(a, b *Upstream) bool {
	return a.ResponseTimeout == b.ResponseTimeout && a.ProxyProtocol == b.ProxyProtocol && a.Check == b.Check && a.TargetsOf == b.TargetsOf &&
		a.Balance == b.Balance && a.Room == b.Room && a.Repeats == b.Repeats && a.Breaker == b.Breaker && a.Timeouts == b.Timeouts &&
		a.TargetTLS == b.TargetTLS && a.Repair == b.Repair && a.FastCGI == b.FastCGI
}

func (b Balance) isWrong() bool {
	switch b {
	case "", BalanceP2C, BalanceRoundRobin, BalanceLeastConnections, BalanceVisitorHash:
		return false
	}
	return true
}

func (r *Room) validate() error {
	switch {
	case r.MaxInFlight < 0 || r.MaxInFlight > 1e6:
		return errors.New("max_in_flight must be a whole number from 0 (no limit) to 1000000")
	case r.QueueLength < 0 || r.QueueLength > 1e5:
		return errors.New("queue_length must be a whole number from 0 to 100000")
	case !(r.QueueTimeout >= 0 && r.QueueTimeout <= 600):
		return errors.New("queue_timeout must be 0.01 to 600 seconds")
	}
	return nil
}

func (r *Repeats) validate() error {
	switch {
	case r.Retries < 0 || r.Retries > 10:
		return errors.New("retries must be a whole number from 0 to 10")
	case r.RetryBody < 0 || r.RetryBody > 1<<20:
		return errors.New("retry_body must be 0 to 1048576 bytes")
	}
	return nil
}

func (b *Breaker) validate() error {
	switch {
	case !(b.Percent >= 0 && b.Percent <= 100):
		return errors.New("breaker_percent must be a number from 0 (never) to 100")
	case b.Requests < 0 || b.Requests > 1e6:
		return errors.New("breaker_requests must be a whole number from 1 to 1000000")
	case !(b.Pause >= 0 && b.Pause <= 3600):
		return errors.New("breaker_pause must be 0.1 to 3600 seconds")
	}
	return nil
}

func (t *Timeouts) validate() error {
	switch {
	case !(t.Connect >= 0 && t.Connect <= 300):
		return errors.New("connect_timeout must be 0.05 to 300 seconds")
	case !(t.TLS >= 0 && t.TLS <= 300):
		return errors.New("tls_timeout must be 0.05 to 300 seconds")
	case !(t.Idle >= 0 && t.Idle <= 86400):
		return errors.New("idle_timeout must be a number of seconds from 0 (no limit) to 86400")
	}
	return nil
}

func (t *TargetTLS) validate() error {
	if t.ServerName != "" && (len(t.ServerName) > 253 || !isVisible(t.ServerName) || strings.ContainsAny(t.ServerName, "/?#@")) {
		return errors.New("tls_server_name must be the name of a host, without a port")
	}
	if t.CA != "" && ValidateFileName(t.CA) != nil {
		return errors.New("tls_ca must be a name of letters, digits, . _ and - that begins with no dot, without folder and ending")
	}
	if t.Certificate != "" && ValidateFileName(t.Certificate) != nil {
		return errors.New("tls_certificate must be a name of letters, digits, . _ and - that begins with no dot, without folder and ending")
	}
	_, err := t.Pins()
	return err
}

// Pins returns the sums of Pin; none if it is empty.
func (t *TargetTLS) Pins() (sums [][sha256.Size]byte, err error) {
	if t.Pin == "" {
		return nil, nil
	}
	for part := range strings.SplitSeq(t.Pin, ",") {
		sum, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(part, "sha256//"))
		if err != nil || len(sum) != sha256.Size {
			return nil, errors.New("tls_pin must be SHA-256 sums of public keys in base64, separated by commas")
		}
		sums = append(sums, [sha256.Size]byte(sum))
	}
	return sums, nil
}

// IsNothing reports whether requests and answers pass as they are.
func (r *Repair) IsNothing() bool {
	rest := *r
	if rest.RequestHeaders == "{}" {
		rest.RequestHeaders = ""
	}
	if rest.ResponseHeaders == "{}" {
		rest.ResponseHeaders = ""
	}
	return rest == Repair{}
}

func (f *FastCGI) validate() error {
	switch {
	case f.Root != "" && (f.Root[0] != '/' || path.Clean(f.Root) != strings.TrimRight(f.Root, "/") && f.Root != "/" || len(f.Root) > 1000):
		return errors.New("fcgi_root must be the path of a folder, such as /srv/shop/public")
	case strings.Contains(f.Index, "/") || !isVisible(f.Index):
		return errors.New("fcgi_index must be the name of a script, such as index.php")
	case strings.Contains(f.Split, "/") || !isVisible(f.Split):
		return errors.New("fcgi_split must be the end of the names of scripts, such as .php")
	case f.Front != "" && (f.Front[0] != '/' || f.Front == "/" || path.Clean(f.Front) != f.Front || !isVisible(f.Front)):
		return errors.New("fcgi_front must be the path of a script, such as /index.php")
	case f.Keep < 0 || f.Keep > 1000:
		return errors.New("fcgi_keep must be a whole number from 0 to 1000")
	}
	_, err := f.ParseParams()
	return err
}

// ParseParams returns the parameters of Params.
func (f *FastCGI) ParseParams() (params map[string]string, err error) {
	if f.Params == "" || f.Params == "{}" {
		return nil, nil
	}
	if err := json.Unmarshal([]byte(f.Params), &params); err != nil {
		return nil, errors.New(`fcgi_params must be a JSON object with texts, such as {"APP_ENV": "prod"}`)
	}
	for name := range params {
		if name == "" || strings.ContainsAny(name, "\x00=") || strings.HasPrefix(name, "HTTP_") {
			return nil, errors.New("fcgi_params: " + strconv.Quote(name) + " is no name of a parameter: those with HTTP_ are the visitor's header fields")
		}
	}
	return params, nil
}
