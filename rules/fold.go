package rules

import "slices"

// Folded returns the same view with everything in one table. It takes time for all that there is, and may run beside
// whatever uses the view.
func (v *View) Folded() (*View, error) {
	if v == nil || v.delta == nil || v.base == nil {
		return v, nil
	}
	b := newTableBuilder(v.base.seed, v.base.count+v.delta.count, len(v.base.records)+len(v.base.records)/64)
	for key, text := range v.all {
		host, path := splitKey(key)
		b.add(placeHash(v.base.seed, host, path), key, func(out []byte) []byte { return append(out, text...) })
	}
	base, err := b.table()
	if err != nil {
		return nil, err
	}
	folded := *v
	folded.base, folded.delta = base, nil
	past, _ := slices.BinarySearch(v.times, v.at)
	folded.times = slices.Clone(v.times[past:])
	return &folded, nil
}

// Rebased returns v on top of the table that Folded made from an earlier view; false if v does not stand on the same
// table as that one did.
func (v *View) Rebased(earlier, folded *View) (*View, bool) {
	if v.base != earlier.base || folded.base == earlier.base {
		return nil, false
	}
	delta := (*delta)(nil).edit()
	for hash, r := range v.delta.all {
		host, path := splitKey(r.key)
		if before, known := earlier.delta.find(hash, host, path); !known || before != r.place {
			delta.set(hash, r.key, r.place)
		}
	}
	next := *v
	next.base, next.delta = folded.base, nil
	if delta.copy.count > 0 {
		next.delta = &delta.copy
	}
	return &next, true
}
