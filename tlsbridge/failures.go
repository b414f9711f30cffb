package tlsbridge

import (
	"maps"
	"sync"
	"time"
)

const (
	hostQuiet   = time.Minute // between lines of one host and one reason
	reasonQuiet = time.Second // between lines of one reason, whatever the host: strangers may name any number of hosts
)

// failures says which failures are worth a line in the log, so that a flood of them is none of the journal. What it remembers
// is what was said within a minute. The zero value is ready.
type failures struct {
	mu      sync.Mutex
	hosts   map[failure]time.Time // when it was said
	reasons map[string]*unsaid
}

type failure struct{ host, reason string }

// unsaid is what was kept back of a reason since its last line.
type unsaid struct {
	last   time.Time
	others int
}

// say reports whether a failure is to be logged, and how many others of the same reason were not since the last that was.
func (f *failures) say(host, reason string, now time.Time) (others int, say bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.reasons == nil {
		f.hosts, f.reasons = map[failure]time.Time{}, map[string]*unsaid{}
	}
	of := f.reasons[reason]
	if of == nil {
		of = &unsaid{}
		f.reasons[reason] = of
	}
	which := failure{host, reason}
	if last, said := f.hosts[which]; said && now.Sub(last) < hostQuiet || now.Sub(of.last) < reasonQuiet {
		of.others++
		return 0, false
	}
	maps.DeleteFunc(f.hosts, func(_ failure, last time.Time) bool { return now.Sub(last) >= hostQuiet })
	f.hosts[which] = now
	others = of.others
	*of = unsaid{last: now}
	return others, true
}
