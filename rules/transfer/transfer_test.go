package transfer

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"cutover/rules"
)

// read returns the good rows of a text, and what is said of the bad ones.
func read[R Row](t testing.TB, table Table[R], format Format, text string) (rows []R, bad []string) {
	t.Helper()
	err := table.Read(strings.NewReader(text), format, func(line Line[R]) error {
		if line.Err != nil {
			bad = append(bad, fmt.Sprintf("%d: %v", line.Number, line.Err))
		} else {
			rows = append(rows, line.Row)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return rows, bad
}

func TestColumnsThatAreLeftOutHaveTheTablesDefaults(t *testing.T) {
	want := rules.Rule{
		Host: "a.test", Path: "/", Match: rules.KindPrefix, Conditions: "{}", V1: "v1", V2: "v2", Percent: 5,
		Sticky: rules.StickyCookie, Enabled: true, Needs: 1,
	}
	for format, text := range map[Format]string{CSV: "percent,host,path\n5,a.test,\n", JSON: `{"host":"a.test","percent":5}`} {
		rows, bad := read(t, Rules(), format, text)
		if len(rows) != 1 || rows[0] != want || bad != nil {
			t.Errorf("%s: %+v, %q", format, rows, bad)
		}
	}
	redirects, bad := read(t, Redirects(), CSV, "host,to_url\na.test,https://b.test\n")
	if len(redirects) != 1 || redirects[0].Status != 301 || !redirects[0].KeepQuery || redirects[0].KeepPath || bad != nil {
		t.Errorf("%+v, %q", redirects, bad)
	}
}

func TestABadLineIsNamedAndTheOthersAreRead(t *testing.T) {
	for name, row := range map[string]struct {
		format Format
		text   string
		want   string
	}{
		"percent":            {CSV, "host,percent\na.test,1\nb.test,101\nc.test,1\n", "3: percent must be a number from 0 to 100"},
		"no number":          {CSV, "host,percent\na.test,1\nb.test,ten\nc.test,1\n", `3: percent must be a number from 0 to 100, not "ten"`},
		"too few fields":     {CSV, "host,percent\na.test,1\nb.test\nc.test,1\n", "3: the line has 1 fields, and the first line names 2 columns"},
		"a quote":            {CSV, "host,note\na.test,1\nb.test,x\"y\nc.test,1\n", `3: bare " in non-quoted-field`},
		"the same again":     {CSV, "host,path\na.test,/\nc.test,/\nA.test.,/\n", "4: the same host, path, match and conditions as in line 2"},
		"no host":            {CSV, "host,path\na.test,/\n,/\nc.test,/\n", "3: host is missing"},
		"a port":             {CSV, "host\na.test\nbücher.test:80\nc.test\n", "3: host must have no port: a row holds for all ports"},
		"enabled":            {CSV, "host,enabled\na.test,1\nb.test,maybe\nc.test,0\n", "3: enabled must be 0 or 1"},
		"a list over lines":  {JSON, "[{\"host\":\"a.test\"},\n{\"host\":\n\"b..test\"},{\"host\":\"c.test\"}]", "2: host must be a name such as shop.example.com, *.example.com or *, without port or path"},
		"an unknown column":  {JSON, "{\"host\":\"a.test\"}\n{\"hots\":\"b.test\"}\n{\"host\":\"c.test\"}", `2: there is no column "hots" in rules; there are host, path, match, conditions, v1, v2, percent, sticky, starts_at, ends_at, enabled, needs, note`},
		"text for a number":  {JSON, "{\"host\":\"a.test\"}\n\n{\"host\":\"b.test\",\"percent\":\"5\"}\n{\"host\":\"c.test\"}", "3: percent must be a number"},
		"no object":          {JSON, "[{\"host\":\"a.test\"},\n5,{\"host\":\"c.test\"}]", "2: a row must be an object with columns, as 'cutover rules export' writes it"},
		"no JSON":            {JSON, "{\"host\":\"a.test\"}\n{host}\n{\"host\":\"c.test\"}", "2: it is not JSON: a file has a list of objects, or one object a line"},
		"a note of two rows": {JSON, `[{"host":"a.test"},{"host":"b.test","note":"a\nb"},{"host":"c.test"}]`, "1: note must be text of at most 1000 characters, on one line"},
	} {
		t.Run(name, func(t *testing.T) {
			rows, bad := read(t, Rules(), row.format, row.text)
			if len(rows) != 2 || len(bad) != 1 || bad[0] != row.want {
				t.Errorf("%d rows, %q", len(rows), bad)
			}
		})
	}
}

func TestAFileThatCannotBeReadSaysWhy(t *testing.T) {
	for text, want := range map[string]string{
		"":                         "the file is empty",
		"host,hots\n":              `there is no column "hots" in rules`,
		"path\n/\n":                "no column host",
		"host,path,host\n":         "the column host is named twice",
		"[{\"host\":\"a.test\"}":   "the file ends within its list",
		"[\n{\"host\" \"a\"}\n]":   "line 2 or soon after is not JSON",
		"[]\n[]":                   "line 2: more follows after the list",
		strings.Repeat("{", 2<<20): "line 1 is longer than",
	} {
		format := CSV
		if strings.HasPrefix(text, "[") || strings.HasPrefix(text, "{") {
			format = JSON
		}
		err := Rules().Read(strings.NewReader(text), format, func(Line[rules.Rule]) error { return nil })
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.30q: got %v, want %q", text, err, want)
		}
	}
}

func TestAnEmptyFileIsNoListOfNoRows(t *testing.T) {
	for _, text := range []string{"", " \n\n", "\xef\xbb\xbf"} {
		err := Rules().Read(strings.NewReader(text), JSON, func(Line[rules.Rule]) error { return nil })
		if err == nil || !strings.Contains(err.Error(), "the file is empty") {
			t.Errorf("%q: %v", text, err)
		}
	}
	if err := Rules().Read(strings.NewReader("[]\n"), JSON, func(Line[rules.Rule]) error { return nil }); err != nil {
		t.Error(err)
	}
}

func TestWhatTheDatabaseGivesIsPassedOver(t *testing.T) {
	for format, text := range map[Format]string{CSV: "\xef\xbb\xbfid,host,updated_at\n7,a.test,now\n", JSON: `[{"id":7,"host":"a.test","updated_at":"now"}]`} {
		rows, bad := read(t, Rules(), format, text)
		if len(rows) != 1 || rows[0].ID != 0 || rows[0].UpdatedAt != "" || bad != nil {
			t.Errorf("%s: %+v, %q", format, rows, bad)
		}
	}
}

func TestRowsOfAnotherProgram(t *testing.T) {
	rule, err := DemoRule(" shop.example.com ", "2")
	if err != nil || rule.Host != "shop.example.com" || rule.Percent != 100 {
		t.Errorf("%+v, %v", rule, err)
	}
	if rule, err = DemoRule("shop.example.com", "v1"); err != nil || rule.Percent != 0 {
		t.Errorf("%+v, %v", rule, err)
	}
	if _, err = DemoRule("shop.example.com", "3"); err == nil {
		t.Error("version 3 was taken")
	}
	for prefix, want := range map[string]string{
		"/old": "* /old", "example.com/old/x": "example.com /old/x", "https://example.com": "example.com /", "old.example.com": "old.example.com /",
		"/": "* /", "localhost/a": "localhost /a",
	} {
		row, err := DemoRedirect(prefix, "https://b.test")
		if got := row.Host + " " + row.Path; err != nil || got != want || row.KeepPath {
			t.Errorf("%s: %s, %v; want %s", prefix, got, err, want)
		}
	}
	for _, prefix := range []string{"", "old"} {
		if _, err := DemoRedirect(prefix, "https://b.test"); err == nil {
			t.Errorf("%q was taken", prefix)
		}
	}
}

func TestAStreamKeepsTheLinesOfItsFile(t *testing.T) {
	var out strings.Builder
	stream := Rules().NewStreamWriter(&out)
	for _, line := range []Line[rules.Rule]{{Number: 7, Row: initial("a.test")}, {Number: 9, Err: fmt.Errorf("it is <bad>")}} {
		if err := stream.Write(line); err != nil {
			t.Fatal(err)
		}
	}
	if err := stream.Flush(); err != nil {
		t.Fatal(err)
	}
	var got []string
	err := Rules().ReadStream(strings.NewReader(out.String()+"\n"+`{"host":"b.test"}`), func(line Line[rules.Rule]) error {
		got = append(got, fmt.Sprintf("%d %s %v", line.Number, line.Row.Host, line.Err))
		return nil
	})
	if want := "7 a.test <nil>|9  it is <bad>|4 b.test <nil>"; err != nil || strings.Join(got, "|") != want {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestConditionsThatTheTableWouldRefuseAreABadLine(t *testing.T) {
	for _, conditions := range []string{"", " {}", "{} "} {
		row := initial("a.test")
		row.Conditions = conditions
		if err := Rules().check(&row); err == nil || err.Error() != "conditions must be a JSON object, {} for none" {
			t.Errorf("conditions %q: %v", conditions, err)
		}
	}
}

func initial(host string) rules.Rule {
	row := Rules().initial
	row.Host = host
	return row
}

// roundTrip writes rows and reads them again.
func roundTrip[R Row](t *testing.T, table Table[R], format Format, row R) {
	t.Helper()
	var out strings.Builder
	w := table.NewWriter(&out, format)
	if err := w.Write(&row); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	rows, bad := read(t, table, format, out.String())
	if len(rows) != 1 || rows[0] != row || bad != nil {
		t.Errorf("%s\n%+v\nbecame\n%+v, %q", out.String(), row, rows, bad)
	}
}

func FuzzARuleThatIsWrittenIsReadAgain(f *testing.F) {
	f.Add("a.test", "/", "exact", `{"cookies":{"a":"b\"c"}}`, 0.1, "2026-11-21T03:00:00+01:00", "a, \"b\"", true)
	f.Add("*.A.test.", "/%20,", "prefix", "{}", 1e-9, "", " ", false)
	f.Fuzz(func(t *testing.T, host, path, match, conditions string, percent float64, starts, note string, enabled bool) {
		row := initial(host)
		row.Path, row.Match, row.Conditions, row.Percent = path, rules.Kind(match), conditions, percent
		row.StartsAt, row.Note, row.Enabled = starts, note, enabled
		if !utf8.ValidString(note+conditions+host) || Rules().check(&row) != nil {
			return
		}
		roundTrip(t, Rules(), CSV, row)
		roundTrip(t, Rules(), JSON, row)
	})
}

func FuzzARedirectThatIsWrittenIsReadAgain(f *testing.F) {
	f.Add("a.test", "/x", "https://b.test/?a=b&c=<d>#e", 302, true, false, "note")
	f.Fuzz(func(t *testing.T, host, path, to string, status int, keepPath, keepQuery bool, note string) {
		row := Redirects().initial
		row.Host, row.Path, row.ToURL, row.Status, row.KeepPath, row.KeepQuery, row.Note = host, path, to, status, keepPath, keepQuery, note
		if !utf8.ValidString(note+host) || Redirects().check(&row) != nil {
			return
		}
		roundTrip(t, Redirects(), CSV, row)
		roundTrip(t, Redirects(), JSON, row)
	})
}

func TestAGuardThatIsWrittenIsReadAgain(t *testing.T) {
	row := Guards().initial
	row.Host, row.Path, row.Allow, row.Deny, row.Rate, row.Burst = "*.a.test", "/x", "192.0.2.1, 10.0.0.0/8", "2001:db8::/32", 0.1, 7
	row.Users, row.Realm, row.Note, row.Enabled = "anna:$2a$04$UuTkgh8Xo3P3R1NRhEXqAuJQCNBmRSVnUFSKBWDIBkhzJFJlAb7W2", "it's", "a, \"b\"", false
	roundTrip(t, Guards(), CSV, row)
	roundTrip(t, Guards(), JSON, row)
	if _, bad := read(t, Guards(), CSV, "host,allow\na.test,10.0.0.0/33\n"); len(bad) != 1 || !strings.Contains(bad[0], `2: allow: "10.0.0.0/33" is no address`) {
		t.Error(bad)
	}
	if _, bad := read(t, Guards(), CSV, "host,rate\na.test,fast\na.test,1\nA.test,2\n"); len(bad) != 2 || !strings.Contains(bad[0], "rate must be a number") || !strings.Contains(bad[1], "the same host and path as in line 3") {
		t.Error(bad)
	}
}

func FuzzNoFileIsTooStrange(f *testing.F) {
	f.Add("host,percent\na.test,1\n")
	f.Add("[{\"host\":\"a.test\"},\n{}]")
	f.Add("{\"line\":3,\"row\":{\"host\":\"a.test\"}}\n{\"line\":")
	f.Fuzz(func(t *testing.T, text string) {
		lines := 1 + strings.Count(text, "\n") + strings.Count(text, "\r")
		look := func(line Line[rules.Rule]) error {
			if line.Err == nil && line.Row.Validate() != nil {
				t.Errorf("a bad row was taken for good: %+v", line.Row)
			}
			if line.Number < 1 || line.Number > lines {
				t.Errorf("there is no line %d", line.Number)
			}
			return nil
		}
		_ = Rules().Read(strings.NewReader(text), CSV, look)
		_ = Rules().Read(strings.NewReader(text), JSON, look)
		_ = Rules().ReadStream(strings.NewReader(text), func(Line[rules.Rule]) error { return nil })
	})
}

func FuzzRowsOfAnotherProgramAreGoodOrRefused(f *testing.F) {
	f.Add("example.com/old", "https://b.test", "v2")
	f.Add("//", "b.test", "1")
	f.Fuzz(func(t *testing.T, prefix, to, version string) {
		row, err := DemoRedirect(prefix, to)
		if err == nil && (row.Host == "" || !strings.HasPrefix(row.Path, "/") || row.KeepPath) {
			t.Errorf("%q became %+v", prefix, row)
		}
		if rule, err := DemoRule(prefix, version); err == nil && rule.Percent != 0 && rule.Percent != 100 {
			t.Errorf("%q became %+v", version, rule)
		}
	})
}
