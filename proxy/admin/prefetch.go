package admin

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"time"

	"cutover/rules"
)

// Prefetcher keeps a queue of names that are to have a certificate.
type Prefetcher interface {
	// Prefetch queues names, and returns the number of their batch; with one of before they are added to that.
	Prefetch(ctx context.Context, batch int64, names []string) (int64, error)
	// Prefetched says how far a batch is; 0 stands for all of them.
	Prefetched(ctx context.Context, batch int64) (Prefetch, error)
	// CancelPrefetch takes names out of the queue, and returns those that were not in it. What is being ordered goes on.
	CancelPrefetch(ctx context.Context, names []string) (missing []string, err error)
	// CancelAllPrefetch takes all out, and returns how many.
	CancelAllPrefetch(ctx context.Context) (int, error)
	// ProvesWildcards reports whether wildcard certificates can be ordered at all.
	ProvesWildcards() bool
}

// PrefetchRequest is the body of POST /v1/certificates/prefetch.
type PrefetchRequest struct {
	Hosts []string `json:"hosts,omitempty"`
	All   bool     `json:"all,omitempty"`   // every host that may have a certificate
	Batch int64    `json:"batch,omitempty"` // add them to these, which were queued before
}

// PrefetchAnswer is the answer to POST /v1/certificates/prefetch.
type PrefetchAnswer struct {
	Batch  int64 `json:"batch"`
	Queued int   `json:"queued"`
	// Refused are hosts that may have no certificate: no rule, redirect or host row names them exactly; and names *.parent
	// that have no row of hosts of their own.
	Refused []string `json:"refused"`
	// Unprovable are names *.parent that the rules allow: a CA wants them proved by DNS-01, which is not set up.
	Unprovable []string `json:"unprovable,omitempty"`
}

// Prefetch is the answer to GET /v1/certificates/prefetch: how far a batch is.
type Prefetch struct {
	Batch        int64             `json:"batch"`
	Done         int               `json:"done"`
	Queued       int               `json:"queued"` // still to be done
	Failed       int               `json:"failed"` // never to be done: no rule names them any more
	WaitingTotal int               `json:"waiting_total"`
	Waiting      []BackedOffStatus `json:"waiting"` // of the queued ones, those that failed and are tried again: the first hundred
	Next         []string          `json:"next"`    // of the queued ones, those that go next: the first hundred
	Until        time.Time         `json:"until,omitzero"`
	Reason       string            `json:"reason,omitempty"` // why nothing is ordered until then
}

var errNoPrefetcher = refuse(http.StatusConflict, "systemctl start cutover", "no daemon runs, which would order the certificates")

// prefetch answers POST /v1/certificates/prefetch.
func (s *Server) prefetch(w http.ResponseWriter, r *http.Request) error {
	if s.Prefetcher == nil {
		return errNoPrefetcher
	}
	request, err := readPrefetch(w, r)
	if err != nil {
		return err
	}
	view := s.Store.Load()
	answer := PrefetchAnswer{Batch: request.Batch, Refused: []string{}}
	hosts := answer.sort(view, request.Hosts, s.Prefetcher.ProvesWildcards())
	if request.All {
		hosts = slices.Sorted(view.Hosts())
	}
	answer.Queued = len(hosts)
	if len(hosts) > 0 {
		if answer.Batch, err = s.Prefetcher.Prefetch(r.Context(), request.Batch, hosts); err != nil {
			return err
		}
	}
	writeJSON(w, http.StatusOK, answer)
	return nil
}

func readPrefetch(w http.ResponseWriter, r *http.Request) (request PrefetchRequest, err error) {
	if err := readJSON(w, r, &request); err != nil {
		return request, err
	}
	if request.All == (len(request.Hosts) > 0) {
		return request, refuse(http.StatusBadRequest, `send {"hosts": ["shop.example.com"]} or {"all": true}`, "say either hosts or all")
	}
	return request, nil
}

// sort returns the hosts that may have a certificate, and notes which may not.
func (a *PrefetchAnswer) sort(view *rules.View, asked []string, provesWildcards bool) (hosts []string) {
	for _, text := range asked {
		host, err := NormalizePattern(text)
		wildcard := err == nil && view.AllowsWildcard(host)
		switch {
		case wildcard && !provesWildcards:
			a.Unprovable = append(a.Unprovable, text)
		case err == nil && (wildcard || view.Allows(host)):
			hosts = append(hosts, host)
		default:
			a.Refused = append(a.Refused, text)
		}
	}
	return hosts
}

// PrefetchCancelled is the answer to POST /v1/certificates/prefetch/cancel.
type PrefetchCancelled struct {
	Cancelled int      `json:"cancelled"` // how many were taken out of the queue
	Missing   []string `json:"missing"`   // that were not in it
}

// cancelPrefetch answers POST /v1/certificates/prefetch/cancel, whose body is a PrefetchRequest without a batch.
func (s *Server) cancelPrefetch(w http.ResponseWriter, r *http.Request) error {
	if s.Prefetcher == nil {
		return errNoPrefetcher
	}
	request, err := readPrefetch(w, r)
	if err != nil {
		return err
	}
	answer := PrefetchCancelled{Missing: []string{}}
	if request.All {
		answer.Cancelled, err = s.Prefetcher.CancelAllPrefetch(r.Context())
	} else {
		err = s.cancelNamed(r.Context(), request.Hosts, &answer)
	}
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, answer)
	return nil
}

func (s *Server) cancelNamed(ctx context.Context, hosts []string, answer *PrefetchCancelled) error {
	names := make([]string, 0, len(hosts))
	for _, text := range hosts {
		name, err := NormalizePattern(text)
		if err != nil {
			return refuse(http.StatusBadRequest, "cutover certs prefetch shows the queue", "%q is no host", text)
		}
		names = append(names, name)
	}
	missing, err := s.Prefetcher.CancelPrefetch(ctx, names)
	answer.Missing = append(answer.Missing, missing...)
	answer.Cancelled = len(names) - len(missing)
	return err
}

// prefetched answers GET /v1/certificates/prefetch?batch=N.
func (s *Server) prefetched(w http.ResponseWriter, r *http.Request) error {
	if s.Prefetcher == nil {
		return errNoPrefetcher
	}
	batch, err := batchOf(r)
	if err != nil {
		return err
	}
	status, err := s.Prefetcher.Prefetched(r.Context(), batch)
	if err != nil {
		return err
	}
	status.Waiting = first(status.Waiting)
	if status.Next == nil {
		status.Next = []string{}
	}
	writeJSON(w, http.StatusOK, status)
	return nil
}

func batchOf(r *http.Request) (int64, error) {
	text := r.URL.Query().Get("batch")
	if text == "" {
		return 0, nil
	}
	batch, err := strconv.ParseInt(text, 10, 64)
	if err != nil || batch < 0 {
		return 0, refuse(http.StatusBadRequest, "leave batch out for all names", "batch must be the number that the POST answered, not %q", text)
	}
	return batch, nil
}

// Prefetch queues hosts for certificates.
func (c *Client) Prefetch(ctx context.Context, request PrefetchRequest) (PrefetchAnswer, error) {
	return call[PrefetchAnswer](ctx, c, http.MethodPost, "/v1/certificates/prefetch", request)
}

// Prefetched says how far a batch is; 0 stands for all of them.
func (c *Client) Prefetched(ctx context.Context, batch int64) (Prefetch, error) {
	return call[Prefetch](ctx, c, http.MethodGet, "/v1/certificates/prefetch?batch="+strconv.FormatInt(batch, 10), nil)
}

// CancelPrefetch takes hosts out of the queue; with All, all of them.
func (c *Client) CancelPrefetch(ctx context.Context, request PrefetchRequest) (PrefetchCancelled, error) {
	return call[PrefetchCancelled](ctx, c, http.MethodPost, "/v1/certificates/prefetch/cancel", request)
}
