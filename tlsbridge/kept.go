package tlsbridge

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
)

// names is a set of names that handshakes may ask without touching the disk. One of them may be *.parent.
type names struct {
	mu   sync.RWMutex
	set  map[string]bool
	seen time.Time // of the newest folder that was looked into
}

// has reports whether there is a certificate of the name's own.
func (n *names) has(name string) bool {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.set[name]
}

// wildcardOf returns *.parent, which stands for one label more; "" for a name without a parent.
func wildcardOf(name string) string {
	if _, parent, ok := strings.Cut(name, "."); ok {
		return "*." + parent
	}
	return ""
}

// covers reports whether a certificate of the set is good for a name: its own, or a wildcard's.
func (n *names) covers(name string) bool {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.set[name] || n.set[wildcardOf(name)]
}

func (n *names) add(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.set == nil {
		n.set = map[string]bool{}
	}
	n.set[name] = true
}

func (n *names) replace(set map[string]bool, seen time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.set, n.seen = set, seen
}

// count returns how many there are.
func (n *names) count() int {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return len(n.set)
}

// safeWildcard is how certmagic writes *. in the name of a file.
const safeWildcard = "wildcard_."

// nameOfFile returns the name that a certificate is filed under.
func nameOfFile(base string) string {
	if parent, ok := strings.CutPrefix(base, safeWildcard); ok {
		return "*." + parent
	}
	return base
}

// findKept reads which names have a stored certificate. Another process on the same storage may have added some.
func (c *Certificates) findKept() {
	set := map[string]bool{}
	seen := c.storageChanged()
	for _, key := range c.issuerKeys {
		files, err := filepath.Glob(filepath.Join(c.siteFolders(key), "*", "*.crt"))
		if err != nil {
			continue // the pattern is our own
		}
		for _, file := range files {
			set[nameOfFile(strings.TrimSuffix(filepath.Base(file), ".crt"))] = true
		}
	}
	c.kept.replace(set, seen)
}

// findNew is findKept where names were added or removed since.
func (c *Certificates) findNew() {
	c.kept.mu.RLock()
	seen := c.kept.seen
	c.kept.mu.RUnlock()
	if !c.storageChanged().Equal(seen) {
		c.findKept()
	}
}

func (c *Certificates) siteFolders(issuerKey string) string {
	return filepath.Join(c.options.Dir, certmagic.StorageKeys.CertsPrefix(issuerKey))
}

// storageChanged returns when a name was added or removed last; certificates that were renewed do not count.
func (c *Certificates) storageChanged() (last time.Time) {
	for _, key := range c.issuerKeys {
		if info, err := os.Stat(c.siteFolders(key)); err == nil && info.ModTime().After(last) {
			last = info.ModTime()
		}
	}
	return last
}
