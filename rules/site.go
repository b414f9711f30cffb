package rules

import (
	"cmp"
	"slices"
	"strings"
)

// site is what the rows say of one host, or of one wildcard.
type site struct {
	exact    map[string][]entry // by path
	prefixes map[string][]entry // by path without a slash at its end; "" is the whole host
}

// entry is a rule or a redirect made ready to be matched; one of the two is set.
type entry struct {
	rule        *Rule
	redirect    *Redirect
	destination *destination // of a redirect that is not 410
	conditions  *conditions  // nil: none
	prefix      int          // length of the path that a prefix covers
	id          int64
	stale       bool // the last good version of a row that is bad now
}

func (s *site) add(kind Kind, path string, e entry) {
	path = normalizePath(path)
	if kind == KindExact {
		s.exact = insert(s.exact, path, e)
		return
	}
	path = strings.TrimRight(path, "/")
	e.prefix = len(path)
	s.prefixes = insert(s.prefixes, path, e)
}

func insert(paths map[string][]entry, path string, e entry) map[string][]entry {
	if paths == nil {
		paths = map[string][]entry{}
	}
	paths[path] = append(paths[path], e)
	slices.SortFunc(paths[path], compareEntries)
	return paths
}

// compareEntries puts the more specific of two entries for the same host and path first: more conditions before
// fewer, a redirect before a rule, one that is as it is written before a last good version, the lower id.
func compareEntries(a, b entry) int {
	return cmp.Or(
		cmp.Compare(b.conditionCount(), a.conditionCount()),
		cmp.Compare(a.rank(), b.rank()),
		cmp.Compare(a.age(), b.age()),
		cmp.Compare(a.id, b.id),
	)
}

func (e *entry) conditionCount() int {
	if e.conditions == nil {
		return 0
	}
	return e.conditions.count
}

func (e *entry) rank() int {
	if e.redirect != nil {
		return 0
	}
	return 1
}

func (e *entry) age() int {
	if e.stale {
		return 1
	}
	return 0
}

// find returns the most specific entry that holds for a request, nil if none does. path is in normal form. asked is
// set if a cookie was looked at on the way.
func (s *site) find(r *Request, path string, asked *bool) *entry {
	if s == nil {
		return nil
	}
	if e := firstThatHolds(s.exact[path], r, asked); e != nil {
		return e
	}
	if len(s.prefixes) == 0 {
		return nil
	}
	for end := len(path); ; {
		if e := firstThatHolds(s.prefixes[path[:end]], r, asked); e != nil {
			return e
		}
		if end == 0 {
			return nil
		}
		end = max(0, strings.LastIndexByte(path[:end], '/'))
	}
}

func firstThatHolds(entries []entry, r *Request, asked *bool) *entry {
	for i := range entries {
		e := &entries[i]
		if e.conditions == nil {
			return e
		}
		if len(e.conditions.cookies) > 0 {
			*asked = true
		}
		if e.conditions.hold(r) {
			return e
		}
	}
	return nil
}
