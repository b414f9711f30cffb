package rules

import (
	"strings"
	"testing"
)

func TestARepairThatMakesSenseIsTaken(t *testing.T) {
	for _, r := range []Repair{
		{},
		DefaultUpstream().Repair,
		{Host: "legacy.internal", OwnHosts: "old.example.com, 10.0.0.5:8080 [2001:db8::1]:80,localhost:3000", StripPrefix: "/shop", AddPrefix: "/app/caf%C3%A9"},
		{Host: "LEGACY.internal:8080", CookieDomain: "example.com", CookiePrefix: "v1_", RequestHeaders: `{"A": "b"}`, ResponseHeaders: `{"A": null}`},
		{StripPrefix: "/~user/a.b", CookiePrefix: "_v1"},
	} {
		if err := ValidateRepair(&r); err != nil {
			t.Errorf("%+v: %v", r, err)
		}
	}
}

func TestARepairThatMakesNoSenseIsRefusedWithItsColumn(t *testing.T) {
	prefix := func(text string) Repair { return Repair{StripPrefix: text} }
	for reason, list := range map[string][]Repair{
		"send_host must be":     {{Host: "a b"}, {Host: "http://a.test"}, {Host: "a.test/x"}, {Host: "a.test:0"}, {Host: "a.test:65536"}, {Host: "bücher.test"}, {Host: "u@a.test"}, {Host: "a.test,b.test"}},
		"own_hosts has":         {{OwnHosts: "a.test, *.b.test"}, {OwnHosts: "https://a.test"}, {OwnHosts: "a.test:x"}},
		"own_hosts must have":   {{OwnHosts: strings.Repeat("a.test,", maxOwnHosts+1)}},
		"strip_prefix must":     {prefix("/"), prefix("shop"), prefix("/shop/"), prefix("/a//b"), prefix("/a/../b"), prefix("/a/%2e%2E/b"), prefix("/."), prefix("/a?b"), prefix("/a#b"), prefix("/a b"), prefix("/ä"), prefix("/a%2"), prefix(`/a\b`), prefix("/a;b"), prefix("/" + strings.Repeat("a", maxPrefix))},
		"add_prefix must":       {{AddPrefix: "x"}},
		"cookie_domain must":    {{CookieDomain: ".example.com"}, {CookieDomain: "example.com:80"}, {CookieDomain: "10.0.0.1"}, {CookieDomain: "a;b"}, {CookieDomain: "*.a.test"}},
		"cookie_prefix must":    {{CookiePrefix: "a b"}, {CookiePrefix: "a="}, {CookiePrefix: "a.b"}, {CookiePrefix: "__Host-"}, {CookiePrefix: "_"}, {CookiePrefix: "cutover_"}, {CookiePrefix: VisitorCookie}, {CookiePrefix: strings.Repeat("a", maxCookiePrefix+1)}},
		"request_headers must":  {{RequestHeaders: "x"}},
		"response_headers must": {{ResponseHeaders: `{"Connection": "x"}`}},
		"request_headers has":   {{RequestHeaders: `{"a b": "x"}`}},
	} {
		for _, r := range list {
			if err := ValidateRepair(&r); err == nil || !strings.HasPrefix(err.Error(), reason) {
				t.Errorf("%+v: %v, want %q", r, err, reason)
			}
		}
	}
}

func TestAnAuthorityIsReadInEverySpelling(t *testing.T) {
	for text, want := range map[string]Authority{
		"A.Test": {"a.test", ""}, "a.test.": {"a.test", ""}, "a.test:80": {"a.test", "80"}, "a.test:": {"a.test", ""}, "a.test:0080": {"a.test", "80"},
		"[2001:DB8::1]": {"2001:db8::1", ""}, "[2001:db8::1]:8080": {"2001:db8::1", "8080"}, "2001:db8::1": {"2001:db8::1", ""}, "10.0.0.1:1": {"10.0.0.1", "1"},
	} {
		if got, err := ParseAuthority(text); err != nil || got != want {
			t.Errorf("%q: %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", ":80", "a.test:80:80", "u@a.test", "a.test:99999", "a.test:-1", "[::1", "[::1]x", "a test", "a.test\\", "a\u3002test"} {
		if got, err := ParseAuthority(text); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
}

func TestAPathThatClimbsAboveItsBeginningIsKnownHoweverItIsSpelled(t *testing.T) {
	for _, path := range []string{"/..", "/../x", "/a/../../x", "/%2e%2E/x", "/.%2e/x", "//../x", "/./../x", "/a/..%2f..%2fx", `/..\x`, "/..;a/x", "/%252e%252e/x", "/a%2fb/..;/..;/x"} {
		if !Climbs(path) {
			t.Errorf("%s does not climb", path)
		}
	}
	for _, path := range []string{"", "/", "/a/../b", "/a%2Fb", "/a..b/...", "/a;b=c/d", "/a/b/../../c", "*", "/a%zz"} {
		if Climbs(path) {
			t.Errorf("%s climbs", path)
		}
	}
}
