package rules

import (
	"strings"
	"testing"
	"time"
)

func TestHostsAreBroughtIntoOneForm(t *testing.T) {
	for host, want := range map[string]string{
		"shop.example.com": "shop.example.com", "Shop.Example.COM.": "shop.example.com", "shop.example.com:8080": "shop.example.com",
		"müller.example": "xn--mller-kva.example", "[::1]:443": "::1", "[2001:DB8::1]": "2001:db8::1", "192.0.2.1:80": "192.0.2.1", "localhost:": "localhost",
	} {
		if got, err := NormalizeHost(host); err != nil || got != want {
			t.Errorf("%q: %q, %v; want %q", host, got, err, want)
		}
	}
	for _, host := range []string{"", ".", "a..b", "a b", "a/b", "a:b", "[::1", "a:80:80", strings.Repeat("a", 64) + ".b", strings.Repeat("a.", 130), "a\x00b", "user@host"} {
		if got, err := NormalizeHost(host); err == nil {
			t.Errorf("%q became %q", host, got)
		}
	}
}

func TestALongUnicodeNameCostsNoTime(t *testing.T) {
	var name strings.Builder
	for i := range 30_000 {
		name.WriteRune(rune(0x4e00 + i%20_000))
	}
	began := time.Now()
	if _, err := NormalizeHost(name.String()); err == nil {
		t.Error("it was accepted")
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("refusing it took %v", took)
	}
}

func TestAHostInNormalFormCostsNoAllocation(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() { _, _ = NormalizeHost("shop.example.com") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzNormalizeHostIsIdempotent(f *testing.F) {
	for _, seed := range []string{"Shop.Example.COM.", "müller.example:80", "[::1]:443", "a_b", "xn--mller-kva.example", "1.2.3.4"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, host string) {
		once, err := NormalizeHost(host)
		if err != nil {
			return
		}
		if twice, err := NormalizeHost(once); err != nil || twice != once {
			t.Errorf("%q becomes %q, then %q, %v", host, once, twice, err)
		}
	})
}

func FuzzMatchAlwaysDecidesTheSame(f *testing.F) {
	f.Add("shop.example.com", "/a/../b%2f", "q=1")
	f.Add("", "", "")
	rows := rowsOf(rule(1, "shop.example.com", func(r *Rule) { r.Path, r.Percent = "/a", 50 }), rule(2, "*", func(r *Rule) { r.Conditions = `{"query":{"q":"*"}}` }))
	view, _ := Compile(rows, nil, noon)
	f.Fuzz(func(t *testing.T, host, path, query string) {
		r := ask(host, path)
		r.RawQuery = query
		first := view.Match(r)
		if second := view.Match(r); first != second {
			t.Errorf("%+v, then %+v", first, second)
		}
		if len(first.Explain()) == 0 {
			t.Error("nothing is explained")
		}
	})
}
