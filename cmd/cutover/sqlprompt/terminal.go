package sqlprompt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

func isTerminal(file *os.File) bool { return term.IsTerminal(int(file.Fd())) }

// terminal reads lines that can be edited.
type terminal struct {
	in     *os.File
	out    io.Writer
	editor *term.Terminal
}

// readLine asks for a line. The terminal is as it was whenever no line is asked for.
func (t *terminal) readLine(ctx context.Context, question string) (string, error) {
	if t.editor == nil {
		t.editor = term.NewTerminal(struct {
			io.Reader
			io.Writer
		}{t.in, t.out}, "")
	}
	t.editor.SetPrompt(question)
	state, err := term.MakeRaw(int(t.in.Fd()))
	if err != nil {
		return "", err
	}
	defer func() { _ = term.Restore(int(t.in.Fd()), state) }() // there is nothing else to try
	if width, height, err := term.GetSize(int(t.in.Fd())); err == nil && width > 0 {
		_ = t.editor.SetSize(width, height) // a help
	}
	return t.await(ctx)
}

// await returns the line, or that ctx has ended; then whoever reads is left behind, since the program ends.
func (t *terminal) await(ctx context.Context) (string, error) {
	type answer struct {
		line string
		err  error
	}
	answers := make(chan answer, 1)
	go func() {
		line, err := t.editor.ReadLine()
		if errors.Is(err, term.ErrPasteIndicator) {
			err = nil
		}
		answers <- answer{line, err}
	}()
	select {
	case a := <-answers:
		return a.line, a.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

const (
	firstQuestion = "cutover> "
	moreQuestion  = "    ...> "
)

// interact asks for lines until .quit or the end of the input. An error is printed, and the prompt goes on.
func (p *prompt) interact(ctx context.Context, t *terminal) error {
	if _, err := fmt.Fprintf(p.Err, "%s, in force with each COMMIT; .help for help, .quit to end\n", p.Path); err != nil {
		return err
	}
	for {
		question := firstQuestion
		if !p.splitter.empty() {
			question = moreQuestion
		} else if p.db.inTransaction() {
			question = strings.Replace(firstQuestion, ">", "*", 1) // not committed
		}
		line, err := t.readLine(ctx, question)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := p.line(ctx, line); err != nil {
			if _, err := fmt.Fprintf(p.Err, "error: %s\n", harmless(err.Error())); err != nil {
				return err
			}
		}
		if p.quit {
			return nil
		}
	}
}
