package admin

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"cutover/rules"
	"cutover/rules/store"
)

// maxBody bounds the body of a request: some ten thousand edits.
const maxBody = 4 << 20

func (s *Server) edit(w http.ResponseWriter, r *http.Request) error {
	var request EditRequest
	if err := readJSON(w, r, &request); err != nil {
		return err
	}
	if len(request.Edits) == 0 {
		return refuse(http.StatusBadRequest, `send {"edits": [{"table": "rules", "row": {"host": "shop.example.com", "percent": 10}}]}`, "there are no edits")
	}
	for i := range request.Edits {
		plainNumbers(request.Edits[i].Row)
	}
	doubts, err := s.checkTargets(r.Context(), request.Edits)
	if err != nil {
		return err
	}
	result, err := s.Store.Apply(r.Context(), authorOf(r.Context()), request.Edits, request.DryRun)
	if err != nil {
		return storeError(err)
	}
	if result.Rows == nil {
		result.Rows = []map[string]any{}
	}
	result.Doubts = doubts
	writeJSON(w, http.StatusOK, result)
	return nil
}

// targetsTime is how long an edit waits for what CheckTarget looks up, of all its targets.
const targetsTime = 2 * time.Second

// checkTargets looks at the targets that edits write, and returns what whoever wrote them should know.
func (s *Server) checkTargets(ctx context.Context, edits []store.Edit) (doubts []string, err error) {
	if s.CheckTarget == nil {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, targetsTime)
	defer cancel()
	for i, edit := range edits {
		url, ok := edit.Row["url"].(string)
		if !ok || edit.Table != store.TableTargets || edit.Remove {
			continue
		}
		doubt, err := s.CheckTarget(ctx, url)
		if err != nil {
			return nil, &store.EditError{Index: i, Edit: edit, Message: err.Error(), Err: err}
		}
		if doubt != "" {
			doubts = append(doubts, doubt)
		}
	}
	return doubts, nil
}

// storeError tells the caller why the rules take no edits, if it is not the edit that is wrong. What the store says of
// the database is written for operators, and whoever gets here is one.
func storeError(err error) error {
	if errors.As(err, new(*store.EditError)) || errors.As(err, new(*store.ReversalError)) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return err
	}
	return &Error{
		Status: http.StatusServiceUnavailable, cause: err, Locked: errors.Is(err, store.ErrBusy),
		Message: "nothing was changed: " + err.Error(),
		Hint:    "the last good rules go on serving; 'cutover status' shows when the database is well again",
	}
}

// readJSON reads one JSON value, strictly: a key that does not exist is a mistake, not a wish.
func readJSON(w http.ResponseWriter, r *http.Request, into any) error {
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	decoder.DisallowUnknownFields()
	decoder.UseNumber()
	err := decoder.Decode(into)
	if err == nil {
		_, err = decoder.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		err = errors.Join(errors.New("more follows after the JSON value"), err)
	}
	if errors.As(err, new(*http.MaxBytesError)) {
		return refuse(http.StatusRequestEntityTooLarge, "send it in several requests", "the body is larger than %d bytes", maxBody)
	}
	message, _, _ := strings.Cut(err.Error(), "\n")
	return &Error{Status: http.StatusBadRequest, Message: "the body is not the JSON that is expected: " + strings.TrimPrefix(message, "json: "), Hint: "see the documentation of the API", cause: err}
}

// plainNumbers turns the numbers of a row into int64 where they are whole and float64 where they are not; the id of
// a row must not lose digits on its way through a float64.
func plainNumbers(row map[string]any) {
	for column, value := range row {
		number, ok := value.(json.Number)
		if !ok {
			continue
		}
		if whole, err := number.Int64(); err == nil {
			row[column] = whole
		} else if real, err := number.Float64(); err == nil {
			row[column] = real
		}
	}
}

// maxHost is how many bytes a name of 253 characters (RFC 1035 §2.3.4) can have in UTF-8. To turn a longer one into
// ASCII takes a time that grows with the square of its length.
const maxHost = 4 * 253

// NormalizePattern returns a row's host in the form that the rules have it: an exact name as rules.NormalizeHost
// returns it, or a name after "*.", or "*".
func NormalizePattern(host string) (string, error) {
	if len(host) > maxHost {
		return "", errors.New("it is longer than a host name can be")
	}
	if host == "*" {
		return host, nil
	}
	if parent, ok := strings.CutPrefix(host, "*."); ok {
		normal, err := rules.NormalizeHost(parent)
		return "*." + normal, err
	}
	return rules.NormalizeHost(host)
}
