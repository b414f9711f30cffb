package sqlprompt

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func split(text string) (whole []string, rest string) {
	var s splitter
	for line := range strings.Lines(text) {
		whole = append(whole, s.feed(line)...)
	}
	return whole, strings.TrimSpace(s.text.String())
}

func TestAStatementEndsWhereSQLiteEndsIt(t *testing.T) {
	trigger := "CREATE TEMP TRIGGER t AFTER INSERT ON a BEGIN SELECT CASE 1 WHEN 1 THEN 2 END; UPDATE a SET b=';'; END;"
	for text, want := range map[string]string{
		"SELECT 1; SELECT 2;":          "SELECT 1;|SELECT 2;#",
		"SELECT 1":                     "#SELECT 1",
		"SELECT 1\n;\n\n":              "SELECT 1\n;#",
		";;":                           "#",
		"SELECT ';';":                  "SELECT ';';#",
		"SELECT 'it''s;';":             "SELECT 'it''s;';#",
		"SELECT \";\", [;], `;`;":      "SELECT \";\", [;], `;`;#",
		"-- not; this\nSELECT 1;":      "-- not; this\nSELECT 1;#",
		"/* not; \n this */ SELECT 1;": "/* not; \n this */ SELECT 1;#",
		"SELECT 1 /**/;":               "SELECT 1 /**/;#",
		"SELECT 2*3/1-1;":              "SELECT 2*3/1-1;#",
		"-- only this\n":               "#-- only this",
		trigger + " SELECT 1;":         trigger + "|SELECT 1;#",
		strings.ReplaceAll(trigger, ";", ";\n") + "": strings.TrimSpace(strings.ReplaceAll(strings.ReplaceAll(trigger, "';'", "';\n'"), "; ", ";\n ")) + "#",
		"EXPLAIN QUERY PLAN SELECT 1; SELECT 2;":     "EXPLAIN QUERY PLAN SELECT 1;|SELECT 2;#",
		"CREATE TABLE trigger_x(a); SELECT 2;":       "CREATE TABLE trigger_x(a);|SELECT 2;#",
		"SELECT \"create trigger\"; SELECT 2;":       "SELECT \"create trigger\";|SELECT 2;#",
	} {
		whole, rest := split(text)
		if got := strings.Join(whole, "|") + "#" + rest; got != want {
			t.Errorf("%q\ngot  %q\nwant %q", text, got, want)
		}
	}
}

func FuzzNothingOfAScriptIsLost(f *testing.F) {
	f.Add("SELECT ';' -- x;\n;CREATE TRIGGER a BEGIN SELECT 1; END; /* ; */ SELECT \"\";")
	f.Fuzz(func(t *testing.T, text string) {
		bare := func(text string) string {
			return strings.Map(func(r rune) rune {
				if strings.ContainsRune(" \t\r\n\f\v;\u0085\u00a0", r) || r > 127 {
					return -1
				}
				return r
			}, text)
		}
		whole, rest := split(text)
		got := bare(strings.Join(whole, "") + rest)
		if want := bare(text); len(got) > len(want) || !strings.HasSuffix(want, bare(rest)) {
			t.Errorf("%q became %q and %q", text, whole, rest)
		}
	})
}

// newDatabase makes a small database with a constraint.
func newDatabase(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.db")
	db, err := sql.Open("sqlite3", path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.ExecContext(t.Context(), `PRAGMA application_id=7; PRAGMA journal_mode=WAL;
		CREATE TABLE a(b INTEGER, CONSTRAINT "b must be small" CHECK(b<10), UNIQUE(b)); INSERT INTO a VALUES(1),(NULL)`)
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

func runOn(t *testing.T, path string, mode Mode, in string, statements ...string) (string, error) {
	t.Helper()
	var out strings.Builder
	err := Run(t.Context(), Options{Path: path, In: strings.NewReader(in), Out: &out, Err: &out, Mode: mode}, statements)
	return out.String(), err
}

func TestRowsArePrintedAsAsked(t *testing.T) {
	path := newDatabase(t)
	const query = `SELECT b, 'x"é' AS "a b", x'00ff' AS c, 1.5 AS d FROM a ORDER BY b`
	for mode, want := range map[Mode]string{
		Table: "b     a b  c        d\nNULL  x\"é  x'00ff'  1.5\n1     x\"é  x'00ff'  1.5\n",
		JSON:  "[\n{\"b\":null,\"a b\":\"x\\\"é\",\"c\":\"x'00ff'\",\"d\":1.5},\n{\"b\":1,\"a b\":\"x\\\"é\",\"c\":\"x'00ff'\",\"d\":1.5}\n]\n",
		CSV:   "b,a b,c,d\n,\"x\"\"é\",x'00ff',1.5\n1,\"x\"\"é\",x'00ff',1.5\n",
	} {
		if got, err := runOn(t, path, mode, "", query); err != nil || got != want {
			t.Errorf("%s: %v\n%s", mode, err, got)
		}
	}
	for mode, want := range map[Mode]string{Table: "", JSON: "[]\n", CSV: "b\n"} {
		if got, err := runOn(t, path, mode, "", "SELECT b FROM a WHERE 0"); err != nil || got != want {
			t.Errorf("%s: %v %q", mode, err, got)
		}
	}
}

func TestAScriptEndsAtItsFirstErrorInPlainWords(t *testing.T) {
	path := newDatabase(t)
	for in, want := range map[string]string{
		"INSERT INTO a VALUES(2);\nINSERT INTO a\nVALUES(11);\nINSERT INTO a VALUES(3);": "line 3: b must be small",
		"INSERT INTO a VALUES(1)": "a row with the same a.b is there already",
		"SELEC 1":                 `near "SELEC": syntax error`,
		".nonsense":               "there is no command .nonsense: see .help",
		".schema nowhere":         `there is no "nowhere": see .tables`,
		".mode xml":               ".mode is table, json or csv",
		".read":                   ".read needs the name of a file",
		"BEGIN; DELETE FROM a;":   errUncommitted.Error(),
		"SELECT idna('a b')":      `idna: "a b" is no host name`,
	} {
		if _, err := runOn(t, path, Table, in); err == nil || err.Error() != want {
			t.Errorf("%q: got %v, want %s", in, err, want)
		}
	}
	if got, err := runOn(t, path, CSV, "SELECT count(*) FROM a"); err != nil || got != "count(*)\n3\n" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestCommands(t *testing.T) {
	path := newDatabase(t)
	folder := filepath.Dir(path)
	file := filepath.Join(folder, "more.sql")
	if err := os.WriteFile(file, []byte("INSERT INTO a VALUES(5);\n.mode csv\nINSERT INTO a VALUES(6)"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := runOn(t, path, Table, "", ".tables", ".schema a", ".read '"+file+"'", "SELECT max(b) AS m FROM a", "SELECT idna('*.bücher.example') AS n", ".quit", "SELECT nothing")
	want := "name  type\na     table\nCREATE TABLE a(b INTEGER, CONSTRAINT \"b must be small\" CHECK(b<10), UNIQUE(b));\nm\n6\nn\n*.xn--bcher-kva.example\n"
	if err != nil || got != want {
		t.Errorf("%v\n%s", err, got)
	}
}

func TestABackupCanBeRestored(t *testing.T) {
	path := newDatabase(t)
	kept := filepath.Join(t.TempDir(), "kept.db")
	got, err := runOn(t, path, CSV, "", ".backup "+kept, "DELETE FROM a", ".backup "+kept+"2", ".restore "+kept, "SELECT count(*) AS n FROM a")
	if err != nil || got != "n\n2\n" {
		t.Errorf("%q, %v", got, err)
	}
	if info, err := os.Stat(kept); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	other := filepath.Join(t.TempDir(), "other.db")
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for command, want := range map[string]string{
		".restore " + path:           "that is the database itself",
		".backup " + path:            "that is the database itself",
		".restore " + other:          "is a database of another program",
		".restore " + other + "none": "no such file",
	} {
		if _, err := runOn(t, path, CSV, "", command); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", command, err)
		}
	}
}

func TestADatabaseThatIsMissingIsNotMade(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none.db")
	if _, err := runOn(t, path, Table, "", "SELECT 1"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// openTerminal returns both ends of a terminal: the keyboard and screen, and what a program has.
func openTerminal(t *testing.T) (keyboard, program *os.File) {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = keyboard.Close() })
	if err := unix.IoctlSetPointerInt(int(keyboard.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(keyboard.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = program.Close() })
	return keyboard, program
}

func TestAtATerminalThePromptGoesOnAfterAnError(t *testing.T) {
	path := newDatabase(t)
	keyboard, program := openTerminal(t)
	ended := make(chan error, 1)
	go func() {
		ended <- Run(t.Context(), Options{Path: path, In: program, Out: program, Err: program, Mode: CSV}, nil)
	}()
	screen := make(chan string)
	go func() {
		buffer := make([]byte, 4096)
		for {
			n, err := keyboard.Read(buffer)
			if err != nil {
				return
			}
			screen <- string(buffer[:n])
		}
	}()
	seen := ""
	expect := func(text string) {
		t.Helper()
		limit := time.NewTimer(10 * time.Second)
		defer limit.Stop()
		for !strings.Contains(seen, text) {
			select {
			case more := <-screen:
				seen += more
			case <-limit.C:
				t.Fatalf("waited for %q, the screen has %q", text, seen)
			}
		}
		_, seen, _ = strings.Cut(seen, text)
	}
	for _, step := range [][2]string{
		{"INSERT INTO a\r", firstQuestion},
		{"VALUES(11);\r", moreQuestion},
		{"BEGIN;\r", "error: b must be small"},
		{"COMMIT;\r", "cutover* "},
		{"SELECT max(b) AS m FROM a;\r", firstQuestion},
		{".quit\r", "m\r\n1\r\n"},
	} {
		expect(step[1])
		if _, err := keyboard.WriteString(step[0]); err != nil {
			t.Fatal(err)
		}
	}
	for {
		select {
		case <-screen:
			continue
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
			return
		}
	}
}

func TestATerminalIsLeftWhenTheProgramIsToEnd(t *testing.T) {
	_, program := openTerminal(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (&terminal{in: program, out: program}).readLine(ctx, firstQuestion); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
