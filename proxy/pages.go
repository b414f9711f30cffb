package proxy

import (
	_ "embed" // for the built-in page
	"encoding/json"
	"fmt"
	"html/template"
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

// render returns a page of a host, which is in normal form, in the form that the visitor prefers.
func (p *Pages) render(page Page, host string, accept []string) (kind string, body []byte) {
	switch preferred(accept, "text/plain", "text/html", "application/json") {
	case "text/html":
		return "text/html; charset=utf-8", p.html(page, host)
	case "application/json":
		body, _ = json.Marshal(page) // numbers and strings can always be written
		return "application/json", append(body, '\n')
	}
	return "text/plain; charset=utf-8", fmt.Appendf(nil, "%d %s\nRequest %s\n", page.Status, page.Title, page.RequestID)
}

// html renders the operator's page for a host and a status, or the built-in one.
func (p *Pages) html(page Page, host string) []byte {
	if own := p.find(host, page.Status); own != nil {
		if text, err := show(own, page); err == nil {
			return text
		}
	}
	text, _ := show(builtIn, page) // a test renders it
	return text
}

func show(page *template.Template, with Page) ([]byte, error) {
	var out rendered
	err := page.Execute(&out, with)
	return out.text, err
}

// rendered is a page on its way, which must not grow without end.
type rendered struct{ text []byte }

func (r *rendered) Write(b []byte) (int, error) {
	if len(r.text)+len(b) > maxRendered {
		return 0, fmt.Errorf("it becomes longer than %d KiB", maxRendered>>10)
	}
	r.text = append(r.text, b...)
	return len(b), nil
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
