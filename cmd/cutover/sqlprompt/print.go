package sqlprompt

import (
	"bytes"
	"database/sql"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
)

// Mode is how rows are printed.
type Mode string

// The values of Mode.
const (
	Table Mode = "table"
	JSON  Mode = "json"
	CSV   Mode = "csv"
)

// printer prints the rows of a result. end is called after the last row.
type printer interface {
	row(values []any) error
	end() error
}

func (m Mode) printer(w io.Writer, columns []string) printer {
	switch m {
	case JSON:
		return &jsonPrinter{w: w, columns: columns}
	case CSV:
		p := &csvPrinter{csv.NewWriter(w)}
		_ = p.Write(columns) // the writer keeps an error until Flush
		return p
	}
	return newTablePrinter(w, columns)
}

// printRows prints what a statement returns; one without columns prints nothing.
func printRows(w io.Writer, mode Mode, rows *sql.Rows) error {
	columns, err := rows.Columns()
	if err != nil {
		return err
	}
	var p printer
	for rows.Next() {
		if p == nil {
			p = mode.printer(w, columns)
		}
		values, into := make([]any, len(columns)), make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			return err
		}
		if err := p.row(values); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if p == nil && len(columns) > 0 && mode != Table {
		p = mode.printer(w, columns) // an empty list, or the names alone
	}
	if p == nil {
		return nil
	}
	return p.end()
}

// cell is a value as text. A blob is written as SQL has it, unless it is text.
func cell(value any) string {
	switch v := value.(type) {
	case nil:
		return "NULL"
	case []byte:
		return "x'" + hex.EncodeToString(v) + "'"
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	case time.Time:
		return v.Format(time.RFC3339Nano)
	}
	return fmt.Sprint(value)
}

const tableRows = 1000 // that share their widths; more are not kept in memory

type tablePrinter struct {
	columns []string
	table   *tabwriter.Writer
	rows    int
}

func newTablePrinter(w io.Writer, columns []string) *tablePrinter {
	return &tablePrinter{columns: columns, table: tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
}

func (p *tablePrinter) row(values []any) error {
	if p.rows == 0 {
		p.line(p.columns)
	}
	cells := make([]string, len(values))
	for i, value := range values {
		cells[i] = cell(value)
	}
	p.line(cells)
	if p.rows++; p.rows%tableRows == 0 {
		return p.table.Flush()
	}
	return nil
}

func (p *tablePrinter) end() error { return p.table.Flush() }

// line keeps what is stored from breaking the table or from steering the terminal. The tabwriter keeps an error until Flush.
func (p *tablePrinter) line(cells []string) {
	for i, text := range cells {
		if i > 0 {
			_, _ = io.WriteString(p.table, "\t")
		}
		_, _ = io.WriteString(p.table, harmless(text))
	}
	_, _ = io.WriteString(p.table, "\n")
}

func harmless(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return ' '
		}
		return r
	}, text)
}

type csvPrinter struct{ *csv.Writer }

func (p *csvPrinter) row(values []any) error {
	cells := make([]string, len(values))
	for i, value := range values {
		if value != nil {
			cells[i] = cell(value)
		}
	}
	return p.Write(cells)
}

func (p *csvPrinter) end() error {
	p.Flush()
	return p.Error()
}

// jsonPrinter prints a list with an object a line, whose keys are in the order of the columns.
type jsonPrinter struct {
	w       io.Writer
	columns []string
	rows    int
}

func (p *jsonPrinter) row(values []any) error {
	var line bytes.Buffer
	line.WriteString(map[bool]string{true: "[\n{", false: ",\n{"}[p.rows == 0])
	p.rows++
	for i, value := range values {
		if i > 0 {
			line.WriteByte(',')
		}
		line.Write(jsonText(p.columns[i]))
		line.WriteByte(':')
		line.Write(jsonText(jsonValue(value)))
	}
	line.WriteByte('}')
	_, err := p.w.Write(line.Bytes())
	return err
}

// jsonValue is a value that JSON can carry: a blob is written as SQL has it, and so is an infinite number.
func jsonValue(value any) any {
	switch v := value.(type) {
	case []byte:
		return cell(v)
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return cell(v)
		}
	}
	return value
}

func jsonText(value any) []byte {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(value) // texts, numbers and nil can be encoded
	return bytes.TrimSuffix(out.Bytes(), []byte("\n"))
}

func (p *jsonPrinter) end() error {
	text := "\n]\n"
	if p.rows == 0 {
		text = "[]\n"
	}
	_, err := io.WriteString(p.w, text)
	return err
}
