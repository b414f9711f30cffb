package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"cutover/rules"
	"cutover/rules/store"
)

// ImportProgress is a line of the answer to POST /v1/import/{table}. The last line has a result or an error.
type ImportProgress struct {
	Done   int                 `json:"done,omitempty"` // rows that are written
	Result *store.ImportResult `json:"result,omitempty"`
	Failed *Error              `json:"failed,omitempty"`
}

// ChainList is the answer to GET /v1/redirects/check.
type ChainList struct {
	Chains []rules.Chain `json:"chains"`
}

// ImportRequest says how rows are imported.
type ImportRequest struct {
	Table   store.Table
	Replace bool // rows that are not among these are removed
	Partial bool // bad rows are left out
	DryRun  bool
}

func (i ImportRequest) path() string {
	query := url.Values{"mode": {"append"}, "partial": {strconv.FormatBool(i.Partial)}, "dry_run": {strconv.FormatBool(i.DryRun)}}
	if i.Replace {
		query.Set("mode", "replace")
	}
	return "/v1/import/" + string(i.Table) + "?" + query.Encode()
}

// Import sends rows, a line each, and returns when they are in force. progress is told how many are written. If reading rows
// fails, nothing is changed.
func (c *Client) Import(ctx context.Context, request ImportRequest, rows io.Reader, progress func(done int)) (store.ImportResult, error) {
	response, err := c.stream(ctx, http.MethodPost, request.path(), rows)
	if err != nil {
		return store.ImportResult{}, err
	}
	defer func() { _ = response.Body.Close() }() // it was only read
	decoder := json.NewDecoder(response.Body)
	for {
		var line ImportProgress
		switch err := decoder.Decode(&line); {
		case err != nil:
			return store.ImportResult{}, fmt.Errorf("the daemon broke off, and whether the rows are in force is not known: %w", err)
		case line.Failed != nil:
			return store.ImportResult{}, line.Failed
		case line.Result != nil:
			return *line.Result, nil
		}
		progress(line.Done)
	}
}

// ExportRules yields every rule, sorted by host and path, and ends with yield's error.
func (c *Client) ExportRules(ctx context.Context, yield func(*rules.Rule) error) error {
	return export(ctx, c, "/v1/export/rules", yield)
}

// ExportRedirects is ExportRules for redirects.
func (c *Client) ExportRedirects(ctx context.Context, yield func(*rules.Redirect) error) error {
	return export(ctx, c, "/v1/export/redirects", yield)
}

// ExportGuards is ExportRules for guards.
func (c *Client) ExportGuards(ctx context.Context, yield func(*rules.GuardRow) error) error {
	return export(ctx, c, "/v1/export/guards", yield)
}

// Chains lists the redirects that do not lead straight to a destination.
func (c *Client) Chains(ctx context.Context) (ChainList, error) {
	return get[ChainList](ctx, c, "/v1/redirects/check", "")
}

func export[Row any](ctx context.Context, c *Client, path string, yield func(*Row) error) error {
	response, err := c.stream(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }() // it was only read
	decoder := json.NewDecoder(response.Body)
	for {
		var row Row
		err := decoder.Decode(&row)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("the daemon broke off, and rows are missing: %w", err)
		}
		if err := yield(&row); err != nil {
			return err
		}
	}
}

// stream makes a request that may take as long as it needs.
func (c *Client) stream(ctx context.Context, method, path string, body io.Reader) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, "http://cutover"+path, body)
	if err != nil {
		return nil, err
	}
	patient := http.Client{Transport: c.http.Transport}
	response, err := patient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("ask the daemon: %w", err)
	}
	if response.StatusCode/100 != 2 {
		defer func() { _ = response.Body.Close() }() // it was only read
		return nil, readError(response.StatusCode, response.Body)
	}
	return response, nil
}

// Request is the request that is to be explained, as a server would get it.
func (e *ExplainRequest) Request() (*http.Request, error) { return e.imagine() }
