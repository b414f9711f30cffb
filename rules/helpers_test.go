package rules

import (
	"net/http"
	"testing"
	"time"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// rule returns a row as the table's defaults make it.
func rule(id int64, host string, change func(*Rule)) Rule {
	r := Rule{ID: id, Host: host, Path: "/", Match: KindPrefix, Conditions: "{}", V1: V1, V2: V2, Percent: 100, Sticky: StickyCookie, Enabled: true, Needs: 1}
	if change != nil {
		change(&r)
	}
	return r
}

func redirect(id int64, host, path, to string, change func(*Redirect)) Redirect {
	r := Redirect{ID: id, Host: host, Path: path, Match: KindPrefix, ToURL: to, Status: 301, Enabled: true, Needs: 1}
	if change != nil {
		change(&r)
	}
	return r
}

func guard(id int64, host string, change func(*GuardRow)) GuardRow {
	r := GuardRow{ID: id, Host: host, Path: "/", Enabled: true, Needs: 1}
	if change != nil {
		change(&r)
	}
	return r
}

func rowsOf(some ...Rule) Rows {
	return Rows{Lineage: "test", Default: DefaultV1, Upstreams: []Upstream{{Name: V1}, {Name: V2}, {Name: "other"}}, Rules: some}
}

func compile(t testing.TB, rows Rows) *View {
	t.Helper()
	view, problems := Compile(rows, nil, noon)
	if len(problems) > 0 {
		t.Fatalf("problems: %+v", problems)
	}
	return view
}

func ask(host, path string) *Request {
	return &Request{Method: http.MethodGet, Host: host, Path: path, Header: http.Header{}}
}
