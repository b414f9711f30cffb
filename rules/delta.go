package rules

import "maps"

// delta is what has changed since the table was made: an immutable hash map whose changed copies share most of it. A nil
// delta is empty.
type delta struct {
	shards [deltaShards]map[uint64]*deltaRecord // by hash
	count  int
}

const deltaShards = 256

// deltaRecord is a place as it is now; the place is empty if it is gone. Others with the same hash follow.
type deltaRecord struct {
	key, place string
	next       *deltaRecord
}

// find returns the place with a key, and whether the delta knows it. hash is placeHash of both.
func (d *delta) find(hash uint64, host, path string) (string, bool) {
	if d == nil {
		return "", false
	}
	for r := d.shards[hash%deltaShards][hash]; r != nil; r = r.next {
		if len(r.key) == len(host)+len(path) && r.key[:len(host)] == host && r.key[len(host):] == path {
			return r.place, true
		}
	}
	return "", false
}

// all yields every record.
func (d *delta) all(yield func(hash uint64, r *deltaRecord) bool) {
	if d == nil {
		return
	}
	for _, shard := range d.shards {
		for hash, r := range shard {
			for ; r != nil; r = r.next {
				if !yield(hash, r) {
					return
				}
			}
		}
	}
}

// deltaEditor makes a changed copy of a delta.
type deltaEditor struct {
	copy  delta
	owned [deltaShards]bool // the shard is the copy's own
}

func (d *delta) edit() *deltaEditor {
	if d == nil {
		return &deltaEditor{}
	}
	return &deltaEditor{copy: *d}
}

// set puts a place; an empty one says that it is gone.
func (e *deltaEditor) set(hash uint64, key, place string) {
	shard := e.shard(hash)
	var kept *deltaRecord
	known := false
	for r := shard[hash]; r != nil; r = r.next {
		if r.key == key {
			known = true
			continue
		}
		kept = &deltaRecord{r.key, r.place, kept}
	}
	if !known {
		e.copy.count++
	}
	shard[hash] = &deltaRecord{key, place, kept}
}

func (e *deltaEditor) shard(hash uint64) map[uint64]*deltaRecord {
	i := hash % deltaShards
	if !e.owned[i] {
		e.owned[i] = true
		e.copy.shards[i] = maps.Clone(e.copy.shards[i])
		if e.copy.shards[i] == nil {
			e.copy.shards[i] = map[uint64]*deltaRecord{}
		}
	}
	return e.copy.shards[i]
}
