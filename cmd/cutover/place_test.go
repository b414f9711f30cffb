package main

import (
	"errors"
	"strings"
	"testing"
)

func TestAPlaceIsReadAsPeopleWriteIt(t *testing.T) {
	for given, want := range map[string]place{
		"shop.example.com":             {"shop.example.com", "/"},
		"shop.example.com/":            {"shop.example.com", "/"},
		"Shop.Example.COM./Cart/":      {"shop.example.com", "/Cart/"},
		"https://shop.example.com":     {"shop.example.com", "/"},
		"HTTP://shop.example.com/a":    {"shop.example.com", "/a"},
		"bücher.example/größe":         {"xn--bcher-kva.example", "/gr%C3%B6%C3%9Fe"},
		"shop.example.com/a%2Fb":       {"shop.example.com", "/a%2Fb"},
		"shop.example.com/a b":         {"shop.example.com", "/a%20b"},
		"shop.example.com//a":          {"shop.example.com", "//a"},
		"*":                            {"*", "/"},
		"*/old":                        {"*", "/old"},
		"*.Example.com/old":            {"*.example.com", "/old"},
		"192.0.2.1/a":                  {"192.0.2.1", "/a"},
		"shop.example.com/a:b;c=d,e@f": {"shop.example.com", "/a:b;c=d,e@f"},
	} {
		got, err := parsePlace(given)
		if err != nil || got != want {
			t.Errorf("parsePlace(%q) = %v, %v, want %v", given, got, err, want)
		}
	}
}

func TestAPlaceThatCannotBeIsAUsageErrorWithAHint(t *testing.T) {
	for _, given := range []string{"", "/cart", "https://", "shop.example.com:443", "shop.example.com?a=b", "shop.example.com/#top", "shop..example.com", "shop.example.com/%zz", "https://user@shop.example.com"} {
		_, err := parsePlace(given)
		var hinted *hintError
		if !errors.As(err, new(*usageError)) || !errors.As(err, &hinted) || hinted.hint == "" {
			t.Errorf("parsePlace(%q): %v", given, err)
		}
	}
}

func FuzzAPlaceReadAgainIsTheSamePlace(f *testing.F) {
	for _, seed := range []string{"shop.example.com", "bücher.example/größe", "*.example.com/a%2Fb", "*/ x", "https://a.b//c/../d;e", "[2001:db8::1]/a"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		first, err := parsePlace(text)
		if err != nil {
			return
		}
		if first.host == "" || first.path == "" || first.path[0] != '/' {
			t.Fatalf("parsePlace(%q) = %q", text, first)
		}
		if strings.Contains(first.host, ":") {
			return // an IPv6 address is written without brackets in rows
		}
		if second, err := parsePlace(first.String()); err != nil || second != first {
			t.Errorf("parsePlace(%q) = %q, and that again %q, %v", text, first, second, err)
		}
	})
}
