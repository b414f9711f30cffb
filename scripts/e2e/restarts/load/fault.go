package load

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

// fault is an error with the sort of failure that it is, and what had come of the answer.
type fault struct {
	reason string
	seen   int64
	err    error
}

func (f *fault) Error() string {
	if f.err == nil {
		return f.reason
	}
	return f.reason + ": " + f.err.Error()
}
func (f *fault) Unwrap() error { return f.err }

// wrong is a fault without an error below it.
func wrong(reason string, seen int64, format string, arguments ...any) error {
	return &fault{reason: reason, seen: seen, err: fmt.Errorf(format, arguments...)}
}

// during says at which step an error came up; a fault stays as it is.
func during(step string, seen int64, err error) error {
	if err == nil || errors.As(err, new(*fault)) {
		return err
	}
	return &fault{reason: step + ": " + sortOf(err, seen), seen: seen, err: err}
}

// sortOf says what happened to a connection.
func sortOf(err error, seen int64) string {
	after := " before any answer"
	if seen > 0 {
		after = " in the answer"
	}
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "reset" + after
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "closed" + after
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "no end within the client's patience"
	default:
		return "error" + after
	}
}

func reasonOf(err error) string {
	if f := (*fault)(nil); errors.As(err, &f) {
		return f.reason
	}
	return "error"
}

func seenOf(err error) int64 {
	if f := (*fault)(nil); errors.As(err, &f) {
		return f.seen
	}
	return 0
}
