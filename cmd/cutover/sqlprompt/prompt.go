// Package sqlprompt is a prompt for SQL on one SQLite database: statements over several lines, some commands that begin with
// a dot, and rows as a table, JSON or CSV. It brings its own SQLite, so that it does not depend on which sqlite3 program a
// machine has.
package sqlprompt

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// Options says what a prompt works on. All but Mode are needed.
type Options struct {
	Path     string // of a database that is there
	In       io.Reader
	Out, Err io.Writer
	Mode     Mode
}

// Run runs statements, or what is read from In if there are none. On a terminal it prompts, and goes on after an error; else
// the first error ends it.
func Run(ctx context.Context, o Options, statements []string) (err error) {
	db, err := openDatabase(ctx, o.Path)
	if err != nil {
		return plain(err)
	}
	p := &prompt{Options: o, db: db}
	defer func() { err = errors.Join(err, p.end()) }()
	if len(statements) > 0 {
		for _, text := range statements {
			if err := p.script(ctx, strings.NewReader(text)); err != nil || p.quit {
				return err
			}
		}
		return nil
	}
	if file, ok := o.In.(*os.File); ok && isTerminal(file) {
		return p.interact(ctx, &terminal{in: file, out: o.Out})
	}
	return p.script(ctx, o.In)
}

type prompt struct {
	Options
	db       *database
	splitter splitter
	depth    int  // of .read within .read
	quit     bool // .quit was read
}

var errUncommitted = errors.New("the transaction was not committed, so nothing of it was kept: end it with COMMIT")

// end closes the database; an open transaction is lost, and that is said.
func (p *prompt) end() error {
	var lost error
	if p.db.inTransaction() {
		lost = errUncommitted
	}
	return errors.Join(lost, p.db.close())
}

// script runs what is read, up to the first error. The last statement needs no semicolon.
func (p *prompt) script(ctx context.Context, source io.Reader) error {
	lines := bufio.NewReader(source)
	for number := 1; ; number++ {
		line, err := lines.ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		last := err != nil
		if err := p.line(ctx, line); err != nil || p.quit {
			return atLine(number, err)
		}
		if last {
			return atLine(number, p.rest(ctx))
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

func atLine(number int, err error) error {
	if err == nil || number == 1 {
		return err
	}
	return fmt.Errorf("line %d: %w", number, err)
}

// rest runs what has no semicolon.
func (p *prompt) rest(ctx context.Context) error {
	if p.splitter.empty() {
		p.splitter = splitter{}
		return nil
	}
	for _, statement := range p.splitter.take() {
		if err := p.run(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// line takes a line of input.
func (p *prompt) line(ctx context.Context, line string) error {
	if p.splitter.empty() && strings.HasPrefix(strings.TrimSpace(line), ".") {
		return p.command(ctx, strings.TrimSpace(line))
	}
	for _, statement := range p.splitter.feed(strings.TrimSuffix(line, "\n") + "\n") {
		if err := p.run(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

func (p *prompt) run(ctx context.Context, statement string) (err error) {
	rows, err := p.db.conn.QueryContext(ctx, statement)
	if err != nil {
		return plain(err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	return plain(printRows(p.Out, p.Mode, rows))
}
