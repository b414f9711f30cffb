package admin

import (
	"context"
	"net/http"
	"slices"
	"strconv"

	"cutover/rules"
)

// maxRows is how many rows a list may hold; an export has all.
const maxRows = 10_000

func (s *Server) listRules(w http.ResponseWriter, r *http.Request) error {
	rows, more, host, err := listed(r, s.Store.Rule, s.Store.Rules)
	if err != nil {
		return err
	}
	snapshot := s.Store.Snapshot()
	writeJSON(w, http.StatusOK, RuleList{
		Default: snapshot.View.Default(), Rules: rows, More: more, Problems: problemsOf(snapshot.Problems, host, "rules", "meta"),
	})
	return nil
}

func (s *Server) listRedirects(w http.ResponseWriter, r *http.Request) error {
	rows, more, host, err := listed(r, s.Store.Redirect, s.Store.Redirects)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, RedirectList{Redirects: rows, More: more, Problems: problemsOf(s.Store.Snapshot().Problems, host, "redirects")})
	return nil
}

// listed returns the row of ?id=, or those of ?host=, or all.
func listed[Row any](r *http.Request, one func(context.Context, int64) (*Row, error), some func(context.Context, string, int) ([]Row, bool, error)) (rows []Row, more bool, host string, err error) {
	if text := r.URL.Query().Get("id"); text != "" {
		id, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, false, "", refuse(http.StatusBadRequest, "give the number that a list shows", "id %q is not a whole number", text)
		}
		rows = []Row{}
		row, err := one(r.Context(), id)
		if row != nil {
			rows = append(rows, *row)
		}
		return rows, false, "", err
	}
	if host, err = hostFilter(r); err != nil {
		return nil, false, "", err
	}
	rows, more, err = some(r.Context(), host, maxRows)
	return rows, more, host, err
}

func (s *Server) listUpstreams(w http.ResponseWriter, r *http.Request) error {
	upstreams, err := s.Store.Upstreams(r.Context())
	if err != nil {
		return err
	}
	for i := range upstreams {
		if upstreams[i].Targets == nil {
			upstreams[i].Targets = []rules.Target{} // [] in JSON
		}
	}
	writeJSON(w, http.StatusOK, UpstreamList{Upstreams: upstreams, Problems: problemsOf(s.Store.Snapshot().Problems, "", "upstreams", "targets")})
	return nil
}

func (s *Server) listHosts(w http.ResponseWriter, r *http.Request) error {
	host, err := hostFilter(r)
	if err != nil {
		return err
	}
	rows, more, err := s.Store.Hosts(r.Context(), host, maxRows)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, HostList{Hosts: rows, More: more, Problems: problemsOf(s.Store.Snapshot().Problems, host, "hosts")})
	return nil
}

func (s *Server) listGuards(w http.ResponseWriter, r *http.Request) error {
	rows, more, host, err := listed(r, s.Store.Guard, s.Store.Guards)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, GuardList{Guards: rows, More: more, Problems: problemsOf(s.Store.Snapshot().Problems, host, "guards")})
	return nil
}

// hostFilter returns the host of ?host=, in the form that rows have it, or "" for all.
func hostFilter(r *http.Request) (string, error) {
	text := r.URL.Query().Get("host")
	if text == "" {
		return "", nil
	}
	host, err := NormalizePattern(text)
	if err != nil {
		return "", refuse(http.StatusBadRequest, "give a name such as shop.example.com, *.example.com or *", "host %q: %v", text, err)
	}
	return host, nil
}

// only returns the rows that keep accepts, as a list of its own that is never nil.
func only[Row any](rows []Row, keep func(Row) bool) []Row {
	kept := make([]Row, 0, len(rows))
	for _, row := range rows {
		if keep(row) {
			kept = append(kept, row)
		}
	}
	return kept
}

func problemsOf(problems []rules.Problem, host string, tables ...string) []rules.Problem {
	return only(problems, func(p rules.Problem) bool {
		return slices.Contains(tables, p.Table) && (host == "" || p.Host == host)
	})
}
