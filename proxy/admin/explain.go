package admin

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"

	"cutover/proxy"
	"cutover/proxy/repair"
	"cutover/rules"
	"cutover/rules/store"
)

func (s *Server) explain(w http.ResponseWriter, r *http.Request) error {
	var request ExplainRequest
	if err := readJSON(w, r, &request); err != nil {
		return err
	}
	if s.Decide == nil {
		return refuse(http.StatusNotImplemented, "ask the running daemon", "this process decides nothing")
	}
	imagined, err := request.imagine()
	if err != nil {
		return err
	}
	decision := s.Decide(imagined.WithContext(r.Context()))
	answer := Explanation{
		URL: imagined.URL.String(), Method: imagined.Method, Reason: decision.Reason,
		Percent: decision.Percent, Bucket: decision.Bucket, HTTPS: decision.HTTPS, HSTS: decision.HSTS,
		Why: decision.Explain(),
	}
	if decision.Split() {
		answer.Sticky, answer.VisitorReturned = decision.Sticky, decision.Visitor.Returned
	}
	s.addOutcome(&answer, &decision)
	s.addRepair(&answer, imagined)
	s.addRows(r.Context(), &answer, &decision)
	if s.Guarding != nil {
		answer.addGuard(s.Guarding(imagined))
	}
	warn(&answer, &request)
	writeJSON(w, http.StatusOK, answer)
	return nil
}

// addGuard says what a guard does, which comes before everything else.
func (e *Explanation) addGuard(g proxy.Guarding) {
	if g.Guard != nil {
		e.Guard = &GuardBrief{ID: g.Guard.ID, Host: g.Guard.Host, Path: g.Guard.Path}
	}
	if g.Status == 0 {
		e.Why = append(g.Why, e.Why...)
		return
	}
	*e = Explanation{URL: e.URL, Method: e.Method, Action: ActionRefused, Status: g.Status, Guard: e.Guard, Bucket: -1, HTTPS: e.HTTPS, HSTS: e.HSTS, Why: g.Why}
}

// imagine makes the request that is to be explained.
func (e *ExplainRequest) imagine() (*http.Request, error) {
	u, err := e.parseURL()
	if err != nil {
		return nil, err
	}
	header, err := e.header()
	if err != nil {
		return nil, err
	}
	address, err := e.address()
	if err != nil {
		return nil, err
	}
	method := e.Method
	if method == "" {
		method = http.MethodGet
	}
	if !httpguts.ValidHeaderFieldName(method) { // both are tokens
		return nil, refuse(http.StatusBadRequest, "give one such as GET or POST", "%q is not a method", method)
	}
	host := u.Host
	if other := header.Get("Host"); other != "" {
		host = other // as with curl -H 'Host: …'
		header.Del("Host")
	}
	request := &http.Request{
		Method: method, URL: u, Host: host, Header: header, RequestURI: u.RequestURI(),
		RemoteAddr: net.JoinHostPort(address.String(), "1"),
		Proto:      "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Body: http.NoBody,
	}
	if u.Scheme == "https" {
		request.TLS = &tls.ConnectionState{ServerName: u.Hostname(), HandshakeComplete: true}
	}
	return request, nil
}

func (e *ExplainRequest) address() (netip.Addr, error) {
	if e.IP == "" {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1}), nil
	}
	address, err := netip.ParseAddr(e.IP)
	if err != nil {
		return address, refuse(http.StatusBadRequest, "give an IPv4 or IPv6 address", "%q is not an address", e.IP)
	}
	return address, nil
}

func (e *ExplainRequest) parseURL() (*url.URL, error) {
	const hint = "give an address such as https://shop.example.com/cart"
	u, err := url.Parse(e.URL)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, hint, "%q is not a URL", e.URL)
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" {
		return nil, refuse(http.StatusBadRequest, hint, "%q is not an absolute http or https URL", e.URL)
	}
	host, err := rules.NormalizeHost(u.Host)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, hint, "%q: %v", u.Host, err)
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]" // IPv6
	}
	if port := u.Port(); port != "" {
		host += ":" + port
	}
	// A client never sends user or fragment.
	u.Host, u.User, u.Fragment, u.RawFragment = host, nil, "", ""
	if u.Path == "" {
		u.Path = "/"
	}
	return u, nil
}

func (e *ExplainRequest) header() (http.Header, error) {
	header := http.Header{}
	for name, values := range e.Headers {
		for _, value := range values {
			if !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
				return nil, refuse(http.StatusBadRequest, "give it as 'Name: value'", "%q is not a header", name+": "+value)
			}
			header.Add(name, value)
		}
	}
	if e.Cookie != "" {
		if !httpguts.ValidHeaderFieldValue(e.Cookie) {
			return nil, refuse(http.StatusBadRequest, "give it as NAME=VALUE", "%q is not a cookie", e.Cookie)
		}
		header.Add("Cookie", e.Cookie)
	}
	return header, nil
}

func (s *Server) addOutcome(answer *Explanation, decision *rules.Decision) {
	switch decision.Action {
	case rules.Forward:
		answer.Action, answer.Version, answer.Upstream = ActionForward, decision.Version, decision.Upstream
		if upstream, ok := s.Store.Load().Upstream(decision.Upstream); ok {
			answer.Targets = slices.Clone(upstream.Targets)
		}
	case rules.Moved:
		answer.Action, answer.Status, answer.Location = ActionRedirect, decision.Status, decision.Location
	case rules.Gone:
		answer.Action, answer.Status = ActionGone, http.StatusGone
	case rules.Misdirected:
		answer.Action, answer.Status = ActionMisdirected, http.StatusMisdirectedRequest
	}
}

// addRepair says what the upstream's row changes. What a CA asks v1's ACME client passes as it is.
func (s *Server) addRepair(answer *Explanation, imagined *http.Request) {
	upstream, ok := s.Store.Load().Upstream(answer.Upstream)
	if !ok || answer.Reason == rules.ReasonChallenge {
		return
	}
	plan := repair.New(&upstream.Repair)
	paths, err := plan.Paths(imagined.URL.EscapedPath())
	if err != nil {
		answer.Warnings = append(answer.Warnings, fmt.Sprintf("upstream %s: %v: visitors get 400", upstream.Name, err))
	}
	answer.Repair = plan.Describe(&repair.Visit{Scheme: imagined.URL.Scheme, Authority: imagined.Host, Paths: paths})
}

// addRows adds the row that decided, as it is written. The rows are those of now; the decision was made a moment
// ago, so a row may be gone, and where the database cannot be read the decision has to do.
func (s *Server) addRows(ctx context.Context, answer *Explanation, decision *rules.Decision) {
	if decision.RuleID != 0 {
		answer.Rule, _ = s.Store.Rule(ctx, decision.RuleID)
	}
	if decision.RedirectID != 0 {
		answer.Redirect, _ = s.Store.Redirect(ctx, decision.RedirectID)
	}
	s.warnOfLastGood(answer, store.TableRules, decision.RuleID)
	s.warnOfLastGood(answer, store.TableRedirects, decision.RedirectID)
}

// warnOfLastGood says that it is not the row as it is written that decided.
func (s *Server) warnOfLastGood(answer *Explanation, table store.Table, id int64) {
	row := strconv.FormatInt(id, 10)
	for _, p := range s.Store.Snapshot().Problems {
		if p.Table == string(table) && p.Row == row && p.Serving {
			answer.Warnings = append(answer.Warnings, fmt.Sprintf("%s row %s is not served as it is written: %s; its last good version decided", table, row, p.Reason))
		}
	}
}

// warn says what would go wrong with the request, or with the answer.
func warn(answer *Explanation, request *ExplainRequest) {
	if answer.Action == ActionForward && !anyReady(answer.Targets) {
		answer.Warnings = append(answer.Warnings, fmt.Sprintf("upstream %s has no target that is ready: visitors get 503", answer.Upstream))
	}
	if answer.Bucket >= 0 && !answer.VisitorReturned && request.IP == "" {
		answer.Warnings = append(answer.Warnings, "the visitor is unknown, so this is the bucket of the address 127.0.0.1: give the visitor's cookie or address to see theirs")
	}
}

func anyReady(targets []rules.Target) bool {
	return slices.ContainsFunc(targets, func(t rules.Target) bool { return t.State == rules.StateReady && t.Weight > 0 })
}
