package store

import (
	"context"
	"database/sql"
	"fmt"

	"cutover/rules"
)

// Chains returns the redirects that do not lead straight to a destination, as the database has them now.
func (s *Store) Chains(ctx context.Context) (chains []rules.Chain, err error) {
	err = s.readAside(ctx, func(q queryer) error {
		const query = "SELECT " + redirectColumns + " FROM main.redirects ORDER BY host_key, path, match"
		return rules.FindChains(allRules(ctx, q), redirectsOf(ctx, q, query), s.options.now(), func(c rules.Chain) { chains = append(chains, c) })
	})
	return chains, plainError(err)
}

func allRules(ctx context.Context, q queryer) rules.Source[rules.Rule] {
	return func(yield func(*rules.Rule) error) error {
		return each(ctx, q, "SELECT "+ruleColumns+" FROM main.rules", func(rows *sql.Rows) error {
			row, err := scanRule(rows)
			if err != nil {
				return err
			}
			return yield(&row)
		})
	}
}

func redirectsOf(ctx context.Context, q queryer, query string) rules.Source[rules.Redirect] {
	return func(yield func(*rules.Redirect) error) error {
		return each(ctx, q, query, func(rows *sql.Rows) error {
			row, err := scanRedirect(rows)
			if err != nil {
				return err
			}
			return yield(&row)
		})
	}
}

// findLoops makes a bad row of each that would lead visitors round in circles, together with those that stay. A chain that
// ends is a warning. Rows of the file have negative ids here.
func (i *importer) findLoops(ctx context.Context) error {
	if i.Table != TableRedirects {
		return nil
	}
	var loops []rules.Chain
	err := reading(ctx, i.conn, func(q queryer) error {
		return rules.FindChains(allRules(ctx, q), redirectsOf(ctx, q, i.redirectsAfterwards()), i.now, func(c rules.Chain) {
			switch {
			case c.ID < 0 && c.Loop:
				loops = append(loops, c)
			case len(i.result.Warnings) < maxWarnings:
				i.result.Warnings = append(i.result.Warnings, c.String())
			}
		})
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
