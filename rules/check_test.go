package rules

import "testing"

func TestAGoodAnswerHasAStatusThatTheCheckNames(t *testing.T) {
	for text, good := range map[string][]int{"200": {200}, "200-299": {200, 204, 299}, "200,301-302": {200, 301, 302}} {
		c := Check{Status: text}
		for status := 100; status < 600; status++ {
			want := false
			for _, g := range good {
				want = want || g == status
			}
			if text == "200-299" {
				want = status >= 200 && status <= 299
			}
			if c.Accepts(status) != want {
				t.Errorf("%s accepts %d: %v", text, status, !want)
			}
		}
	}
}

func TestAChecksColumnsMustMakeSense(t *testing.T) {
	good := Check{Path: "/up?x=1", Host: "shop.test:80", Interval: 0.5, Timeout: 300, Status: "200,300-399", Rise: 1, Fall: 100}
	if err := good.validate(); err != nil {
		t.Error(err)
	}
	if err := (&Check{Interval: -1}).validate(); err != nil {
		t.Errorf("without a path: %v", err)
	}
	for name, spoil := range map[string]func(*Check){
		"path": func(c *Check) { c.Path = "up" }, "path with a bad escape": func(c *Check) { c.Path = "/%zz" }, "path with a space": func(c *Check) { c.Path = "/a b" }, "host": func(c *Check) { c.Host = "http://a" },
		"interval": func(c *Check) { c.Interval = 0.1 }, "timeout": func(c *Check) { c.Timeout = 301 }, "rise": func(c *Check) { c.Rise = 0 }, "fall": func(c *Check) { c.Fall = 101 },
		"status": func(c *Check) { c.Status = "2xx" }, "range": func(c *Check) { c.Status = "300-200" }, "no status": func(c *Check) { c.Status = "" },
	} {
		bad := good
		spoil(&bad)
		if bad.validate() == nil {
			t.Errorf("%s: %+v is taken", name, bad)
		}
	}
}
