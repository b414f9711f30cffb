package rules

// buckets is how finely visitors are told apart: a hundredth of a percent.
const buckets = 10_000

// bucket returns a visitor's place from 0 to 9,999 for a host. It depends on nothing else, so that every process and
// release computes the same; a golden test holds it. FNV-1a with the finaliser of SplitMix64, since FNV alone is
// uneven in its low bits.
func bucket(lineage, host string, id [16]byte) int {
	hash := fnv(fnv(fnvOffset, lineage)*fnvPrime, host) * fnvPrime // × prime: a border between the parts
	for _, b := range id {
		hash = (hash ^ uint64(b)) * fnvPrime
	}
	hash = (hash ^ hash>>30) * 0xbf58476d1ce4e5b9
	hash = (hash ^ hash>>27) * 0x94d049bb133111eb
	return int((hash ^ hash>>31) % buckets)
}

const (
	fnvOffset = 14695981039346656037
	fnvPrime  = 1099511628211
)

func fnv(hash uint64, text string) uint64 {
	for i := range len(text) {
		hash = (hash ^ uint64(text[i])) * fnvPrime
	}
	return hash
}

// getsV2 reports whether a bucket is among percent of the visitors. Whoever is for one percentage is for every
// greater one.
func getsV2(bucket int, percent float64) bool { return float64(bucket) < percent*(buckets/100) }
