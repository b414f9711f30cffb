package rules

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// Frozen is a view as bytes: for a file from which a start takes no time. Table, the larger part by far, is used as it
// is: it must stay unchanged as long as a view of it is in use.
type Frozen struct {
	Head    []byte
	Slots   string
	Records string
}

// frozenFormat changes whenever an older or newer program would read the bytes differently.
const frozenFormat = 1

// frozenHead is everything but the table.
type frozenHead struct {
	Format    int
	Schema    int // of the program that wrote it: another one may find other rows good
	Lineage   string
	Default   Default
	At        int64
	Seed      uint64
	Count     int
	Names     []string
	Upstreams []*Upstream
	Counts    Counts
	Times     []byte
	Problems  []Problem
	Homes     []frozenHome
	Wildcards int               `json:",omitempty"`
	Files     map[string]string `json:",omitempty"`
	Guards    []GuardRow        `json:",omitempty"` // that are in force
}

type frozenHome struct {
	Ref Ref
	Key string
}

// Freeze returns the view as bytes. What a delta holds is folded first.
func (v *View) Freeze() (Frozen, error) {
	v, err := v.Folded()
	if err != nil {
		return Frozen{}, err
	}
	if v == nil || v.base == nil {
		return Frozen{}, errors.New("there is no view to freeze")
	}
	head := frozenHead{
		Format: frozenFormat, Schema: Schema, Lineage: v.lineage, Default: v.fallback, At: v.at, Seed: v.base.seed, Count: v.base.count,
		Upstreams: v.upstreams, Counts: v.counts, Times: freezeTimes(v.times), Problems: v.Problems(),
		Wildcards: v.wildcards, Files: v.files, Guards: v.guards.rows(),
	}
	if v.names != nil {
		head.Names = v.names.list
	}
	for ref, key := range v.homes {
		head.Homes = append(head.Homes, frozenHome{ref, key})
	}
	text, err := json.Marshal(head)
	return Frozen{text, v.base.slots, v.base.records}, err
}

// Thaw returns the view that was frozen. Bytes that make no sense are an error, or a view that does not find what is
// damaged; never a panic. sound says that the view may serve as it is: else it was made by another release, and is only
// good to fall back on.
func Thaw(f Frozen) (view *View, sound bool, err error) {
	var head frozenHead
	if err := json.Unmarshal(f.Head, &head); err != nil {
		return nil, false, fmt.Errorf("frozen rules: %w", err)
	}
	if head.Format != frozenFormat || len(f.Slots)%slotSize != 0 || slices.Contains(head.Upstreams, nil) {
		return nil, false, fmt.Errorf("frozen rules: format %d is not known", head.Format)
	}
	view = &View{
		lineage: head.Lineage, fallback: head.Default, at: head.At,
		base:  &table{seed: head.Seed, slots: f.Slots, records: f.Records, count: min(max(0, head.Count), len(f.Records))},
		names: namesOf(head.Names), upstreams: head.Upstreams, counts: head.Counts, times: thawTimes(head.Times),
		problems: problemSet{}, homes: map[Ref]string{}, wildcards: head.Wildcards, files: head.Files, guards: thawGuards(head.Guards),
	}
	for _, p := range head.Problems {
		view.problems[p.key()] = p
	}
	for _, home := range head.Homes {
		view.homes[home.Ref] = home.Key
	}
	return view, head.Schema == Schema, nil
}

// freezeTimes writes sorted times as their distances.
func freezeTimes(times []int64) []byte {
	var b []byte
	last := int64(0)
	for _, at := range times {
		b = appendInt(b, at-last)
		last = at
	}
	return b
}

func thawTimes(b []byte) []int64 {
	c := cursor{rest: string(b)}
	var times []int64
	at := int64(0)
	for !c.done() {
		at += c.int()
		times = append(times, at)
	}
	slices.Sort(times)
	return times
}
