package store

import (
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"cutover/rules"
)

// lastGoodFile holds the rules that were good last, for a start at which the database cannot be read, and for rows that
// are bad by then. It is written by the owner alone and is no place to edit: the database decides as soon as it can.
const lastGoodFile = "rules.last-good.json"

// readLastGood returns nil if there is none that can be read.
func (s *Store) readLastGood() *rules.View {
	rows, err := lastGoodRows(s.options.Dir)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			s.options.log().Warn("the last good rules cannot be read", slog.Any("error", err))
		}
		return nil
	}
	view, _ := rules.Compile(rows, nil, s.options.now()) // they were good; what this program cannot use is left out
	return view
}

func lastGoodRows(dir string) (rows rules.Rows, err error) {
	text, err := os.ReadFile(filepath.Join(dir, lastGoodFile))
	if err == nil {
		err = json.Unmarshal(text, &rows)
	}
	return rows, err
}

// saveLastGood writes what is in force: whole, or not at all. Failing is no fault: the file is a help.
func (s *Store) saveLastGood() {
	view := s.Load()
	if view == s.saved {
		return
	}
	text, err := json.Marshal(view.Good())
	if err == nil {
		err = replaceFile(filepath.Join(s.options.Dir, lastGoodFile), text)
	}
	if err != nil {
		s.options.log().Debug("the last good rules are not kept", slog.Any("error", err))
		return
	}
	s.saved = view
}

// replaceFile writes a file whole or not at all, a power failure included. Only the owner of the lock writes here, so
// that the name on the way is its own.
func replaceFile(path string, text []byte) error {
	file, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	if err == nil {
		err = file.Sync()
	}
	err = errors.Join(err, file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	return nil
}

// hadRules reports whether anything that an operator decided is in force: then a database that is missing or empty is
// no first start, but a loss.
func (s *Store) hadRules() bool {
	last := s.snapshot.Load()
	return last != nil && holdsDecisions(last.Rows)
}

func holdsDecisions(rows rules.Rows) bool {
	targets := slices.ContainsFunc(rows.Upstreams, func(u rules.Upstream) bool { return len(u.Targets) > 0 })
	return targets || len(rows.Rules)+len(rows.Redirects)+len(rows.Hosts) > 0
}
