package proxy

import (
	"bytes"
	_ "embed" // for the built-in page
	"encoding/json"
	"fmt"
	"html/template"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

//go:embed page.html
var builtInText string

var builtIn = template.Must(template.New("page").Parse(builtInText)) //nolint:gochecknoglobals // it never changes

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

// render returns a page in the form that the visitor prefers.
func (p *Pages) render(page Page, accept []string) (kind string, body []byte) {
	switch preferred(accept, "text/plain", "text/html", "application/json") {
	case "text/html":
		return "text/html; charset=utf-8", p.html(page)
	case "application/json":
		body, _ = json.Marshal(page) // numbers and strings can always be written
		return "application/json", append(body, '\n')
	}
	return "text/plain; charset=utf-8", fmt.Appendf(nil, "%d %s\nRequest %s\n", page.Status, page.Title, page.RequestID)
}

// html renders the operator's page for a status, or the built-in one.
func (p *Pages) html(page Page) []byte {
	var out bytes.Buffer
	if p != nil && p.own[page.Status] != nil && p.own[page.Status].Execute(&out, page) == nil {
		return out.Bytes()
	}
	out.Reset()
	_ = builtIn.Execute(&out, page) // a test renders it
	return out.Bytes()
}

// preferred returns which of the offered types an Accept header likes best (RFC 9110 §12.5.1). Only exact names count:
// "*/*" and silence get the first.
func preferred(accept []string, offered ...string) string {
	best, weight := offered[0], 0.0
	for _, line := range accept {
		for entry := range strings.SplitSeq(line, ",") {
			name, parameters, _ := strings.Cut(entry, ";")
			name = strings.ToLower(strings.TrimSpace(name))
			for _, kind := range offered {
				if q := quality(parameters); kind == name && q > weight {
					best, weight = kind, q
				}
			}
		}
	}
	return best
}

// quality reads the q of an entry of Accept; without one it is 1.
func quality(parameters string) float64 {
	for parameter := range strings.SplitSeq(parameters, ";") {
		if text, ok := strings.CutPrefix(strings.TrimSpace(parameter), "q="); ok {
			q, err := strconv.ParseFloat(text, 64)
			if err != nil {
				return 0
			}
			return q
		}
	}
	return 1
}
