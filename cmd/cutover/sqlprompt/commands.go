package sqlprompt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

const help = `.tables             names of tables and views
.schema [NAME]      how tables, triggers and views were made
.mode table|json|csv
.backup FILE        write a copy of the database
.restore FILE       make the database what a copy is; a running Cutover takes it at once
.read FILE          run the statements in a file
.quit               end
A statement ends with a semicolon and may have several lines. idna('bücher.example') turns a host name into ASCII.
`

const maxRead = 10 // .read within .read

// command runs a line that begins with a dot.
func (p *prompt) command(ctx context.Context, line string) error {
	name, argument, _ := strings.Cut(line, " ")
	argument = unquoted(strings.TrimSpace(argument))
	switch name {
	case ".quit", ".exit":
		p.quit = true
		return nil
	case ".help":
		_, err := io.WriteString(p.Out, help)
		return err
	case ".tables":
		return p.run(ctx, "SELECT name, type FROM sqlite_master WHERE type IN ('table','view') AND name NOT LIKE 'sqlite_%' ORDER BY name")
	case ".schema":
		return p.schema(ctx, argument)
	case ".mode":
		return p.setMode(argument)
	case ".backup", ".restore", ".read":
		return p.withFile(ctx, name, argument)
	}
	return fmt.Errorf("there is no command %s: see .help", name)
}

// unquoted takes the quotes off a file name, as the sqlite3 program does.
func unquoted(text string) string {
	if n := len(text); n >= 2 && (text[0] == '\'' || text[0] == '"') && text[n-1] == text[0] {
		return text[1 : n-1]
	}
	return text
}

func (p *prompt) setMode(text string) error {
	switch mode := Mode(text); mode {
	case Table, JSON, CSV:
		p.Mode = mode
		return nil
	}
	return errors.New(".mode is table, json or csv")
}

// schema prints how things were made, as statements.
func (p *prompt) schema(ctx context.Context, name string) (err error) {
	rows, err := p.db.conn.QueryContext(ctx, "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND (?1='' OR name=?1 OR tbl_name=?1) ORDER BY rowid", name)
	if err != nil {
		return plain(err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	found := false
	for rows.Next() {
		found = true
		var text string
		if err := rows.Scan(&text); err != nil {
			return err
		}
		if _, err := fmt.Fprintf(p.Out, "%s;\n", text); err != nil {
			return err
		}
	}
	if !found && rows.Err() == nil {
		return fmt.Errorf("there is no %q: see .tables", name)
	}
	return rows.Err()
}

func (p *prompt) withFile(ctx context.Context, name, file string) error {
	if file == "" {
		return fmt.Errorf("%s needs the name of a file", name)
	}
	var err error
	switch name {
	case ".backup":
		err = p.db.backup(ctx, file)
	case ".restore":
		err = p.db.restore(ctx, file)
	default:
		err = p.read(ctx, file)
	}
	return plain(err)
}

// read runs a file; the statement that it leaves unfinished ends with it.
func (p *prompt) read(ctx context.Context, name string) error {
	if p.depth >= maxRead {
		return errors.New("files that read files that read files: that does not end")
	}
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // it was only read
	inner := &prompt{Options: p.Options, db: p.db, depth: p.depth + 1}
	if err := inner.script(ctx, file); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	p.Mode, p.quit = inner.Mode, inner.quit
	return nil
}
