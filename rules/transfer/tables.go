package transfer

import "cutover/rules"

// Rules says how rules are written.
func Rules() Table[rules.Rule] {
	type row = rules.Rule
	return Table[row]{
		name: "rules",
		initial: row{
			Path: "/", Match: rules.KindPrefix, Conditions: "{}", V1: rules.V1, V2: rules.V2, Sticky: rules.StickyCookie,
			Enabled: true, Needs: 1,
		},
		columns: []column[row]{
			textColumn("host", func(r *row) *string { return &r.Host }),
			textColumn("path", func(r *row) *string { return &r.Path }),
			textColumn("match", func(r *row) *string { return (*string)(&r.Match) }),
			textColumn("conditions", func(r *row) *string { return &r.Conditions }),
			textColumn("v1", func(r *row) *string { return &r.V1 }),
			textColumn("v2", func(r *row) *string { return &r.V2 }),
			percentColumn(func(r *row) *float64 { return &r.Percent }),
			textColumn("sticky", func(r *row) *string { return (*string)(&r.Sticky) }),
			textColumn("starts_at", func(r *row) *string { return &r.StartsAt }),
			textColumn("ends_at", func(r *row) *string { return &r.EndsAt }),
			boolColumn("enabled", func(r *row) *bool { return &r.Enabled }),
			wholeColumn("needs", func(r *row) *int { return &r.Needs }),
			textColumn("note", func(r *row) *string { return &r.Note }),
		},
		forget: func(r *row) { r.ID, r.UpdatedAt = 0, "" },
		host:   func(r *row) *string { return &r.Host },
		validate: func(r *row) error {
			return firstError(r.Validate(), checkConditions(r.Conditions), checkNeeds(r.Needs), checkNote(r.Note))
		},
		key: func(r *row) string { return r.Path + "\x00" + string(r.Match) + "\x00" + r.Conditions },
	}
}

// Redirects says how redirects are written.
func Redirects() Table[rules.Redirect] {
	type row = rules.Redirect
	return Table[row]{
		name:    "redirects",
		initial: row{Path: "/", Match: rules.KindPrefix, Status: 301, KeepQuery: true, Enabled: true, Needs: 1},
		columns: []column[row]{
			textColumn("host", func(r *row) *string { return &r.Host }),
			textColumn("path", func(r *row) *string { return &r.Path }),
			textColumn("match", func(r *row) *string { return (*string)(&r.Match) }),
			textColumn("to_url", func(r *row) *string { return &r.ToURL }),
			wholeColumn("status", func(r *row) *int { return &r.Status }),
			boolColumn("keep_path", func(r *row) *bool { return &r.KeepPath }),
			boolColumn("keep_query", func(r *row) *bool { return &r.KeepQuery }),
			boolColumn("enabled", func(r *row) *bool { return &r.Enabled }),
			wholeColumn("needs", func(r *row) *int { return &r.Needs }),
			textColumn("note", func(r *row) *string { return &r.Note }),
		},
		forget:   func(r *row) { r.ID, r.UpdatedAt = 0, "" },
		host:     func(r *row) *string { return &r.Host },
		validate: func(r *row) error { return firstError(r.Validate(), checkNeeds(r.Needs), checkNote(r.Note)) },
		key:      func(r *row) string { return r.Path + "\x00" + string(r.Match) },
	}
}

// Guards says how guards are written. The hashes of passwords are among it.
func Guards() Table[rules.GuardRow] {
	type row = rules.GuardRow
	return Table[row]{
		name:    "guards",
		initial: row{Path: "/", Enabled: true, Needs: 1},
		columns: []column[row]{
			textColumn("host", func(r *row) *string { return &r.Host }),
			textColumn("path", func(r *row) *string { return &r.Path }),
			textColumn("allow", func(r *row) *string { return &r.Allow }),
			textColumn("deny", func(r *row) *string { return &r.Deny }),
			numberColumn("rate", "a number of requests a second from 0 (no limit) to 1000000", func(r *row) *float64 { return &r.Rate }),
			wholeColumn("burst", func(r *row) *int64 { return &r.Burst }),
			textColumn("users", func(r *row) *string { return &r.Users }),
			textColumn("realm", func(r *row) *string { return &r.Realm }),
			boolColumn("enabled", func(r *row) *bool { return &r.Enabled }),
			wholeColumn("needs", func(r *row) *int { return &r.Needs }),
			textColumn("note", func(r *row) *string { return &r.Note }),
		},
		forget:   func(r *row) { r.ID, r.UpdatedAt = 0, "" },
		host:     func(r *row) *string { return &r.Host },
		validate: func(r *row) error { return firstError(r.Validate(), checkNeeds(r.Needs), checkNote(r.Note)) },
		key:      func(r *row) string { return r.Path },
	}
}
