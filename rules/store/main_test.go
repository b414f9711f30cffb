package store

import (
	"context"
	"fmt"
	"os"
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
	for n := 0; ; n++ {
		row := map[string]any{"host": fmt.Sprintf("h%d.test", n), "percent": 100}
		if _, err := s.Apply(ctx, Author{Name: "child"}, []Edit{{Table: TableRules, Row: row}}, false); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		fmt.Fprintln(os.Stdout, n)
	}
}
