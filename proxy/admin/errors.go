package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"cutover/rules/store"
)

// Error is a failure as the caller of the API sees it. The client returns the same type that the server sent.
type Error struct {
	Status  int    `json:"-"`
	Message string `json:"error"`
	Hint    string `json:"hint,omitempty"` // the next step
	Edit    *int   `json:"edit,omitempty"` // POST /v1/edits: the index of the edit that was refused
	// Locked says that another program holds the database's write lock: whoever can see the kernel's locks can name it.
	Locked bool `json:"locked,omitempty"`

	cause error // for the log alone
}

// Error returns the message without the hint.
func (e *Error) Error() string { return e.Message }

// Unwrap returns the private cause, on the side of the server.
func (e *Error) Unwrap() error { return e.cause }

// refuse makes an Error that tells the caller what to do differently.
func refuse(status int, hint, format string, values ...any) *Error {
	return &Error{Status: status, Message: fmt.Sprintf(format, values...), Hint: hint}
}

// handler is an http.Handler that leaves its errors to answer.
type handler func(w http.ResponseWriter, r *http.Request) error

// answering makes an http.Handler of a handler. It is the one place that turns errors into answers.
func (s *Server) answering(h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.Elsewhere != nil && !s.Store.IsWriter() {
			w.Header().Set("Connection", "close") // the next request is for the process that has the rules by then
		}
		err := h(w, r)
		if err == nil || r.Context().Err() != nil {
			return // answered, or nobody waits for an answer
		}
		public := publicError(err)
		level := slog.LevelDebug
		if public.Status >= http.StatusInternalServerError {
			level = slog.LevelError
		}
		s.log().Log(r.Context(), level, "admin request failed",
			slog.String("method", r.Method), slog.String("path", r.URL.Path),
			slog.Int("status", public.Status), slog.Any("error", err))
		writeJSON(w, public.Status, public)
	})
}

// publicError returns what the caller may see of err.
func publicError(err error) *Error {
	var public *Error
	if errors.As(err, &public) {
		return public
	}
	var edit *store.EditError
	if errors.As(err, &edit) {
		status := http.StatusUnprocessableEntity
		if errors.Is(err, store.ErrNotFound) {
			status = http.StatusNotFound
		}
		return &Error{Status: status, Message: edit.Message, Hint: edit.Hint, Edit: &edit.Index, cause: err}
	}
	var reversal *store.ReversalError
	if errors.As(err, &reversal) {
		status := http.StatusConflict
		if errors.Is(err, store.ErrNotFound) {
			status = http.StatusNotFound
		}
		return &Error{Status: status, Message: reversal.Message, Hint: reversal.Hint, cause: err}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return &Error{Status: http.StatusServiceUnavailable, Message: "the rules did not answer in time", Hint: "run 'cutover status' to see why", cause: err}
	}
	return &Error{Status: http.StatusInternalServerError, Message: "internal error", Hint: "the log has the cause: journalctl -u cutover -n 20", cause: err}
}

// writeJSON sends value. A client that is gone is no concern of the server.
func writeJSON(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value)
}
