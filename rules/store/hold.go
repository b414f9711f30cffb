package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"
)

// A large import is written in many short transactions, so that edits of others find their place between them, and comes
// into force at once all the same: until its end, what it has written is held back. A mark in the table meta says so, to a
// start after a crash too, which goes on holding back and takes everything away again.

// held names an import that is held back. The zero value is none.
type held struct {
	tag  string // the note of its changes
	from int64  // the newest change when it began
}

// heldKey is the row of meta that names the import.
const heldKey = "importing"

// takenBack is the end of the note of changes that take others of a held import back.
const takenBack = ", taken back"

func newHeld(from int64) held { return held{"import " + rand.Text(), from} }

func (h held) none() bool { return h.tag == "" }

func (h held) String() string { return strconv.FormatInt(h.from, 10) + " " + h.tag }

func parseHeld(text string) held {
	from, tag, _ := strings.Cut(text, " ")
	seq, _ := strconv.ParseInt(from, 10, 64)
	return held{tag, seq}
}

// readHeld returns the import that is held back.
func readHeld(ctx context.Context, q queryer) (h held, err error) {
	err = each(ctx, q, "SELECT value FROM meta WHERE key=?", func(rows *sql.Rows) error {
		var text string
		err := rows.Scan(&text)
		h = parseHeld(text)
		return err
	}, heldKey)
	return h, err
}

// markHeld writes the mark. From then on the changes of h are held back.
func markHeld(ctx context.Context, q queryer, h held) error {
	_, err := q.ExecContext(ctx, "INSERT INTO meta(key,value) VALUES(?,?)", heldKey, h.String())
	return err
}

// releaseHeld removes the mark: this is the moment at which the import is made, or all of it is taken back.
func releaseHeld(ctx context.Context, q queryer) error {
	_, err := q.ExecContext(ctx, "DELETE FROM meta WHERE key=?", heldKey)
	return err
}

// errHeldBack says that the tables hold what must not come into force.
var errHeldBack = errors.New("the database holds half of an import, which is taken back first; until then the last good rules serve")

// checkNotHeld returns errHeldBack if the tables hold part of an import. One that nobody is writing, as after .restore of a
// backup that was made during an import, is noted, so that it is taken back.
func (s *Store) checkNotHeld(ctx context.Context, q queryer) error {
	h, err := readHeld(ctx, q)
	if err != nil || h.none() {
		return err
	}
	if !s.importing.Load() {
		s.heldImport.Store(&h)
	}
	return errHeldBack
}

// errImportLost says that what an import has written is gone.
var errImportLost = errors.New("a backup was restored during the import, and has nothing of it: import the file again")

// checkHeld returns errImportLost unless the mark of h is there.
func checkHeld(ctx context.Context, q queryer, h held) error {
	now, err := readHeld(ctx, q)
	if err == nil && now != h {
		err = errImportLost
	}
	return err
}

var errTakingBack = fmt.Errorf("one that was broken off is being taken back: %w", ErrImporting)

// checkNoneHeld returns errTakingBack if half of an import is in the tables: another would find rows there that are about to go.
func checkNoneHeld(ctx context.Context, q queryer) error {
	h, err := readHeld(ctx, q)
	if err == nil && !h.none() {
		err = errTakingBack
	}
	return err
}

// holding returns the import that is held back.
func (s *Store) holding() held {
	if h := s.heldImport.Load(); h != nil {
		return *h
	}
	return held{}
}

// takeBack undoes everything that a held import has written, but for rows that somebody else has changed since, or whose
// place somebody else has taken, in short transactions, and then removes its mark. It may be called again if it was interrupted.
func (s *Store) takeBack(ctx context.Context, conn *sql.Conn, h held) error {
	t := takingBack{held: h, conn: conn, log: s.options.log(), touched: map[string]bool{}, seen: h.from}
	err := reading(ctx, conn, func(q queryer) (err error) {
		t.before, err = newestSeq(ctx, q)
		t.before++
		return err
	})
	for more := true; more && err == nil; {
		err = patiently(ctx, func() error {
			return writing(ctx, conn, func(q queryer) (err error) {
				more, err = t.some(ctx, q)
				return err
			})
		})
		err = errors.Join(err, s.giveWay(ctx))
	}
	if err != nil {
		return fmt.Errorf("an import that was broken off cannot be taken back yet: %w", err)
	}
	return nil
}

// patiently calls work again while somebody else holds the write lock.
func patiently(ctx context.Context, work func() error) error {
	for {
		err := work()
		if !isBusy(err) || ctx.Err() != nil {
			return err
		}
		if err := rest(ctx, busyRetry); err != nil {
			return err
		}
	}
}

// giveWay rests between two transactions of an import, until the edits are made that wait for it.
func (s *Store) giveWay(ctx context.Context) error {
	err := rest(ctx, importRest)
	for waited := importRest; err == nil && s.editsWait.Load() && waited < importYield; waited += importRest {
		err = rest(ctx, importRest)
	}
	return err
}

func rest(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// takingBack is one call of takeBack.
type takingBack struct {
	held
	conn    *sql.Conn
	log     *slog.Logger
	before  int64           // changes from here on have been looked at
	touched map[string]bool // rows that somebody else has changed meanwhile
	seen    int64           // up to which change touched is complete
}

// some takes the newest changes back that are left; false says that none is, and that the mark is removed.
func (t *takingBack) some(ctx context.Context, q queryer) (more bool, err error) {
	if err := t.lookAround(ctx, q); err != nil {
		return false, err
	}
	var changes []Change
	const query = "SELECT " + changeColumns + " FROM changes WHERE seq>? AND seq<? AND note=? ORDER BY seq DESC LIMIT ?"
	err = each(ctx, q, query, func(rows *sql.Rows) error {
		change, err := scanChange(rows)
		changes = append(changes, change)
		return err
	}, t.from, t.before, t.tag, importChunk)
	if err != nil {
		return false, err
	}
	if len(changes) == 0 {
		return false, releaseHeld(ctx, q)
	}
	err = signed(ctx, q, Author{Name: "cutover"}, t.tag+takenBack, func() error {
		for i := range changes {
			if err := t.one(ctx, q, &changes[i]); err != nil {
				return err
			}
		}
		_, err := q.ExecContext(ctx, "DELETE FROM change_context")
		return err
	})
	t.before = changes[len(changes)-1].Seq
	return true, err
}

func (t *takingBack) one(ctx context.Context, q queryer, change *Change) error {
	back := change.inverse()
	if t.touched[change.Row] {
		return nil
	}
	now, err := currentImage(ctx, q, change.Table, change.Row, change.New)
	if err != nil || now != change.new { // it was taken back before
		return err
	}
	if err = put(ctx, q, back); isRefusal(err) { // what others have done meanwhile stands in the way, and stays
		t.log.Warn("of an import that was broken off, a row cannot be put back", slog.Any("because", err))
		return nil
	}
	return err
}

// lookAround notes the rows that others have changed since the last look. An import is of one table, so that ids do.
func (t *takingBack) lookAround(ctx context.Context, q queryer) error {
	const query = "SELECT seq, row FROM changes WHERE seq>? AND note NOT IN (?,?)"
	return each(ctx, q, query, func(rows *sql.Rows) error {
		var row string
		err := rows.Scan(&t.seen, &row)
		t.touched[row] = true
		return err
	}, t.seen, t.tag, t.tag+takenBack)
}

// takeHeldBack is the owner's: it takes an import back that nobody is writing any more, after a crash or on a full disk.
func (o *owner) takeHeldBack() {
	h := o.holding()
	if h.none() || o.importing.Load() || o.importEnded.Load() || o.stopJob != nil {
		return
	}
	o.run(func(ctx context.Context) jobDone {
		o.options.log().Warn("an import was broken off; what it had written is taken back", slog.String("import", h.tag))
		err := o.withConnection(ctx, func(conn *sql.Conn) error { return o.takeBack(ctx, conn, h) })
		if err == nil {
			o.letGo()
		}
		return jobDone{isTakeBack: true, err: err}
	})
}

// letGo ends the holding back: everything is read once more, and then put in force.
func (s *Store) letGo() {
	s.importEnded.Store(true)
}
