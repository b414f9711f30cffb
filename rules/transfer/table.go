// Package transfer turns rows of rules, redirects and guards into files and back: CSV for spreadsheets, JSON for programs.
//
// It is pure: it reads from and writes to what it is given. A bad line is yielded with its reason, and the rest goes on,
// so that an operator sees all that is wrong with a file at once. What is exported and imported again is the same row.
package transfer

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"cutover/rules"
)

// Row is what a file may hold; all rows of a file are of one kind.
type Row interface {
	rules.Rule | rules.Redirect | rules.GuardRow
}

// Table says how the rows of a table are written.
type Table[R Row] struct {
	name     string
	initial  R // what the table's defaults make
	columns  []column[R]
	forget   func(*R) // id and updated_at: the database gives them
	host     func(*R) *string
	validate func(*R) error
	key      func(*R) string // without the host
}

// column is a column as text.
type column[R Row] struct {
	name string
	get  func(*R) string
	set  func(*R, string) error
}

// Name returns the table's name.
func (t Table[R]) Name() string { return t.name }

// Columns returns the names of the columns that a CSV file has, in order.
func (t Table[R]) Columns() []string {
	names := make([]string, len(t.columns))
	for i, c := range t.columns {
		names[i] = c.name
	}
	return names
}

// Key returns what tells a row from every other of its table.
func (t Table[R]) Key(row *R) string {
	return strings.TrimRight(strings.ToLower(strings.Trim(*t.host(row), " ")), ".") + "\x00" + t.key(row)
}

// Defaults returns what the table's defaults make; it has no host.
func (t Table[R]) Defaults() R { return t.initial }

// Place names a row by what tells it from others.
func (t Table[R]) Place(row *R) string {
	text := ""
	for _, c := range t.columns {
		switch value := c.get(row); {
		case c.name == "host" || c.name == "path":
			text += value
		case c.name == "match" && value == string(rules.KindExact):
			text += " (exact)"
		case c.name == "conditions" && value != "{}":
			text += " " + value
		}
	}
	return text
}

// Differing returns the columns in which two rows with one key differ. Another spelling of a host is no difference.
func (t Table[R]) Differing(a, b *R) (names []string) {
	for _, c := range t.columns {
		if !slices.Contains([]string{"host", "path", "match", "conditions"}, c.name) && c.get(a) != c.get(b) {
			names = append(names, c.name)
		}
	}
	return names
}

// Cells returns some columns of a row as "name=value".
func (t Table[R]) Cells(row *R, names []string) string {
	var parts []string
	for _, c := range t.columns {
		if slices.Contains(names, c.name) {
			parts = append(parts, c.name+"="+c.get(row))
		}
	}
	return strings.Join(parts, " ")
}

// check returns why a row makes no sense. A host in another script is turned into ASCII; every other spelling stays.
func (t Table[R]) check(row *R) error {
	host := t.host(row)
	if *host == "" {
		return errors.New("host is missing")
	}
	normal, err := asciiHost(*host)
	if err != nil {
		return err
	}
	*host = normal
	return t.validate(row)
}

func firstError(all ...error) error {
	for _, err := range all {
		if err != nil {
			return err
		}
	}
	return nil
}

// checkConditions refuses what the tables' own constraint does: a rule made in Go may say nothing, a row says {}.
func checkConditions(conditions string) error {
	if !strings.HasPrefix(conditions, "{") || !strings.HasSuffix(conditions, "}") || utf8.RuneCountInString(conditions) > 10000 {
		return errors.New("conditions must be a JSON object, {} for none")
	}
	return nil
}

// checkNeeds refuses what the tables' own constraint does.
func checkNeeds(needs int) error {
	if needs < 1 {
		return errors.New("needs must be a whole number from 1")
	}
	return nil
}

// maxHost is how many bytes a name of 253 characters can have in UTF-8. To turn a longer one into ASCII takes a time
// that grows with the square of its length.
const maxHost = 4 * 253

func asciiHost(host string) (string, error) {
	if len(host) > maxHost {
		return "", errors.New("host is longer than a name can be")
	}
	if strings.IndexFunc(host, func(r rune) bool { return r >= utf8.RuneSelf }) < 0 {
		return host, nil
	}
	parent, wildcard := strings.CutPrefix(host, "*.")
	if strings.Contains(parent, ":") {
		return "", errors.New("host must have no port: a row holds for all ports")
	}
	normal, err := rules.NormalizeHost(parent)
	if err != nil {
		return "", fmt.Errorf("host %q: %w", host, err)
	}
	if wildcard {
		normal = "*." + normal
	}
	return normal, nil
}

// checkNote refuses what the tables' own constraint does.
func checkNote(note string) error {
	if utf8.RuneCountInString(note) > 1000 || strings.ContainsFunc(note, unicode.IsControl) {
		return errors.New("note must be text of at most 1000 characters, on one line")
	}
	return nil
}

func textColumn[R Row](name string, field func(*R) *string) column[R] {
	return column[R]{
		name: name,
		get:  func(row *R) string { return *field(row) },
		set: func(row *R, text string) error {
			*field(row) = text
			return nil
		},
	}
}

func boolColumn[R Row](name string, field func(*R) *bool) column[R] {
	return column[R]{
		name: name,
		get: func(row *R) string {
			if *field(row) {
				return "1"
			}
			return "0"
		},
		set: func(row *R, text string) error {
			switch strings.ToLower(text) {
			case "1", "true":
				*field(row) = true
			case "0", "false":
				*field(row) = false
			default:
				return fmt.Errorf("%s must be 0 or 1", name)
			}
			return nil
		},
	}
}

func wholeColumn[R Row, N int | int64](name string, field func(*R) *N) column[R] {
	return column[R]{
		name: name,
		get:  func(row *R) string { return strconv.FormatInt(int64(*field(row)), 10) },
		set: func(row *R, text string) error {
			number, err := strconv.ParseInt(text, 10, strconv.IntSize)
			if err != nil {
				return fmt.Errorf("%s must be a whole number, not %q", name, text)
			}
			*field(row) = N(number)
			return nil
		},
	}
}

func percentColumn(field func(*rules.Rule) *float64) column[rules.Rule] {
	percent := numberColumn("percent", "a number from 0 to 100", field)
	set := percent.set
	percent.set = func(row *rules.Rule, text string) error {
		if set(row, strings.TrimSuffix(text, "%")) != nil {
			return set(row, text) // it shows what was written
		}
		return nil
	}
	return percent
}

func numberColumn[R Row](name, what string, field func(*R) *float64) column[R] {
	return column[R]{
		name: name,
		get:  func(row *R) string { return strconv.FormatFloat(*field(row), 'g', -1, 64) },
		set: func(row *R, text string) error {
			number, err := strconv.ParseFloat(text, 64)
			if err != nil {
				return fmt.Errorf("%s must be %s, not %q", name, what, text)
			}
			*field(row) = number
			return nil
		},
	}
}
