package store

import (
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"cutover/rules"
)

// lastGoodFile holds the rules that were good last, for a start at which the database cannot be read, and for rows that
// are bad by then. It is written by the owner alone and is no place to edit: the database decides as soon as it can.
const lastGoodFile = "rules.last-good.json"

// readLastGood returns nil if there is none that can be read.
func (s *Store) readLastGood() *rules.View {
	text, err := os.ReadFile(filepath.Join(s.options.Dir, lastGoodFile))
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			s.options.log().Warn("the last good rules cannot be read", slog.Any("error", err))
		}
		return nil
	}
	var rows rules.Rows
	if err := json.Unmarshal(text, &rows); err != nil {
		s.options.log().Warn("the last good rules cannot be read", slog.Any("error", err))
		return nil
	}
	view, _ := rules.Compile(rows, nil, s.options.now()) // they were good; what this program cannot use is left out
	return view
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

func replaceFile(path string, text []byte) error {
	file, err := os.CreateTemp(filepath.Dir(path), ".last-good-*")
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	err = errors.Join(err, file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	return nil
}
