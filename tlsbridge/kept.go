package tlsbridge

import (
	"path/filepath"
	"strings"
	"sync"

	"github.com/caddyserver/certmagic"
)

// names is a set of names that handshakes may ask without touching the disk.
type names struct {
	mu  sync.RWMutex
	set map[string]bool
}

func (n *names) has(name string) bool {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.set[name]
}

// covers reports whether a certificate of the set is good for a name: its own, or a wildcard's.
func (n *names) covers(name string) bool {
	n.mu.RLock()
	defer n.mu.RUnlock()
	_, parent, _ := strings.Cut(name, ".")
	return n.set[name] || n.set["*."+parent]
}

// nameOfStored returns the name that certmagic has filed a certificate under.
func nameOfStored(file string) string {
	if parent, ok := strings.CutPrefix(file, "wildcard_"); ok {
		return "*" + parent
	}
	return file
}

func (n *names) add(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.set == nil {
		n.set = map[string]bool{}
	}
	n.set[name] = true
}

func (n *names) replace(set map[string]bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.set = set
}

// findKept reads which names have a stored certificate. Another process on the same storage may have added some.
func (c *Certificates) findKept() {
	set := map[string]bool{}
	for _, key := range c.issuerKeys {
		files, err := filepath.Glob(filepath.Join(c.options.Dir, certmagic.StorageKeys.CertsPrefix(key), "*", "*.crt"))
		if err != nil {
			continue // the pattern is our own
		}
		for _, file := range files {
			set[nameOfStored(strings.TrimSuffix(filepath.Base(file), ".crt"))] = true
		}
	}
	c.kept.replace(set)
}

// count returns how many there are.
func (n *names) count() int {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return len(n.set)
}
