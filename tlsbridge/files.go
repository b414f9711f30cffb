package tlsbridge

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	filesEvery = 5 * time.Second // between looks at the files
	filesMost  = 4096            // pairs in memory
)

// pairs serves certificates that the operator keeps in files: BASE.crt with its chain, and BASE.key. A pair is read when it
// is asked for first, and again when its files have changed; until a new one is whole, the last good one serves.
type pairs struct {
	dir  string
	most int // in memory
	log  *slog.Logger

	mu     sync.Mutex
	loaded map[string]*pairFiles // by base
}

// pairFiles is what is known of a pair. All but known is guarded by the mutex of pairs, which is never held while a file is
// read: handshakes of other pairs need it.
type pairFiles struct {
	known   chan struct{}    // closed when it was read for the first time
	good    *tls.Certificate // the last one that was whole; nil if none was
	stamps  [2]stamp         // of the files that were read last, good or not
	problem error            // of those
	used    time.Time
}

func newPairs(dir string, log *slog.Logger) *pairs {
	return &pairs{dir: dir, most: filesMost, log: log, loaded: map[string]*pairFiles{}}
}

// checkBase refuses what could lead out of the folder.
func checkBase(base string) error {
	outside := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("._-", r)
	}
	if base == "" || base[0] == '.' || strings.ContainsFunc(base, outside) {
		return fmt.Errorf("%q cannot be the name of a pair of files: it has letters, digits, dots, _ and -, and no dot in front", base)
	}
	return nil
}

// get returns the certificate of a pair; nil if there never was a whole one.
func (p *pairs) get(base string) *tls.Certificate {
	pair, isNew := p.entry(base)
	if isNew {
		p.read(base, pair)
		close(pair.known)
	}
	<-pair.known
	p.mu.Lock()
	defer p.mu.Unlock()
	return pair.good
}

// entry returns what is known of a pair; whoever gets a new one reads it.
func (p *pairs) entry(base string) (pair *pairFiles, isNew bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	pair, known := p.loaded[base]
	if !known {
		pair = &pairFiles{known: make(chan struct{})}
		p.makeRoom()
		p.loaded[base] = pair
	}
	pair.used = time.Now()
	return pair, !known
}

// isKnown reports whether a pair was read at all.
func (f *pairFiles) isKnown() bool {
	select {
	case <-f.known:
		return true
	default:
		return false
	}
}

// makeRoom forgets the pair that was not used for the longest time.
func (p *pairs) makeRoom() {
	if len(p.loaded) < p.most {
		return
	}
	oldest := ""
	for base, pair := range p.loaded {
		if oldest == "" || pair.used.Before(p.loaded[oldest].used) {
			oldest = base
		}
	}
	delete(p.loaded, oldest)
}

// read reads a pair, and says in the log what is wrong with it.
func (p *pairs) read(base string, pair *pairFiles) {
	stamps, certificate, problem := p.readFiles(base)
	p.mu.Lock()
	defer p.mu.Unlock()
	pair.stamps, pair.problem = stamps, problem
	if pair.problem != nil {
		p.log.Error("a certificate cannot be read from its files", slog.String("name", base), slog.Bool("the last good one serves", pair.good != nil), slog.Any("error", pair.problem))
		return
	}
	if pair.good != nil {
		p.log.Info("a certificate was read anew from its files", slog.String("name", base), slog.Time("ends", certificate.Leaf.NotAfter))
	}
	pair.good = certificate
}

// readFiles looks at the dates first: should a file change meanwhile, the next look sees that.
func (p *pairs) readFiles(base string) (stamps [2]stamp, certificate *tls.Certificate, err error) {
	if err := checkBase(base); err != nil {
		return stamps, nil, err
	}
	stamps, err = p.stamps(base)
	if err != nil {
		return stamps, nil, err
	}
	pair, err := tls.LoadX509KeyPair(p.path(base, ".crt"), p.path(base, ".key"))
	if err != nil {
		return stamps, nil, fmt.Errorf("%s: %w", p.path(base, ".crt"), err)
	}
	return stamps, &pair, nil
}

func (p *pairs) stamps(base string) (stamps [2]stamp, err error) {
	var certificate, key error
	stamps[0], certificate = stampOf(p.path(base, ".crt"))
	stamps[1], key = stampOf(p.path(base, ".key"))
	return stamps, errors.Join(certificate, key)
}

func (p *pairs) path(base, ending string) string { return filepath.Join(p.dir, base+ending) }

// run looks at the files every few seconds until ctx ends.
func (p *pairs) run(ctx context.Context) {
	ticker := time.NewTicker(filesEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			p.look()
		case <-ctx.Done():
			return
		}
	}
}

// look reads the pairs whose files have changed.
func (p *pairs) look() {
	p.mu.Lock()
	bases := make([]string, 0, len(p.loaded))
	for base := range p.loaded {
		bases = append(bases, base)
	}
	p.mu.Unlock()
	for _, base := range bases {
		if checkBase(base) != nil {
			continue
		}
		p.lookAt(base)
	}
}

func (p *pairs) lookAt(base string) {
	now, err := p.stamps(base)
	p.mu.Lock()
	pair := p.loaded[base]
	same := pair == nil || !pair.isKnown() || pair.stamps == now && (err == nil || pair.problem != nil)
	p.mu.Unlock()
	if !same {
		p.read(base, pair)
	}
}

// list says how the pairs in memory are.
func (p *pairs) list() []Stored {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := make([]Stored, 0, len(p.loaded))
	for base, pair := range p.loaded {
		if !pair.isKnown() {
			continue
		}
		stored := Stored{Name: base, Source: SourceFile, Files: []string{p.path(base, ".crt"), p.path(base, ".key")}}
		if pair.good != nil {
			stored.describe(pair.good.Leaf)
		}
		if pair.problem != nil {
			stored.Problem = pair.problem.Error()
		}
		list = append(list, stored)
	}
	slices.SortFunc(list, func(a, b Stored) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// fromFiles returns the certificate that the operator keeps in files for a name; ok says that it is kept there, also where it
// cannot be read.
func (c *Certificates) fromFiles(name string) (certificate *tls.Certificate, ok bool) {
	if c.options.Files == nil {
		return nil, false
	}
	base, ok := c.options.Files(name)
	if !ok {
		return nil, false
	}
	return c.files.get(base), true
}
