package transfer

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"errors"
	"io"
)

// Writer writes rows into a file. Close ends it; it does not close what is below.
type Writer[R Row] struct {
	table  Table[R]
	out    *bufio.Writer
	csv    *csv.Writer // nil for JSON
	json   *json.Encoder
	record []string
	began  bool
}

// NewWriter begins a file. With JSON it is a list with one object a line; id and updated_at are in it, to be read by
// people and passed over by Read.
func (t Table[R]) NewWriter(w io.Writer, format Format) *Writer[R] {
	file := &Writer[R]{table: t, out: bufio.NewWriter(w)}
	if format == CSV {
		file.csv = csv.NewWriter(file.out)
		file.record = make([]string, len(t.columns))
		return file
	}
	file.json = json.NewEncoder(&withoutLineEnd{file.out})
	file.json.SetEscapeHTML(false)
	return file
}

// Write adds a row.
func (w *Writer[R]) Write(row *R) error {
	if err := w.begin(); err != nil {
		return err
	}
	if w.csv == nil {
		return w.json.Encode(row)
	}
	for i, c := range w.table.columns {
		w.record[i] = c.get(row)
	}
	return w.csv.Write(w.record)
}

// begin writes what stands before a row.
func (w *Writer[R]) begin() error {
	first := !w.began
	w.began = true
	switch {
	case w.csv != nil && first:
		return w.csv.Write(w.table.Columns())
	case w.csv != nil:
		return nil
	case first:
		_, err := w.out.WriteString("[\n")
		return err
	}
	_, err := w.out.WriteString(",\n")
	return err
}

// Close writes what ends the file.
func (w *Writer[R]) Close() error {
	if w.csv != nil {
		var err error
		if !w.began {
			err = w.begin()
		}
		w.csv.Flush()
		return errors.Join(err, w.csv.Error(), w.out.Flush())
	}
	text := "[]\n"
	if w.began {
		text = "\n]\n"
	}
	_, err := w.out.WriteString(text)
	return errors.Join(err, w.out.Flush())
}

// withoutLineEnd drops the line end that an encoder puts after each value.
type withoutLineEnd struct{ out *bufio.Writer }

// Write implements io.Writer.
func (w *withoutLineEnd) Write(text []byte) (int, error) {
	if n := len(text); n > 0 && text[n-1] == '\n' {
		_, err := w.out.Write(text[:n-1])
		return n, err
	}
	return w.out.Write(text)
}
