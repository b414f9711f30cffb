package tlsbridge

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

func openRing(t *testing.T, path string) *tickets {
	t.Helper()
	ring, err := openTickets(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

func TestTicketKeysAreRotatedAndANewOneOnlyDecryptsAtFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ring := openRing(t, filepath.Join(t.TempDir(), "tickets.json"))
		first := ring.keys[0].Key
		for range 10 {
			time.Sleep(ticketRotate + ticketNotice)
			ring.refresh(&tls.Config{}, time.Now())
		}
		if len(ring.keys) != ticketKeys {
			t.Errorf("%d keys", len(ring.keys))
		}
		if !ring.keys[0].From.After(time.Now()) {
			t.Error("a new key encrypts before the other process can know it")
		}
		for _, key := range ring.keys {
			if string(key.Key) == string(first) {
				t.Error("the first key is still there after five days")
			}
		}
	})
}

func TestTwoProcessesShareTheirTicketKeys(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tickets.json")
	older, newer := openRing(t, path), openRing(t, path)
	if string(older.keys[0].Key) != string(newer.keys[0].Key) {
		t.Error("the keys differ at once")
	}
	newer.refresh(&tls.Config{}, time.Now().Add(ticketRotate))
	older.refresh(&tls.Config{}, time.Now().Add(time.Minute))
	if string(older.keys[0].Key) != string(newer.keys[0].Key) {
		t.Error("the older process does not learn of a new key")
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

func TestABrokenTicketFileCostsHandshakesNotTheStart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tickets.json")
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if ring := openRing(t, path); len(ring.keys) != 1 {
		t.Errorf("%d keys", len(ring.keys))
	}
}

func TestFailuresWaitLongerEachTime(t *testing.T) {
	for failures, want := range map[int]time.Duration{1: time.Minute, 2: 10 * time.Minute, 3: 100 * time.Minute, 4: 24 * time.Hour, 50: 24 * time.Hour} {
		for range 100 {
			if got := delay(failures); got < want*8/10 || got > want*12/10 {
				t.Fatalf("after %d failures: %v", failures, got)
			}
		}
	}
}

func TestANameIsHeldBackUntilItsTimeHasCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := loadBackOff(t.Context(), nil, slog.New(slog.DiscardHandler))
		b.failed(t.Context(), "a.test", errors.New("dns"))
		if _, waits := b.holds("a.test"); !waits {
			t.Error("it may try again at once")
		}
		time.Sleep(73 * time.Second)
		if _, waits := b.holds("a.test"); waits {
			t.Error("it waits for longer than a minute and a fifth")
		}
		b.failed(t.Context(), "a.test", errors.New("dns"))
		if waiting := b.waiting(); len(waiting) != 1 || waiting[0].Failures != 2 {
			t.Errorf("%+v", waiting)
		}
		if err := b.forget(t.Context(), "a.test"); err != nil {
			t.Fatal(err)
		}
		if _, waits := b.holds("a.test"); waits {
			t.Error("forgetting did not help")
		}
	})
}
