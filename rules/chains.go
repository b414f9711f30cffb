package rules

import (
	"net/http"
	"net/url"
	"strings"
	"time"
)

// MaxHops is how many redirects in a row a browser follows.
const MaxHops = 20

// Chain is a redirect whose destination is redirected itself, or whose visitors never arrive.
type Chain struct {
	ID   int64    `json:"id"`   // of the redirect that it begins with
	From string   `json:"from"` // its host and path
	Hops []string `json:"hops"` // where its visitor is sent, in order
	Loop bool     `json:"loop"` // it leads back to where it was, or on for more than MaxHops
}

func (c Chain) String() string {
	text := c.From + " → " + strings.Join(c.Hops, " → ")
	if c.Loop {
		return text + " and so on, without an end"
	}
	return text
}

// FindChains yields the redirects of rows that are in force at now and do not lead a visitor straight to a destination, in
// the order of rows. Each redirect's own path is followed, not what keep_path appends to it. The time is that of
// compiling rows and of asking the result once for each redirect and hop.
func FindChains(rows Rows, now time.Time, yield func(Chain)) {
	view, _ := Compile(rows, nil, now)
	for i := range rows.Redirects {
		row := &rows.Redirects[i]
		if !row.Enabled || row.Status == http.StatusGone || row.Validate() != nil {
			continue
		}
		if hops, loop := view.follow(row.ToURL); len(hops) > 1 || loop {
			yield(Chain{ID: row.ID, From: row.Host + row.Path, Hops: hops, Loop: loop})
		}
	}
}

// follow goes where a browser would be sent from location on.
func (v *View) follow(location string) (hops []string, loop bool) {
	for {
		hops = append(hops, location)
		request, ok := visit(location)
		if !ok {
			return hops, false
		}
		decision := v.Match(request)
		if decision.Action != Moved {
			return hops, false
		}
		location = decision.Location
		for _, known := range hops {
			if known == location {
				return append(hops, location), true
			}
		}
		if len(hops) == MaxHops {
			return hops, true
		}
	}
}

// visit is the request of a browser for a location; ok is false for a port that is not served here.
func visit(location string) (request *Request, ok bool) {
	u, err := url.Parse(location)
	if err != nil || (u.Port() != "" && u.Port() != "80" && u.Port() != "443") {
		return nil, false
	}
	host, err := NormalizeHost(u.Host)
	if err != nil {
		return nil, false
	}
	return &Request{Method: http.MethodGet, Host: host, Path: u.EscapedPath(), RawQuery: u.RawQuery, Header: http.Header{}}, true
}
