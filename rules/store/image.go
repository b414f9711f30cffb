package store

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"cutover/rules"
)

// Column is a column of a row, with what SQLite holds in it: nil, int64, float64, string or []byte.
type Column struct {
	Name  string
	Value any
}

// Values is a row's columns in the order of its table. In JSON it is an object in that order; nil is null.
type Values []Column

// Get returns a column's value.
func (v Values) Get(name string) (value any, ok bool) {
	for _, column := range v {
		if column.Name == name {
			return column.Value, true
		}
	}
	return nil, false
}

// MarshalJSON writes bytes, which JSON does not have, as SQLite would: X'00FF'.
func (v Values) MarshalJSON() ([]byte, error) {
	if v == nil {
		return []byte("null"), nil
	}
	text := []byte{'{'}
	for i, column := range v {
		if i > 0 {
			text = append(text, ',')
		}
		value := column.Value
		if raw, ok := value.([]byte); ok {
			value = fmt.Sprintf("X'%X'", raw)
		}
		encoded, err := json.Marshal(value)
		if err != nil {
			return nil, err
		}
		text = append(strconv.AppendQuote(text, column.Name), ':')
		text = append(text, encoded...)
	}
	return append(text, '}'), nil
}

// UnmarshalJSON reads what MarshalJSON wrote. Whole numbers become int64 again, others float64.
func (v *Values) UnmarshalJSON(text []byte) error {
	*v = nil
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	opening, err := decoder.Token()
	if err != nil || opening == nil {
		return err
	}
	*v = Values{}
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return err
		}
		var value any
		if err := decoder.Decode(&value); err != nil {
			return err
		}
		if number, ok := value.(json.Number); ok {
			value = parseNumber(number.String())
		}
		*v = append(*v, Column{fmt.Sprint(name), value})
	}
	return nil
}

var errImage = errors.New("it is not what SQLite's quote() writes")

// parseImage reads a row as the triggers write it into the journal: what SQLite's quote() makes of each column, joined
// by commas.
func parseImage(image string) ([]any, error) {
	var values []any
	for {
		value, rest, err := cutLiteral(image)
		if err != nil {
			return nil, err
		}
		values = append(values, value)
		if rest == "" {
			return values, nil
		}
		if rest[0] != ',' {
			return nil, errImage
		}
		image = rest[1:]
	}
}

// cutLiteral reads the SQL literal at the beginning of text.
func cutLiteral(text string) (value any, rest string, err error) {
	switch {
	case strings.HasPrefix(text, "'"):
		return cutText(text[1:])
	case strings.HasPrefix(text, "X'"):
		return cutBlob(text[2:])
	}
	word, rest := text, ""
	if i := strings.IndexByte(text, ','); i >= 0 {
		word, rest = text[:i], text[i:]
	}
	if word == "NULL" {
		return nil, rest, nil
	}
	if value = parseNumber(word); value == nil {
		return nil, "", errImage
	}
	return value, rest, nil
}

// cutText reads the rest of a text, in which two quotes stand for one.
func cutText(text string) (value any, rest string, err error) {
	var b strings.Builder
	for {
		i := strings.IndexByte(text, '\'')
		if i < 0 {
			return nil, "", errImage
		}
		b.WriteString(text[:i])
		text = text[i+1:]
		if !strings.HasPrefix(text, "'") {
			return b.String(), text, nil
		}
		b.WriteByte('\'')
		text = text[1:]
	}
}

func cutBlob(text string) (value any, rest string, err error) {
	digits, rest, found := strings.Cut(text, "'")
	raw, err := hex.DecodeString(digits)
	if err != nil || !found {
		return nil, "", errImage
	}
	return raw, rest, nil
}

// parseNumber returns an int64 where a number is written as a whole one, else a float64; nil for what is none.
func parseNumber(word string) any {
	if whole, err := strconv.ParseInt(word, 10, 64); err == nil {
		return whole
	}
	if word != "Inf" && word != "-Inf" && strings.Trim(word, "0123456789+-.eE") != "" {
		return nil
	}
	real, err := strconv.ParseFloat(word, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) { // SQLite writes infinity as 9.0e+999
		return nil
	}
	return real
}

// imageColumns names the columns of a table's images, in their order: that of programs.sql.
func imageColumns(name Table) []string {
	if name == TableMeta {
		return []string{"value"}
	}
	t, _ := tableOf(name)
	return t.columns
}

// decodeImage names the values of an image. An image of an older program may lack the last columns.
func decodeImage(name Table, image string) (Values, error) {
	values, err := parseImage(image)
	if err != nil {
		return nil, err
	}
	columns := imageColumns(name)
	if len(values) > len(columns) {
		return nil, fmt.Errorf("it has %d columns of %s, and this program knows %d", len(values), name, len(columns))
	}
	decoded := make(Values, len(values))
	for i, value := range values {
		decoded[i] = Column{columns[i], value}
	}
	return decoded, nil
}

// imageSQL is the expression by which the triggers make the image of a row.
func imageSQL(alias string, columns []string) string {
	parts := make([]string, len(columns))
	for i, column := range columns {
		parts[i] = "quote(" + alias + "." + column + ")"
	}
	return strings.Join(parts, "||','||")
}

// imageLocation reads where a row of rules or redirects was from its image, which begins with host, path and match.
func imageLocation(image string) (l rules.Location, ok bool) {
	var match string
	for _, to := range []*string{&l.Host, &l.Path, &match} {
		value, rest, err := cutLiteral(image)
		text, isText := value.(string)
		if err != nil || !isText {
			return rules.Location{}, false
		}
		*to, image = text, strings.TrimPrefix(rest, ",")
	}
	l.Match = rules.Kind(match)
	return l, true
}

// parseID returns 0 for a text that is no id: no row has that.
func parseID(text string) int64 {
	id, _ := strconv.ParseInt(text, 10, 64)
	return id
}
