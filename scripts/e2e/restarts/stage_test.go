package main

import (
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
)

func TestAFatalErrorEndsTheWorkAndCleansUpAsTheEndDoes(t *testing.T) {
	for name, ending := range map[string]func(*stage) error{
		"fatal":    func(s *stage) error { s.Fatalf("no %s", "box"); return nil },
		"returned": func(*stage) error { return errors.New("no box") },
	} {
		var folder string
		var order []string
		err := play(io.Discard, func(s *stage) error {
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
