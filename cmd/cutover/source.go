package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"cutover/rules/transfer"
)

// source yields the rows of a file, good and bad, once.
type source[R transfer.Row] struct {
	name  string // as errors name it
	read  func(yield func(transfer.Line[R]) error) error
	close func() error
}

// openSource opens a file as the user who runs the command: the rules may need another one.
func openSource[R transfer.Row](env *environment, table transfer.Table[R], name, flag string) (*source[R], error) {
	format, err := chooseFormat(flag, name)
	if err != nil {
		return nil, err
	}
	file := io.NopCloser(env.stdin)
	if name != "-" {
		if file, err = os.Open(name); err != nil {
			return nil, withHint(err, "name a file that can be read, or - for the standard input")
		}
	}
	read := func(yield func(transfer.Line[R]) error) error { return table.Read(file, format, yield) }
	return &source[R]{name: name, read: read, close: file.Close}, nil
}

func addFormat(cmd *cobra.Command, format *string) {
	cmd.Flags().StringVar(format, "format", "", "csv or json (default: what the name of FILE ends in)")
}

// chooseFormat returns what --format or the name of a file says.
func chooseFormat(flag, file string) (transfer.Format, error) {
	format := transfer.Format(flag)
	if flag == "" {
		format = transfer.FormatOf(file)
	}
	if format == transfer.CSV || format == transfer.JSON {
		return format, nil
	}
	return "", withHint(&usageError{fmt.Errorf("is %s CSV or JSON?", file)}, "say --format csv or --format json")
}

// pipe sends the rows to whoever reads from it. The error of the source, if there was one, is returned by end.
func (s *source[R]) pipe(table transfer.Table[R], told func(lines int)) (rows io.Reader, end func() error) {
	reader, writer := io.Pipe()
	done := make(chan error, 1)
	go func() {
		stream := table.NewStreamWriter(writer)
		lines := 0
		err := s.read(func(line transfer.Line[R]) error {
			lines++
			told(lines)
			return stream.Write(line)
		})
		if err == nil {
			err = stream.Flush()
		}
		writer.CloseWithError(err)
		done <- err
	}()
	end = func() error {
		_ = reader.Close() // it never fails; a source that is still sending ends
		if err := <-done; err != nil && !errors.Is(err, io.ErrClosedPipe) {
			return withHint(fmt.Errorf("%s: %w", s.name, err), "nothing was changed; correct the file, or see 'cutover "+table.Name()+" import --help'")
		}
		return nil
	}
	return reader, end
}

// openDemo returns the rows of another program's database.
func openDemo[R transfer.Row](ctx context.Context, table transfer.Table[R], name string, read demoReader[R]) (*source[R], error) {
	db, err := openForeign(ctx, name)
	if err != nil {
		return nil, withHint(fmt.Errorf("%s: %w", name, err), "name the SQLite database of that program")
	}
	return &source[R]{
		name: name, close: db.Close,
		read: func(yield func(transfer.Line[R]) error) error { return read(ctx, db, table.Checking(yield)) },
	}, nil
}
