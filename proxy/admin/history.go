package admin

import (
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"cutover/rules/store"
)

// maxHistory is how many changes one answer may have.
const maxHistory = 10_000

// The parameters of GET /v1/history.
const (
	byHost   = "host"
	byAuthor = "author"
	byTable  = "table"
	bySince  = "since"
	byUntil  = "until"
	byBefore = "before"
	byLimit  = "limit"
)

func (s *Server) history(w http.ResponseWriter, r *http.Request) error {
	filter, err := historyFilter(r)
	if err != nil {
		return err
	}
	changes, err := s.Store.History(r.Context(), filter)
	if err != nil {
		return unreadable(err)
	}
	writeJSON(w, http.StatusOK, HistoryList{Changes: changes})
	return nil
}

// unreadable tells the caller that the database cannot be read. What the store says of it is written for operators.
func unreadable(err error) error {
	return &Error{
		Status: http.StatusServiceUnavailable, Message: err.Error(), cause: err,
		Hint: "the last good rules go on serving; 'cutover status' shows when the database is well again",
	}
}

func historyFilter(r *http.Request) (filter store.Filter, err error) {
	query := r.URL.Query()
	filter.Author, filter.Table = query.Get(byAuthor), store.Table(query.Get(byTable))
	if filter.Host, err = hostFilter(r); err != nil {
		return store.Filter{}, err
	}
	if filter.Since, err = queryTime(query, bySince); err != nil {
		return store.Filter{}, err
	}
	if filter.Until, err = queryTime(query, byUntil); err != nil {
		return store.Filter{}, err
	}
	if filter.Before, err = queryNumber(query, byBefore); err != nil {
		return store.Filter{}, err
	}
	limit, err := queryNumber(query, byLimit)
	if limit > maxHistory {
		return store.Filter{}, refuse(http.StatusBadRequest, "ask for more with before=, the number of the last change you have", "limit can be %d at most", maxHistory)
	}
	filter.Limit = int(limit)
	return filter, err
}

func queryTime(query url.Values, name string) (time.Time, error) {
	text := query.Get(name)
	if text == "" {
		return time.Time{}, nil
	}
	moment, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, refuse(http.StatusBadRequest, "give a time with its offset, such as 2026-11-21T03:00:00+01:00", "%s %q is not a time", name, text)
	}
	return moment, nil
}

func queryNumber(query url.Values, name string) (int64, error) {
	text := query.Get(name)
	if text == "" {
		return 0, nil
	}
	number, err := strconv.ParseInt(text, 10, 64)
	if err != nil || number < 1 {
		return 0, refuse(http.StatusBadRequest, "give a number from 1", "%s %q is not a number from 1", name, text)
	}
	return number, nil
}

// historyQuery writes what historyFilter reads.
func historyQuery(f store.Filter) url.Values {
	query := url.Values{}
	for name, value := range map[string]string{byHost: f.Host, byAuthor: f.Author, byTable: string(f.Table)} {
		if value != "" {
			query.Set(name, value)
		}
	}
	for name, moment := range map[string]time.Time{bySince: f.Since, byUntil: f.Until} {
		if !moment.IsZero() {
			query.Set(name, moment.UTC().Format(time.RFC3339Nano))
		}
	}
	for name, number := range map[string]int64{byBefore: f.Before, byLimit: int64(f.Limit)} {
		if number != 0 {
			query.Set(name, strconv.FormatInt(number, 10))
		}
	}
	return query
}

func (s *Server) undo(w http.ResponseWriter, r *http.Request) error {
	var request UndoRequest
	if err := readJSON(w, r, &request); err != nil {
		return err
	}
	if len(request.Changes) == 0 {
		return refuse(http.StatusBadRequest, `send {"changes": [7]} with numbers from GET /v1/history`, "there are no changes to undo")
	}
	result, err := s.Store.Undo(r.Context(), authorOf(r.Context()), request.Changes, request.DryRun)
	if err != nil {
		return storeError(err)
	}
	writeJSON(w, http.StatusOK, result)
	return nil
}

func (s *Server) restore(w http.ResponseWriter, r *http.Request) error {
	var request RestoreRequest
	if err := readJSON(w, r, &request); err != nil {
		return err
	}
	if request.At.IsZero() {
		return refuse(http.StatusBadRequest, `send {"at": "2026-11-21T03:00:00+01:00"}`, "there is no time to go back to")
	}
	takeTime(w)
	result, err := s.Store.Restore(r.Context(), authorOf(r.Context()), request.At, request.DryRun)
	if err != nil {
		return storeError(err)
	}
	writeJSON(w, http.StatusOK, result)
	return nil
}

// takeTime gives an answer longer than the server gives others. In process there is no deadline to move.
func takeTime(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(time.Hour))
}

// backup sends a copy of the database. The copy is whole before the first byte is sent; the length says whether all came.
func (s *Server) backup(w http.ResponseWriter, r *http.Request) error {
	takeTime(w)
	file, err := s.Store.Backup(r.Context())
	if err != nil {
		return unreadable(err)
	}
	defer func() { _ = file.Close() }() // it was only read
	info, err := file.Stat()
	if err != nil {
		return err
	}
	s.log().Info("backup", slog.String("author", authorOf(r.Context()).String()), slog.Int64("bytes", info.Size()))
	w.Header().Set("Content-Type", "application/vnd.sqlite3")
	w.Header().Set("Content-Length", strconv.FormatInt(info.Size(), 10))
	w.Header().Set("Cache-Control", "no-store")
	_, _ = io.Copy(w, file) // a client that is gone sees that bytes are missing
	return nil
}
