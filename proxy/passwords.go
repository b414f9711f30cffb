package proxy

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"runtime"
	"sync"
	"time"

	"golang.org/x/crypto/bcrypt"

	"cutover/rules"
)

const (
	knownFor     = 5 * time.Minute // a right password is not checked again for so long
	maxKnown     = 4096            // right passwords that are remembered
	checkWait    = 2 * time.Second // for others to be checked
	longestInput = 72              // bytes; bcrypt passes over what follows
)

// passwords checks passwords. That is slow on purpose, so right ones are remembered for a while, as keyed hashes, and only few
// are checked at once: else whoever gives wrong ones would have all processors. The zero value is ready.
type passwords struct {
	once  sync.Once
	key   [32]byte      // of this process
	slots chan struct{} // holds one for each check under way

	mu    sync.Mutex
	known map[[32]byte]time.Time // until when
}

// credentials is a name and a password that a guard is given.
type credentials struct {
	guard          *rules.Guard
	name, password string
}

// hash returns the hash to compare with: of a name that is not there, the costliest of the guard.
func (c *credentials) hash() (hash string, there bool) {
	if hash, there = c.guard.Users[c.name]; there {
		return hash, true
	}
	for _, other := range c.guard.Users {
		if hash == "" || costOf(other) > costOf(hash) {
			hash = other
		}
	}
	return hash, false
}

// fillers returns what a wrong password is compared with besides, in vain, so that it takes as long for every name, and for one
// that is not there: each step of the cost doubles the time.
func (c *credentials) fillers(hash string) (list []string) {
	most := costOf(hash)
	for _, other := range c.guard.Users {
		most = max(most, costOf(other))
	}
	for cost := costOf(hash); cost < most; cost++ {
		list = append(list, fmt.Sprintf("%s%02d%s", hash[:4], cost, hash[6:]))
	}
	return list
}

// costOf returns the cost of a hash by bcrypt, as rules have them.
func costOf(hash string) int {
	cost, _ := bcrypt.Cost([]byte(hash)) // rules take no other hashes
	return cost
}

func (p *passwords) prepare() {
	p.once.Do(func() {
		_, _ = rand.Read(p.key[:]) // never fails: crypto/rand ends the program instead
		p.slots = make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))
		p.known = map[[32]byte]time.Time{}
	})
}

// sum stands for credentials. It has the hash in it, so that a password which was changed is unknown again.
func (p *passwords) sum(c *credentials, hash string) (sum [32]byte) {
	mac := hmac.New(sha256.New, p.key[:])
	for _, part := range []string{hash, c.name, c.password} {
		mac.Write(binary.AppendUvarint(nil, uint64(len(part))))
		mac.Write([]byte(part))
	}
	mac.Sum(sum[:0])
	return sum
}

// knows reports whether credentials were right a short while ago.
func (p *passwords) knows(c *credentials, now time.Time) bool {
	p.prepare()
	hash, there := c.hash()
	sum := p.sum(c, hash)
	p.mu.Lock()
	defer p.mu.Unlock()
	until, known := p.known[sum]
	return there && known && now.Before(until)
}

// check reports whether credentials are right. mayTry is asked when their turn has come. The error says that it cannot be found
// out now: errAttempts where mayTry says no, else errBusy.
func (p *passwords) check(ctx context.Context, c *credentials, mayTry func() bool) (right bool, err error) {
	if len(c.password) > longestInput {
		return false, nil
	}
	p.prepare()
	timer := time.NewTimer(checkWait)
	defer timer.Stop()
	select {
	case p.slots <- struct{}{}:
	case <-timer.C:
		return false, errBusy
	case <-ctx.Done():
		return false, errBusy
	}
	defer func() { <-p.slots }()
	if p.knows(c, time.Now()) { // a browser asks for several things at once
		return true, nil
	}
	if !mayTry() {
		return false, errAttempts
	}
	hash, there := c.hash()
	if bcrypt.CompareHashAndPassword([]byte(hash), []byte(c.password)) != nil || !there {
		for _, filler := range c.fillers(hash) {
			_ = bcrypt.CompareHashAndPassword([]byte(filler), []byte(c.password)) // for its time alone
		}
		return false, nil
	}
	p.remember(p.sum(c, hash), time.Now())
	return true, nil
}

func (p *passwords) remember(sum [32]byte, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.known) >= maxKnown {
		p.forget(now)
	}
	p.known[sum] = now.Add(knownFor)
}

// forget makes room for one.
func (p *passwords) forget(now time.Time) {
	for sum, until := range p.known {
		if !now.Before(until) {
			delete(p.known, sum)
		}
	}
	for sum := range p.known {
		if len(p.known) < maxKnown {
			break
		}
		delete(p.known, sum)
	}
}
