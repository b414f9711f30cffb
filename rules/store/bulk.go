package store

import (
	"context"
	"errors"
	"math"
	"strconv"
	"strings"
	"sync/atomic"

	"cutover/rules"
)

// bulk reads a table in chunks, each as one long text: to hand a row over from SQLite by itself costs more than all that
// is done with it. A row is fields between unit separators, a chunk is rows between record separators (ASCII 31 and
// 30). A chunk in which a text holds one of those itself does not add up, and is read row by row.
type bulk[Row any] struct {
	chunk string // SQL: after an id, returns how many rows, the last id, and the text
	parse func(fields *splitter) (Row, error)
	add   func(*Row)
	slow  func(ctx context.Context, q queryer, after, last int64) error
}

const chunkRows = "5000"

const (
	fieldEnd = '\x1f'
	rowEnd   = '\x1e'
)

// ruleFields is a row of rules as text; most rows need only the first five fields.
const ruleFields = `id||x'1f'||host||x'1f'||iif(typeof(percent) IN ('integer','real'),percent,-1)||x'1f'||v1||x'1f'||v2
	||iif(path='/' AND match='prefix' AND conditions='{}' AND sticky='cookie' AND starts_at='' AND ends_at='' AND enabled=1 AND needs=1, '',
	x'1f'||path||x'1f'||match||x'1f'||conditions||x'1f'||sticky||x'1f'||starts_at||x'1f'||ends_at||x'1f'||(enabled IS 1)||x'1f'||iif(typeof(needs)='integer',needs,1))`

const redirectFields = `id||x'1f'||host||x'1f'||path||x'1f'||match||x'1f'||to_url||x'1f'||iif(typeof(status)='integer',status,-1)
	||x'1f'||(keep_path IS 1)||x'1f'||(keep_query IS 1)||x'1f'||(enabled IS 1)||x'1f'||iif(typeof(needs)='integer',needs,1)`

func chunkQuery(table, fields string) string {
	return "SELECT count(*), coalesce(max(id),0), coalesce(group_concat(" + fields + ", x'1e'),'') FROM (SELECT * FROM " + table +
		" WHERE id>? ORDER BY id LIMIT " + chunkRows + ")"
}

func ruleBulk(builder *rules.Builder) bulk[rules.Rule] {
	return bulk[rules.Rule]{
		chunk: chunkQuery("rules", ruleFields), parse: parseRule, add: builder.AddRule,
		slow: func(ctx context.Context, q queryer, after, last int64) error {
			return eachRule(ctx, q, "id>? AND id<=?", builder.AddRule, after, last)
		},
	}
}

func redirectBulk(builder *rules.Builder) bulk[rules.Redirect] {
	return bulk[rules.Redirect]{
		chunk: chunkQuery("redirects", redirectFields), parse: parseRedirect, add: builder.AddRedirect,
		slow: func(ctx context.Context, q queryer, after, last int64) error {
			return eachRedirect(ctx, q, "id>? AND id<=?", builder.AddRedirect, after, last)
		},
	}
}

// piece is a chunk as it was read.
type piece struct {
	after, last int64
	rows        int
	text        string
	err         error
}

// load reads the table. SQLite goes on with the next chunk while the one before is taken apart.
func (b bulk[Row]) load(ctx context.Context, q queryer) error {
	pieces := make(chan piece, 2)
	var enough atomic.Bool
	go func() {
		defer close(pieces)
		b.read(ctx, q, pieces, &enough)
	}()
	var garbled []piece
	var failed error
	rows := []Row{}
	for p := range pieces {
		if p.err != nil {
			failed = p.err
			enough.Store(true)
			continue
		}
		ok := false
		if rows, ok = b.rows(rows[:0], p); !ok {
			garbled = append(garbled, p)
			continue
		}
		for i := range rows {
			b.add(&rows[i])
		}
	}
	for _, p := range garbled {
		if failed == nil {
			failed = b.slow(ctx, q, p.after, p.last)
		}
	}
	return failed
}

// read sends every chunk, and ends after an error.
func (b bulk[Row]) read(ctx context.Context, q queryer, pieces chan<- piece, enough *atomic.Bool) {
	p := piece{last: math.MinInt64} // ids from 1 on, unless triggers were off
	for !enough.Load() {
		p.after = p.last
		p.err = q.QueryRowContext(ctx, b.chunk, p.after).Scan(&p.rows, &p.last, &p.text)
		if p.err == nil && p.rows == 0 {
			return
		}
		pieces <- p
		if p.err != nil {
			return
		}
	}
}

// rows takes a chunk apart; false if it does not add up.
func (b bulk[Row]) rows(list []Row, p piece) ([]Row, bool) {
	rest := splitter{rest: p.text, end: rowEnd}
	for !rest.done {
		fields := splitter{rest: rest.next(), end: fieldEnd}
		row, err := b.parse(&fields)
		if err != nil || !fields.done {
			return list, false
		}
		list = append(list, row)
	}
	return list, len(list) == p.rows
}

// splitter cuts a text at a separator.
type splitter struct {
	rest string
	end  byte
	done bool // next has returned the last part
}

func (s *splitter) next() string {
	i := strings.IndexByte(s.rest, s.end)
	if i < 0 {
		s.done = true
		return s.rest
	}
	part := s.rest[:i]
	s.rest = s.rest[i+1:]
	return part
}

func (s *splitter) int(err *error) int64 {
	n, problem := strconv.ParseInt(s.next(), 10, 64)
	*err = errors.Join(*err, problem)
	return n
}

// bool reads 1 or 0.
func (s *splitter) bool() bool { return s.next() == "1" }

func parseRule(f *splitter) (r rules.Rule, err error) {
	r = rules.Rule{
		ID: f.int(&err), Host: f.next(), Path: "/", Match: rules.KindPrefix, Conditions: "{}",
		Sticky: rules.StickyCookie, Enabled: true, Needs: 1,
	}
	var problem error
	r.Percent, problem = strconv.ParseFloat(f.next(), 64)
	r.V1, r.V2 = f.next(), f.next()
	if !f.done {
		r.Path, r.Match, r.Conditions, r.Sticky = f.next(), rules.Kind(f.next()), f.next(), rules.Sticky(f.next())
		r.StartsAt, r.EndsAt, r.Enabled, r.Needs = f.next(), f.next(), f.bool(), int(f.int(&err))
	}
	return r, errors.Join(err, problem)
}

func parseRedirect(f *splitter) (r rules.Redirect, err error) {
	return rules.Redirect{
		ID: f.int(&err), Host: f.next(), Path: f.next(), Match: rules.Kind(f.next()), ToURL: f.next(), Status: int(f.int(&err)),
		KeepPath: f.bool(), KeepQuery: f.bool(), Enabled: f.bool(), Needs: int(f.int(&err)),
	}, err
}
