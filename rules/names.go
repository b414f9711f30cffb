package rules

import (
	"maps"
	"slices"
)

// names gives the upstreams that rules name numbers, which never change from one view to the next.
type names struct {
	list  []string
	index map[string]uint64
}

func namesOf(list []string) *names {
	n := &names{list: list, index: make(map[string]uint64, len(list))}
	for i, name := range list {
		n.index[name] = uint64(i)
	}
	return n
}

func (n *names) at(i uint64) string {
	if n == nil || i >= uint64(len(n.list)) {
		return ""
	}
	return n.list[i]
}

// nameEditor adds names to a copy, which is made when the first one is new.
type nameEditor struct {
	names *names
	owned bool
	last  [2]struct { // what was asked for last, most rows ask for the same two
		name string
		at   uint64
	}
}

func (e *nameEditor) number(name string) uint64 {
	for i := range e.last {
		if name == e.last[i].name && name != "" {
			return e.last[i].at
		}
	}
	e.own()
	i, ok := e.names.index[name]
	if !ok {
		i = uint64(len(e.names.list))
		e.names.list, e.names.index[name] = append(e.names.list, name), i
	}
	e.last[0] = e.last[1]
	e.last[1].name, e.last[1].at = name, i
	return i
}

func (e *nameEditor) own() {
	if e.owned {
		return
	}
	e.owned = true
	if e.names == nil {
		e.names = namesOf(nil)
		return
	}
	e.names = &names{slices.Clone(e.names.list), maps.Clone(e.names.index)}
}
