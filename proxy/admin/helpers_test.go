package admin

import (
	"context"
	"net"
	"net/http"
	"testing"

	"go.uber.org/goleak"

	"cutover/rules/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// runUntilEnd runs something that blocks until its context ends, and waits for it at the end of the test.
func runUntilEnd(t *testing.T, run func(context.Context) error) {
	t.Helper()
	base, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- run(base) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("it ended with %v", err)
		}
	})
}

// openStore returns a store of its own whose owner runs until the test ends.
func openStore(t *testing.T) *store.Store {
	t.Helper()
	return openStoreIn(t, t.TempDir())
}

func openStoreIn(t *testing.T, folder string) *store.Store {
	t.Helper()
	opened, err := store.Open(t.Context(), store.Options{Dir: folder})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := opened.Close(); err != nil {
			t.Error(err)
		}
	})
	runUntilEnd(t, opened.Run)
	return opened
}

// versionAt asks who answers at a unix socket.
func versionAt(t *testing.T, path string) string {
	t.Helper()
	client := Dial(path)
	defer client.Close()
	status, err := client.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return status.Version
}

// versionOver asks who answers on a connection.
func versionOver(t *testing.T, connection net.Conn) string {
	t.Helper()
	transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return connection, nil }}
	client := &Client{http: &http.Client{Transport: transport}}
	defer client.Close()
	status, err := client.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return status.Version
}
