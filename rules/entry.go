package rules

import (
	"cmp"
	"math"
	"slices"
)

// entry is a rule or a redirect made ready to be matched. Views hold entries as bytes without pointers; this is what
// those bytes say. Strings may share the memory of a view.
type entry struct {
	id         int64
	redirect   bool
	exact      bool   // the path itself; else it and what is below it
	stale      bool   // the last good version of a row that is bad now
	conditions string // see conditions.go; empty for none
	starts     int64  // in Unix milliseconds; 0: has always been in force
	ends       int64  // in Unix milliseconds; 0: stays in force

	// Of a rule.
	percent float64
	address bool   // sticky by address
	v1, v2  uint64 // places in the view's names

	// Of a redirect.
	status    int
	keepPath  bool
	keepQuery bool
	to        destination // but for status 410
}

// The bits of an entry's first byte.
const (
	entryRedirect = 1 << iota
	entryExact
	entryStale
	entryConditions
	entryTimes
	entryFlag0 // of a rule: sticky by address; of a redirect: keep_path
	entryFlag1 // of a rule: percent is no whole number; of a redirect: keep_query
)

func flag(b byte, set bool, bit byte) byte {
	if set {
		return b | bit
	}
	return b
}

// append writes the entry as bytes.
func (e *entry) append(b []byte) []byte {
	first := flag(flag(flag(flag(flag(0, e.redirect, entryRedirect), e.exact, entryExact), e.stale, entryStale),
		e.conditions != "", entryConditions), e.starts != 0 || e.ends != 0, entryTimes)
	whole := e.percent == math.Trunc(e.percent)
	if e.redirect {
		first = flag(flag(first, e.keepPath, entryFlag0), e.keepQuery, entryFlag1)
	} else {
		first = flag(flag(first, e.address, entryFlag0), !whole, entryFlag1)
	}
	b = appendInt(append(b, first), e.id)
	if e.conditions != "" {
		b = appendText(b, e.conditions)
	}
	if first&entryTimes != 0 {
		b = appendInt(appendInt(b, e.starts), e.ends)
	}
	if e.redirect {
		return e.to.append(appendUint(b, uint64(e.status)))
	}
	b = appendUint(appendUint(b, e.v1), e.v2)
	if whole {
		return appendUint(b, uint64(e.percent))
	}
	return appendFloat(b, e.percent)
}

// read reads what append wrote, over what the entry was. Of a rule, it leaves alone what only redirects have.
func (e *entry) read(c *cursor) {
	first := c.byte()
	e.redirect, e.exact, e.stale = first&entryRedirect != 0, first&entryExact != 0, first&entryStale != 0
	e.id, e.conditions, e.starts, e.ends = c.int(), "", 0, 0
	if first&entryConditions != 0 {
		e.conditions = c.text()
	}
	if first&entryTimes != 0 {
		e.starts, e.ends = c.int(), c.int()
	}
	if e.redirect {
		e.keepPath, e.keepQuery = first&entryFlag0 != 0, first&entryFlag1 != 0
		e.status = int(c.uint())
		e.to.read(c)
		return
	}
	e.address, e.v1, e.v2 = first&entryFlag0 != 0, c.uint(), c.uint()
	if first&entryFlag1 != 0 {
		e.percent = c.float()
	} else {
		e.percent = float64(c.uint())
	}
}

// inForce reports whether the entry has started and not ended at a time in Unix milliseconds.
func (e *entry) inForce(now int64) bool {
	return e.starts <= now && (e.ends == 0 || now < e.ends)
}

// ref names the row that the entry was made from.
func (e *entry) ref() Ref {
	if e.redirect {
		return Ref{"redirects", e.id}
	}
	return Ref{"rules", e.id}
}

// Ref names a row of the tables rules and redirects.
type Ref struct {
	Table string
	ID    int64
}

// compareEntries puts the more specific of two entries for the same host and path first: an exact path before a prefix,
// more conditions before fewer, a redirect before a rule, one that is as it is written before a last good version, the
// lower id.
func compareEntries(a, b entry) int {
	return cmp.Or(
		first(a.exact, b.exact),
		cmp.Compare(conditionCount(b.conditions), conditionCount(a.conditions)),
		first(a.redirect, b.redirect),
		first(b.stale, a.stale),
		cmp.Compare(a.id, b.id),
	)
}

// first puts true before false.
func first(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// readEntries returns all entries of a place.
func readEntries(text string) []entry {
	c := cursor{rest: text}
	var list []entry
	for !c.done() {
		var e entry
		if e.read(&c); !c.damaged {
			list = append(list, e)
		}
	}
	return list
}

// appendEntries writes entries in the order in which they are asked.
func appendEntries(b []byte, list []entry) []byte {
	slices.SortFunc(list, compareEntries)
	for i := range list {
		b = list[i].append(b)
	}
	return b
}
