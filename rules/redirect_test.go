package rules

import (
	"net/url"
	"strings"
	"testing"
)

func locate(t *testing.T, row Redirect, path, query string) string {
	t.Helper()
	rows := rowsOf()
	rows.Redirects = []Redirect{row}
	r := ask("a.test", path)
	r.RawQuery = query
	d := compile(t, rows).Match(r)
	if d.Action != Moved {
		t.Fatalf("%s: %+v", path, d)
	}
	return d.Location
}

func TestRedirectsKeepWhatTheyAreToldTo(t *testing.T) {
	keep := func(path, query bool) func(*Redirect) {
		return func(r *Redirect) { r.KeepPath, r.KeepQuery = path, query }
	}
	for _, row := range []struct {
		to          string
		path, query bool
		at, asked   string
		want        string
	}{
		{"https://b.test", false, false, "/old/x", "q=1", "https://b.test/"},
		{"https://b.test/new", true, false, "/old/x/y", "q=1", "https://b.test/new/x/y"},
		{"https://b.test/new/", true, true, "/old/x%2Fy", "q=1", "https://b.test/new/x%2Fy?q=1"},
		{"https://b.test/new?a=b#f", true, true, "/old", "q=1", "https://b.test/new?a=b&q=1#f"},
		{"https://b.test/new", true, false, "/old//evil.test", "", "https://b.test/new/evil.test"},
		{"https://b.test", true, false, "/old/@evil.test", "", "https://b.test/@evil.test"},
		{"https://b.test", true, false, `/old/\evil.test`, "", "https://b.test/%5Cevil.test"},
	} {
		if got := locate(t, redirect(1, "a.test", "/old", row.to, keep(row.path, row.query)), row.at, row.asked); got != row.want {
			t.Errorf("%s at %s?%s: %q, want %q", row.to, row.at, row.asked, got, row.want)
		}
	}
}

func TestWhatIsGoneIsGone(t *testing.T) {
	rows := rowsOf()
	rows.Redirects = []Redirect{redirect(1, "a.test", "/", "", func(r *Redirect) { r.Status = 410 })}
	if d := compile(t, rows).Match(ask("a.test", "/x")); d.Action != Gone || d.Status != 410 {
		t.Errorf("%+v", d)
	}
}

func FuzzALocationNeverLeavesItsAuthority(f *testing.F) {
	for _, seed := range []string{"/old/x", "/old//evil.test", `/old/\evil.test`, "/old/@evil.test", "/old/%0d%0aSet-Cookie:x", "/old/../..//evil.test", "/old?\r\n"} {
		f.Add(seed, "q="+seed)
	}
	f.Fuzz(func(t *testing.T, path, query string) {
		rows := rowsOf()
		rows.Redirects = []Redirect{redirect(1, "a.test", "/", "https://new.example.com:8443/base", func(r *Redirect) { r.KeepPath, r.KeepQuery = true, true })}
		r := ask("a.test", path)
		r.RawQuery = query
		location := compile(t, rows).Match(r).Location
		u, err := url.Parse(location)
		if err == nil && (u.Host != "new.example.com:8443" || u.User != nil || u.Scheme != "https") {
			t.Errorf("%q leads to %q", path, location)
		}
		if !strings.HasPrefix(location, "https://new.example.com:8443/base") || strings.ContainsAny(location, "\r\n \\") {
			t.Errorf("%q leads to %q", path, location)
		}
	})
}
