package proxy

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/netip"
	"time"

	"cutover/proxy/metrics"
	"cutover/rules"
)

var (
	errDoubtful = errors.New("the path can be read in two ways, and another guard would hold for one of them")
	errAddress  = errors.New("a guard does not let this address in")
	errRate     = errors.New("a guard lets this client come less often")
	errPassword = errors.New("a guard asks for a name and a password")
	errAttempts = errors.New("this client has given too many wrong passwords")
	errBusy     = errors.New("too many passwords are being checked")
)

// gate is what guards remember: all of it is bounded. The zero value is ready.
type gate struct {
	requests  limits // how often clients come
	failures  limits // how often they give a wrong password
	passwords passwords
}

const (
	failureBurst = 10              // wrong passwords of one client at once
	failureEvery = 6 * time.Second // and one more after each of these
	longestRetry = 3600            // seconds that a client is told to wait at most
)

// admit finds the request's guard and returns why that does not let it in. A password is asked for later, see askPassword.
func (h *Handler) admit(e *exchange, view *rules.View) *problem {
	path := pathOf(e.in)
	e.guard = view.Guard(e.host, path)
	if view.GuardIsDoubtful(e.host, path) {
		return h.turnAway(e, metrics.RefusedPath, &problem{status: http.StatusBadRequest, cause: errDoubtful})
	}
	if e.guard == nil {
		return nil
	}
	if !e.guard.Permits(e.client) {
		return h.turnAway(e, metrics.RefusedAddress, &problem{status: http.StatusForbidden, cause: errAddress})
	}
	if e.guard.Rate == 0 {
		return nil
	}
	if wait := h.gate.requests.take(e.limitKey(), e.guard.Rate, e.guard.Burst, time.Now()); wait > 0 {
		return h.turnAway(e, metrics.RefusedRate, later(wait, errRate))
	}
	return nil
}

// turnAway counts a request that is refused, and notes why.
func (h *Handler) turnAway(e *exchange, reason string, p *problem) *problem {
	e.refused = reason
	h.Metrics.Refused(reason)
	return p
}

// later asks the client to come again after a while.
func later(wait time.Duration, cause error) *problem {
	return &problem{status: http.StatusTooManyRequests, cause: cause, retryAfter: min(longestRetry, int(math.Ceil(wait.Seconds())))}
}

// askPassword returns what is to be answered where the guard asks for a password and the request has not the right one.
// What was meant for the guard is not for the target.
func (h *Handler) askPassword(e *exchange) *problem {
	if e.guard == nil || len(e.guard.Users) == 0 {
		return nil
	}
	name, password, given := e.in.BasicAuth()
	if !given {
		return h.challenge(e)
	}
	credentials := credentials{guard: e.guard, name: name, password: password}
	if h.gate.passwords.knows(&credentials, time.Now()) {
		e.consumed = true
		return nil
	}
	if wait := h.gate.failures.left(e.limitKey(), failureRate, failureBurst, time.Now()); wait > 0 {
		return h.turnAway(e, metrics.RefusedAttempts, later(wait, errAttempts))
	}
	right, err := h.gate.passwords.check(e.in.Context(), &credentials, func() bool {
		return h.gate.failures.left(e.limitKey(), failureRate, failureBurst, time.Now()) == 0 // others may have failed while this one waited
	})
	switch {
	case errors.Is(err, errAttempts):
		return h.turnAway(e, metrics.RefusedAttempts, later(failureEvery, err))
	case err != nil:
		return h.turnAway(e, metrics.RefusedBusy, later(time.Second, err))
	case !right:
		h.gate.failures.take(e.limitKey(), failureRate, failureBurst, time.Now())
		return h.challenge(e)
	}
	e.consumed = true
	return nil
}

const failureRate = float64(time.Second) / float64(failureEvery)

func (h *Handler) challenge(e *exchange) *problem {
	realm := e.guard.Realm
	if realm == "" {
		realm = e.host
	}
	p := &problem{status: http.StatusUnauthorized, cause: errPassword, challenge: fmt.Sprintf(`Basic realm="%s", charset="UTF-8"`, realm)}
	return h.turnAway(e, metrics.RefusedPassword, p)
}

func (e *exchange) limitKey() limitKey { return limitKey{e.guard.ID, networkOf(e.client)} }

// networkOf returns what stands for a client: the address, of IPv6 the first one of its /64 network, which is what a
// household or a server has.
func networkOf(client netip.Addr) netip.Addr {
	if !client.Is6() {
		return client
	}
	return netip.PrefixFrom(client, 64).Masked().Addr()
}

// Guarding says what a guard would do with a request.
type Guarding struct {
	Guard  *rules.Guard // nil if none holds, as for what a CA asks an ACME client of v1
	Status int          // 403 or 400 where it is refused in any case; 0 otherwise
	Why    []string     // sentences
}

// Guarding says what a guard would do with a request, as far as that does not depend on other requests. It changes nothing
// and does not keep r.
func (h *Handler) Guarding(r *http.Request) Guarding {
	host, _ := rules.NormalizeHost(r.Host) // "" where it is none: then guards of * hold
	view, path, client := h.Views.Load(), pathOf(r), h.clientOf(r)
	if _, ok := view.MatchChallenge(h.question(r, host, client)); ok {
		return Guarding{}
	}
	g := Guarding{Guard: view.Guard(host, path)}
	switch {
	case view.GuardIsDoubtful(host, path):
		g.Status, g.Why = http.StatusBadRequest, []string{"The path can be read in two ways, and another guard would hold for one of them: the answer is 400."}
	case g.Guard == nil:
	case !g.Guard.Permits(client):
		g.Status, g.Why = http.StatusForbidden, g.Guard.Explain(client)
	default:
		g.Why = g.Guard.Explain(client)
	}
	return g
}
