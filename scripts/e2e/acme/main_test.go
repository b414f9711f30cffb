package acme

import (
	"os"
	"testing"
)

// TestMain lets this program be v1 as well, with an ACME client of its own: certmagic keeps challenges in a variable of its
// package, where one in the same process would find the other's. It can also be a process that is killed, see workQueue.
func TestMain(m *testing.M) {
	if os.Getenv("V1_NAME") != "" {
		os.Exit(playV1())
	}
	if text := os.Getenv(childVariable); text != "" {
		os.Exit(workQueue(text))
	}
	os.Exit(m.Run())
}
