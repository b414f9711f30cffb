package main

import (
	"crypto/rand"
	"encoding/hex"
)

// instance returns a name for this process that no other has. The loop guard finds its own requests by it.
func instance() string {
	var name [8]byte
	_, _ = rand.Read(name[:]) // never fails: crypto/rand ends the program instead
	return "cutover-" + hex.EncodeToString(name[:])
}
