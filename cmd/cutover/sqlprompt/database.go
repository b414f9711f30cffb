package sqlprompt

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/mattn/go-sqlite3"
	"golang.org/x/net/idna"
)

// patience is how long a statement waits for somebody else's write lock.
const patience = 5 * time.Second

// connector opens databases with the functions that the prompt has.
type connector struct{ source string }

func (c connector) Driver() driver.Driver {
	return &sqlite3.SQLiteDriver{ConnectHook: func(conn *sqlite3.SQLiteConn) error {
		return conn.RegisterFunc("idna", toASCII, true)
	}}
}

func (c connector) Connect(context.Context) (driver.Conn, error) { return c.Driver().Open(c.source) }

// toASCII turns a host name of another script into the form that the rules have it.
func toASCII(name string) (string, error) {
	parent, wildcard := strings.CutPrefix(name, "*.")
	if len(parent) > 4*253 || parent == "" {
		return "", fmt.Errorf("idna: %q is no host name", name)
	}
	ascii, err := idna.Lookup.ToASCII(parent)
	if err != nil {
		return "", fmt.Errorf("idna: %q is no host name", name)
	}
	if wildcard {
		ascii = "*." + ascii
	}
	return ascii, nil
}

// database is an open connection.
type database struct {
	path string
	db   *sql.DB
	conn *sql.Conn
}

// openDatabase opens a database that is there. Cutover moves the write-ahead log into it, so this connection need not.
func openDatabase(ctx context.Context, path string) (*database, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, err
	}
	d := &database{path: path, db: sql.OpenDB(connector{source(path, "rw")})}
	var err error
	if d.conn, err = d.db.Conn(ctx); err != nil {
		return nil, errors.Join(err, d.db.Close())
	}
	for _, pragma := range []string{"PRAGMA trusted_schema=OFF", "PRAGMA wal_autocheckpoint=0", "PRAGMA user_version"} {
		if _, err := d.conn.ExecContext(ctx, pragma); err != nil {
			return nil, errors.Join(err, d.close())
		}
	}
	return d, nil
}

func source(path, mode string) string {
	query := url.Values{"mode": {mode}, "_busy_timeout": {fmt.Sprint(patience.Milliseconds())}, "_synchronous": {"FULL"}}
	text := "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + query.Encode()
	if _, err := os.Stat(path + "-wal"); mode == "ro" && errors.Is(err, fs.ErrNotExist) {
		text += "&immutable=1" // nobody has it open; else SQLite would leave files beside it
	}
	return text
}

func (d *database) close() error { return errors.Join(d.conn.Close(), d.db.Close()) }

// inTransaction reports whether a transaction is open.
func (d *database) inTransaction() bool {
	open := false
	_ = d.conn.Raw(func(raw any) error {
		open = !raw.(*sqlite3.SQLiteConn).AutoCommit()
		return nil
	})
	return open
}

// backup writes a copy of one state of the database, whole or not at all.
func (d *database) backup(ctx context.Context, path string) error {
	if same(path, d.path) {
		return errors.New("that is the database itself")
	}
	temporary := path + ".new"
	file, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	err = copyPages(ctx, connector{source(temporary, "rw")}, func(copied *sqlite3.SQLiteConn) error {
		return d.conn.Raw(func(raw any) error { return copyAll(copied, raw.(*sqlite3.SQLiteConn)) })
	})
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	return nil
}

// restore makes the database what a copy is. Whoever has it open sees the change as a transaction.
func (d *database) restore(ctx context.Context, path string) error {
	if same(path, d.path) {
		return errors.New("that is the database itself")
	}
	if _, err := os.Stat(path); err != nil {
		return err
	}
	if d.inTransaction() {
		return errors.New("end the transaction with COMMIT or ROLLBACK first")
	}
	if err := d.checkCopy(ctx, path); err != nil {
		return err
	}
	return copyPages(ctx, connector{source(path, "ro")}, func(copied *sqlite3.SQLiteConn) error {
		return d.conn.Raw(func(raw any) error { return copyAll(raw.(*sqlite3.SQLiteConn), copied) })
	})
}

// checkCopy refuses a file that is damaged or belongs to another program.
func (d *database) checkCopy(ctx context.Context, path string) error {
	var mine, theirs int
	if err := d.conn.QueryRowContext(ctx, "PRAGMA application_id").Scan(&mine); err != nil {
		return err
	}
	db := sql.OpenDB(connector{source(path, "ro")})
	defer func() { _ = db.Close() }()
	var verdict string
	err := errors.Join(db.QueryRowContext(ctx, "PRAGMA application_id").Scan(&theirs), db.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&verdict))
	switch {
	case err != nil:
		return err
	case verdict != "ok":
		return fmt.Errorf("%s is damaged: %s", path, verdict)
	case mine != theirs:
		return fmt.Errorf("%s is a database of another program", path)
	}
	return nil
}

func same(a, b string) bool {
	first, err1 := os.Stat(a)
	second, err2 := os.Stat(b)
	return filepath.Clean(a) == filepath.Clean(b) || (err1 == nil && err2 == nil && os.SameFile(first, second))
}

// copyPages opens another database for work.
func copyPages(ctx context.Context, other connector, work func(*sqlite3.SQLiteConn) error) error {
	raw, err := other.Connect(ctx)
	if err != nil {
		return err
	}
	return errors.Join(work(raw.(*sqlite3.SQLiteConn)), raw.Close())
}

func copyAll(to, from *sqlite3.SQLiteConn) error {
	backup, err := to.Backup("main", from, "main")
	if err != nil {
		return err
	}
	limit, again := time.NewTimer(patience), time.NewTicker(20*time.Millisecond)
	defer limit.Stop()
	defer again.Stop()
	for {
		done, err := backup.Step(-1)
		if err != nil || done {
			return errors.Join(err, backup.Finish())
		}
		select {
		case <-again.C:
		case <-limit.C:
			return errors.Join(errors.New("another program holds the write lock: end its transaction, then try again"), backup.Finish())
		}
	}
}
