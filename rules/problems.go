package rules

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
)

// problemKey names the row that a problem is about.
type problemKey struct{ table, row string }

// problemSet is the problems of a view. A view's own is never changed: who wants to change it makes a copy.
type problemSet map[problemKey]Problem

func (p Problem) key() problemKey { return problemKey{p.Table, p.Row} }

func (r Ref) problemKey() problemKey { return problemKey{r.Table, strconv.FormatInt(r.ID, 10)} }

// sorted returns the problems by table and row.
func (s problemSet) sorted() []Problem {
	return slices.SortedFunc(maps.Values(s), func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Table, b.Table), cmp.Compare(len(a.Row), len(b.Row)), cmp.Compare(a.Row, b.Row))
	})
}

// ProblemsSince returns the problems that an earlier view did not have; it may be nil.
func (v *View) ProblemsSince(earlier *View) []Problem {
	if v == nil {
		return nil
	}
	fresh := problemSet{}
	for key, p := range v.problems {
		if earlier == nil || earlier.problems[key] != p {
			fresh[key] = p
		}
	}
	return fresh.sorted()
}

// BadRules returns the rows of rules that are not served as they are written.
func (v *View) BadRules() []Ref {
	var refs []Ref
	for key := range v.problems {
		if id, err := strconv.ParseInt(key.row, 10, 64); err == nil && key.table == "rules" {
			refs = append(refs, Ref{key.table, id})
		}
	}
	return refs
}
