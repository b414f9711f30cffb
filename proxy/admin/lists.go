package admin

import (
	"net/http"
	"slices"

	"cutover/rules"
)

// maxRows is how many rows a list may hold; an export has all.
const maxRows = 10_000

func (s *Server) listRules(w http.ResponseWriter, r *http.Request) error {
	host, err := hostFilter(r)
	if err != nil {
		return err
	}
	rows, more, err := s.Store.Rules(r.Context(), host, maxRows)
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
	host, err := hostFilter(r)
	if err != nil {
		return err
	}
	rows, more, err := s.Store.Redirects(r.Context(), host, maxRows)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, RedirectList{Redirects: rows, More: more, Problems: problemsOf(s.Store.Snapshot().Problems, host, "redirects")})
	return nil
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
	host, err := hostFilter(r)
	if err != nil {
		return err
	}
	rows, more, err := s.Store.Guards(r.Context(), host, maxRows)
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
