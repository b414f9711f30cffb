package tlsbridge

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/mholt/acmez/v3/acme"
)

const (
	limitedFor   = time.Hour // where the CA does not say how long
	limitedLeast = time.Minute
	limitedMost  = 8 * 24 * time.Hour // the longest window of Let's Encrypt is a week
)

// rateLimit returns what a CA said that limits us. One that says it with a 5xx is merely busy.
func rateLimit(err error) (acme.Problem, bool) {
	var problem acme.Problem
	ok := errors.As(err, &problem) && problem.Type == acme.ProblemTypeRateLimited && problem.Status < http.StatusInternalServerError
	return problem, ok
}

// limited keeps to a CA's rate limit, and returns until when. A limit of one domain or one name is no reason to hold back the
// others.
func (b *budget) limited(ctx context.Context, name string, problem acme.Problem) time.Time {
	if b == nil {
		return limitedUntil(problem.Detail, time.Now())
	}
	h := BudgetHold{Key: b.limitedKey(name, problem.Detail), Until: limitedUntil(problem.Detail, time.Now()), Reason: "the CA says: " + problem.Detail}
	b.hold(ctx, h)
	return h.Until
}

// limitedKey tells Let's Encrypt's limits apart, which it does in the text alone.
func (b *budget) limitedKey(name, detail string) string {
	has := func(part string) bool { return strings.Contains(detail, part) }
	switch {
	case has("failed authorizations"), has("exact set of"), has("temporarily prevented"):
		return b.key(keyName, name)
	case has("already issued for"):
		return b.key(keyDomain, registeredDomain(name))
	}
	return b.key(keyAccount, "")
}

// limitedUntil reads "retry after 2006-01-02 15:04:05 UTC".
func limitedUntil(detail string, now time.Time) time.Time {
	const layout = "2006-01-02 15:04:05 UTC"
	_, text, found := strings.Cut(detail, "retry after ")
	if !found {
		return now.Add(limitedFor)
	}
	until, err := time.Parse(layout, text[:min(len(layout), len(text))])
	if err != nil {
		return now.Add(limitedFor)
	}
	if until.Before(now.Add(limitedLeast)) {
		return now.Add(limitedLeast)
	}
	if until.After(now.Add(limitedMost)) {
		return now.Add(limitedMost)
	}
	return until
}
