package tlsbridge

import (
	"errors"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	newNamesWindow = time.Minute
	maxClients     = 10_000 // in each half of the memory
)

var errClient = errors.New("this client has asked for too many names without a certificate")

// newNames bounds how many names without a certificate one client may ask for, so that a single stranger who knows all the
// names does not use up the budget. It is kept in memory: its time is a minute.
type newNames struct {
	limit  int
	exempt func(netip.Addr) bool // nil: nobody is

	mu         sync.Mutex
	young, old map[netip.Addr][]askedName // networks: who asked since turned, and who before and not since
	turned     time.Time
}

type askedName struct {
	name string
	at   time.Time
}

// allow notes that a client asks for a name; false if that is one too many. Asking again for the same one is not. An address
// that is not valid is nobody's.
func (n *newNames) allow(address netip.Addr, name string) bool {
	if !address.IsValid() || n.exempt != nil && n.exempt(address) {
		return true
	}
	client, now := networkOf(address), time.Now()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.turn(now)
	asked, ok := n.young[client]
	if !ok {
		asked = n.old[client]
	}
	asked = recent(asked, now)
	if slices.ContainsFunc(asked, func(a askedName) bool { return a.name == name }) {
		return true
	}
	if len(asked) >= n.limit {
		return false
	}
	n.young[client] = append(asked, askedName{name, now})
	return true
}

// turn forgets all at once who has not asked for a minute, or sooner where there are too many: to look for them one by one would
// cost most when there are most.
func (n *newNames) turn(now time.Time) {
	if n.young == nil || now.Sub(n.turned) >= newNamesWindow || len(n.young) >= maxClients {
		n.young, n.old, n.turned = map[netip.Addr][]askedName{}, n.young, now
	}
}

func recent(asked []askedName, now time.Time) []askedName {
	return slices.DeleteFunc(asked, func(a askedName) bool { return now.Sub(a.at) >= newNamesWindow })
}
