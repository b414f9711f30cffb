package digitalocean

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"time"

	"cutover/proxy/discovery"
	"cutover/rules"
)

const (
	every     = 30 * time.Second // from one look at a tag to the next, more or less
	savingOn  = 5                // times as long where requests run short
	shortPart = 10               // of the limit is left: a tenth
)

// Tagged is a discovery.Resolver: a place is a droplet that has the tag and is active, at its private IPv4 address, or else at
// its public one. That there is none is an answer, too: the addresses of droplets that are gone become somebody else's.
func (a *Account) Tagged(source rules.TargetSource) discovery.Lookup {
	return func(ctx context.Context) (discovery.Answer, error) {
		list, rate, err := a.list(ctx, source.Name)
		if err != nil {
			var answer *Error
			errors.As(err, &answer)
			if answer != nil {
				return discovery.Answer{Again: answer.Again}, err
			}
			return discovery.Answer{}, err
		}
		answer := discovery.Answer{Again: every*9/10 + rand.N(every/5)}
		if rate.Limit > 0 && rate.Remaining < rate.Limit/shortPart { // others use the token, too
			answer.Again *= savingOn
		}
		for _, d := range list {
			if address := cmp.Or(d.PrivateIPv4, d.PublicIPv4); d.Status == "active" && address != "" {
				answer.Places = append(answer.Places, discovery.Place{URL: source.URL(net.JoinHostPort(address, source.Port)), Weight: 1})
			}
		}
		return answer, nil
	}
}

// Off is a discovery.Resolver for a machine without a token.
func Off(rules.TargetSource) discovery.Lookup {
	return func(context.Context) (discovery.Answer, error) { return discovery.Answer{}, errOff }
}

var errOff = errors.New("no token is given: set digitalocean.token_file, see 'cutover droplets --help'")
