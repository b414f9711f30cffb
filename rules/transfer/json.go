package transfer

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// readJSON reads a list of objects, or one object a line.
func (t Table[R]) readJSON(source io.Reader, yield func(Line[R]) error) error {
	buffered := bufio.NewReader(skipMark(source))
	for line := 1; ; {
		first, err := buffered.ReadByte()
		switch {
		case errors.Is(err, io.EOF): // with --replace, a program that failed to write must not remove all rows
			return errors.New("the file is empty: it must have a list, [] for one of no rows")
		case err != nil:
			return err
		case first == '\n':
			line++
		case strings.IndexByte(" \t\r", first) >= 0:
		case first == '[':
			return t.readList(io.MultiReader(strings.NewReader("["), buffered), line, yield)
		default:
			return t.readObjects(io.MultiReader(bytes.NewReader([]byte{first}), buffered), line, yield)
		}
	}
}

// readObjects reads one object a line.
func (t Table[R]) readObjects(source io.Reader, line int, yield func(Line[R]) error) error {
	lines := bufio.NewScanner(source)
	lines.Buffer(make([]byte, 0, 64<<10), maxLine)
	for ; lines.Scan(); line++ {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		if err := yield(t.parse(lines.Bytes(), line)); err != nil {
			return err
		}
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		return fmt.Errorf("line %d is longer than %d bytes", line, maxLine)
	}
	return lines.Err()
}

// readList reads a list of objects, however it is laid out.
func (t Table[R]) readList(source io.Reader, line int, yield func(Line[R]) error) error {
	places := &places{source: source, line: line}
	decoder := json.NewDecoder(places)
	if _, err := decoder.Token(); err != nil {
		return err
	}
	for decoder.More() {
		var object json.RawMessage
		if err := decoder.Decode(&object); err != nil {
			return notJSON(places.at(decoder.InputOffset()), err)
		}
		if len(object) > maxLine {
			return fmt.Errorf("the row in line %d is longer than %d bytes", places.at(decoder.InputOffset()), maxLine)
		}
		if err := yield(t.parse(object, places.at(decoder.InputOffset()-int64(len(object))))); err != nil {
			return err
		}
	}
	if _, err := decoder.Token(); err != nil {
		return notJSON(places.at(decoder.InputOffset()), err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("line %d: more follows after the list", places.at(decoder.InputOffset()))
	}
	return nil
}

func notJSON(line int, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("the file ends within its list: it is not whole")
	}
	if errors.As(err, new(*json.SyntaxError)) {
		return fmt.Errorf("line %d or soon after is not JSON: %w", line, err)
	}
	return err
}

// parse reads one row. A list of a foreign kind, or a number where a text belongs, is a bad row.
func (t Table[R]) parse(text []byte, number int) Line[R] {
	line := Line[R]{Number: number, Row: t.initial}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(&line.Row)
	if err == nil && decoder.More() {
		err = errors.New("more follows after the row")
	}
	line.Err = t.plainJSON(err)
	return line
}

// plainJSON says in an operator's words why a row cannot be read.
func (t Table[R]) plainJSON(err error) error {
	var wrong *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &wrong) && wrong.Field == "":
		return errors.New("a row must be an object with columns, as 'cutover " + t.name + " export' writes it")
	case errors.As(err, &wrong):
		return fmt.Errorf("%s must be %s", wrong.Field, kindWords(wrong.Type.Kind().String()))
	case errors.As(err, new(*json.SyntaxError)), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("it is not JSON: a file has a list of objects, or one object a line")
	}
	if field, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		return fmt.Errorf("there is no column %s in %s; there are %s", field, t.name, strings.Join(t.Columns(), ", "))
	}
	return err
}

func kindWords(kind string) string {
	switch kind {
	case "bool":
		return "true or false"
	case "string":
		return "a text"
	case "float64":
		return "a number"
	}
	return "a whole number"
}

// places tells in which line a byte of what was read through it is.
type places struct {
	source io.Reader
	line   int     // of the byte that was asked for last
	read   int64   // bytes
	breaks []int64 // where lines end that were read and not yet asked for
}

// Read implements io.Reader.
func (p *places) Read(into []byte) (int, error) {
	n, err := p.source.Read(into)
	for i, b := range into[:n] {
		if b == '\n' {
			p.breaks = append(p.breaks, p.read+int64(i))
		}
	}
	p.read += int64(n)
	return n, err
}

// at returns the line of the byte at an offset; offsets must not go back.
func (p *places) at(offset int64) int {
	passed := 0
	for passed < len(p.breaks) && p.breaks[passed] < offset {
		passed++
	}
	p.line += passed
	p.breaks = append(p.breaks[:0], p.breaks[passed:]...)
	return p.line
}
