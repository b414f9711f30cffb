package store

import (
	"cutover/rules"
)

// scanner is a row of a result.
type scanner interface{ Scan(dest ...any) error }

func scanTarget(row scanner) (t rules.Target, err error) {
	err = row.Scan(&t.ID, &t.Upstream, &t.URL, &t.Weight, &t.State)
	return t, err
}

func scanHost(row scanner) (h rules.Host, err error) {
	err = row.Scan(&h.Host, &h.HTTPS, &h.HSTS, &h.Needs, &h.Note, &h.UpdatedAt, &h.Certificate, &h.TLS)
	return h, err
}

func scanRule(row scanner) (r rules.Rule, err error) {
	err = row.Scan(&r.ID, &r.Host, &r.Path, &r.Match, &r.Conditions, &r.V1, &r.V2, &r.Percent, &r.Sticky,
		&r.StartsAt, &r.EndsAt, &r.Enabled, &r.Needs, &r.Note, &r.UpdatedAt)
	return r, err
}

func scanRedirect(row scanner) (r rules.Redirect, err error) {
	err = row.Scan(&r.ID, &r.Host, &r.Path, &r.Match, &r.ToURL, &r.Status, &r.KeepPath, &r.KeepQuery,
		&r.Enabled, &r.Needs, &r.Note, &r.UpdatedAt)
	return r, err
}

func scanGuard(row scanner) (g rules.GuardRow, err error) {
	err = row.Scan(&g.ID, &g.Host, &g.Path, &g.Allow, &g.Deny, &g.Rate, &g.Burst, &g.Users, &g.Realm, &g.Enabled, &g.Needs, &g.Note, &g.UpdatedAt)
	return g, err
}

// table says how a public table is edited.
type table struct {
	columns []string          // that an edit may set, in the order of images; a newer schema adds its own at the end
	key     []string          // that together name a row
	initial map[string]string // of key columns that an edit may leave out
	hasID   bool
	// read scans a row of select and says why it makes no sense; the row is what Apply returns.
	read  func(scanner) (row any, problem, err error)
	names string // the columns that read scans
}

// tableOf returns how a table is edited; false if an edit may not name it.
func tableOf(name Table) (table, bool) {
	switch name {
	case TableUpstreams:
		return table{
			columns: upstreamTable(),
			key:     []string{"name"}, names: upstreamColumns(rules.Schema),
			read: func(s scanner) (any, error, error) { u, err := scanUpstream(s); return u, u.Validate(), err },
		}, true
	case TableTargets:
		return table{
			columns: []string{"upstream", "url", "weight", "state"}, key: []string{"upstream", "url"}, hasID: true, names: targetColumns,
			read: func(s scanner) (any, error, error) { t, err := scanTarget(s); return t, t.Validate(), err },
		}, true
	case TableHosts:
		return table{
			columns: []string{"host", "https", "hsts", "needs", "note", "certificate", "tls"}, key: []string{"host"}, names: hostColumns,
			read: func(s scanner) (any, error, error) { h, err := scanHost(s); return h, h.Validate(), err },
		}, true
	case TableRules:
		return table{
			columns: []string{"host", "path", "match", "conditions", "v1", "v2", "percent", "sticky", "starts_at", "ends_at", "enabled", "needs", "note"},
			key:     []string{"host", "path", "match", "conditions"}, initial: map[string]string{"path": "/", "match": string(rules.KindPrefix), "conditions": "{}"},
			hasID: true, names: ruleColumns,
			read: func(s scanner) (any, error, error) { r, err := scanRule(s); return r, r.Validate(), err },
		}, true
	case TableRedirects:
		return table{
			columns: []string{"host", "path", "match", "to_url", "status", "keep_path", "keep_query", "enabled", "needs", "note"},
			key:     []string{"host", "path", "match"}, initial: map[string]string{"path": "/", "match": string(rules.KindPrefix)},
			hasID: true, names: redirectColumns,
			read: func(s scanner) (any, error, error) { r, err := scanRedirect(s); return r, r.Validate(), err },
		}, true
	case TableGuards:
		return table{
			columns: []string{"host", "path", "allow", "deny", "rate", "burst", "users", "realm", "enabled", "needs", "note"},
			key:     []string{"host", "path"}, initial: map[string]string{"path": "/"}, hasID: true, names: guardColumns,
			read: func(s scanner) (any, error, error) { g, err := scanGuard(s); return g, g.Validate(), err },
		}, true
	case TableMeta:
		return table{columns: []string{"key", "value"}, key: []string{"key"}, names: "key, value", read: readMeta}, true
	}
	return table{}, false
}

func readMeta(s scanner) (any, error, error) {
	row := metaRow{}
	err := s.Scan(&row.Key, &row.Value)
	return row, row.validate(), err
}

// metaRow is a row of meta; only the default may be set through an edit.
type metaRow struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

func (m metaRow) validate() error {
	if m.Key != "default" {
		return errMetaKey
	}
	return nil
}
