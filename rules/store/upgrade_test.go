package store

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cutover/rules"
)

func ofSchema1(t *testing.T, dir string) {
	t.Helper()
	ofSchema(t, dir, 1)
}

// ofSchema makes a database as a release with that schema made it, with rows of every kind.
func ofSchema(t *testing.T, dir string, schema int) {
	t.Helper()
	var text strings.Builder
	text.WriteString("PRAGMA journal_mode=WAL; BEGIN;")
	for _, name := range []string{"schema.sql", "programs.sql"} {
		file, err := os.ReadFile(filepath.Join("testdata", fmt.Sprintf("schema%d", schema), name))
		if err != nil {
			t.Fatal(err)
		}
		text.Write(file)
	}
	fmt.Fprintf(&text, "PRAGMA user_version=%d;", schema)
	text.WriteString(`PRAGMA application_id=1129665615;
		INSERT INTO upstreams(name,note) VALUES('v3','it''s'); INSERT INTO targets(upstream,url) VALUES('v1','http://127.0.0.1:1');
		INSERT INTO hosts(host,https,hsts,note) VALUES('B.test','redirect',60,'terminate'),('a.test','off',0,'');
		INSERT INTO rules(host,percent) VALUES('a.test',100); INSERT INTO redirects(host,path,to_url) VALUES('a.test','/x','https://b.test/'); COMMIT;`)
	if got := mustSqlite(t, dir, text.String()); got != "wal" {
		t.Fatal(got)
	}
}

// dump1 is dump without what schema 1 does not have.
func dump1(t *testing.T, dir string) string {
	t.Helper()
	return mustSqlite(t, dir, `SELECT * FROM meta ORDER BY key; SELECT name, response_timeout, note, updated_at FROM upstreams ORDER BY name;
		SELECT * FROM targets; SELECT rowid, host, https, hsts, needs, note, updated_at FROM hosts ORDER BY rowid;
		SELECT * FROM rules; SELECT * FROM redirects; SELECT * FROM changes; SELECT * FROM sqlite_sequence WHERE name<>'guards' ORDER BY name`)
}

func TestADatabaseOfSchema1IsBroughtUpToDateAndKeepsEverything(t *testing.T) {
	leakCheck(t)
	dir := t.TempDir()
	ofSchema1(t, dir)
	mustSqlite(t, dir, "CREATE VIEW mine AS SELECT host FROM hosts; CREATE TABLE notes(x); CREATE TRIGGER mine_too AFTER INSERT ON notes BEGIN DELETE FROM hosts WHERE host=NEW.x; END")
	before := dump1(t, dir)
	s, _ := start(t, dir)
	if after := dump1(t, dir); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	if got := mustSqlite(t, dir, "PRAGMA user_version; PRAGMA integrity_check; SELECT count(*) FROM mine; SELECT DISTINCT certificate, tls FROM hosts; SELECT DISTINCT proxy_protocol FROM upstreams"); got != thisSchema+"\nok\n2\nauto|terminate\noff" {
		t.Errorf("got %s", got)
	}
	if host, ok := s.Load().Host("b.test"); !ok || host.HTTPS != rules.HTTPSRedirect || host.HSTS != 60 || version(s, "a.test") != rules.V2 {
		t.Errorf("in force is %+v", host)
	}
	mustSqlite(t, dir, "INSERT INTO hosts(host,certificate) VALUES('*.c.test','any'); INSERT INTO guards(host,deny) VALUES('a.test','192.0.2.1'); UPDATE upstreams SET proxy_protocol='v1' WHERE name='v3'")
	eventually(t, "what schema 2 has", func() bool { return s.Load().Allows("x.c.test") && s.Load().Guard("a.test", "/") != nil })
	expectTrue(t, s)
}

func TestATableThatWasBroughtUpToDateIsAsANewOne(t *testing.T) {
	fresh := t.TempDir()
	_, _ = start(t, fresh)
	const columns = `SELECT m.name, p.name, p.type, p."notnull", p.dflt_value, p.pk, p.hidden FROM sqlite_master m, pragma_table_xinfo(m.name) p
		WHERE m.type='table' AND m.name NOT LIKE 'sqlite_%' ORDER BY m.name, p.cid; SELECT type, name, sql FROM sqlite_master WHERE type<>'table' ORDER BY name`
	for schema := 1; schema < rules.Schema; schema++ {
		upgraded := t.TempDir()
		ofSchema(t, upgraded, schema)
		_, stop := start(t, upgraded)
		stop()
		if got, want := mustSqlite(t, upgraded, columns), mustSqlite(t, fresh, columns); got != want {
			t.Errorf("of schema %d: got\n%s\nwant\n%s", schema, got, want)
		}
	}
}

func TestABadRowOfSchema1StaysBadAndKeepsNothingFromStarting(t *testing.T) {
	dir := t.TempDir()
	ofSchema1(t, dir)
	mustSqlite(t, dir, "PRAGMA ignore_check_constraints=1; UPDATE hosts SET https='oops', hsts='long' WHERE host='a.test'")
	s, _ := start(t, dir)
	if problems := s.Snapshot().Problems; len(problems) != 1 || problems[0].Row != "a.test" {
		t.Errorf("%+v", problems)
	}
	if got, err := sqlite(t, dir, "UPDATE hosts SET tls='oops'"); err == nil {
		t.Errorf("constraints are still off: %s", got)
	}
	mustSqlite(t, dir, "UPDATE hosts SET https='off', hsts=0 WHERE host='a.test'")
	eventually(t, "healing", func() bool { return len(s.Snapshot().Problems) == 0 })
}

func TestADatabaseOfSchema2IsBroughtUpToDateAndKeepsEverything(t *testing.T) {
	leakCheck(t)
	dir := t.TempDir()
	ofSchema(t, dir, 2)
	mustSqlite(t, dir, "UPDATE upstreams SET proxy_protocol='v1', response_timeout=3 WHERE name='v3'; UPDATE hosts SET certificate='any'; INSERT INTO guards(host,deny) VALUES('a.test','192.0.2.1')")
	before := dump1(t, dir) + mustSqlite(t, dir, "SELECT * FROM guards; SELECT certificate, tls FROM hosts; SELECT name, proxy_protocol FROM upstreams ORDER BY name")
	s, _ := start(t, dir)
	if after := dump1(t, dir) + mustSqlite(t, dir, "SELECT * FROM guards; SELECT certificate, tls FROM hosts; SELECT name, proxy_protocol FROM upstreams ORDER BY name"); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	if got := mustSqlite(t, dir, "PRAGMA user_version; PRAGMA integrity_check; SELECT DISTINCT check_path, check_interval, check_fall FROM upstreams"); got != thisSchema+"\nok\n|10|3" {
		t.Errorf("got %s", got)
	}
	mustSqlite(t, dir, "UPDATE upstreams SET check_path='/up' WHERE name='v3'; INSERT INTO targets(upstream,url) VALUES('v3','unix:/run/app.sock')")
	eventually(t, "what schema 3 has", func() bool {
		u, ok := s.Load().Upstream("v3")
		return ok && u.Check.Path == "/up" && len(u.Targets) == 1 && u.ProxyProtocol == rules.ProxyProtocolV1
	})
	expectTrue(t, s)
}

func TestADatabaseOfSchema3IsBroughtUpToDateAndKeepsEverything(t *testing.T) {
	leakCheck(t)
	dir := t.TempDir()
	ofSchema(t, dir, 3)
	mustSqlite(t, dir, "UPDATE upstreams SET check_path='/up', check_fall=7 WHERE name='v3'; INSERT INTO targets(upstream,url) VALUES('v3','unix:/run/app.sock')")
	before := dump1(t, dir)
	s, _ := start(t, dir)
	if after := dump1(t, dir); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	if got := mustSqlite(t, dir, "PRAGMA user_version; PRAGMA integrity_check; SELECT check_path, check_fall, balance, retries, request_headers FROM upstreams WHERE name='v3'"); got != thisSchema+"\nok\n/up|7|p2c|3|{}" {
		t.Errorf("got %s", got)
	}
	mustSqlite(t, dir, "UPDATE upstreams SET balance='round-robin', strip_prefix='/shop' WHERE name='v3'; INSERT INTO targets(upstream,url) VALUES('v3','fcgi+unix:/run/php.sock'),('v3','app:shop'),('v3','dns+http://shop.internal:8080')")
	eventually(t, "what schema 4 has", func() bool {
		u, ok := s.Load().Upstream("v3")
		return ok && u.Balance == rules.BalanceRoundRobin && u.StripPrefix == "/shop" && len(u.Targets) == 4
	})
	expectTrue(t, s)
}

func TestAnUpstreamOfWhichNothingIsSaidHasTheDefaults(t *testing.T) {
	dir := t.TempDir()
	s, _ := start(t, dir)
	mustSqlite(t, dir, "INSERT INTO upstreams(name) VALUES('plain')")
	eventually(t, "the upstream", func() bool { _, ok := s.Load().Upstream("plain"); return ok })
	got, _ := s.Load().Upstream("plain")
	want := rules.DefaultUpstream()
	want.Name, want.UpdatedAt, want.Targets = "plain", got.UpdatedAt, got.Targets
	if len(got.Targets) > 0 || !reflect.DeepEqual(*got, want) {
		t.Errorf("got  %+v\nwant %+v", *got, want)
	}
}

func TestEachSettingOfAnUpstreamIsWrittenAndReadAgain(t *testing.T) {
	dir := t.TempDir()
	s, _ := start(t, dir)
	values := map[settingKind]string{text: "'/a'", number: "7", integer: "7"}
	special := map[string]string{
		"proxy_protocol": "'v2'", "check_status": "'204'", "targets_of": "'v1'", "balance": "'visitor-hash'", "tls_ca": "'a'", "tls_certificate": "'a'",
		"tls_pin": "'AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA='", "send_host": "'a.test'", "own_hosts": "'a.test'", "tls_server_name": "'a.test'",
		"cookie_domain": "'a.test'", "cookie_prefix": "'a_'", "request_headers": `'{"A":"b"}'`, "response_headers": `'{"A":"b"}'`, "fcgi_params": `'{"A":"b"}'`,
		"fcgi_index": "'a.php'", "fcgi_split": "'.phtml'", "check_host": "'a.test'",
	}
	mustSqlite(t, dir, "INSERT INTO upstreams(name) VALUES('all')")
	for _, column := range settings() {
		value := special[column.column]
		if value == "" {
			value = values[column.kind]
		}
		mustSqlite(t, dir, "UPDATE upstreams SET "+column.column+"="+value+" WHERE name='all'")
		eventually(t, column.column+" to be "+value, func() bool {
			u, ok := s.Load().Upstream("all")
			return ok && fmt.Sprint(reflect.ValueOf(column.field(u)).Elem().Interface()) == strings.Trim(value, "'")
		})
		mustSqlite(t, dir, "UPDATE upstreams SET "+column.column+"="+column.initial+" WHERE name='all'")
	}
	expectTrue(t, s)
}

func TestWhatAnOperatorHasAddedToATableOutlivesAnUpgrade(t *testing.T) {
	dir := t.TempDir()
	ofSchema(t, dir, 2)
	mustSqlite(t, dir, "CREATE TABLE mine(x); CREATE INDEX by_note ON upstreams(note); CREATE TRIGGER noted AFTER UPDATE ON targets BEGIN INSERT INTO mine VALUES(NEW.url); END")
	_, _ = start(t, dir)
	if got := mustSqlite(t, dir, "UPDATE targets SET weight=2; SELECT count(*) FROM mine; SELECT count(*) FROM sqlite_master WHERE name='by_note'"); got != "1\n1" {
		t.Errorf("got %s", got)
	}
}

func TestIDsOfTargetsThatAreGoneAreNotGivenAgainAfterAnUpgrade(t *testing.T) {
	dir := t.TempDir()
	ofSchema1(t, dir)
	last := mustSqlite(t, dir, "INSERT INTO targets(upstream,url) VALUES('v3','http://gone:1'); SELECT max(id) FROM targets; DELETE FROM targets WHERE url='http://gone:1'")
	_, _ = start(t, dir)
	if got := mustSqlite(t, dir, "INSERT INTO targets(upstream,url) VALUES('v3','unix:/run/new.sock'); SELECT max(id) - "+last+" FROM targets"); got != "1" {
		t.Errorf("the new one's id is %s above the last", got)
	}
}

// These statements are those of the first release. It has the file open while a newer one brings it up to date, goes on to
// follow it, and edits it again after a rollback.
func TestAProgramOfSchema1ReadsAndEditsOn(t *testing.T) {
	leakCheck(t)
	dir := t.TempDir()
	ofSchema1(t, dir)
	older := outside(t, dir)
	reads := map[string]*sql.Stmt{}
	for _, query := range []string{
		"SELECT name, iif(typeof(response_timeout) IN ('integer','real'), response_timeout, -1), note, updated_at FROM upstreams ORDER BY name",
		"SELECT id, upstream, url, iif(typeof(weight)='integer', weight, -1), state FROM targets ORDER BY id",
		"SELECT host, https, iif(typeof(hsts)='integer', hsts, -1), iif(typeof(needs)='integer', needs, 1), note, updated_at FROM hosts",
		"SELECT host, https, iif(typeof(hsts)='integer', hsts, -1), iif(typeof(needs)='integer', needs, 1), note, updated_at FROM hosts WHERE host_key=?",
		"SELECT coalesce((SELECT CAST(value AS INTEGER) FROM meta WHERE key='min_reader'),1)<=1 AND coalesce((SELECT CAST(value AS INTEGER) FROM meta WHERE key='min_writer'),1)<=1",
	} {
		statement, err := older.PrepareContext(t.Context(), query)
		if err != nil {
			t.Fatal(err)
		}
		defer statement.Close()
		reads[query] = statement
	}
	s, _ := start(t, dir)
	for query, statement := range reads {
		rows, err := statement.QueryContext(t.Context(), []any{"b.test"}[:strings.Count(query, "?")]...)
		if err != nil || !rows.Next() {
			t.Errorf("%s: %v", query, err)
			continue
		}
		rows.Close()
	}
	for _, edit := range []string{
		"REPLACE INTO change_context(rowid,author,note) VALUES(1,'older','')",
		"INSERT INTO hosts(host, hsts) VALUES('c.test', 5)",
		"UPDATE hosts SET hsts=7 WHERE rowid=1",
		"INSERT INTO upstreams(name, response_timeout, note) VALUES('v4', 1, '')",
		"UPDATE upstreams SET note='n' WHERE rowid=1",
		"DELETE FROM hosts WHERE host='a.test'",
		"INSERT INTO rules(host, percent) VALUES('c.test', 100)", // is waited for: all others are in force by then
		"DELETE FROM change_context",
	} {
		if _, err := older.ExecContext(t.Context(), edit); err != nil {
			t.Errorf("%s: %v", edit, err)
		}
	}
	eventually(t, "what the older one edits", func() bool { return version(s, "c.test") == rules.V2 })
	expectTrue(t, s)
	if got := mustSqlite(t, dir, "SELECT old FROM changes WHERE tbl='hosts' AND op='delete'"); got != "'a.test','off',0,1,'','auto','terminate'" {
		t.Errorf("the journal has %s", got)
	}
}

func TestAnOlderProgramDoesNotUndoWhatItDoesNotKnow(t *testing.T) {
	if _, err := decodeImage(TableRedirects, "'a.test','/','prefix','',410,0,1,1,1,'','of a newer one'"); err == nil {
		t.Error("an image with more columns is read")
	}
}

func TestWhatWasChangedBeforeAnUpgradeIsUndoneAndRestoredAfterIt(t *testing.T) {
	dir := t.TempDir()
	ofSchema1(t, dir)
	s, _ := start(t, dir)
	then := now(t, s)
	before := dump(t, dir)
	mustSqlite(t, dir, "UPDATE hosts SET certificate='any', tls='passthrough' WHERE host='a.test'; UPDATE hosts SET hsts=0 WHERE host='B.test'; UPDATE upstreams SET proxy_protocol='v2' WHERE name='v3'; INSERT INTO guards(host) VALUES('a.test')")
	restored(t, s, then)
	if got := dump(t, dir); got != before {
		t.Errorf("restored:\n%s\nwant:\n%s", got, before)
	}
	hosts := history(t, s, Filter{Table: TableHosts, Until: then.Add(time.Millisecond)}) // then is the time of the newest
	if _, err := s.Undo(t.Context(), Author{}, []int64{hosts[0].Seq}, false); !errors.As(err, new(*ReversalError)) {
		t.Errorf("an insert behind later changes: %v", err)
	}
	result, err := s.Restore(t.Context(), Author{}, then, true)
	if err != nil || result.Total() != 0 {
		t.Errorf("there is nothing more to restore: %+v, %v", result, err)
	}
}

// A row that was last touched before the upgrade has the defaults of the new columns, and is restored to them.
func TestARestoreToBeforeAnUpgradeGivesNewColumnsTheirDefaults(t *testing.T) {
	dir := t.TempDir()
	ofSchema1(t, dir)
	mustSqlite(t, dir, "UPDATE changes SET at='2020-01-01T00:00:00.000Z'; UPDATE hosts SET hsts=30 WHERE host='B.test'; UPDATE hosts SET hsts=60 WHERE host='B.test'; UPDATE hosts SET hsts=9 WHERE host='a.test'; UPDATE upstreams SET note='x' WHERE name='v3'")
	s, _ := start(t, dir)
	mustSqlite(t, dir, "UPDATE hosts SET certificate='any', tls='passthrough' WHERE host='a.test'; UPDATE upstreams SET proxy_protocol='v1' WHERE name='v3'")
	at, err := time.Parse(time.RFC3339, "2021-01-01T00:00:00Z")
	if err != nil {
		t.Fatal(err)
	}
	result := restored(t, s, at)
	if got := mustSqlite(t, dir, "SELECT host, hsts, certificate, tls FROM hosts ORDER BY host; SELECT note, proxy_protocol FROM upstreams WHERE name='v3'"); got != "B.test|60|auto|terminate\na.test|0|auto|terminate\nit's|off" {
		t.Errorf("got %s", got)
	}
	if result.Changed != 2 || result.Total() != 2 {
		t.Errorf("on balance %+v", result)
	}
}

func TestColumnsThatAnOperatorHasAddedOutliveAnUpgrade(t *testing.T) {
	for schema := 1; schema < rules.Schema; schema++ {
		dir := t.TempDir()
		ofSchema(t, dir, schema)
		mustSqlite(t, dir, `ALTER TABLE upstreams ADD COLUMN owner TEXT NOT NULL DEFAULT 'nobody'; ALTER TABLE targets ADD COLUMN "my rack" INTEGER DEFAULT 7;
			CREATE INDEX by_rack ON targets("my rack"); CREATE VIEW mine AS SELECT name, owner FROM upstreams;
			UPDATE upstreams SET owner='anna' WHERE name='v3'; UPDATE targets SET "my rack"=3`)
		s, stop := start(t, dir)
		mustSqlite(t, dir, "INSERT INTO upstreams(name) VALUES('v4'); INSERT INTO targets(upstream,url) VALUES('v4','http://127.0.0.1:2')")
		got := mustSqlite(t, dir, `SELECT * FROM mine WHERE name>='v3' ORDER BY name; SELECT "my rack" FROM targets ORDER BY id; SELECT count(*) FROM sqlite_master WHERE name='by_rack'; PRAGMA integrity_check`)
		if got != "v3|anna\nv4|nobody\n3\n7\n1\nok" {
			t.Errorf("of schema %d: got %s", schema, got)
		}
		expectTrue(t, s)
		stop()
	}
}

func TestARestoreToBeforeAnUpgradeLeavesUpstreamsWhatTheyWereFromEachSchema(t *testing.T) {
	for schema := 1; schema < rules.Schema; schema++ {
		dir := t.TempDir()
		ofSchema(t, dir, schema)
		mustSqlite(t, dir, "UPDATE upstreams SET note='before' WHERE name='v3'; UPDATE changes SET at='2020-01-01T00:00:00.000Z'; UPDATE upstreams SET note='later', response_timeout=5 WHERE name='v3'")
		s, stop := start(t, dir)
		at, err := time.Parse(time.RFC3339, "2021-01-01T00:00:00Z")
		if err != nil {
			t.Fatal(err)
		}
		_ = restored(t, s, at)
		got, want := rules.Upstream{}, rules.DefaultUpstream()
		if u, ok := s.Load().Upstream("v3"); ok {
			got = *u
		}
		want.Name, want.Note, want.UpdatedAt, want.Targets = "v3", "before", got.UpdatedAt, got.Targets
		if !reflect.DeepEqual(got, want) || mustSqlite(t, dir, "SELECT count(*) FROM v_errors") != "0" {
			t.Errorf("of schema %d: got %+v\nwant %+v", schema, got, want)
		}
		if again := restored(t, s, at); again.Changed != 0 {
			t.Errorf("of schema %d, once more: %+v", schema, again)
		}
		stop()
	}
}

func TestAChangeOfSchema1IsUndone(t *testing.T) {
	dir := t.TempDir()
	ofSchema1(t, dir)
	mustSqlite(t, dir, "UPDATE hosts SET hsts=9 WHERE host='a.test'; DELETE FROM hosts WHERE host='B.test'")
	s, _ := start(t, dir)
	for _, change := range history(t, s, Filter{Table: TableHosts, Limit: 2}) {
		undone(t, s, change.Seq)
	}
	if got := mustSqlite(t, dir, "SELECT host, https, hsts, certificate, tls FROM hosts ORDER BY host"); got != "B.test|redirect|60|auto|terminate\na.test|off|0|auto|terminate" {
		t.Errorf("got %s", got)
	}
}

func TestCheckReadsADatabaseOfSchema1AndWritesNothing(t *testing.T) {
	dir := t.TempDir()
	ofSchema1(t, dir)
	before := names(t, dir)
	report, err := Check(t.Context(), dir)
	if err != nil || report.Schema != 1 || report.Counts.Rules != 1 || report.Counts.Hosts != 2 {
		t.Errorf("%+v, %v", report, err)
	}
	if after := names(t, dir); !slices.Equal(before, after) || mustSqlite(t, dir, "PRAGMA user_version") != "1" {
		t.Errorf("before: %v, after: %v", before, after)
	}
}

func TestADumpOfSchema1IsOurs(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	ofSchema1(t, dir)
	file := filepath.Join(t.TempDir(), "dump.sql")
	if err := os.WriteFile(file, []byte(mustSqlite(t, dir, ".dump")), 0o600); err != nil {
		t.Fatal(err)
	}
	mustSqlite(t, other, ".read "+file)
	if report, err := Check(t.Context(), other); err != nil || report.Schema != 1 {
		t.Errorf("%+v, %v", report, err)
	}
	s, _ := start(t, other)
	if version(s, "a.test") != rules.V2 || mustSqlite(t, other, "PRAGMA user_version") != thisSchema {
		t.Error("it is not brought up to date")
	}
}

func TestABackupOfSchema1ThatIsRestoredWhileServingIsBroughtUpToDate(t *testing.T) {
	leakCheck(t)
	dir := t.TempDir()
	ofSchema1(t, dir)
	backup := filepath.Join(t.TempDir(), "backup.db")
	mustSqlite(t, dir, ".backup "+backup)
	s, _ := start(t, dir)
	set(t, s, map[string]any{"host": "a.test", "percent": 0})
	mustSqlite(t, dir, ".restore "+backup)
	eventually(t, "the backup", func() bool { return version(s, "a.test") == rules.V2 && s.Health().Problem == "" })
	eventually(t, "its upgrade", func() bool { return mustSqlite(t, dir, "PRAGMA user_version") == thisSchema })
	mustSqlite(t, dir, "INSERT INTO guards(host) VALUES('a.test')")
	eventually(t, "the guard", func() bool { return s.Load().Guard("a.test", "/") != nil })
}

func TestAFollowerAsksForAWriterWhereTheSchemaIsOld(t *testing.T) {
	dir := t.TempDir()
	ofSchema1(t, dir)
	if _, err := Open(t.Context(), Options{Dir: dir, Follow: true}); !errors.Is(err, ErrNeedsWriter) {
		t.Errorf("got %v", err)
	}
}

func TestAnUpgradeBehindAWriteLockSaysThatTheDatabaseIsLocked(t *testing.T) {
	dir := t.TempDir()
	ofSchema1(t, dir)
	conn, err := outside(t, dir).Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.ExecContext(t.Context(), "BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), Options{Dir: dir})
	if err == nil {
		_ = s.Close()
	}
	if err == nil || !isBusy(err) {
		t.Errorf("it says: %v", err)
	}
	_, _ = conn.ExecContext(t.Context(), "ROLLBACK")
}

func TestAnImportOfGuardsComesIntoForceAsAWhole(t *testing.T) {
	s, _, _ := served(t)
	edit := func(host string) error {
		_, err := s.Apply(t.Context(), Author{}, []Edit{{Table: TableGuards, Row: map[string]any{"host": host, "deny": "192.0.2.1"}}}, false)
		return err
	}
	if err := edit("before.test"); err != nil {
		t.Fatal(err)
	}
	seen := make(chan int, 1)
	begin := sync.OnceFunc(func() {
		go func() {
			_ = edit("meanwhile.test") // it may find the database busy
			seen <- s.Load().Counts().Guards
		}()
	})
	_, err := s.Import(t.Context(), Author{}, Import{Table: TableGuards, Rows: func(add func(ImportRow) error) error {
		for i := range 5000 {
			row := rules.GuardRow{Host: fmt.Sprintf("h%d.test", i), Path: "/", Deny: "192.0.2.1", Enabled: true, Needs: 1}
			if err := add(ImportRow{Line: i + 1, Guard: &row}); err != nil {
				return err
			}
		}
		return nil
	}}, func(int) { begin() })
	if err != nil {
		t.Fatal(err)
	}
	begin()
	if got := <-seen; got > 2 && got < 5001 {
		t.Errorf("%d guards were in force in the middle of an import", got)
	}
}
