package box

import (
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
)

func TestAFatalErrorEndsTheWorkAndCleansUpAsTheEndDoes(t *testing.T) {
	for name, ending := range map[string]func(*Stage) error{
		"fatal":    func(s *Stage) error { s.Fatalf("no %s", "box"); return nil },
		"returned": func(*Stage) error { return errors.New("no box") },
	} {
		var folder string
		var order []string
		err := Play(io.Discard, func(s *Stage) error {
			folder = s.TempDir()
			s.Cleanup(func() { order = append(order, "first") })
			s.Cleanup(func() { order = append(order, "last") })
			err := ending(s)
			order = append(order, "returned")
			return err
		})
		if err == nil || !strings.Contains(err.Error(), "no box") {
			t.Errorf("%s: %v", name, err)
		}
		want := []string{"last", "first"}
		if name == "returned" {
			want = []string{"returned", "last", "first"}
		}
		if !slices.Equal(order, want) {
			t.Errorf("%s: %v", name, order)
		}
		if _, err := os.Stat(folder); err == nil {
			t.Errorf("%s: the folder is still there", name)
		}
	}
}
