package store

import (
	"context"
	"database/sql"
	"fmt"

	"cutover/rules"
)

// Chains returns the redirects that do not lead straight to a destination, as the database has them now.
func (s *Store) Chains(ctx context.Context) (chains []rules.Chain, err error) {
	err = s.withConnection(ctx, "ro", func(conn *sql.Conn) error {
		return reading(ctx, conn, func(q queryer) error {
			rows, err := hopRows(ctx, q, "SELECT "+redirectColumns+" FROM main.redirects ORDER BY host_key, path, match")
			if err == nil {
				rules.FindChains(rows, s.options.now(), func(c rules.Chain) { chains = append(chains, c) })
			}
			return err
		})
	})
	return chains, plainError(err)
}

// hopRows reads what decides where redirects lead: the rules too, since a visitor who meets one has arrived.
func hopRows(ctx context.Context, q queryer, redirects string) (rules.Rows, error) {
	var l loaded
	for _, step := range []func(context.Context, queryer, *loaded) error{loadMeta, loadUpstreams, loadRules} {
		if err := step(ctx, q, &l); err != nil {
			return rules.Rows{}, err
		}
	}
	l.rows.Redirects = nil
	err := each(ctx, q, redirects, func(rows *sql.Rows) error {
		r, err := scanRedirect(rows)
		r.Note, r.UpdatedAt = "", ""
		l.rows.Redirects = append(l.rows.Redirects, r)
		return err
	})
	return l.rows, err
}

// findLoops makes a bad row of each that would lead visitors round in circles, together with those that stay. A chain that
// ends is a warning. Rows of the file have negative ids here.
func (i *importer) findLoops(ctx context.Context) error {
	if i.Table != TableRedirects {
		return nil
	}
	var loops []rules.Chain
	err := reading(ctx, i.conn, func(q queryer) error {
		rows, err := hopRows(ctx, q, i.redirectsAfterwards())
		if err == nil {
			rules.FindChains(rows, i.now, func(c rules.Chain) {
				switch {
				case c.ID < 0 && c.Loop:
					loops = append(loops, c)
				case len(i.result.Warnings) < maxWarnings:
					i.result.Warnings = append(i.result.Warnings, c.String())
				}
			})
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, loop := range loops {
		if err := i.dropLoop(ctx, loop); err != nil {
			return err
		}
	}
	return nil
}

// redirectsAfterwards reads the redirects as the import would leave them.
func (i *importer) redirectsAfterwards() string {
	text := "SELECT -" + redirectColumns + " FROM temp.staged"
	if !i.Replace {
		text += " UNION ALL SELECT " + redirectColumns + " FROM main.redirects r WHERE NOT EXISTS(SELECT 1 FROM temp.staged s WHERE " + i.same() + ")"
	}
	return text
}

func (i *importer) dropLoop(ctx context.Context, loop rules.Chain) error {
	var line int
	if err := i.conn.QueryRowContext(ctx, "DELETE FROM temp.staged WHERE id=? RETURNING line", -loop.ID).Scan(&line); err != nil {
		return err
	}
	i.bad(line, fmt.Sprintf("the redirects lead round in circles: %s", loop))
	i.total--
	return nil
}
