package rules

import "math/bits"

// The constants of wyhash (Wang Yi): odd, with as many bits set as not.
const (
	hashSecret0 = 0xa0761d6478bd642f
	hashSecret1 = 0xe7037ed1a0b428db
)

// placeHash is the hash of a place, the same in every process: it is stored. seed comes from the lineage, so that nobody
// outside can choose names that collide.
func placeHash(seed uint64, host, path string) uint64 {
	h := hashText(seed, host)
	if path != "" {
		h = hashText(h, path)
	}
	return h
}

// hashText hashes 16 bytes a step by a wide multiplication, as wyhash does.
func hashText(seed uint64, s string) uint64 {
	size := uint64(len(s))
	for len(s) > 16 {
		seed = mixed(le64(s)^hashSecret0, le64(s[8:])^seed)
		s = s[16:]
	}
	var a, b uint64
	switch n := len(s); {
	case n >= 8:
		a, b = le64(s), le64(s[n-8:])
	case n >= 4:
		a, b = le32(s), le32(s[n-4:])
	case n > 0:
		a, b = uint64(s[0])<<16|uint64(s[n/2])<<8|uint64(s[n-1]), 0
	}
	return mixed(hashSecret1^size, mixed(a^hashSecret1, b^seed))
}

func mixed(a, b uint64) uint64 {
	high, low := bits.Mul64(a, b)
	return high ^ low
}

func le64(s string) uint64 {
	_ = s[7]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 | uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}

func le32(s string) uint64 {
	_ = s[3]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24
}
