package admin

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"cutover/rules"
	"cutover/rules/store"
	"cutover/rules/transfer"
)

// lineTime is how long a client may take over a part of a stream; the whole may take as long as it needs.
const lineTime = 30 * time.Second

// importTable answers POST /v1/import/{table}?mode=append|replace&partial=true&dry_run=true. The body has a row a line, or what
// a transfer.StreamWriter wrote. The answer has lines of ImportProgress, of which the last one has a result or an error.
func (s *Server) importTable(w http.ResponseWriter, r *http.Request) error {
	im, err := importRequest(r)
	if err != nil {
		return err
	}
	body := &patientReader{body: r.Body, control: http.NewResponseController(w)}
	if im.Rows, err = rowsOf(im.Table, body); err != nil {
		return err
	}
	stream := newStream(w)
	_ = stream.control.SetWriteDeadline(time.Time{}) // the rows may take longer than any answer; in one process there is none
	result, err := s.Store.Import(r.Context(), authorOf(r.Context()), im, func(done int) {
		_ = stream.send(ImportProgress{Done: done}) // whoever does not listen is no reason to stop
	})
	if err != nil {
		err = importError(err)
		if !stream.began {
			return err
		}
		return stream.send(ImportProgress{Failed: publicError(err)})
	}
	return stream.send(ImportProgress{Result: &result})
}

func importRequest(r *http.Request) (store.Import, error) {
	const hint = "POST /v1/import/rules?mode=append, or mode=replace; partial=true and dry_run=true may follow"
	query := r.URL.Query()
	im := store.Import{Table: store.Table(r.PathValue("table"))}
	mode := query.Get("mode")
	if mode != "append" && mode != "replace" {
		return im, refuse(http.StatusBadRequest, hint, "mode must be append or replace, not %q", mode)
	}
	im.Replace = mode == "replace"
	for name, into := range map[string]*bool{"partial": &im.Partial, "dry_run": &im.DryRun} {
		text := query.Get(name)
		if text == "" {
			continue
		}
		value, err := strconv.ParseBool(text)
		if err != nil {
			return im, refuse(http.StatusBadRequest, hint, "%s must be true or false, not %q", name, text)
		}
		*into = value
	}
	return im, nil
}

// rowsOf returns what reads the rows of a table from a body.
func rowsOf(table store.Table, body io.Reader) (func(func(store.ImportRow) error) error, error) {
	switch table {
	case store.TableRules:
		return readRows(transfer.Rules(), body, func(row *rules.Rule) store.ImportRow { return store.ImportRow{Rule: row} }), nil
	case store.TableRedirects:
		return readRows(transfer.Redirects(), body, func(row *rules.Redirect) store.ImportRow { return store.ImportRow{Redirect: row} }), nil
	case store.TableGuards:
		return readRows(transfer.Guards(), body, func(row *rules.GuardRow) store.ImportRow { return store.ImportRow{Guard: row} }), nil
	}
	return nil, noSuchTable(table)
}

func noSuchTable(table store.Table) error {
	return refuse(http.StatusNotFound, "there are rules, redirects and guards", "the table %q can be neither imported nor exported", table)
}

func readRows[R transfer.Row](t transfer.Table[R], body io.Reader, pack func(*R) store.ImportRow) func(func(store.ImportRow) error) error {
	return func(add func(store.ImportRow) error) error {
		var failed error // the store's own, as opposed to the body's
		err := t.ReadStream(body, func(line transfer.Line[R]) error {
			row := store.ImportRow{}
			if line.Err != nil {
				row.Problem = line.Err.Error()
			} else {
				row = pack(&line.Row)
			}
			row.Line = line.Number
			failed = add(row)
			return failed
		})
		if err != nil && failed == nil {
			return &Error{Status: http.StatusBadRequest, Message: "nothing was changed: the rows broke off: " + err.Error(), Hint: "send a row a line, and all of them", cause: err}
		}
		return err
	}
}

// importError says plainly why nothing was imported.
func importError(err error) error {
	if errors.Is(err, store.ErrImporting) {
		return &Error{Status: http.StatusConflict, Message: "nothing was changed: " + err.Error(), Hint: "try again in a minute", cause: err}
	}
	if errors.As(err, new(*Error)) {
		return err
	}
	return storeError(err)
}

// exportTable answers GET /v1/export/{table}: a row a line, sorted by host and path, straight from the database.
func (s *Server) exportTable(w http.ResponseWriter, r *http.Request) (err error) {
	table := store.Table(r.PathValue("table"))
	stream := newStream(w)
	switch table {
	case store.TableRules:
		err = s.Store.ExportRules(r.Context(), func(row *rules.Rule) error { return stream.send(row) })
	case store.TableRedirects:
		err = s.Store.ExportRedirects(r.Context(), func(row *rules.Redirect) error { return stream.send(row) })
	case store.TableGuards:
		err = s.Store.ExportGuards(r.Context(), func(row *rules.GuardRow) error { return stream.send(row) })
	default:
		return noSuchTable(table)
	}
	if err == nil {
		return stream.finish()
	}
	if stream.began {
		panic(http.ErrAbortHandler) // the client must see that the rows are not all
	}
	return storeError(err)
}

// checkRedirects answers GET /v1/redirects/check.
func (s *Server) checkRedirects(w http.ResponseWriter, r *http.Request) error {
	chains, err := s.Store.Chains(r.Context())
	if err != nil {
		return storeError(err)
	}
	writeJSON(w, http.StatusOK, ChainList{Chains: only(chains, func(rules.Chain) bool { return true })})
	return nil
}

// stream sends JSON lines.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	encoder *json.Encoder
	began   bool
	fresh   time.Time // when the deadline was put off last
}

func newStream(w http.ResponseWriter) *stream {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	return &stream{w: w, control: http.NewResponseController(w), encoder: encoder}
}

func (s *stream) send(value any) error {
	s.begin()
	if now := time.Now(); now.Sub(s.fresh) > time.Second {
		s.fresh = now
		_ = s.control.SetWriteDeadline(now.Add(lineTime)) // in one process there is none
		if err := s.control.Flush(); err != nil {
			return err
		}
	}
	return s.encoder.Encode(value)
}

func (s *stream) begin() {
	if s.began {
		return
	}
	s.began = true
	s.w.Header().Set("Content-Type", "application/x-ndjson")
	s.w.Header().Set("Cache-Control", "no-store")
	s.w.WriteHeader(http.StatusOK)
}

// finish ends a stream that may be empty.
func (s *stream) finish() error {
	s.begin()
	_ = s.control.SetWriteDeadline(time.Now().Add(lineTime)) // in one process there is none
	return nil
}

// patientReader reads a body for as long as something arrives.
type patientReader struct {
	body    io.Reader
	control *http.ResponseController
	fresh   time.Time
}

// Read implements io.Reader.
func (p *patientReader) Read(into []byte) (int, error) {
	if now := time.Now(); now.Sub(p.fresh) > time.Second {
		p.fresh = now
		_ = p.control.SetReadDeadline(now.Add(lineTime)) // in one process there is none
	}
	return p.body.Read(into)
}
