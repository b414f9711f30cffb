package store

import (
	"database/sql"
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestAnImageIsReadAsItWasWritten(t *testing.T) {
	for image, want := range map[string][]any{
		"'shop.example.com'":                  {"shop.example.com"},
		"'it''s, here',''":                    {"it's, here", ""},
		"'',''''":                             {"", "'"},
		"10,0.5,-3,1.0e+20,NULL":              {int64(10), 0.5, int64(-3), 1e20, nil},
		"9.0e+999,-9.0e+999":                  {math.Inf(1), math.Inf(-1)},
		"X'00FF','a'":                         {[]byte{0, 255}, "a"},
		"X''":                                 {[]byte{}},
		"'{\"cookies\":{\"staff\":\"yes\"}}'": {`{"cookies":{"staff":"yes"}}`},
	} {
		got, err := parseImage(image)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %#v, %v", image, got, err)
		}
	}
}

func TestWhatIsNoImageIsRefused(t *testing.T) {
	for _, image := range []string{"", ",", "'a", "'a'b", "'a',", "ten", "0x10", "X'0", "X'0G'", "1_000", "null", "NULL NULL", "--1"} {
		if got, err := parseImage(image); err == nil {
			t.Errorf("%q was read as %#v", image, got)
		}
	}
}

func TestARowKeepsTheOrderOfItsColumnsInJSON(t *testing.T) {
	values := Values{{"host", "a.test"}, {"percent", 0.5}, {"enabled", int64(1)}, {"conditions", "{}"}, {"note", nil}}
	text, err := json.Marshal(values)
	if err != nil || string(text) != `{"host":"a.test","percent":0.5,"enabled":1,"conditions":"{}","note":null}` {
		t.Errorf("%s, %v", text, err)
	}
	var again Values
	if err := json.Unmarshal(text, &again); err != nil || !reflect.DeepEqual(again, values) {
		t.Errorf("%v, %v", again, err)
	}
}

func FuzzAnImageIsWhatSQLiteQuotes(f *testing.F) {
	db, err := sql.Open("sqlite3", ":memory:")
	if err != nil {
		f.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	f.Cleanup(func() { _ = db.Close() })
	f.Add("it's", int64(-1), 0.1, []byte("x"))
	f.Add("',X'',NULL", int64(math.MinInt64), 1e300, []byte{0})
	f.Fuzz(func(t *testing.T, text string, whole int64, real float64, raw []byte) {
		if strings.Contains(text, "\x00") || !utf8.ValidString(text) || math.IsNaN(real) || len(raw) == 0 {
			return // quote() ends a text at a zero; NaN and no bytes are NULL for the driver
		}
		var image string
		query := "SELECT quote(?)||','||quote(?)||','||quote(?)||','||quote(?)||','||quote(NULL)"
		if err := db.QueryRowContext(t.Context(), query, text, whole, real, raw).Scan(&image); err != nil {
			t.Fatal(err)
		}
		want := []any{text, whole, real, raw, nil}
		if got, err := parseImage(image); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %#v, %v, want %#v", image, got, err, want)
		}
	})
}

func FuzzReadingAnImageNeverPanics(f *testing.F) {
	for _, seed := range []string{"'a',1", "X'00'", "'''", "9.0e+999", ",,"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, image string) {
		values, err := parseImage(image)
		if err == nil && len(values) == 0 {
			t.Error("an image of no values")
		}
	})
}
