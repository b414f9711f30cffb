package proxy

import (
	"bytes"
	_ "embed" // for the built-in page
	"fmt"
	"html/template"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

//go:embed page.html
var builtInPage string

// Page is what a page of the operator's own may show: {{.Status}}, {{.Title}}, {{.RequestID}} and {{.RetryAfter}}.
type Page struct {
	Status     int    `json:"status"`
	Title      string `json:"error"`
	RequestID  string `json:"request_id"`
	RetryAfter int    `json:"retry_after,omitempty"` // seconds; 0 where waiting does not help
}

// Pages has the pages that visitors get where no upstream answers. A nil Pages has the built-in one.
type Pages struct {
	own map[int]*template.Template
}

// LoadPages reads pages such as 502.html (html/template) from a folder; an empty dir means none. A page that cannot be
// rendered is an error here, not when a visitor needs it.
func LoadPages(dir string) (*Pages, error) {
	pages := &Pages{own: map[int]*template.Template{}}
	if dir == "" {
		return pages, nil
	}
	if _, err := os.Stat(dir); err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(dir, "[1-5][0-9][0-9].html"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		status, _ := strconv.Atoi(strings.TrimSuffix(filepath.Base(file), ".html")) // three digits
		page, err := template.ParseFiles(file)
		if err != nil {
			return nil, err
		}
		if err := page.Execute(&bytes.Buffer{}, Page{Status: status}); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		pages.own[status] = page
	}
	return pages, nil
}

// html renders the operator's page for a status, or the built-in one.
func (p *Pages) html(page Page) []byte {
	var out bytes.Buffer
	if p != nil && p.own[page.Status] != nil && p.own[page.Status].Execute(&out, page) == nil {
		return out.Bytes()
	}
	out.Reset()
	_ = template.Must(template.New("page").Parse(builtInPage)).Execute(&out, page) // a test renders it
	return out.Bytes()
}
