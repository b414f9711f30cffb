package admin

import (
	"net/http"
	"time"

	"cutover/rules"
)

func (s *Server) status(w http.ResponseWriter, _ *http.Request) error {
	snapshot := s.Store.Snapshot()
	answer := Status{
		Version: s.Version, PID: s.pid(), Running: s.Status != nil,
		Store: s.Store.Health(),
		Rules: RulesStatus{
			Default: snapshot.View.Default(), Counts: snapshot.View.Counts(),
			LoadedAt: snapshot.LoadedAt, LastEdit: snapshot.LastEdit, NextChange: snapshot.View.NextChange(),
			ProblemsTotal: len(snapshot.Problems), Problems: first(snapshot.Problems),
		},
	}
	s.addReadiness(&answer)
	s.addParts(&answer, snapshot.View.Upstreams())
	writeJSON(w, http.StatusOK, answer)
	return nil
}

func (s *Server) addReadiness(answer *Status) {
	if !answer.Running {
		answer.NotReady = "no process serves"
		return
	}
	err := s.readiness()
	answer.Ready = err == nil
	if err != nil {
		answer.NotReady = err.Error()
	}
}

// addParts adds what the daemon knows; without a daemon, the upstreams are shown as the rows have them.
func (s *Server) addParts(answer *Status, rows []*rules.Upstream) {
	if s.Status == nil {
		answer.Upstreams = upstreamRows(rows)
		return
	}
	parts := s.Status()
	answer.StartedAt = parts.StartedAt
	if !parts.StartedAt.IsZero() {
		answer.UptimeSeconds = int64(time.Since(parts.StartedAt) / time.Second)
	}
	answer.Sockets = parts.Sockets
	answer.Connections = parts.Connections
	answer.Totals = parts.Totals
	answer.Memory = parts.Memory
	answer.ErrorPages = parts.ErrorPages
	answer.Upstreams = first(parts.Upstreams)
	answer.Sources = parts.Sources[:min(len(parts.Sources), maxListed)]
	answer.Older = parts.Older
	if parts.Certificates != nil {
		certificates := *parts.Certificates
		certificates.BackedOffTotal = max(certificates.BackedOffTotal, len(certificates.BackedOff))
		certificates.BackedOff = first(certificates.BackedOff)
		if certificates.Budget != nil {
			certificates.Budget.Holds = first(certificates.Budget.Holds)
		}
		certificates.EndingTotal = max(certificates.EndingTotal, len(certificates.Ending))
		certificates.Ending = first(certificates.Ending)
		certificates.Files = first(certificates.Files)
		answer.Certificates = &certificates
	}
}

func upstreamRows(rows []*rules.Upstream) []UpstreamStatus {
	shown := make([]UpstreamStatus, 0, len(rows))
	for _, row := range first(rows) {
		upstream := UpstreamStatus{Name: row.Name, Targets: make([]TargetStatus, 0, len(row.Targets))}
		for _, target := range row.Targets {
			upstream.Targets = append(upstream.Targets, TargetStatus{URL: target.URL, State: target.State, Weight: target.Weight})
		}
		shown = append(shown, upstream)
	}
	return shown
}

// first cuts a list to what an answer may hold; it is never nil.
func first[Entry any](list []Entry) []Entry {
	if list == nil {
		return []Entry{}
	}
	return list[:min(len(list), maxListed)]
}
