package rules

import (
	"net/http"
	"net/url"
	"slices"
	"testing"
)

func FuzzCookiesAreReadAsNetHTTPReadsThem(f *testing.F) {
	for _, line := range []string{"a=1", "a=1; b=2", ` a = "x y" ;a`, "a", "=1", "a=\x7f", "a=b\\", "a=1;a=2", "ä=1", "a\r=1"} {
		f.Add(line, "a", "1")
	}
	f.Fuzz(func(t *testing.T, line, name, value string) {
		r := http.Request{Header: http.Header{"Cookie": {line}}}
		for _, want := range []string{anyValue, value} {
			expected := slices.ContainsFunc(r.CookiesNamed(name), func(c *http.Cookie) bool { return want == anyValue || c.Value == want })
			if got := cookieIs(r.Header["Cookie"], name, want); got != expected {
				t.Errorf("%q, %q is %q: %v, net/http says %v", line, name, want, got, expected)
			}
		}
	})
}

func FuzzQueriesAreReadAsNetURLReadsThem(f *testing.F) {
	for _, query := range []string{"a=1", "a=1&b=2", "a=%31", "a=%3", "a;b=1", "a+b=1", "%61=1", "a", "&&a=1", "a=1=2"} {
		f.Add(query, "a", "1")
	}
	f.Fuzz(func(t *testing.T, query, name, value string) {
		values, _ := url.ParseQuery(query)
		for _, want := range []string{anyValue, value} {
			expected := slices.ContainsFunc(values[name], func(got string) bool { return want == anyValue || got == want })
			if got := queryIs(query, name, want); got != expected {
				t.Errorf("%q, %q is %q: %v, net/url says %v", query, name, want, got, expected)
			}
		}
	})
}
