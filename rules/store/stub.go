package store

import (
	"context"
	"errors"
)

var ErrNotWriter = errors.New("x")
var ErrNeedsWriter = errors.New("x")

func (s *Store) Promote(ctx context.Context) error { return nil }
func (s *Store) Demote(ctx context.Context) error  { return nil }
func (s *Store) IsWriter() bool                    { return true }
