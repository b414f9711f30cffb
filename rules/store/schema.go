package store

import (
	"context"
	"database/sql"
	_ "embed" // for the schema
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"cutover/rules"
)

//go:embed schema.sql
var schemaSQL string

//go:embed hosts.sql
var hostsSQL string

//go:embed upstreams.sql
var upstreamsSQL string

//go:embed targets.sql
var targetsSQL string

//go:embed guards.sql
var guardsSQL string

//go:embed programs.sql
var programsText string

// programsSQL makes triggers and views: programs.sql with the columns of rows where it has a table in braces.
func programsSQL() string {
	var pairs []string
	for _, name := range []Table{TableUpstreams, TableTargets, TableHosts, TableRules, TableRedirects, TableGuards} {
		table, _ := tableOf(name) // there is each
		pairs = append(pairs, "{columns of "+string(name)+"}", strings.Join(table.columns, ","))
		for _, row := range []string{"", "NEW.", "OLD."} {
			pairs = append(pairs, "{"+row+string(name)+"}", "quote("+row+strings.Join(table.columns, ")||','||quote("+row)+")")
		}
	}
	return strings.NewReplacer(pairs...).Replace(programsText)
}

// tablesSQL makes all tables.
func tablesSQL() string { return upstreamsSQL + schemaSQL + targetsSQL + hostsSQL + guardsSQL }

const applicationID = 1129665615 // "CUTO"

// errNewer says that the file was made by a newer program which this one must not touch.
var errNewer = errors.New("the database was made by a newer cutover that older ones must not use: start that one, or restore a backup from before")

// errForeign says that the file is not ours.
var errForeign = errors.New("this is a database of some other program: move it away, or set state_dir to another folder")

// errEmptied says that there were rules, and that they are gone with the database.
var errEmptied = errors.New("rules.db is gone or empty, and there were rules: put a backup back in its place, it is taken at once; " +
	"or, to begin with no rules, stop cutover, remove " + snapshotFile + " beside it, and start")

// migrate brings the schema up to date in one transaction: it makes a new one in an empty file if mayMake says so, changes
// an older one, and mends triggers and views that are missing or different. A newer schema is left alone. changed says that something had
// to be done: then the journal may have holes.
func migrate(ctx context.Context, conn *sql.Conn, mayMake bool, log *slog.Logger) (changed bool, err error) {
	current, err := isCurrent(ctx, conn)
	if err != nil || current {
		return false, err
	}
	return true, writing(ctx, conn, func(q queryer) error {
		generation, err := recognise(ctx, q)
		if err != nil || generation > rules.Schema {
			return errors.Join(err, checkReader(ctx, q, generation))
		}
		if generation == 0 {
			if !mayMake {
				return errEmptied
			}
			if _, err := q.ExecContext(ctx, tablesSQL()); err != nil {
				return fmt.Errorf("make the schema: %w", err)
			}
		}
		older := generation > 0 && generation < rules.Schema
		if older {
			log.Info("rules.db is brought up to date", slog.Int("schema", generation), slog.Int("to", rules.Schema))
			if err := upgrade(ctx, q, generation); err != nil {
				return fmt.Errorf("bring the schema from %d to %d: %w", generation, rules.Schema, err)
			}
		}
		// A database made from the text of a dump has no marks either.
		marks := fmt.Sprintf("PRAGMA application_id=%d; PRAGMA user_version=%d", applicationID, rules.Schema)
		if _, err := q.ExecContext(ctx, marks); err != nil {
			return fmt.Errorf("mark the database as ours: %w", err)
		}
		if older {
			log = slog.New(slog.DiscardHandler) // that triggers are others is no news
		}
		return mendPrograms(ctx, q, log)
	})
}

// recognise returns the generation of a database of ours, 0 for an empty one, errForeign for any other. One without
// marks that has our tables was made from a dump, and is of the generation that had such tables.
func recognise(ctx context.Context, q queryer) (generation int, err error) {
	var mark, tables, ours, guards, checks, balance int
	const count = "SELECT count(*), coalesce(sum(name IN ('meta','upstreams','targets','hosts','rules','redirects','changes')),0), " +
		"coalesce(sum(name='guards'),0), (SELECT count(*) FROM pragma_table_info('upstreams') WHERE name='check_path'), " +
		"(SELECT count(*) FROM pragma_table_info('upstreams') WHERE name='balance') FROM sqlite_master WHERE type='table'"
	err = errors.Join(q.QueryRowContext(ctx, "PRAGMA application_id").Scan(&mark), q.QueryRowContext(ctx, count).Scan(&tables, &ours, &guards, &checks, &balance))
	if err != nil {
		return 0, err
	}
	if generation, err = schemaGeneration(ctx, q); err != nil {
		return 0, err
	}
	switch {
	case mark == applicationID && generation > 0:
		return generation, nil
	case mark == 0 && generation == 0 && tables == 0:
		return 0, nil
	case (mark == 0 || mark == applicationID) && ours == 7:
		return max(generation, 1+guards+checks+balance), nil
	}
	return 0, errForeign
}

func schemaGeneration(ctx context.Context, q queryer) (generation int, err error) {
	err = q.QueryRowContext(ctx, "PRAGMA user_version").Scan(&generation)
	return generation, err
}

// checkReader returns errNewer if this program must not even read a database of that generation.
func checkReader(ctx context.Context, q queryer, generation int) error {
	if generation <= rules.Schema {
		return nil
	}
	least, err := leastGeneration(ctx, q, "min_reader")
	if err == nil && least > rules.Schema {
		err = errNewer
	}
	return err
}

// leastGeneration returns the lowest generation of programs that may do what key says: min_reader or min_writer.
func leastGeneration(ctx context.Context, q queryer, key string) (least int, err error) {
	err = q.QueryRowContext(ctx, "SELECT coalesce((SELECT CAST(value AS INTEGER) FROM meta WHERE key=?),1)", key).Scan(&least)
	return least, err
}

// isCurrent looks, without the write lock, whether there is nothing to do.
func isCurrent(ctx context.Context, conn *sql.Conn) (current bool, err error) {
	want, err := expectedPrograms(ctx)
	if err != nil {
		return false, err
	}
	err = reading(ctx, conn, func(q queryer) error {
		generation, err := recognise(ctx, q)
		if err != nil || generation == 0 {
			return err
		}
		if generation > rules.Schema {
			current = true
			return checkReader(ctx, q, generation)
		}
		var marked bool
		err = q.QueryRowContext(ctx, "SELECT user_version=? AND application_id=? FROM pragma_user_version, pragma_application_id", rules.Schema, applicationID).Scan(&marked)
		if err != nil {
			return err
		}
		have, err := readPrograms(ctx, q)
		current = marked && len(toMend(have, want)) == 0
		return err
	})
	return current, err
}

// toMend returns the names of our triggers and views that are missing or different. Those of others are not our business.
func toMend(have, want map[string]string) []string {
	var names []string
	for name, text := range want {
		if have[name] != text {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// mendPrograms makes triggers and views anew that are missing or different: without them the journal has holes.
func mendPrograms(ctx context.Context, q queryer, log *slog.Logger) error {
	want, err := expectedPrograms(ctx)
	if err != nil {
		return err
	}
	have, err := readPrograms(ctx, q)
	if err != nil {
		return err
	}
	names := toMend(have, want)
	if len(have) > 0 && len(names) > 0 {
		log.Warn("triggers or views of rules.db were missing or changed; they are made anew", slog.Any("names", names))
	}
	for _, name := range names {
		kind, bare, _ := strings.Cut(name, " ")
		if _, err := q.ExecContext(ctx, fmt.Sprintf(`DROP %s IF EXISTS "%s"; %s`, kind, bare, want[name])); err != nil {
			return fmt.Errorf("mend %s: %w", name, err)
		}
	}
	return nil
}

// mend looks at triggers and views again when somebody has changed the schema under us.
func (s *Store) mend(ctx context.Context) {
	var version int64
	err := s.conn.QueryRowContext(ctx, "PRAGMA schema_version").Scan(&version)
	if err != nil || version == s.programs || s.readOnly.Load() {
		return
	}
	changed, err := migrate(ctx, s.conn, false, s.options.log())
	if err != nil {
		s.options.log().Debug("triggers and views", slog.Any("error", err))
		return // the next upkeep tries again
	}
	// What mending itself changed is looked at once more.
	s.programs = version
	s.thawed = s.thawed || changed
}

// expectedPrograms asks SQLite itself how it stores our triggers and views.
func expectedPrograms(ctx context.Context) (map[string]string, error) {
	db, err := sql.Open("sqlite3", ":memory:")
	if err != nil {
		return nil, err
	}
	defer func() { _ = db.Close() }()
	db.SetMaxOpenConns(1)
	if _, err := db.ExecContext(ctx, tablesSQL()+programsSQL()); err != nil {
		return nil, err
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	return readPrograms(ctx, conn)
}

// readPrograms returns the text of every trigger and view, and of the table that belongs to them, by kind and name: tables
// come first.
func readPrograms(ctx context.Context, q queryer) (map[string]string, error) {
	rows, err := q.QueryContext(ctx, "SELECT type||' '||name, sql FROM sqlite_master WHERE type IN ('trigger','view') OR (type='table' AND name='replaced')")
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	programs := map[string]string{}
	for rows.Next() {
		var name, text string
		if err := rows.Scan(&name, &text); err != nil {
			return nil, err
		}
		programs[name] = text
	}
	return programs, rows.Err()
}
