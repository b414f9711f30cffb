package proxy

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"cutover/rules"
)

// writePage writes a file below dir, as an editor does: the whole of it at once.
func writePage(t *testing.T, dir, name, text string) {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

func pagesOf(t *testing.T, files map[string]string) (dir string, pages *Pages) {
	t.Helper()
	dir = t.TempDir()
	for name, text := range files {
		writePage(t, dir, name, text)
	}
	return dir, OpenPages(dir, nil)
}

func shown(p *Pages, host string, status int) string {
	_, body := p.render(Page{Status: status, Title: http.StatusText(status), RequestID: "abc"}, host, []string{"text/html"})
	return string(body)
}

func TestTheMostSpecificPageIsShown(t *testing.T) {
	_, pages := pagesOf(t, map[string]string{
		"a.test/502.html": "a 502", "a.test/default.html": "a {{.Status}}", "502.html": "all 502", "default.html": "all {{.Status}}",
		"b.test/503.html": "b 503", "a.test/notes.txt": "{{", "style.css": "{{",
	})
	for _, c := range []struct {
		host   string
		status int
		want   string
	}{
		{"a.test", 502, "a 502"},
		{"a.test", 503, "a 503"},
		{"b.test", 503, "b 503"},
		{"b.test", 502, "all 502"},
		{"b.test", 404, "all 404"},
		{"c.test", 502, "all 502"},
		{"", 400, "all 400"},
	} {
		if got := shown(pages, c.host, c.status); got != c.want {
			t.Errorf("%s %d: %q, want %q", c.host, c.status, got, c.want)
		}
	}
	if s := pages.Status(); s.Pages != 5 || len(s.Problems) != 0 || s.Missing {
		t.Errorf("%+v", s)
	}
}

func TestWhatAPageShowsOfARequestIsEscaped(t *testing.T) {
	_, pages := pagesOf(t, map[string]string{"default.html": `<p title="{{.RequestID}}">{{.RequestID}}</p>`})
	_, body := pages.render(Page{Status: 502, RequestID: `"><script>`}, "", []string{"text/html"})
	if strings.Contains(string(body), "<script>") {
		t.Error(string(body))
	}
}

func TestOnlyCutoversOwnAnswersHaveAPage(t *testing.T) {
	_, pages := pagesOf(t, map[string]string{"default.html": "own {{.Status}}", "a.test/default.html": "a {{.Status}} {{.RequestID}}"})
	s := newSite(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "the target's", http.StatusBadGateway) }), nil, func(s *site) {
		s.rows.Guards = []rules.GuardRow{{ID: 1, Host: "a.test", Path: "/no", Deny: "127.0.0.1", Enabled: true}, {ID: 2, Host: "b.test", Path: "/no", Deny: "127.0.0.1", Enabled: true}}
		s.handler.Pages = pages
	})
	html := func(r *http.Request) { r.Header.Set("Accept", "text/html,*/*;q=0.8") }
	if a := s.get(t, "a.test", "/", html); a.StatusCode != http.StatusBadGateway || a.body != "the target's\n" {
		t.Errorf("what a target answers becomes %d %q", a.StatusCode, a.body)
	}
	a := s.get(t, "A.TEST", "/no", html)
	if a.StatusCode != http.StatusForbidden || a.body != "a 403 "+a.Header.Get("X-Request-Id") || a.Header.Get("Content-Type") != "text/html; charset=utf-8" || a.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%d %q %v", a.StatusCode, a.body, a.Header)
	}
	if b := s.get(t, "b.test", "/no", html); b.body != "own 403" {
		t.Errorf("another host: %q", b.body)
	}
	if a := s.get(t, "a.test", "/no", func(r *http.Request) { r.Header.Set("Accept", "application/json") }); !strings.HasPrefix(a.body, `{"status":403,`) {
		t.Errorf("who asks for JSON alone gets %q", a.body)
	}
	head := s.get(t, "a.test", "/no", func(r *http.Request) { html(r); r.Method = http.MethodHead })
	if head.StatusCode != http.StatusForbidden || head.body != "" || head.Header.Get("Content-Length") != strconv.Itoa(len(a.body)) {
		t.Errorf("HEAD: %d %q %v", head.StatusCode, head.body, head.Header)
	}
	recorder := newRecorder()
	s.handler.Metrics.Handler().ServeHTTP(recorder, &http.Request{Method: http.MethodGet, Header: http.Header{}})
	if !strings.Contains(recorder.text.String(), `cutover_events_total{kind="answer",outcome="403"} 4`) {
		t.Error("the answers are not counted")
	}
}

func TestNothingThatAStrangerSendsLeadsToAFile(t *testing.T) {
	dir, _ := pagesOf(t, map[string]string{"pages/default.html": "own", "secret/502.html": "secret"})
	pages := OpenPages(filepath.Join(dir, "pages"), nil)
	for _, host := range []string{"../secret", "..", "/", "secret", "%2e%2e", "."} {
		if got := shown(pages, host, 502); got != "own" {
			t.Errorf("%q: %q", host, got)
		}
	}
}

func TestPagesAreReadAnewWhenTheyChange(t *testing.T) {
	dir, pages := pagesOf(t, map[string]string{"502.html": "first"})
	writePage(t, dir, "502.html", "then")
	writePage(t, dir, "a.test/502.html", "new")
	pages.look()
	if got := shown(pages, "b.test", 502) + " " + shown(pages, "a.test", 502); got != "then new" {
		t.Error(got)
	}
	if err := os.RemoveAll(filepath.Join(dir, "a.test")); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "502.html")); err != nil {
		t.Fatal(err)
	}
	pages.look()
	if got := shown(pages, "a.test", 502); !strings.Contains(got, "<h1>Bad Gateway</h1>") {
		t.Errorf("removed, and still there: %q", got)
	}
}

func TestTheFolderIsLookedAtEveryFewSecondsAndMayComeLater(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "later")
	synctest.Test(t, func(t *testing.T) {
		pages := OpenPages(dir, nil)
		if s := pages.Status(); !s.Missing || len(s.Problems) != 0 {
			t.Errorf("%+v", s)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- pages.Run(ctx) }()
		writePage(t, dir, "502.html", "later")
		time.Sleep(pagesEvery)
		synctest.Wait()
		if got := shown(pages, "", 502); got != "later" || pages.Status().Missing {
			t.Error(got)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestABadPageIsSaidAndTheLastGoodOneServes(t *testing.T) {
	dir := t.TempDir()
	var log bytes.Buffer
	writePage(t, dir, "502.html", "good")
	pages := OpenPages(dir, slog.New(slog.NewTextHandler(&log, nil)))
	bad := map[string]string{"502.html": "{{.Nonsense}}", "503.html": "{{.Status", "504.html": "", "429.html": strings.Repeat("x", maxPage+1), "403.html": "{{range 1000000}}endless{{end}}", "5O2.html": "x", "Shop.test/x": ""}
	for name, text := range bad {
		writePage(t, dir, name, text)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "400.html"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		pages.look()
	}
	said := map[string]bool{}
	for _, p := range pages.Status().Problems {
		said[p.File] = true
		if p.Serving != (p.File == "502.html") || p.Problem == "" {
			t.Errorf("%+v", p)
		}
	}
	if len(said) != 8 || !said["400.html"] || !said["Shop.test"] || pages.Status().Pages != 1 {
		t.Errorf("%+v", pages.Status())
	}
	if got := shown(pages, "", 502); got != "good" {
		t.Error(got)
	}
	if n := strings.Count(log.String(), "502.html"); n < 1 || strings.Count(log.String(), "\n") != 6 {
		t.Errorf("not each bad page is said once:\n%s", log.String())
	}
	writePage(t, dir, "502.html", "mended")
	pages.look()
	if got := shown(pages, "", 502); got != "mended" {
		t.Error(got)
	}
}

func TestAFolderWithTooManyPagesFillsNoMemory(t *testing.T) {
	files := map[string]string{}
	for i := range 11 {
		for status := 400; status < 500; status++ {
			files[fmt.Sprintf("%d.test/%d.html", i, status)] = "x"
		}
	}
	_, pages := pagesOf(t, files)
	if s := pages.Status(); s.Pages != maxPages || len(s.Problems) != 1 || !strings.Contains(s.Problems[0].Problem, "more than 1000 pages") {
		t.Errorf("%d pages, %v", s.Pages, s.Problems)
	}
}

// fill puts more into a folder than is read.
func fill(t *testing.T, dir string) {
	t.Helper()
	for i := range maxPages {
		if err := os.Link(filepath.Join(dir, "502.html"), filepath.Join(dir, fmt.Sprintf("%d.txt", i))); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAFolderThatCannotBeReadKeepsItsPages(t *testing.T) {
	dir, pages := pagesOf(t, map[string]string{"a.test/502.html": "a", "502.html": "all"})
	fill(t, filepath.Join(dir, "a.test"))
	pages.look()
	if s := pages.Status(); s.Pages != 2 || len(s.Problems) != 1 || !s.Problems[0].Serving || s.Problems[0].File != "a.test" || shown(pages, "a.test", 502) != "a" {
		t.Errorf("%+v", s)
	}
	fill(t, dir)
	pages.look()
	if s := pages.Status(); s.Pages != 2 || shown(pages, "a.test", 502)+shown(pages, "", 502) != "aall" {
		t.Errorf("%+v", s)
	}
}
