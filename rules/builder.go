package rules

import (
	"math/bits"
	"slices"
	"time"
)

// Setup is what a Builder has to know before the first rule.
type Setup struct {
	Lineage   string
	Default   Default
	Upstreams []Upstream
	Expect    int // how many rows will come, about; it only saves time
	// Refuse returns why a target that makes sense by itself must not serve here; nil refuses none. See View.Refusing.
	Refuse func(*Target) error
}

// Builder makes a View from all rows, one by one. It keeps them as bytes, so that a million need little memory.
type Builder struct {
	compiler
	view   *View
	seed   uint64
	keys   []byte
	places []builderPlace
	slots  []uint64 // by hash: the upper half of the hash, and a place's number plus one
	wholes []place  // of hosts that have more than entries
	items  []builderItem
	bytes  []byte // the entries
	hosts  int
	last   uint32 // the whole host that was asked for last
}

// builderPlace is a place on the way.
type builderPlace struct {
	hash       uint64
	key        uint64 // where it begins in keys
	keySize    uint32
	head, tail uint32 // its entries: numbers of items plus one
	whole      uint32 // a number in wholes plus one
}

// builderItem is an entry on the way; next is the number of the place's next one plus one.
type builderItem struct {
	start      uint64
	size, next uint32
}

// NewBuilder returns a Builder. A row that makes no sense falls back on previous's good version of the same row; previous
// may be nil, and one of another lineage counts as nil: there, ids mean other rows.
func NewBuilder(setup Setup, previous *View) *Builder {
	if previous != nil && previous.lineage != setup.Lineage {
		previous = nil
	}
	b := &Builder{seed: seedOf(setup.Lineage), view: &View{lineage: setup.Lineage, refuse: setup.Refuse}}
	b.compiler = compiler{previous: previous, problems: problemSet{}, homes: map[Ref]string{}, lastGood: previous.goodEntries(), refuse: setup.Refuse}
	if previous != nil {
		b.names.names = previous.names
	}
	b.view.fallback = b.fallback(setup.Default)
	b.setUpstreams(setup.Upstreams)
	b.slots = make([]uint64, max(64, setup.Expect*3/2))
	b.places = make([]builderPlace, 0, setup.Expect)
	b.items = make([]builderItem, 0, setup.Expect)
	b.keys, b.bytes = make([]byte, 0, 32*setup.Expect), make([]byte, 0, 12*setup.Expect) // growing would copy all again
	return b
}

func seedOf(lineage string) uint64 { return hashText(hashSecret0, lineage) }

// AddHost adds a row of hosts.
func (b *Builder) AddHost(row *Host) {
	host, p, ok := b.host(row)
	if !ok {
		return
	}
	b.whole(b.place(host, "")).setPolicy(&p)
	b.view.wildcards += 1 - isExactHost(host)
	if p.certificate == certificateFile {
		b.view.files = withFile(b.view.files, host, p.file)
	}
}

// SetGuards sets all rows of guards.
func (b *Builder) SetGuards(rows []GuardRow) { b.view.guards = b.guards(rows) }

// AddRedirect adds a row of redirects. The strings of row are not kept.
func (b *Builder) AddRedirect(row *Redirect) {
	if p, ok := b.redirect(row); ok {
		b.add(p)
	}
}

// AddRule adds a row of rules. The strings of row are not kept.
func (b *Builder) AddRule(row *Rule) {
	if p, ok := b.rule(row); ok {
		b.add(p)
	}
}

func (b *Builder) add(p placed) {
	start := len(b.bytes)
	b.bytes = p.entry.append(b.bytes)
	b.items = append(b.items, builderItem{start: uint64(start), size: uint32(len(b.bytes) - start)})
	item := uint32(len(b.items))
	to := &b.places[b.place(p.host, p.path)]
	if to.tail == 0 {
		to.head = item
	} else {
		b.items[to.tail-1].next = item
	}
	to.tail = item
	b.view.count(&p.entry, 1)
	b.view.times = appendTimes(b.view.times, &p.entry)
}

// place returns the number of a place, which is made if it is new.
func (b *Builder) place(host, path string) uint32 {
	hash := placeHash(b.seed, host, path)
	slot := b.slot(hash, host, path)
	if n := uint32(b.slots[slot]); n != 0 {
		return n - 1
	}
	b.places = append(b.places, builderPlace{hash: hash, key: uint64(len(b.keys)), keySize: uint32(len(host) + len(path))})
	b.keys = append(append(b.keys, host...), path...)
	n := uint32(len(b.places))
	b.slots[slot] = hash&slotTag | uint64(n)
	if len(b.places)*3 > len(b.slots)*2 {
		b.grow()
	}
	if path == "" {
		b.hosts += isExactHost(host)
		return n - 1
	}
	whole := b.whole(b.hostOf(host))
	whole.deep, whole.longest = whole.deep+1, max(whole.longest, uint64(len(path)))
	return n - 1
}

const slotTag = 0xffffffff << 32

// hostOf is place(host, "") with a memory: the paths of a host mostly come one after the other.
func (b *Builder) hostOf(host string) uint32 {
	if int(b.last) >= len(b.places) || b.keyOf(&b.places[b.last]) != host {
		b.last = b.place(host, "")
	}
	return b.last
}

// whole returns what a host has beside entries; it is valid until the next one is asked for.
func (b *Builder) whole(n uint32) *place {
	p := &b.places[n]
	if p.whole == 0 {
		b.wholes = append(b.wholes, place{})
		p.whole = uint32(len(b.wholes))
	}
	return &b.wholes[p.whole-1]
}

// slot returns where a place is, or would be.
func (b *Builder) slot(hash uint64, host, path string) uint64 {
	n := uint64(len(b.slots))
	i, _ := bits.Mul64(hash, n)
	for ; b.slots[i] != 0; i = next(i, n) {
		if b.slots[i]&slotTag != hash&slotTag {
			continue
		}
		key := b.keyOf(&b.places[uint32(b.slots[i])-1])
		if len(key) == len(host)+len(path) && key[:len(host)] == host && key[len(host):] == path {
			break
		}
	}
	return i
}

// next returns the slot after i, of n in a ring.
func next(i, n uint64) uint64 {
	if i++; i == n {
		return 0
	}
	return i
}

func (b *Builder) grow() {
	old := b.slots
	b.slots = make([]uint64, 2*len(old))
	n := uint64(len(b.slots))
	for _, slot := range old {
		if slot == 0 {
			continue
		}
		i, _ := bits.Mul64(b.places[uint32(slot)-1].hash, n)
		for b.slots[i] != 0 {
			i = next(i, n)
		}
		b.slots[i] = slot
	}
}

// keyOf returns a place's key; it is valid until the next place is made.
func (b *Builder) keyOf(p *builderPlace) string {
	return asString(b.keys[p.key : p.key+uint64(p.keySize)])
}

// View returns the view of all rows that were added; now decides which have started and ended. The Builder must not be
// used any more.
func (b *Builder) View(now time.Time) (*View, error) {
	out := newTableBuilder(b.seed, len(b.places), len(b.keys)+len(b.bytes)+6*len(b.places))
	for i := range b.places {
		p := &b.places[i]
		var whole place
		if p.whole != 0 {
			whole = b.wholes[p.whole-1]
		}
		whole.entries = b.entries(p)
		out.add(p.hash, b.keyOf(p), whole.append)
	}
	base, err := out.table()
	if err != nil {
		return nil, err
	}
	v := b.view
	v.base, v.at, v.names = base, now.UnixMilli(), b.names.names
	v.upstreams, v.problems, v.homes = b.upstreams, b.problems, b.homes
	v.counts.Hosts, v.counts.Upstreams, v.counts.Guards = b.hosts, len(b.upstreams), v.guards.count()
	slices.Sort(v.times)
	v.times = slices.Compact(v.times)
	return v, nil
}

// entries returns the bytes of a place's entries, in the order in which they are asked.
func (b *Builder) entries(p *builderPlace) string {
	if p.head == 0 {
		return ""
	}
	if p.head == p.tail {
		return b.itemText(p.head)
	}
	var list []entry
	for item := p.head; item != 0; item = b.items[item-1].next {
		list = append(list, readEntries(b.itemText(item))...)
	}
	return asString(appendEntries(nil, list))
}

func (b *Builder) itemText(item uint32) string {
	it := &b.items[item-1]
	return asString(b.bytes[it.start : it.start+uint64(it.size)])
}

// isExactHost returns 1 for the name of a host as places have it, 0 for a wildcard.
func isExactHost(host string) int {
	if host == "*" || (host != "" && host[0] == '.') {
		return 0
	}
	return 1
}

// appendTimes adds when an entry starts and ends.
func appendTimes(times []int64, e *entry) []int64 {
	for _, at := range [2]int64{e.starts, e.ends} {
		if at != 0 {
			times = append(times, at)
		}
	}
	return times
}
