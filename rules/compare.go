package rules

// Difference counts the places and guards of which two views say different things, and names some of them.
func Difference(a, b *View) (count int, some []string) {
	note := func(key string) {
		if count++; len(some) < 5 {
			some = append(some, key)
		}
	}
	for key, text := range a.all {
		if host, path := splitKey(key); !sameMeaning(text, b.lookup(host, path)) {
			note(key)
		}
	}
	for key := range b.all {
		if host, path := splitKey(key); a.lookup(host, path) == "" {
			note(key)
		}
	}
	if a != nil && b != nil {
		fileDifferences(a, b, note)
		a.guards.differences(b.guards, note)
	}
	return count, some
}

// sameMeaning compares what two places say. How long the longest path is may be too much: that only costs time.
func sameMeaning(a, b string) bool {
	if a == b {
		return true
	}
	p, q := readPlace(a), readPlace(b)
	p.longest, q.longest = 0, 0
	return p == q
}
