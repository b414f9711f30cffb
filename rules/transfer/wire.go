package transfer

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
)

// wireLine is a line of a stream: a row with its place in the file that it came from, or why there is none.
type wireLine struct {
	Line  int             `json:"line"` // first, so that such a line can be told from a row
	Row   json.RawMessage `json:"row,omitempty"`
	Error string          `json:"error,omitempty"`
}

// wirePrefix tells such a line from one that is a row itself: no table has a column of this name.
const wirePrefix = `{"line":`

// ReadStream is Read for one object a line, where a line may also be what a StreamWriter wrote.
func (t Table[R]) ReadStream(source io.Reader, yield func(Line[R]) error) error {
	yield = t.Checking(yield)
	lines := bufio.NewScanner(source)
	lines.Buffer(make([]byte, 0, 64<<10), 2*maxLine)
	for number := 1; lines.Scan(); number++ {
		text := bytes.TrimSpace(lines.Bytes())
		if len(text) == 0 {
			continue
		}
		if err := yield(t.parseWire(text, number)); err != nil {
			return err
		}
	}
	return lines.Err()
}

func (t Table[R]) parseWire(text []byte, number int) Line[R] {
	if !bytes.HasPrefix(text, []byte(wirePrefix)) {
		return t.parse(text, number)
	}
	var wire wireLine
	if err := json.Unmarshal(text, &wire); err != nil {
		return Line[R]{Number: number, Err: t.plainJSON(err)}
	}
	if wire.Error != "" {
		return Line[R]{Number: wire.Line, Err: errors.New(wire.Error)}
	}
	return t.parse(wire.Row, wire.Line)
}

// StreamWriter writes lines for ReadStream, bad ones too. Flush ends it.
type StreamWriter[R Row] struct {
	out     *bufio.Writer
	encoder *json.Encoder
}

// NewStreamWriter begins a stream.
func (t Table[R]) NewStreamWriter(w io.Writer) *StreamWriter[R] {
	out := bufio.NewWriterSize(w, 64<<10)
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	return &StreamWriter[R]{out: out, encoder: encoder}
}

// Write adds a line.
func (w *StreamWriter[R]) Write(line Line[R]) error {
	wire := wireLine{Line: line.Number}
	if line.Err != nil {
		wire.Error = line.Err.Error()
		return w.encoder.Encode(wire)
	}
	row, err := json.Marshal(line.Row)
	if err != nil {
		return err
	}
	wire.Row = row
	return w.encoder.Encode(wire)
}

// Flush writes what is left.
func (w *StreamWriter[R]) Flush() error { return w.out.Flush() }
