package tlsbridge

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

const (
	ticketKeys   = 4
	ticketRotate = 12 * time.Hour
	ticketLook   = time.Minute // between looks at the file, which another process may have changed
	// ticketNotice is how long a new key only decrypts: every process on the file has it by then.
	ticketNotice = 10 * time.Minute
)

// tickets is the ring of session-ticket keys, in a file that the old and the new process of a deploy share: so a
// visitor who comes back after it resumes instead of doing a full handshake.
type tickets struct {
	path string
	log  *slog.Logger

	mu   sync.Mutex
	keys []ticketKey // the newest first
}

type ticketKey struct {
	Key  []byte    `json:"key"`  // 32 bytes
	From time.Time `json:"from"` // encrypts from then on
}

// openTickets reads the ring, or makes one with a key. A file that cannot be read as one is replaced: it costs full
// handshakes, nothing else.
func openTickets(path string, log *slog.Logger) (*tickets, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	t := &tickets{path: path, log: log}
	keys, err := readTickets(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Warn("the session-ticket keys cannot be read; they are made anew", slog.Any("error", err))
	}
	t.keys = keys
	if len(t.keys) == 0 {
		t.keys = []ticketKey{newTicketKey(time.Now())}
		if err := t.save(); err != nil {
			return nil, fmt.Errorf("session-ticket keys: %w", err)
		}
	}
	return t, nil
}

func newTicketKey(from time.Time) ticketKey {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails: crypto/rand ends the program instead
	return ticketKey{Key: key, From: from}
}

func readTickets(path string) ([]ticketKey, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var keys []ticketKey
	if err := json.Unmarshal(text, &keys); err != nil {
		return nil, err
	}
	for _, key := range keys {
		if len(key.Key) != 32 {
			return nil, errors.New("a key does not have 32 bytes")
		}
	}
	return keys, nil
}

func (t *tickets) save() error {
	text, err := json.Marshal(t.keys)
	if err != nil {
		return err
	}
	return writeAtomically(t.path, text)
}

// refresh takes over what another process has written, adds a key if the newest is old, and applies the ring.
func (t *tickets) refresh(config *tls.Config, now time.Time) {
	t.mu.Lock()
	if keys, err := readTickets(t.path); err == nil && len(keys) > 0 {
		t.keys = keys
	}
	if now.Sub(t.keys[0].From) >= ticketRotate {
		t.keys = slices.Insert(t.keys, 0, newTicketKey(now.Add(ticketNotice)))
		t.keys = t.keys[:min(len(t.keys), ticketKeys)]
		if err := t.save(); err != nil {
			t.log.Warn("a new session-ticket key is not kept", slog.Any("error", err))
		}
	}
	t.mu.Unlock()
	t.applyAt(config, now)
}

func (t *tickets) apply(config *tls.Config) { t.applyAt(config, time.Now()) }

// applyAt gives the keys to TLS: the first encrypts, all decrypt.
func (t *tickets) applyAt(config *tls.Config, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	first := slices.IndexFunc(t.keys, func(k ticketKey) bool { return !k.From.After(now) })
	if first < 0 {
		first = len(t.keys) - 1 // the clock went back
	}
	ring := make([][32]byte, 0, len(t.keys))
	ring = append(ring, [32]byte(t.keys[first].Key))
	for i, key := range t.keys {
		if i != first {
			ring = append(ring, [32]byte(key.Key))
		}
	}
	config.SetSessionTicketKeys(ring)
}

// writeAtomically writes a file that only its owner can read: whole, or not at all.
func writeAtomically(path string, data []byte) error {
	file, err := os.CreateTemp(filepath.Dir(path), ".new-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	err = errors.Join(err, file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	return nil
}
