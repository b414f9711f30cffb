package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Undo takes changes back, all or none, the newest first, each by a new change. A change that cannot be undone is a
// *ReversalError: a later one that is not undone with it has touched the row, or the row is not as the journal says. With
// dryRun it returns what would be, and changes nothing.
func (s *Store) Undo(ctx context.Context, by Author, seqs []int64, dryRun bool) (Reversal, error) {
	var result Reversal
	_, err := s.ask(ctx, dryRun, func(ctx context.Context, q queryer) (err error) {
		result, err = undo(ctx, q, by, seqs)
		return err
	})
	if err != nil {
		return Reversal{}, err
	}
	return result, nil
}

// maxUndo bounds one call of Undo: for each change, all that came after it is looked through.
const maxUndo = 100

func undo(ctx context.Context, q queryer, by Author, seqs []int64) (Reversal, error) {
	if len(seqs) > maxUndo {
		return Reversal{}, &ReversalError{Message: fmt.Sprintf("%d changes are too many to undo at once, %d are the most", len(seqs), maxUndo), Hint: "use 'cutover restore' to go back to a time"}
	}
	u := undoing{q: q, seqs: slices.Compact(slices.Sorted(slices.Values(seqs)))}
	result := Reversal{Rows: []RowChange{}}
	var err error
	if u.newest, err = newestSeq(ctx, q); err != nil {
		return Reversal{}, err
	}
	for _, seq := range slices.Backward(u.seqs) {
		change, err := u.find(ctx, seq)
		if err != nil {
			return Reversal{}, err
		}
		back := change.inverse()
		if err := signed(ctx, q, by, fmt.Sprintf("undo of change %d", seq), func() error { return put(ctx, q, back) }); err != nil {
			return Reversal{}, err
		}
		result.add(back)
	}
	result.Seq, err = newestSeq(ctx, q)
	return result, err
}

// undoing is one call of Undo.
type undoing struct {
	q      queryer
	seqs   []int64 // sorted
	newest int64   // change before the call
}

// find returns a change that can be undone as things stand.
func (u *undoing) find(ctx context.Context, seq int64) (Change, error) {
	change, err := readChange(ctx, u.q, seq)
	if err != nil {
		return Change{}, err
	}
	if change.Problem != "" || !isPublic(change.Table, change.Row) {
		return Change{}, refuseUndo(change, "it is no change that this program can undo", "change the row itself")
	}
	if err := u.checkLater(ctx, change); err != nil {
		return Change{}, err
	}
	image, err := currentImage(ctx, u.q, change.Table, change.Row, change.New)
	if err != nil {
		return Change{}, err
	}
	if image != change.new {
		return Change{}, refuseUndo(change, describeChange(change.RowChange)+" is not as this change left it", "it was changed past the journal; change the row itself")
	}
	return change, nil
}

func readChange(ctx context.Context, q queryer, seq int64) (Change, error) {
	change, err := scanChange(q.QueryRowContext(ctx, "SELECT "+changeColumns+" FROM changes WHERE seq=?", seq))
	if errors.Is(err, sql.ErrNoRows) {
		return Change{}, &ReversalError{
			Seq: seq, Err: ErrNotFound, Message: fmt.Sprintf("there is no change %d in the journal", seq),
			Hint: "run 'cutover history' for those there are",
		}
	}
	return change, err
}

func refuseUndo(change Change, why, hint string) *ReversalError {
	return &ReversalError{Seq: change.Seq, Message: fmt.Sprintf("change %d cannot be undone: %s", change.Seq, why), Hint: hint}
}

// checkLater refuses a change whose row was touched since by one that is not undone with it.
func (u *undoing) checkLater(ctx context.Context, change Change) error {
	later, err := u.later(ctx, change)
	if err != nil {
		return err
	}
	open := slices.DeleteFunc(slices.Clone(later), func(seq int64) bool {
		_, listed := slices.BinarySearch(u.seqs, seq)
		return listed
	})
	if len(open) == 0 {
		return nil
	}
	newest, err := readChange(ctx, u.q, open[0])
	if err != nil {
		return err
	}
	refused := refuseUndo(change, fmt.Sprintf("change %d by %s at %s touched %s later", newest.Seq, newest.Author,
		newest.At.Format(time.RFC3339), describeChange(newest.RowChange)), undoHint(later, change.Seq))
	refused.Later = &newest
	return refused
}

// later returns the changes that touched the row since, the newest first; those that this call makes do not count.
func (u *undoing) later(ctx context.Context, change Change) (seqs []int64, err error) {
	condition, values := "row=?", []any{change.Row}
	if byName(change.Table) {
		names := []any{change.Row, change.Row}
		if name, ok := change.Old.Get(rowKey(change.Table)); ok {
			names[1] = name
		}
		condition, values = "(row IN (?1,?2) OR "+oldName+" IN (?1,?2))", names
	}
	values = append(values, string(change.Table), change.Seq, u.newest)
	err = each(ctx, u.q, "SELECT seq FROM changes WHERE "+condition+" AND tbl=? AND seq>? AND seq<=? ORDER BY seq DESC", func(rows *sql.Rows) error {
		var seq int64
		err := rows.Scan(&seq)
		seqs = append(seqs, seq)
		return err
	}, values...)
	return seqs, err
}

// oldName is the name that a row had before: the first column of its old image. Names hold no quotes.
const oldName = "substr(old,2,instr(old,''',')-2)"

// undoHint names the command that undoes a change with all that came after it.
func undoHint(later []int64, seq int64) string {
	const most = 20
	if len(later) > most {
		return "use 'cutover restore' to go back to a time, or change the row itself"
	}
	var words strings.Builder
	for _, number := range append(slices.Clone(later), seq) {
		words.WriteString(" " + strconv.FormatInt(number, 10))
	}
	return "undo them together: cutover undo" + words.String()
}
