package store

import (
	"database/sql"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// outside opens the database as another program does.
func outside(t *testing.T, dir string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(dir, File)+"?_busy_timeout=5000")
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// randomStatement is what an operator might type; some of it is refused, some of it gets past SQLite and is bad.
func randomStatement(random *rand.Rand) string {
	pick := func(some ...string) string { return some[random.IntN(len(some))] }
	host := func() string { return pick("a.test", "A.test", "b.test.", "*.test", "*", "c.b.test") }
	path := func() string { return pick("/", "/a", "/a/", "/a/b", "/%61", "/it''s") }
	table := pick("rules", "redirects")
	where := fmt.Sprintf(" WHERE host_key='%s' OR id=%d", pick("a.test", "b.test", "*", "*.test"), random.IntN(40))
	switch random.IntN(14) {
	case 12:
		return fmt.Sprintf("INSERT OR REPLACE INTO hosts(host,certificate,tls) VALUES('%s','%s','%s')", host(), pick("auto", "any", "off", "file:x", "file:y"), pick("terminate", "passthrough"))
	case 13:
		return pick(fmt.Sprintf("INSERT OR IGNORE INTO guards(host,path) VALUES('%s','%s')", host(), path()), "UPDATE guards SET deny='10.0.0.0/33'"+where,
			"UPDATE guards SET rate=rate+0.5, deny=''", "DELETE FROM guards"+where, fmt.Sprintf("UPDATE OR IGNORE guards SET host='%s', enabled=1-enabled%s", host(), where))
	case 0, 1, 2:
		return fmt.Sprintf("INSERT OR IGNORE INTO rules(host,path,percent,match) VALUES('%s','%s',%d,'%s')", host(), path(), random.IntN(3)*50, pick("prefix", "exact"))
	case 3:
		return fmt.Sprintf("INSERT OR IGNORE INTO redirects(host,path,to_url) VALUES('%s','%s','https://to.test/')", host(), path())
	case 4:
		return fmt.Sprintf("REPLACE INTO rules(host,path,percent) VALUES('%s','%s',%d)", host(), path(), random.IntN(3)*50)
	case 5:
		return "DELETE FROM " + table + where
	case 6:
		return fmt.Sprintf("UPDATE OR IGNORE %s SET host='%s', path='%s'%s", table, host(), path(), where)
	case 7:
		return fmt.Sprintf("PRAGMA ignore_check_constraints=1; UPDATE rules SET percent=%s%s; PRAGMA ignore_check_constraints=0", pick("333", "50", "'x'"), where)
	case 8:
		return fmt.Sprintf("INSERT OR REPLACE INTO hosts(host,https) VALUES('%s','%s')", pick("a.test", "A.test", "d.test"), pick("off", "redirect"))
	case 9:
		return pick("DELETE FROM hosts WHERE host_key='a.test'", "UPDATE hosts SET host='e.test' WHERE host='d.test'", "UPDATE hosts SET hsts=60")
	case 10:
		return pick("INSERT OR IGNORE INTO upstreams(name) VALUES('late')", "UPDATE rules SET v2='late' WHERE id%3=0 AND EXISTS(SELECT 1 FROM upstreams WHERE name='late')",
			"UPDATE meta SET value='refuse' WHERE key='default'", "INSERT OR IGNORE INTO targets(upstream,url) VALUES('v1','http://127.0.0.1:1')")
	}
	return fmt.Sprintf("UPDATE %s SET enabled=1-enabled%s", table, where)
}

// Whatever is done to the tables, by whom and in how many transactions, what is in force is what they say.
func TestWhatIsFollowedIsWhatTheTablesSay(t *testing.T) {
	for seed := range uint64(4) {
		dir := t.TempDir()
		s, stop := start(t, dir)
		db := outside(t, dir)
		random := rand.New(rand.NewPCG(seed, 1))
		for range 150 {
			var statements []string
			for range 1 + random.IntN(4) {
				statements = append(statements, randomStatement(random))
			}
			done := strings.Join(statements, ";\n")
			if _, err := db.ExecContext(t.Context(), done); err != nil && !strings.Contains(err.Error(), "constraint") && !strings.Contains(err.Error(), "exists already") {
				t.Fatalf("%s\n%v", done, err)
			}
			if random.IntN(4) == 0 {
				set(t, s, map[string]any{"host": "api.test", "percent": random.IntN(100)})
			}
			var seq int64
			if err := db.QueryRowContext(t.Context(), "SELECT coalesce(max(seq),0) FROM changes").Scan(&seq); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the journal", func() bool { return s.Snapshot().Seq == seq })
			if expectTrue(t, s); t.Failed() {
				t.Fatalf("seed %d, after\n%s", seed, done)
			}
		}
		stop()
	}
}

func TestAReadOnlyFileSystemKeepsServing(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("this test mounts a small file system and needs root: run scripts/test.sh, or sudo")
	}
	dir := t.TempDir()
	if err := syscall.Mount("small", dir, "tmpfs", 0, "size=4m,mode=0700"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	s, stop := start(t, dir)
	set(t, s, map[string]any{"host": "a.test", "percent": 100})
	stop()
	remount := func(flags uintptr) {
		t.Helper()
		if err := syscall.Mount("small", dir, "tmpfs", syscall.MS_REMOUNT|flags, "size=4m,mode=0700"); err != nil {
			t.Fatal(err)
		}
	}
	remount(syscall.MS_RDONLY)
	s, stop = start(t, dir)
	expectServing(t, s, "cannot be opened for writing")
	if _, err := s.Apply(t.Context(), Author{}, []Edit{{Table: TableRules, Row: map[string]any{"host": "b.test"}}}, false); err == nil {
		t.Error("an edit was acknowledged into nothing")
	}
	remount(0)
	eventually(t, "healing", func() bool { return s.Health().Problem == "" })
	set(t, s, map[string]any{"host": "b.test", "percent": 100})
	stop()
}

// A newer program may change the schema under an older one, which follows it, writes beside it, and leaves its triggers be.
func TestTwoProcessesOfNeighbouringVersionsLoseNothing(t *testing.T) {
	s, dir, _ := served(t)
	newer := outside(t, dir)
	generation3 := `BEGIN IMMEDIATE;
		ALTER TABLE rules ADD COLUMN later TEXT NOT NULL DEFAULT '';
		DROP TRIGGER rules_ad;
		CREATE TRIGGER rules_ad AFTER DELETE ON rules BEGIN
			INSERT INTO changes(author,note,tbl,row,old_host,op,old) VALUES('newer','','rules',OLD.id,OLD.host_key,'delete',
				quote(OLD.host)||','||quote(OLD.path)||','||quote(OLD.match));
		END;
		PRAGMA user_version=` + nextSchema + `;
		COMMIT`
	if _, err := newer.ExecContext(t.Context(), generation3); err != nil {
		t.Fatal(err)
	}
	for n := range 50 {
		if _, err := newer.ExecContext(t.Context(), "INSERT INTO rules(host,percent,later) VALUES(?,100,'x')", fmt.Sprintf("new%d.test", n)); err != nil {
			t.Fatal(err)
		}
		set(t, s, map[string]any{"host": fmt.Sprintf("old%d.test", n), "percent": 100})
		if n%5 == 0 {
			if _, err := newer.ExecContext(t.Context(), "DELETE FROM rules WHERE host=?", fmt.Sprintf("new%d.test", n)); err != nil {
				t.Fatal(err)
			}
		}
	}
	eventually(t, "all rules", func() bool { return s.Load().Counts().Rules == 1+50+40 })
	expectTrue(t, s)
	if got := mustSqlite(t, dir, "SELECT count(*) FROM changes WHERE author='newer'; SELECT count(*) FROM rules WHERE later='x'"); got != "10\n40" {
		t.Errorf("deletions that the newer trigger logged, rows of the newer program: %s", got)
	}
}

// Whoever takes what is read for all that somebody else has committed would never look again.
func TestATableThatIsGoneIsNoticedThoughTheJournalHasNothingNew(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(t.Context(), Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	mustSqlite(t, dir, "DROP VIEW v_status; DROP TABLE redirects")
	for _, journal := range []string{"SELECT 1", "INSERT INTO rules(host) VALUES('a.test')"} {
		mustSqlite(t, dir, journal)
		err := reading(t.Context(), s.conn, func(q queryer) error {
			_, err := follow(t.Context(), q, s.published(), held{})
			return err
		})
		if err == nil {
			t.Errorf("%s: it is not", journal)
		}
	}
}
