// Package rules decides where a request goes: to v1, to v2, to a redirect, or nowhere.
//
// It is pure. Compile turns the rows that an operator wrote into a View, an immutable picture of all rules, and
// View.Match turns a Request into a Decision. Nothing here reads a clock, a file or a socket, and nothing here
// logs; package store keeps the rows in SQLite and publishes each new View.
package rules

import "strings"

// Schema is the generation of the rules that this program understands. A row whose Needs is greater was written
// for a newer program and is not served by this one.
//
// 2 added to hosts the columns certificate and tls and rows for *.parent and *, to upstreams proxy_protocol, and guards.
// 3 added checks to upstreams, and sockets and HTTP/2 to the URLs of targets.
// 4 added to upstreams all that follows checks, and FastCGI, programs and discovery to the URLs of targets.
const Schema = 4

// The names that a rule's two sides have unless the row names others.
const (
	V1 = "v1"
	V2 = "v2"
)

// Rows is everything that an operator decides, as read from the tables in one transaction.
type Rows struct {
	// Lineage is random, made with the database and kept through restarts, backups and imports. It salts the
	// bucket of each visitor.
	Lineage   string     `json:"lineage"`
	Default   Default    `json:"default"`
	Upstreams []Upstream `json:"upstreams"`
	Hosts     []Host     `json:"hosts"`
	Rules     []Rule     `json:"rules"`
	Redirects []Redirect `json:"redirects"`
	Guards    []GuardRow `json:"guards"`
}

// Default says what happens to a request that nothing matches.
type Default string

// The values of Default.
const (
	DefaultV1     Default = "v1"     // forward to the upstream v1
	DefaultRefuse Default = "refuse" // answer 421
)

// Kind says how a row's path is compared with the path of a request.
type Kind string

// The values of Kind.
const (
	KindPrefix Kind = "prefix" // the path itself, or anything below it on a segment border
	KindExact  Kind = "exact"  // the path itself
)

// Sticky says what a visitor is recognised by where a split is in force.
type Sticky string

// The values of Sticky.
const (
	StickyCookie  Sticky = "cookie"  // the signed visitor cookie; until it returns, the client's address
	StickyAddress Sticky = "address" // the client's address alone; no cookie is issued
)

// Rule is a row of the table rules: for a host and a path, the share of visitors who get v2.
type Rule struct {
	ID    int64  `json:"id"`
	Host  string `json:"host"` // shop.example.com, *.example.com or *
	Path  string `json:"path"` // starts with /
	Match Kind   `json:"match"`
	// Conditions is a JSON object that narrows the rule, see Conditions; "{}" for none.
	Conditions string  `json:"conditions"`
	V1         string  `json:"v1"`      // name of the upstream for those who do not get v2
	V2         string  `json:"v2"`      // name of the upstream for Percent of the visitors
	Percent    float64 `json:"percent"` // 0 to 100
	Sticky     Sticky  `json:"sticky"`
	StartsAt   string  `json:"starts_at"` // RFC 3339 with an offset; empty: has always been in force
	EndsAt     string  `json:"ends_at"`   // RFC 3339 with an offset; empty: stays in force
	Enabled    bool    `json:"enabled"`
	Needs      int     `json:"needs"` // the lowest Schema that understands this row
	Note       string  `json:"note"`
	UpdatedAt  string  `json:"updated_at"`
}

// Conditions narrows a rule further than host and path. All that are present must hold.
type Conditions struct {
	Methods []string `json:"methods,omitempty"` // any of these
	// Headers, Cookies and Query map a name to the exact value it must have; "*" stands for any value that is
	// present.
	Headers   map[string]string `json:"headers,omitempty"`
	Cookies   map[string]string `json:"cookies,omitempty"`
	Query     map[string]string `json:"query,omitempty"`
	ClientIPs []string          `json:"client_ips,omitempty"` // any of these addresses or CIDR ranges
}

// Redirect is a row of the table redirects: content that has moved to a URL of its own, or is gone.
type Redirect struct {
	ID        int64  `json:"id"`
	Host      string `json:"host"`
	Path      string `json:"path"`
	Match     Kind   `json:"match"`
	ToURL     string `json:"to_url"`     // absolute http or https URL; empty with status 410
	Status    int    `json:"status"`     // 301, 302, 307, 308 or 410
	KeepPath  bool   `json:"keep_path"`  // append what follows a prefix to the path of ToURL
	KeepQuery bool   `json:"keep_query"` // append the query of the request to ToURL
	Enabled   bool   `json:"enabled"`
	Needs     int    `json:"needs"`
	Note      string `json:"note"`
	UpdatedAt string `json:"updated_at"`
}

// State says whether a target may be given requests.
type State string

// The values of State.
const (
	StateReady State = "ready" // gets requests
	StateDrain State = "drain" // gets no new ones, finishes what it has
	StateMaint State = "maint" // is out of service
)

// Target is a row of the table targets: one server of an upstream.
type Target struct {
	ID       int64  `json:"id"`
	Upstream string `json:"upstream"`
	URL      string `json:"url"` // see ParseAddress
	Weight   int    `json:"weight"`
	State    State  `json:"state"`
}

// HTTPS says what happens to a request in clear text for a host.
type HTTPS string

// The values of HTTPS.
const (
	HTTPSOff      HTTPS = "off"      // it is served in clear text, as v1 did
	HTTPSRedirect HTTPS = "redirect" // it is redirected to https once a certificate can be served
)

// The values of Host.Certificate, beside CertificateFilePrefix with a name.
const (
	CertificateAuto = "auto" // names that rules, redirects or hosts know exactly may have one
	CertificateAny  = "any"  // so may every name that the row holds for
	CertificateOff  = "off"  // nothing is issued; what is stored is served
	// CertificateFilePrefix begins the name of a pair of files in the folder of certificates, which are served.
	CertificateFilePrefix = "file:"
)

// TLSMode says where a TLS connection to a host ends.
type TLSMode string

// The values of TLSMode.
const (
	TLSTerminate   TLSMode = "terminate"   // here
	TLSPassthrough TLSMode = "passthrough" // at the host's upstream, which gets the raw connection
)

// Host is a row of the table hosts; a host that none holds for has the defaults. For a name the most specific row holds:
// that of the name itself, then of *.parent, which stands for one label, then of *.
type Host struct {
	Host  string `json:"host"` // shop.example.com, *.example.com or *
	HTTPS HTTPS  `json:"https"`
	// HSTS is max-age of Strict-Transport-Security in seconds; 0 sends no such header.
	HSTS      int64  `json:"hsts"`
	Needs     int    `json:"needs"`
	Note      string `json:"note"`
	UpdatedAt string `json:"updated_at"`
	// Certificate says which certificate is served, and whether one may be issued; empty means auto.
	Certificate string  `json:"certificate"`
	TLS         TLSMode `json:"tls"` // empty means terminate
}

// CertificateFile returns the name of the pair of files whose certificate is served; false if it is none.
func (h *Host) CertificateFile() (name string, ok bool) {
	return strings.CutPrefix(h.Certificate, CertificateFilePrefix)
}

// Problem says why a row is not served as it is written.
type Problem struct {
	Table   string `json:"table"` // rules, redirects, upstreams, targets, hosts, guards or meta
	Row     string `json:"row"`   // the row's id, or its name where the table has no id
	Host    string `json:"host"`
	Reason  string `json:"reason"`       // plain words
	Serving bool   `json:"serving_last"` // the last good version of the row is still served
}
