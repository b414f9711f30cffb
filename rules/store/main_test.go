package store

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
)

// TestMain lets this program be a second process that holds the rules.
func TestMain(m *testing.M) {
	if dir := os.Getenv("STORE_CHILD"); dir != "" {
		os.Exit(hold(dir))
	}
	os.Exit(m.Run())
}

func hold(dir string) int {
	ctx := context.Background()
	s, err := Open(ctx, Options{Dir: dir})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	go func() { _ = s.Run(ctx) }() // until the process is killed
	if os.Getenv("STORE_IMPORT") != "" {
		_, err := s.Import(ctx, Author{Name: "child"}, Import{Table: TableRules, Rows: manyRules(100_000)}, func(n int) { fmt.Fprintln(os.Stdout, 0, n) })
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	var writers sync.WaitGroup
	for writer := range 4 {
		writers.Go(func() { write(ctx, s, writer) })
	}
	writers.Wait()
	return 1
}

// write adds one rule after the other, changes and removes some, and prints a line for each that was acknowledged.
func write(ctx context.Context, s *Store, writer int) {
	for n := 0; ; n++ {
		row := map[string]any{"host": fmt.Sprintf("h%d-%d.test", writer, n), "percent": 100}
		edits := []Edit{{Table: TableRules, Row: row}}
		if n%3 == 2 {
			edits = append(edits, Edit{Table: TableRules, Row: map[string]any{"host": fmt.Sprintf("h%d-%d.test", writer, n-1)}, Remove: true})
		}
		if _, err := s.Apply(ctx, Author{Name: "child"}, edits, false); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return
		}
		fmt.Fprintf(os.Stdout, "%d %d\n", writer, n) // one write, so that lines stay whole
	}
}
