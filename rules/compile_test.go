package rules

import (
	"strings"
	"testing"
	"time"
)

func TestABadRowKeepsItsLastGoodVersionAndTakesNoOtherDown(t *testing.T) {
	first := compile(t, rowsOf(rule(1, "a.test", nil), rule(2, "b.test", nil)))
	rows := rowsOf(rule(1, "a.test", func(r *Rule) { r.Percent = 333 }), rule(2, "b.test", func(r *Rule) { r.Percent = 0 }), rule(3, "c.test", func(r *Rule) { r.Path = "x" }))
	view, problems := Compile(rows, first, noon)
	if d := view.Match(ask("a.test", "/")); d.Version != V2 {
		t.Errorf("the bad row's last good version does not serve: %+v", d)
	}
	if d := view.Match(ask("b.test", "/")); d.Version != V1 || d.RuleID != 2 {
		t.Errorf("the good row is not in force: %+v", d)
	}
	if len(problems) != 2 || !problems[0].Serving || problems[1].Serving || problems[0].Reason != "percent must be a number from 0 to 100" {
		t.Errorf("problems: %+v", problems)
	}
	again, _ := Compile(rows, view, noon)
	if d := again.Match(ask("a.test", "/")); d.Version != V2 {
		t.Error("the last good version is lost at the next change")
	}
}

func TestARowThatIsGoneOrDisabledIsNotServed(t *testing.T) {
	first := compile(t, rowsOf(rule(1, "a.test", nil), rule(2, "b.test", nil)))
	view, _ := Compile(rowsOf(rule(2, "b.test", func(r *Rule) { r.Enabled = false })), first, noon)
	for _, host := range []string{"a.test", "b.test"} {
		if d := view.Match(ask(host, "/")); d.Reason != ReasonDefault {
			t.Errorf("%s: %+v", host, d)
		}
	}
}

func TestABadRowThatIsSwitchedOffIsOff(t *testing.T) {
	first := compile(t, rowsOf(rule(1, "a.test", nil)))
	view, _ := Compile(rowsOf(rule(1, "a.test", func(r *Rule) { r.Conditions, r.Enabled = "{oops}", false })), first, noon)
	if d := view.Match(ask("a.test", "/")); d.Reason != ReasonDefault {
		t.Errorf("%+v", d)
	}
}

func TestARowAsItIsWrittenGoesBeforeTheLastGoodVersionOfAnother(t *testing.T) {
	first := compile(t, rowsOf(rule(1, "a.test", nil)))
	bad := rule(1, "b.test", func(r *Rule) { r.Percent = 333 })
	view, _ := Compile(rowsOf(bad, rule(2, "a.test", func(r *Rule) { r.Percent = 0 })), first, noon)
	if d := view.Match(ask("a.test", "/")); d.RuleID != 2 {
		t.Errorf("%+v", d)
	}
}

func TestTheRowsOfAnotherDatabaseAreNoLastGoodVersions(t *testing.T) {
	first := compile(t, rowsOf(rule(1, "a.test", nil)))
	rows := rowsOf(rule(1, "b.test", func(r *Rule) { r.Percent = 333 }))
	rows.Lineage = "another"
	view, problems := Compile(rows, first, noon)
	if d := view.Match(ask("a.test", "/")); d.Reason != ReasonDefault || len(problems) != 1 || problems[0].Serving {
		t.Errorf("%+v, %+v", d, problems)
	}
}

func TestRowsThatMakeNoSenseSayWhy(t *testing.T) {
	for want, row := range map[string]Rule{
		"percent must be a number":      rule(1, "a.test", func(r *Rule) { r.Percent = -1 }),
		"host must be a name":           rule(1, "a.test:80", nil),
		"xn--":                          rule(1, "müller.test", nil),
		"path must start with /":        rule(1, "a.test", func(r *Rule) { r.Path = "x" }),
		"match must be prefix or exact": rule(1, "a.test", func(r *Rule) { r.Match = "regex" }),
		"conditions must be":            rule(1, "a.test", func(r *Rule) { r.Conditions = `{"ip":"x"}` }),
		"is no address":                 rule(1, "a.test", func(r *Rule) { r.Conditions = `{"client_ips":["x"]}` }),
		"is not an upstream":            rule(1, "a.test", func(r *Rule) { r.V2 = "v3" }),
		"sticky must be":                rule(1, "a.test", func(r *Rule) { r.Sticky = "x" }),
		"starts_at must be":             rule(1, "a.test", func(r *Rule) { r.StartsAt = "tomorrow" }),
		"ends_at must be later":         rule(1, "a.test", func(r *Rule) { r.StartsAt, r.EndsAt = "2026-11-21T12:00:00Z", "2026-11-21T12:00:00Z" }),
		"needs a newer cutover":         rule(1, "a.test", func(r *Rule) { r.Needs = Schema + 1 }),
	} {
		_, problems := Compile(rowsOf(row), nil, noon)
		if len(problems) != 1 || !strings.Contains(problems[0].Reason, want) {
			t.Errorf("want %q, got %+v", want, problems)
		}
	}
}

func TestRedirectsAndTargetsThatMakeNoSenseSayWhy(t *testing.T) {
	rows := rowsOf()
	rows.Redirects = []Redirect{
		redirect(1, "a.test", "/", "/relative", nil), redirect(2, "a.test", "/", "https://b.test/", func(r *Redirect) { r.Status = 200 }),
		redirect(3, "a.test", "/", "https://b.test/", func(r *Redirect) { r.Status = 410 }), redirect(4, "a.test", "/", "https://user@b.test/", nil),
	}
	for i, url := range []string{"ftp://x", "http://", "http://u@h", "http://h/path", "http://h?q", "h:80"} {
		rows.Upstreams[0].Targets = append(rows.Upstreams[0].Targets, Target{ID: int64(i + 1), URL: url, Weight: 1, State: StateReady})
	}
	if _, problems := Compile(rows, nil, noon); len(problems) != 10 {
		t.Errorf("%d problems: %+v", len(problems), problems)
	}
}

func TestRulesStartAndEndAtTheirTime(t *testing.T) {
	rows := rowsOf(rule(1, "a.test", func(r *Rule) { r.StartsAt, r.EndsAt = "2026-11-21T14:00:00+01:00", "2026-11-21T13:30:00Z" }))
	for at, want := range map[time.Duration]bool{0: false, time.Hour: true, 89 * time.Minute: true, 90 * time.Minute: false} {
		view, _ := Compile(rows, nil, noon.Add(at))
		if d := view.Match(ask("a.test", "/")); (d.RuleID == 1) != want {
			t.Errorf("after %v: in force is %v", at, d.RuleID == 1)
		}
	}
	view, _ := Compile(rows, nil, noon)
	if !view.NextChange().Equal(noon.Add(time.Hour)) {
		t.Errorf("next change at %v", view.NextChange())
	}
}

func TestOnlyNamesThatRowsKnowExactlyMayHaveACertificate(t *testing.T) {
	rows := rowsOf(rule(1, "shop.example.com", nil), rule(2, "*.example.org", nil), rule(3, "*", nil), rule(4, "off.example.com", func(r *Rule) { r.Enabled = false }), rule(5, "192.0.2.1", nil), rule(6, "my_host.example.com", nil), rule(7, "localhost", nil))
	rows.Redirects = []Redirect{redirect(1, "old.example.com", "/", "https://shop.example.com/", nil)}
	rows.Hosts = []Host{{Host: "plain.example.com", HTTPS: HTTPSOff, Needs: 1}}
	view := compile(t, rows)
	for host, want := range map[string]bool{
		"shop.example.com": true, "old.example.com": true, "plain.example.com": true, "x.example.org": false, "example.org": false,
		"off.example.com": false, "192.0.2.1": false, "my_host.example.com": false, "localhost": false, "": false, "*.example.org": false, "*": false,
	} {
		if got := view.Allows(host); got != want {
			t.Errorf("%q: %v", host, got)
		}
	}
}

func TestAnUpstreamKeepsItsPointerAsLongAsItStays(t *testing.T) {
	rows := rowsOf()
	rows.Upstreams[0].Targets = []Target{{ID: 1, Upstream: V1, URL: "http://127.0.0.1:1", Weight: 1, State: StateReady}}
	first := compile(t, rows)
	second, _ := Compile(rows, first, noon)
	rows.Upstreams[0].Targets = []Target{{ID: 1, Upstream: V1, URL: "http://127.0.0.1:2", Weight: 1, State: StateReady}}
	third, _ := Compile(rows, second, noon)
	a, _ := first.Upstream(V1)
	b, _ := second.Upstream(V1)
	c, _ := third.Upstream(V1)
	if a != b || b == c {
		t.Errorf("same %v, changed %v", a == b, b != c)
	}
}

func TestAnUpstreamWhoseCheckMakesNoSenseIsServedUnchecked(t *testing.T) {
	bad := Upstream{Name: "v1", Check: Check{Path: "/up", Interval: 10, Timeout: 5, Status: "200-", Rise: 1, Fall: 1}}
	view, problems := Compile(Rows{Upstreams: []Upstream{bad}}, nil, time.Now())
	if u, ok := view.Upstream("v1"); !ok || u.Check != (Check{}) || len(problems) != 1 {
		t.Errorf("%+v, %v, %+v", u, ok, problems)
	}
}
