package tlsbridge

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/mholt/acmez/v3/acme"
)

const (
	outageAfter = 3 // failures in a row that are not a name's own
	outageFirst = time.Minute
	outageLast  = 10 * time.Minute
)

// outageError says that nothing is ordered since the CA does not work.
type outageError struct {
	cause error
	until time.Time
}

func (e *outageError) Error() string {
	return fmt.Sprintf("the CA does not work, and is asked again after %s: %v", e.until.UTC().Format(time.RFC3339), e.cause)
}

func (e *outageError) Unwrap() error { return e.cause }

// Is tells those outside that it is a matter of time.
func (e *outageError) Is(target error) bool { return target == ErrLater }

// outage notes that a CA does not work at all. Then one order at a time is an attempt, every few minutes, whatever it is for:
// the others would only use up the budget.
type outage struct {
	log *slog.Logger

	mu       sync.Mutex
	failures int    // in a row
	name     string // that failed last: one that fails again and again may be to blame itself
	next     time.Time
	cause    error
}

// waits says why nothing may be ordered now; nil if something may.
func (o *outage) waits() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.waiting()
}

func (o *outage) waiting() error {
	if o.failures < outageAfter || !time.Now().Before(o.next) {
		return nil
	}
	return &outageError{o.cause, o.next}
}

// enter is waits for who is about to order: during an outage it lets one through.
func (o *outage) enter() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.waiting(); err != nil {
		return err
	}
	o.next = time.Now().Add(outageFirst)
	return nil
}

// failed notes an order that failed by the CA's fault.
func (o *outage) failed(name string, cause error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	again := name == o.name
	o.name = name
	if again && o.failures < outageAfter {
		return
	}
	o.failures++
	o.cause = cause
	if o.failures < outageAfter {
		return
	}
	wait := min(outageFirst<<min(o.failures-outageAfter, 8), outageLast)
	o.next = time.Now().Add(jittered(wait))
	if o.failures == outageAfter {
		o.log.Warn("the CA does not work; stored certificates are served, and one order at a time is tried", slog.Any("error", cause))
	}
}

// answered notes that the CA works, be it that it refused.
func (o *outage) answered() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.failures >= outageAfter {
		o.log.Info("the CA works again", slog.Int("failures", o.failures))
	}
	o.failures = 0
}

// jittered returns a time ±20 %, so that many do not come at once.
func jittered(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.8 + 0.4*rand.Float64()))
}

// isOutage tells a CA that does not work from one that refuses a name.
func isOutage(err error) bool {
	var problem acme.Problem
	if errors.As(err, &problem) {
		return problem.Status >= http.StatusInternalServerError || problem.Type == acme.ProblemTypeServerInternal
	}
	return !errors.As(err, new(*budgetError)) && !errors.As(err, new(*proofError))
}
