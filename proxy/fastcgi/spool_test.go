package fastcgi

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"
)

// wholeSpool keeps little, in a folder that must be empty in the end, as must be what it counts.
func wholeSpool(t *testing.T) *Spool {
	t.Helper()
	s := &Spool{Dir: t.TempDir(), Most: 300 << 10, Total: 1 << 20}
	t.Cleanup(func() {
		if left, err := os.ReadDir(s.Dir); err != nil || len(left) != 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
		if n := s.inFiles.Load(); n != 0 {
			t.Errorf("%d bytes are still counted", n)
		}
	})
	return s
}

func TestABodyIsKeptWholeAndReadAsOftenAsOneLikes(t *testing.T) {
	s := wholeSpool(t)
	for _, size := range []int{0, 1, inMemory - 1, inMemory, inMemory + 1, 2*inMemory + 1, 300 << 10} {
		sent := strings.Repeat("0123456789abcdef", size/16+1)[:size]
		for _, length := range []int64{-1, int64(size)} {
			k, err := s.Keep(iotest.HalfReader(strings.NewReader(sent)), length)
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if got, err := io.ReadAll(k.Open()); err != nil || string(got) != sent || k.Length != int64(size) || !k.IsWhole() {
					t.Errorf("%d bytes: %d, of %d, %v", size, len(got), k.Length, err)
				}
			}
			k.Close()
			k.Close()
		}
	}
}

func TestALongBodyIsReadByWhoeverNeedsItIfItSaysItsLength(t *testing.T) {
	s := wholeSpool(t)
	sent := strings.Repeat("0123456789abcdef", 50_000)
	from := strings.NewReader(sent)
	k, err := s.Keep(from, int64(len(sent)))
	if err != nil || k.IsWhole() || from.Len() == 0 {
		t.Fatalf("%d bytes are left, %v", from.Len(), err)
	}
	if got, err := io.ReadAll(k.Open()); err != nil || string(got) != sent {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	k.Close()
	if _, err := s.Keep(strings.NewReader(sent), -1); !errors.Is(err, ErrBodyTooLong) {
		t.Errorf("without a length: %v", err)
	}
}

func TestWhereThereIsNoRoomOnlyABodyWithoutALengthIsRefused(t *testing.T) {
	sent := strings.Repeat("x", 200<<10)
	full := wholeSpool(t)
	full.inFiles.Store(1 << 20)
	for name, s := range map[string]*Spool{"no room": full, "no folder": {Dir: "/nowhere"}} {
		if _, err := s.Keep(strings.NewReader(sent), -1); !errors.Is(err, ErrNoRoom) {
			t.Errorf("%s: %v", name, err)
		}
		k, err := s.Keep(strings.NewReader(sent), int64(len(sent)))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got, err := io.ReadAll(k.Open()); err != nil || string(got) != sent {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		k.Close()
	}
	full.inFiles.Store(0)
}

func TestABodyThatBreaksOffIsNotKept(t *testing.T) {
	s := wholeSpool(t)
	for _, size := range []int{0, 10, inMemory, 100 << 10, 128 << 10} {
		for _, length := range []int64{-1, 200 << 10} {
			for _, broken := range []error{io.ErrUnexpectedEOF, errors.New("reset")} {
				body := io.MultiReader(strings.NewReader(strings.Repeat("x", size)), failing{broken})
				if _, err := s.Keep(body, length); !errors.Is(err, broken) {
					t.Errorf("%d bytes of %d: %v", size, length, err)
				}
			}
		}
		if _, err := s.Keep(strings.NewReader(strings.Repeat("x", size)), 200<<10); !errors.Is(err, errShortBody) {
			t.Errorf("%d bytes of 200 KiB: %v", size, err)
		}
	}
}

func TestWhoReadsABodyThatWasClosedGetsAnError(t *testing.T) {
	k, err := wholeSpool(t).Keep(strings.NewReader(strings.Repeat("x", 100<<10)), -1)
	if err != nil {
		t.Fatal(err)
	}
	reader := k.Open()
	k.Close()
	if _, err := io.ReadAll(reader); !errors.Is(err, os.ErrClosed) {
		t.Errorf("got %v", err)
	}
}
