package rules

import (
	"fmt"
	"strings"
	"testing"
)

// sharing is v2 with a target, and an upstream that uses the targets of another.
func sharing(of string) Rows {
	rows := rowsOf()
	rows.Upstreams[1].Targets = []Target{targetOf(1, V2)}
	rows.Upstreams = append(rows.Upstreams, Upstream{Name: "v2-slow", TargetsOf: of, ResponseTimeout: 600})
	return rows
}

func targetOf(id int64, upstream string) Target {
	return Target{ID: id, Upstream: upstream, URL: fmt.Sprintf("http://127.0.0.1:%d", id), Weight: 1, State: StateReady}
}

// shared returns an upstream's response_timeout and the ids of its targets.
func shared(t *testing.T, v *View, name string) string {
	t.Helper()
	u, ok := v.Upstream(name)
	if !ok {
		return "none"
	}
	text := fmt.Sprint(u.ResponseTimeout)
	for _, target := range u.Targets {
		text += fmt.Sprintf(" %d", target.ID)
	}
	return text
}

func TestAnUpstreamUsesTheTargetsOfAnotherWithItsOwnSettings(t *testing.T) {
	rows := sharing(V2)
	view := compile(t, rows)
	if got := shared(t, view, "v2-slow") + "; " + shared(t, view, V2); got != "600 1; 0 1" {
		t.Errorf("got %s", got)
	}
	rows.Upstreams[1].Targets = append(rows.Upstreams[1].Targets, targetOf(2, V2))
	next := view.Update(Update{Upstreams: &rows.Upstreams})
	if got := shared(t, next, "v2-slow"); got != "600 1 2" {
		t.Errorf("a target that is added there: %s", got)
	}
	again := next.Update(Update{Upstreams: &rows.Upstreams})
	if a, _ := next.Upstream("v2-slow"); a != again.upstreams[3] {
		t.Error("it does not keep its pointer though nothing changes")
	}
}

func TestTargetsOfThatMakesNoSenseIsToldAndServedByWhatWasGood(t *testing.T) {
	for name, row := range map[string]struct {
		spoil        func(*Rows)
		says         string
		alone, after string // without and with a version that was good
	}{
		"nobody":       {func(r *Rows) { r.Upstreams[3].TargetsOf = "v3" }, `"v3" is not an upstream`, "5", "600 1"},
		"its own, too": {func(r *Rows) { r.Upstreams[3].Targets = []Target{targetOf(9, "v2-slow")} }, "targets of its own", "5 9", "600 1"},
		"a chain":      {func(r *Rows) { r.Upstreams[3].TargetsOf = "other"; r.Upstreams[2].TargetsOf = V2 }, `it uses those of "v2"`, "5", "600 1"},
		"it was removed": {func(r *Rows) {
			r.Upstreams[1].Name, r.Upstreams[1].Targets = "v9", nil
		}, `"v2" is not an upstream`, "5", "600 1"},
	} {
		good := compile(t, sharing(V2))
		rows := sharing(V2)
		rows.Upstreams[3].ResponseTimeout = 5
		row.spoil(&rows)
		alone, _ := Compile(rows, nil, noon)
		after := good.Update(Update{Upstreams: &rows.Upstreams})
		for what, view := range map[string]*View{row.alone: alone, row.after: after} {
			if got := shared(t, view, "v2-slow"); got != what {
				t.Errorf("%s: %s instead of %s", name, got, what)
			}
			problems := view.Problems()
			if len(problems) != 1 || !strings.Contains(problems[0].Reason, row.says) || problems[0].Row != "v2-slow" || problems[0].Serving != (view == after) {
				t.Errorf("%s: %+v", name, problems)
			}
		}
		healed := sharing(V2)
		if view := after.Update(Update{Upstreams: &healed.Upstreams}); len(view.Problems()) != 0 || shared(t, view, "v2-slow") != "600 1" {
			t.Errorf("%s: not healed: %s, %+v", name, shared(t, view, "v2-slow"), view.Problems())
		}
	}
}
