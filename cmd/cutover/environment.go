package main

import (
	"errors"
	"io"
	"os"
)

// environment is everything that a verb may touch of the world outside.
type environment struct {
	stdin            io.Reader
	stdout, stderr   io.Writer
	getenv           func(string) string
	stdoutIsTerminal bool

	output string // "table" or "json", from the flag -o

	configFile string            // from the flag --config; empty: the default file, if it exists
	flags      map[string]string // settings given as flags, by key
	loaded     *Config           // the configuration, once it was asked for
}

// config returns the configuration: flags, then CUTOVER_* variables, then the file, then defaults.
func (env *environment) config() (Config, error) {
	if env.loaded == nil {
		c, err := loadConfig(env.configFile, env.flags, env.getenv, os.ReadFile)
		if err != nil {
			return Config{}, err
		}
		env.loaded = &c
	}
	return *env.loaded, nil
}

// hintError is an error with the next step for the operator.
type hintError struct {
	err  error
	hint string
}

func (e *hintError) Error() string { return e.err.Error() }
func (e *hintError) Unwrap() error { return e.err }

// withHint adds the next step to an error. It returns nil for a nil error, and keeps a hint that is there already.
func withHint(err error, hint string) error {
	if err == nil || errors.As(err, new(*hintError)) {
		return err
	}
	return &hintError{err: err, hint: hint}
}

// usageError is a mistake on the command line; it ends the program with status 2.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }
