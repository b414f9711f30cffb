package main

import (
	"io"
	"log/slog"
)

// newLogger makes the one logger of the daemon. c is valid, so an unknown level cannot come up.
func newLogger(w io.Writer, c Config) *slog.Logger {
	level := slog.LevelInfo
	_ = level.UnmarshalText([]byte(c.LogLevel))
	options := &slog.HandlerOptions{Level: level}
	if c.LogFormat == "text" {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}
