package tlsbridge

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mholt/acmez/v3/acme"
)

func shops(count int) (list []string) {
	for i := range count {
		list = append(list, fmt.Sprintf("www.shop-%d.test", i))
	}
	return list
}

func TestAQueueIsWorkedOffWithinTheBudgetThroughRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := Limits{Orders: 10, OrdersWindow: time.Hour}
		r := newRig(t, func(o *CertificateOptions) { o.Limits = limits })
		defer func() { r.stop() }()
		batch, err := r.certificates.Prefetch(t.Context(), 0, shops(30))
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		for hour := range 4 {
			time.Sleep(time.Minute)
			status, err := r.certificates.Prefetched(t.Context(), batch)
			if err != nil || status.Done != min(8*(hour+1), 30) || status.Done+status.Queued != 30 {
				t.Errorf("hour %d: %+v, %v", hour, status, err)
			}
			if hour < 3 && (status.Reason == "" || status.Until.Before(time.Now())) {
				t.Errorf("hour %d: it is not said what the others wait for: %+v", hour, status)
			}
			r.restart()
			time.Sleep(time.Until(began.Add(time.Duration(hour+1)*time.Hour + 2*time.Minute)))
		}
		if orders := r.ca.ordered(time.Time{}); len(orders) != 30 {
			t.Errorf("%d orders for 30 names", len(orders))
		}
		wantWithin(t, limits, r.ca.ordered(time.Time{}))
	})
}

func TestAPrefetchLeavesAPartOfTheBudgetToVisitors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(o *CertificateOptions) { o.Limits = Limits{Orders: 10} })
		defer func() { r.stop() }()
		if _, err := r.certificates.Prefetch(t.Context(), 0, shops(30)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		r.mustShake("visitor.test")
		r.mustShake("another.test")
		_, err := r.shake("third.test", "192.0.2.1")
		wantUnrecognized(t, err)
	})
}

func TestANameInTheQueueThatFailsIsTriedAgainAndStandsBeforeNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		defer func() { r.stop() }()
		r.ca.failWith(func(name string) error {
			if name == "a.test" {
				return acme.Problem{Type: acme.ProblemTypeDNS, Status: 400, Detail: "NXDOMAIN"}
			}
			return nil
		})
		batch, err := r.certificates.Prefetch(t.Context(), 0, []string{"a.test", "b.test", "c.test"})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		status, err := r.certificates.Prefetched(t.Context(), batch)
		if err != nil || status.Done != 2 || status.Queued != 1 || status.Late != 1 || status.Waiting[0].Name != "a.test" {
			t.Errorf("%+v, %v", status, err)
		}
		r.ca.failWith(nil)
		time.Sleep(4 * time.Minute)
		if status, _ := r.certificates.Prefetched(t.Context(), batch); status.Done != 3 {
			t.Errorf("later: %+v", status)
		}
	})
}

func TestANameThatNoRuleNamesAnyMoreLeavesTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(o *CertificateOptions) { o.Allowed = func(name string) bool { return name != "gone.test" } })
		defer func() { r.stop() }()
		batch, err := r.certificates.Prefetch(t.Context(), 0, []string{"gone.test", "here.test"})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if status, _ := r.certificates.Prefetched(t.Context(), batch); status.Done != 1 || status.Failed != 1 || status.Queued != 0 {
			t.Errorf("%+v", status)
		}
		if len(r.ca.ordered(time.Time{})) != 1 {
			t.Errorf("orders %v", r.ca.ordered(time.Time{}))
		}
	})
}

func TestNamesThatAreTakenOutOfTheQueueAreNotOrdered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(o *CertificateOptions) { o.Limits = Limits{Orders: 5, OrdersWindow: time.Hour} })
		defer func() { r.stop() }()
		names := shops(10)
		_, err := r.certificates.Prefetch(t.Context(), 0, names)
		must(t, err)
		time.Sleep(time.Minute)
		status, err := r.certificates.Prefetched(t.Context(), 0)
		if err != nil || status.Done != 4 || len(status.Next) != 6 {
			t.Fatalf("%+v, %v", status, err)
		}
		missing, err := r.certificates.CancelPrefetch(t.Context(), []string{status.Next[0], "stranger.test", status.Next[1]})
		if err != nil || !slices.Equal(missing, []string{"stranger.test"}) {
			t.Errorf("missing %v, %v", missing, err)
		}
		time.Sleep(2 * time.Hour)
		status, err = r.certificates.Prefetched(t.Context(), 0)
		if err != nil || status.Done != 8 || status.Queued != 0 || len(r.ca.ordered(time.Time{})) != 8 {
			t.Errorf("%+v, %v, %d orders", status, err, len(r.ca.ordered(time.Time{})))
		}
	})
}

func TestWhatIsTakenOutWhileTheQueueIsWorkedOffIsNotOrdered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		defer func() { r.stop() }()
		r.ca.failWith(func(string) error {
			time.Sleep(time.Minute)
			return nil
		})
		_, err := r.certificates.Prefetch(t.Context(), 0, shops(20))
		must(t, err)
		time.Sleep(10 * time.Second) // the first ones are under way
		cancelled, err := r.certificates.CancelAllPrefetch(t.Context())
		if err != nil || cancelled != 20 {
			t.Errorf("%d taken out, %v", cancelled, err)
		}
		time.Sleep(time.Hour)
		status, err := r.certificates.Prefetched(t.Context(), 0)
		if orders := len(r.ca.ordered(time.Time{})); err != nil || orders > prefetchAtOnce || status.Queued+status.Done+status.Failed != 0 {
			t.Errorf("%d orders, %+v, %v", orders, status, err)
		}
	})
}

func TestAProcessThatWasReplacedWhileItWorksTheQueueOffOrdersNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var replaced atomic.Bool
		r := newRig(t, func(o *CertificateOptions) { o.Active = func() bool { return !replaced.Load() } })
		defer func() { r.stop() }()
		r.ca.failWith(func(string) error {
			time.Sleep(time.Minute)
			return nil
		})
		_, err := r.certificates.Prefetch(t.Context(), 0, shops(20))
		must(t, err)
		time.Sleep(10 * time.Second) // the first ones are under way
		replaced.Store(true)
		time.Sleep(time.Hour)
		if orders := len(r.ca.ordered(time.Time{})); orders != prefetchAtOnce {
			t.Errorf("%d orders, want the %d that were under way", orders, prefetchAtOnce)
		}
	})
}

// askedQueue counts how often it is asked for one name.
type askedQueue struct {
	keptQueue
	asked atomic.Int64
}

func (a *askedQueue) Queued(ctx context.Context, name string) (bool, error) {
	a.asked.Add(1)
	return a.keptQueue.Queued(ctx, name)
}

func TestTheQueueIsNotAskedAgainForNamesThatWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		queue := &askedQueue{keptQueue: keptQueue{names: map[string]queued{}}}
		r := newRig(t, func(o *CertificateOptions) { o.Queue = queue })
		defer func() { r.stop() }()
		r.ca.failWith(func(string) error { return acme.Problem{Type: acme.ProblemTypeDNS, Status: 400} })
		_, err := r.certificates.Prefetch(t.Context(), 0, shops(5))
		must(t, err)
		time.Sleep(time.Hour)
		if asked, orders := queue.asked.Load(), len(r.ca.ordered(time.Time{})); asked != int64(orders) {
			t.Errorf("it was asked %d times for %d orders", asked, orders)
		}
	})
}
