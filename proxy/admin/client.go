package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"cutover/rules/store"
)

// maxAnswer bounds what the client reads: a list of all rules may be long.
const maxAnswer = 1 << 30

// Client talks to the API. Its methods return an *Error for a request that was refused, and another error if there
// was no answer.
type Client struct {
	http *http.Client
}

// Dial returns a client for the unix socket at path. It connects when it is used.
func Dial(path string) *Client {
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dialer.DialContext(ctx, "unix", path) },
		// One command makes a handful of requests and ends.
		MaxIdleConns: 1, IdleConnTimeout: 10 * time.Second,
	}
	return &Client{http: &http.Client{Transport: transport, Timeout: 2 * time.Minute}}
}

// Direct returns a client for a handler in this process, see As.
func Direct(handler http.Handler) *Client {
	return &Client{http: &http.Client{Transport: inProcess{handler}, Timeout: 2 * time.Minute}}
}

// Close gives up idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// patient returns a client for what takes as long as it takes.
func (c *Client) patient() *Client {
	return &Client{http: &http.Client{Transport: c.http.Transport}}
}

// Status asks how the daemon is.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return get[Status](ctx, c, "/v1/status", "")
}

// Rules lists the rules of host, or all if host is "".
func (c *Client) Rules(ctx context.Context, host string) (RuleList, error) {
	return get[RuleList](ctx, c, "/v1/rules", host)
}

// Rule lists the rule of an id: one, or none if it is gone.
func (c *Client) Rule(ctx context.Context, id string) (RuleList, error) {
	return call[RuleList](ctx, c, http.MethodGet, "/v1/rules?id="+url.QueryEscape(id), nil)
}

// Redirect lists the redirect of an id: one, or none if it is gone.
func (c *Client) Redirect(ctx context.Context, id string) (RedirectList, error) {
	return call[RedirectList](ctx, c, http.MethodGet, "/v1/redirects?id="+url.QueryEscape(id), nil)
}

// Redirects lists the redirects of host, or all if host is "".
func (c *Client) Redirects(ctx context.Context, host string) (RedirectList, error) {
	return get[RedirectList](ctx, c, "/v1/redirects", host)
}

// Upstreams lists the upstreams with their targets.
func (c *Client) Upstreams(ctx context.Context) (UpstreamList, error) {
	return get[UpstreamList](ctx, c, "/v1/upstreams", "")
}

// Hosts lists the rows of host, or all if host is "".
func (c *Client) Hosts(ctx context.Context, host string) (HostList, error) {
	return get[HostList](ctx, c, "/v1/hosts", host)
}

// Guards lists the guards of host, or all if host is "".
func (c *Client) Guards(ctx context.Context, host string) (GuardList, error) {
	return get[GuardList](ctx, c, "/v1/guards", host)
}

// Guard lists the guard of an id: one, or none if it is gone.
func (c *Client) Guard(ctx context.Context, id string) (GuardList, error) {
	return call[GuardList](ctx, c, http.MethodGet, "/v1/guards?id="+url.QueryEscape(id), nil)
}

// Edit makes all the edits or none. When it returns, they are on disk and in force.
func (c *Client) Edit(ctx context.Context, request EditRequest) (store.Result, error) {
	return call[store.Result](ctx, c, http.MethodPost, "/v1/edits", request)
}

// Explain says what a request would meet, and why.
func (c *Client) Explain(ctx context.Context, request ExplainRequest) (Explanation, error) {
	return call[Explanation](ctx, c, http.MethodPost, "/v1/explain", request)
}

// History lists changes, the newest first.
func (c *Client) History(ctx context.Context, f store.Filter) (HistoryList, error) {
	return call[HistoryList](ctx, c, http.MethodGet, "/v1/history?"+historyQuery(f).Encode(), nil)
}

// Undo takes changes back, all or none.
func (c *Client) Undo(ctx context.Context, request UndoRequest) (store.Reversal, error) {
	return call[store.Reversal](ctx, c, http.MethodPost, "/v1/undo", request)
}

// Restore brings back everything as it stood at a time.
func (c *Client) Restore(ctx context.Context, request RestoreRequest) (store.Reversal, error) {
	return call[store.Reversal](ctx, c.patient(), http.MethodPost, "/v1/restore", request)
}

// Backup returns a copy of the database, and its size in bytes. A read that ends early returns io.ErrUnexpectedEOF. The
// caller closes the copy.
func (c *Client) Backup(ctx context.Context) (copied io.ReadCloser, size int64, err error) {
	request, err := newRequest(ctx, http.MethodGet, "/v1/backup", nil)
	if err != nil {
		return nil, 0, err
	}
	response, err := c.patient().http.Do(request)
	if err != nil {
		return nil, 0, fmt.Errorf("ask the daemon: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		defer func() { _ = response.Body.Close() }() // it was only read
		return nil, 0, readError(response.StatusCode, response.Body)
	}
	return response.Body, response.ContentLength, nil
}

func get[Answer any](ctx context.Context, c *Client, path, host string) (Answer, error) {
	if host != "" {
		path += "?" + url.Values{"host": {host}}.Encode()
	}
	return call[Answer](ctx, c, http.MethodGet, path, nil)
}

func call[Answer any](ctx context.Context, c *Client, method, path string, body any) (Answer, error) {
	var answer Answer
	request, err := newRequest(ctx, method, path, body)
	if err != nil {
		return answer, err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return answer, fmt.Errorf("ask the daemon: %w", err)
	}
	defer func() { _ = response.Body.Close() }() // it was only read
	limited := io.LimitReader(response.Body, maxAnswer)
	if response.StatusCode/100 != 2 {
		return answer, readError(response.StatusCode, limited)
	}
	decoder := json.NewDecoder(limited)
	decoder.UseNumber() // for ids within the rows of a Result
	if err := decoder.Decode(&answer); err != nil {
		return answer, fmt.Errorf("the answer of the daemon to %s %s cannot be read: %w", method, path, err)
	}
	return answer, nil
}

func newRequest(ctx context.Context, method, path string, body any) (*http.Request, error) {
	var reader io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		reader = bytes.NewReader(data)
	}
	// The host is not looked up; it only has to be there.
	request, err := http.NewRequestWithContext(ctx, method, "http://cutover"+path, reader)
	if err == nil && body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	return request, err
}

func readError(status int, body io.Reader) error {
	data, err := io.ReadAll(io.LimitReader(body, 64<<10))
	if err != nil {
		return fmt.Errorf("the daemon answered %d, and the rest was lost: %w", status, err)
	}
	answer := &Error{Status: status}
	if json.Unmarshal(data, answer) != nil || answer.Message == "" {
		answer.Message = fmt.Sprintf("the daemon answered %d: %s", status, strings.TrimSpace(string(data)))
		answer.Hint = "is it another program that listens there, or another version?"
	}
	return answer
}
