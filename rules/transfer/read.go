package transfer

import (
	"bufio"
	"crypto/sha256"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
)

// Format is how a file is written.
type Format string

// The values of Format.
const (
	CSV  Format = "csv"  // a line with the names of the columns, then a line for each row (RFC 4180)
	JSON Format = "json" // a list of objects, or one object a line
)

// FormatOf returns the format that the name of a file says, or "".
func FormatOf(name string) Format {
	switch strings.ToLower(filepath.Ext(name)) {
	case ".csv":
		return CSV
	case ".json", ".jsonl", ".ndjson":
		return JSON
	}
	return ""
}

// Line is a row with its place in a file, or why there is none.
type Line[R Row] struct {
	Number int // from 1
	Row    R
	Err    error // the row is bad; the others may be good
}

// maxLine is how long a line of a JSON file may be; a row has a few thousand characters at most.
const maxLine = 1 << 20

// Read calls yield for each row of a file, good or bad, in its order, and ends with the first error of yield. Its own
// error says that the file as a whole cannot be read: then more rows may follow that were not seen.
func (t Table[R]) Read(source io.Reader, format Format, yield func(Line[R]) error) error {
	yield = t.Checking(yield)
	if format == CSV {
		return t.readCSV(source, yield)
	}
	return t.readJSON(source, yield)
}

// Checking returns a function that adds to each row what is wrong with it, among the others of its file too, and yields it.
func (t Table[R]) Checking(yield func(Line[R]) error) func(Line[R]) error {
	seen := map[[16]byte]int{} // a hash of the key, and its line
	return func(line Line[R]) error {
		t.forget(&line.Row)
		if line.Err == nil {
			line.Err = t.check(&line.Row)
		}
		if line.Err == nil {
			sum := sha256.Sum256([]byte(t.Key(&line.Row)))
			key := [16]byte(sum[:16])
			if first, ok := seen[key]; ok {
				line.Err = fmt.Errorf("the same %s as in line %d", t.KeyNames(), first)
			} else {
				seen[key] = line.Number
			}
		}
		return yield(line)
	}
}

// KeyNames says which columns tell a row from every other.
func (t Table[R]) KeyNames() string {
	switch columns := t.Columns(); {
	case slices.Contains(columns, "conditions"):
		return "host, path, match and conditions"
	case slices.Contains(columns, "match"):
		return "host, path and match"
	}
	return "host and path"
}

func (t Table[R]) readCSV(source io.Reader, yield func(Line[R]) error) error {
	reader := csv.NewReader(skipMark(source))
	reader.ReuseRecord = true
	reader.FieldsPerRecord = -1 // counted here, in words that say which column
	header, err := reader.Read()
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("the file is empty: its first line must name columns, such as host,%s", t.columns[1].name)
	}
	if err != nil {
		return err
	}
	columns, err := t.header(header)
	if err != nil {
		return err
	}
	for {
		record, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		line := Line[R]{Row: t.initial}
		var broken *csv.ParseError
		switch {
		case errors.As(err, &broken):
			line.Number, line.Err = broken.Line, broken.Err
		case err != nil:
			return err
		default:
			line.Number, _ = reader.FieldPos(0)
			line.Err = fill(&line.Row, columns, record)
		}
		if err := yield(line); err != nil {
			return err
		}
	}
}

// skipMark passes over the mark that spreadsheets put before UTF-8.
func skipMark(source io.Reader) io.Reader {
	buffered := bufio.NewReader(source)
	if mark, err := buffered.Peek(3); err == nil && string(mark) == "\xef\xbb\xbf" {
		_, _ = buffered.Discard(3)
	}
	return buffered
}

// header returns the columns that a CSV file names.
func (t Table[R]) header(names []string) ([]column[R], error) {
	columns := make([]column[R], 0, len(names))
	for i, name := range names {
		name = strings.ToLower(strings.TrimSpace(name))
		at := slices.IndexFunc(t.columns, func(c column[R]) bool { return c.name == name })
		switch {
		case name == "id" || name == "updated_at":
			columns = append(columns, column[R]{name: name, set: func(*R, string) error { return nil }})
			continue
		case at < 0:
			return nil, fmt.Errorf("there is no column %q in %s; there are %s", names[i], t.name, strings.Join(t.Columns(), ", "))
		case slices.ContainsFunc(columns, func(c column[R]) bool { return c.name == name }):
			return nil, fmt.Errorf("the column %s is named twice", name)
		}
		columns = append(columns, t.columns[at])
	}
	if !slices.ContainsFunc(columns, func(c column[R]) bool { return c.name == "host" }) {
		return nil, errors.New("the first line names no column host: it must name the columns")
	}
	return columns, nil
}

// fill sets the columns of a row; an empty cell is the column's default.
func fill[R Row](row *R, columns []column[R], record []string) error {
	if len(record) != len(columns) {
		return fmt.Errorf("the line has %d fields, and the first line names %d columns", len(record), len(columns))
	}
	for i, text := range record {
		if text == "" {
			continue
		}
		if err := columns[i].set(row, text); err != nil {
			return err
		}
	}
	return nil
}
