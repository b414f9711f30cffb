package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"cutover/proxy"
	"cutover/proxy/admin"
	"cutover/rules"
	"cutover/rules/transfer"
)

// testFiles are files whose rows decide instead of those in force.
type testFiles struct{ rules, redirects string }

// decider compiles the files.
func (f *testFiles) decider(env *environment) (decider, error) {
	rows := rules.Rows{Lineage: "test", Default: rules.DefaultV1}
	var err error
	if rows.Rules, err = numbered(env, transfer.Rules(), f.rules, func(row *rules.Rule, id int64) { row.ID = id }); err != nil {
		return nil, err
	}
	rows.Upstreams = upstreamsOf(rows.Rules)
	if rows.Redirects, err = numbered(env, transfer.Redirects(), f.redirects, func(row *rules.Redirect, id int64) { row.ID = id }); err != nil {
		return nil, err
	}
	view, _ := rules.Compile(rows, nil, time.Now()) // every row was looked at
	return func(_ context.Context, request admin.ExplainRequest) (admin.Explanation, error) {
		return decideBy(view, &request)
	}, nil
}

// numbered reads a file, if there is one, and numbers its rows by their keys, so that decisions are the same each time.
func numbered[R transfer.Row](env *environment, table transfer.Table[R], name string, number func(*R, int64)) (rows []R, err error) {
	if name == "" {
		return nil, nil
	}
	found, err := readAll(env, table, name, "")
	for i, key := range slices.Sorted(maps.Keys(found)) {
		row := found[key]
		number(&row, int64(i+1))
		rows = append(rows, row)
	}
	return rows, err
}

// upstreamsOf returns every upstream that rules name, and the two that are always there.
func upstreamsOf(rows []rules.Rule) []rules.Upstream {
	names := []string{rules.V1, rules.V2}
	for _, row := range rows {
		names = append(names, row.V1, row.V2)
	}
	slices.Sort(names)
	var upstreams []rules.Upstream
	for _, name := range slices.Compact(names) {
		upstreams = append(upstreams, rules.Upstream{Name: name})
	}
	return upstreams
}

// decideBy asks a view as the proxy does, but for the visitor, who cannot be known without the keys of a state directory: a
// cookie stands for one, and else an address.
func decideBy(view *rules.View, request *admin.ExplainRequest) (admin.Explanation, error) {
	r, err := request.Request()
	if err != nil {
		return admin.Explanation{}, err
	}
	host, _ := rules.NormalizeHost(r.Host) // "" where it is none: then no row matches
	address, _ := netip.ParseAddrPort(r.RemoteAddr)
	d := view.Match(&rules.Request{
		Method: r.Method, Host: host, Path: r.URL.EscapedPath(), RawQuery: r.URL.RawQuery, Header: r.Header, ClientIP: address.Addr(),
		Identify: madeUpVisitor,
	})
	return admin.Explanation{Version: d.Version, Upstream: d.Upstream, Status: d.Status, Location: d.Location, Why: d.Explain()}, nil
}

func madeUpVisitor(r *rules.Request, _ rules.Sticky) rules.Visitor {
	request := http.Request{Header: r.Header}
	name := ""
	if cookie, err := request.Cookie(proxy.CookieName); err == nil {
		name = cookie.Value
	}
	sum := sha256.Sum256([]byte(cmp.Or(name, r.ClientIP.String())))
	return rules.Visitor{ID: [16]byte(sum[:16])}
}
