package upstream

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/http"
	"testing"
	"time"

	"cutover/rules"
)

// balanced is an upstream with a way to choose among targets of these weights, which nobody connects to.
func balanced(balance rules.Balance, weights ...int) *rules.Upstream {
	u := upstreamOf()
	u.Balance = balance
	for n, weight := range weights {
		u.Targets = append(u.Targets, rules.Target{ID: int64(n + 1), URL: fmt.Sprintf("http://10.0.0.%d:80", n+1), Weight: weight, State: rules.StateReady})
	}
	return u
}

// visitorOf returns a visitor's id, as random as those that are made.
func visitorOf(n int) (id [16]byte) {
	binary.LittleEndian.PutUint64(id[:8], scatter(uint64(n)*2+1))
	binary.LittleEndian.PutUint64(id[8:], scatter(uint64(n)*2+2))
	return id
}

// homes returns the URL of the target that each of 10,000 visitors gets.
func homes(t *testing.T, p *Pool) []string {
	t.Helper()
	list := make([]string, 10_000)
	for n := range list {
		list[n] = homeOf(t, p, n)
	}
	return list
}

func homeOf(t *testing.T, p *Pool, visitor int) string {
	t.Helper()
	w := p.wishOf(WithVisitor(t.Context(), visitorOf(visitor)))
	one, err := p.take(t.Context(), &w)
	if err != nil || one == nil {
		t.Fatalf("visitor %d gets %v, %v", visitor, one, err)
	}
	one.giveBack()
	return one.row.URL
}

func count(list []string) map[string]int {
	counts := map[string]int{}
	for _, one := range list {
		counts[one]++
	}
	return counts
}

// taken returns the URLs of the targets that n requests in a row get; each is over before the next begins.
func taken(t *testing.T, p *Pool, n int) []string {
	t.Helper()
	list := make([]string, n)
	for i := range list {
		one, err := p.take(t.Context(), &wish{})
		if err != nil || one == nil {
			t.Fatalf("got %v, %v", one, err)
		}
		one.giveBack()
		list[i] = one.row.URL
	}
	return list
}

func TestRoundRobinGoesByWeightWithoutRowsOfTheSame(t *testing.T) {
	p := newSet(t, Options{}).For(balanced(rules.BalanceRoundRobin, 5, 1, 1, 0))
	got := taken(t, p, 700)
	if counts := count(got); counts["http://10.0.0.1:80"] != 500 || counts["http://10.0.0.2:80"] != 100 || counts["http://10.0.0.4:80"] != 0 {
		t.Errorf("%v", counts)
	}
	if first := fmt.Sprint(count(got[:4])); first != "map[http://10.0.0.1:80:3 http://10.0.0.2:80:1]" {
		t.Errorf("the first four go to %s", first)
	}
}

func TestRoundRobinGoesOnWhereItWasWhenARowChanges(t *testing.T) {
	set := newSet(t, Options{})
	counts := map[string]int{}
	for range 100 {
		p := set.For(balanced(rules.BalanceRoundRobin, 1, 1)) // a pool of its own for each request
		counts[taken(t, p, 1)[0]]++
	}
	if counts["http://10.0.0.1:80"] != 50 {
		t.Errorf("%v", counts)
	}
}

func TestLeastConnectionsGoesByRequestsInFlightForTheWeight(t *testing.T) {
	p := newSet(t, Options{}).For(balanced(rules.BalanceLeastConnections, 1, 3))
	for range 400 { // none ends
		if one, err := p.take(t.Context(), &wish{}); one == nil || err != nil {
			t.Fatal(err)
		}
	}
	if n := p.targets[0].state.inFlight.Load(); n != 100 {
		t.Errorf("the light one has %d of 400", n)
	}
}

func TestLeastConnectionsDrawsAmongThoseThatAreAlike(t *testing.T) {
	p := newSet(t, Options{}).For(balanced(rules.BalanceLeastConnections, 1, 1, 1))
	for url, n := range count(taken(t, p, 9000)) {
		if n < 2700 || n > 3300 { // 3,000 expected, with a standard deviation of 45
			t.Errorf("%s gets %d of 9,000", url, n)
		}
	}
}

func TestAVisitorKeepsATargetAndEachProcessKnowsWhich(t *testing.T) {
	u := balanced(rules.BalanceVisitorHash, 1, 1, 1, 1)
	one, other := homes(t, newSet(t, Options{}).For(u)), homes(t, newSet(t, Options{}).For(u))
	for n := range one {
		if one[n] != other[n] {
			t.Fatalf("visitor %d gets %s, then %s", n, one[n], other[n])
		}
	}
	for url, n := range count(one) {
		if n < 2250 || n > 2750 { // 2,500 expected, with a standard deviation of 43
			t.Errorf("%s has %d of 10,000 visitors", url, n)
		}
	}
	if one[0] != "http://10.0.0.1:80" || one[1] != "http://10.0.0.1:80" || one[2] != "http://10.0.0.3:80" {
		t.Errorf("a new release would move visitors: the first three get %v", one[:3])
	}
}

func TestATargetThatIsAddedMovesOnlyItsShareOfTheVisitors(t *testing.T) {
	set := newSet(t, Options{})
	before := homes(t, set.For(balanced(rules.BalanceVisitorHash, 1, 1, 1, 1)))
	after := homes(t, set.For(balanced(rules.BalanceVisitorHash, 1, 1, 1, 1, 1)))
	moved := 0
	for n := range before {
		if before[n] == after[n] {
			continue
		}
		if moved++; after[n] != "http://10.0.0.5:80" {
			t.Fatalf("visitor %d moves from %s to %s, which were there before", n, before[n], after[n])
		}
	}
	t.Logf("%d of 10,000 visitors move to the fifth of five targets", moved)
	if moved < 1800 || moved > 2200 { // 2,000 expected, with a standard deviation of 40
		t.Errorf("%d of 10,000 visitors move", moved)
	}
}

func TestVisitorsGoByWeight(t *testing.T) {
	counts := count(homes(t, newSet(t, Options{}).For(balanced(rules.BalanceVisitorHash, 3, 1, 0))))
	if n := counts["http://10.0.0.1:80"]; n < 7300 || n > 7700 || counts["http://10.0.0.3:80"] != 0 {
		t.Errorf("%v", counts)
	}
}

func TestAVisitorWhoseTargetIsNotThereGetsTheNextAndReturns(t *testing.T) {
	u := balanced(rules.BalanceVisitorHash, 1, 1, 1)
	u.MaxInFlight = 1
	for name, change := range map[string]func(*target) (undo func()){
		"fails": func(one *target) func() {
			one.state.health.failed(errTooLong, time.Now())
			return func() { one.state.health.failing.Store(nil) }
		},
		"is full": func(one *target) func() { one.occupy(); return one.giveBack },
	} {
		p := newSet(t, Options{}).For(u)
		before := homes(t, p)
		undo := change(p.targets[0])
		for n, home := range homes(t, p) {
			if home == p.targets[0].row.URL || before[n] != p.targets[0].row.URL && before[n] != home {
				t.Fatalf("it %s: visitor %d moves from %s to %s", name, n, before[n], home)
			}
		}
		undo()
		for n, home := range homes(t, p) {
			if before[n] != home {
				t.Fatalf("it no longer %s: visitor %d is at %s", name, n, home)
			}
		}
	}
}

func TestRequestsOfNoKnownVisitorAreSpreadAllTheSame(t *testing.T) {
	p := newSet(t, Options{}).For(balanced(rules.BalanceVisitorHash, 1, 1))
	if counts := count(taken(t, p, 1000)); len(counts) != 2 {
		t.Errorf("%v", counts)
	}
}

func TestATargetThatAnswersAgainGetsItsShareLittleByLittleHoweverTargetsAreChosen(t *testing.T) {
	for balance, most := range map[rules.Balance]int{rules.BalanceRoundRobin: 1200, rules.BalanceLeastConnections: 1200, rules.BalanceVisitorHash: 1200} {
		p := newSet(t, Options{}).For(balanced(balance, 1, 1))
		now := time.Now().Add(time.Hour) // as if it answered again only now, however long this takes
		p.targets[0].state.health.readmitted.Store(&now)
		counts := map[string]int{}
		for n := range 10_000 { // none ends
			w := p.wishOf(WithVisitor(context.Background(), visitorOf(n)))
			one, err := p.take(t.Context(), &w)
			if err != nil {
				t.Fatal(err)
			}
			counts[one.row.URL]++
		}
		if n := counts[p.targets[0].row.URL]; n < 700 || n > most { // 1/11
			t.Errorf("%s: it gets %d of 10,000", balance, n)
		}
	}
}

func TestARequestReachesTheTargetsOfItsUpstreamHoweverTheyAreChosen(t *testing.T) {
	for _, balance := range []rules.Balance{"", rules.BalanceP2C, rules.BalanceRoundRobin, rules.BalanceLeastConnections, rules.BalanceVisitorHash} {
		u := upstreamOf(newScript(t).URL, newScript(t).URL)
		u.Balance = balance
		set := newSet(t, Options{})
		for n := range 30 {
			ctx := t.Context()
			if NeedsVisitor(u) {
				ctx = WithVisitor(ctx, visitorOf(n))
			}
			if text, err := do(ctx, t, set.For(u), http.MethodGet, ""); err != nil || text != "ok" {
				t.Fatalf("%s: %q, %v", balance, text, err)
			}
		}
		if targets := set.Status()[0].Targets; targets[0].Requests == 0 || targets[1].Requests == 0 || targets[0].InFlight+targets[1].InFlight != 0 {
			t.Errorf("%s: %+v", balance, targets)
		}
	}
}
