package rules

import (
	"crypto/sha256"
	"strconv"
	"testing"
)

func visitor(n int) [16]byte {
	sum := sha256.Sum256([]byte(strconv.Itoa(n)))
	return [16]byte(sum[:16])
}

// Every process and release must compute the same, or visitors change sides at a deploy. Never change these numbers.
func TestBucketsAreTheSameForEver(t *testing.T) {
	for n, want := range []int{4749, 3010, 5597, 8578, 3231} {
		if got := bucket("lineage", "shop.example.com", visitor(n)); got != want {
			t.Errorf("visitor %d is in bucket %d, not %d", n, got, want)
		}
	}
}

func TestAVisitorNeverFlipsBackWhilePercentRises(t *testing.T) {
	for n := range 500 {
		sawV2 := false
		for percent := 0.0; percent <= 100; percent += 0.5 {
			v2 := percent >= 100 || (percent > 0 && getsV2(bucket("l", "h.test", visitor(n)), percent))
			if sawV2 && !v2 {
				t.Fatalf("visitor %d went back to v1 at %v %%", n, percent)
			}
			sawV2 = v2
		}
		if !sawV2 {
			t.Fatalf("visitor %d did not get v2 at 100 %%", n)
		}
	}
}

func TestAsManyVisitorsGetV2AsPercentSays(t *testing.T) {
	const visitors = 20_000
	for _, percent := range []float64{0.5, 1, 10, 50, 90} {
		view := compile(t, rowsOf(rule(1, "a.test", func(r *Rule) { r.Percent = percent })))
		got := 0
		for n := range visitors {
			r := ask("a.test", "/")
			r.Identify = func(*Request, Sticky) Visitor { return Visitor{ID: visitor(n)} }
			if d := view.Match(r); d.Version == V2 {
				got++
			}
		}
		share := float64(got) / visitors * 100
		if share < percent-1.2 || share > percent+1.2 {
			t.Errorf("%v %% of the visitors got v2 at percent %v", share, percent)
		}
	}
}

func TestAllRulesOfAHostShareAVisitorsBucketAndHostsDoNot(t *testing.T) {
	view := compile(t, rowsOf(
		rule(1, "a.test", func(r *Rule) { r.Percent = 50 }), rule(2, "a.test", func(r *Rule) { r.Percent, r.Path = 50, "/x" }),
		rule(3, "b.test", func(r *Rule) { r.Percent = 50 }),
	))
	differ := 0
	for n := range 50 {
		identify := func(*Request, Sticky) Visitor { return Visitor{ID: visitor(n)} }
		at := func(host, path string) int {
			r := ask(host, path)
			r.Identify = identify
			d := view.Match(r)
			return d.Bucket
		}
		if at("a.test", "/") != at("a.test", "/x") {
			t.Fatalf("visitor %d has two buckets on one host", n)
		}
		if at("a.test", "/") != at("b.test", "/") {
			differ++
		}
	}
	if differ < 45 {
		t.Errorf("only %d of 50 visitors have another bucket on another host", differ)
	}
}
