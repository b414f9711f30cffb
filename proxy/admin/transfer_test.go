package admin

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"cutover/rules"
	"cutover/rules/store"
)

func noProgress(int) {}

func TestImportedRowsAreInForceWhenTheAnswerComes(t *testing.T) {
	s := &Server{}
	client := tester(t, s)
	rows := strings.NewReader("{\"host\":\"a.example.com\",\"percent\":100}\n\n{\"line\":70,\"row\":{\"host\":\"b.example.com\"}}\n")
	result, err := client.Import(t.Context(), ImportRequest{Table: store.TableRules}, rows, noProgress)
	if err != nil || !result.Applied || result.Added != 2 {
		t.Fatalf("%+v, %v", result, err)
	}
	if d := s.Store.Load().Match(&rules.Request{Host: "a.example.com", Path: "/"}); d.Version != rules.V2 {
		t.Errorf("the view says %q", d.Version)
	}
}

func TestBadRowsAreNamedByTheirLines(t *testing.T) {
	client := tester(t, &Server{})
	rows := strings.NewReader("{\"host\":\"a..b\"}\n{\"line\":70,\"error\":\"it is torn\"}\n")
	result, err := client.Import(t.Context(), ImportRequest{Table: store.TableRules, Partial: true, Replace: true}, rows, noProgress)
	if err != nil || result.BadTotal != 2 || result.Bad[0].Line != 1 || result.Bad[1] != (store.BadRow{Line: 70, Reason: "it is torn"}) {
		t.Errorf("%+v, %v", result, err)
	}
}

func TestRowsThatBreakOffChangeNothing(t *testing.T) {
	client := tester(t, &Server{})
	torn := io.MultiReader(strings.NewReader("{\"host\":\"a.example.com\"}\n"), brokenReader{})
	_, err := client.Import(t.Context(), ImportRequest{Table: store.TableRules}, torn, noProgress)
	if err == nil || !strings.Contains(err.Error(), "the line was cut") {
		t.Errorf("got %v", err)
	}
	if list, err := client.Rules(t.Context(), ""); err != nil || len(list.Rules) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errors.New("the line was cut") }

func TestWhatIsExportedIsSortedAndCanBeImported(t *testing.T) {
	client := tester(t, &Server{})
	mustEdit(t, client, store.Edit{Table: store.TableRedirects, Row: map[string]any{"host": "b.example.com", "to_url": "https://c.example.com/?a=b"}})
	mustEdit(t, client, store.Edit{Table: store.TableRedirects, Row: map[string]any{"host": "a.example.com", "to_url": "https://c.example.com/"}})
	var hosts []string
	err := client.ExportRedirects(t.Context(), func(row *rules.Redirect) error {
		hosts = append(hosts, row.Host)
		return nil
	})
	if err != nil || strings.Join(hosts, " ") != "a.example.com b.example.com" {
		t.Errorf("%v, %v", hosts, err)
	}
	bare := request(&Server{Store: openStore(t)}, "GET", "/v1/export/rules", "")
	if bare.Code != http.StatusOK || bare.Body.Len() != 0 || bare.Header().Get("Content-Type") != "application/x-ndjson" {
		t.Errorf("none: %d %q %v", bare.Code, bare.Body, bare.Header())
	}
}

func TestALongImportGoesOverTheSocketAndTellsHowFarItIs(t *testing.T) {
	path := filepath.Join(socketDir(t), "admin.sock")
	s := &Server{Store: openStore(t)}
	serving(t, s, path)
	client := Dial(path)
	defer client.Close()
	reader, writer := io.Pipe()
	go func() {
		for i := range 3000 {
			fmt.Fprintf(writer, "{\"host\":\"h%d.example.com\",\"note\":%q}\n", i, strings.Repeat("x", 1000))
		}
		writer.Close()
	}()
	var seen []int
	result, err := client.Import(t.Context(), ImportRequest{Table: store.TableRules}, reader, func(done int) { seen = append(seen, done) })
	if err != nil || result.Added != 3000 || len(seen) < 2 || !slices.IsSorted(seen) || seen[len(seen)-1] != 3000 {
		t.Errorf("%+v, %v, %v", result, seen, err)
	}
	if got := s.Store.Snapshot().Seq; got < result.Seq {
		t.Errorf("in force is %d, and the answer was %d", got, result.Seq)
	}
	exported := 0
	if err := client.ExportRules(t.Context(), func(*rules.Rule) error { exported++; return nil }); err != nil || exported != 3000 {
		t.Errorf("exported %d, %v", exported, err)
	}
}

func TestAnImportThatIsAskedForWronglyIsRefused(t *testing.T) {
	s := &Server{Store: openStore(t)}
	for path, want := range map[string]string{
		"/v1/import/rules":                         "mode must be append or replace",
		"/v1/import/rules?mode=append&partial=so":  "partial must be true or false",
		"/v1/import/rules?mode=append&dry_run=yes": "dry_run must be true or false",
		"/v1/import/hosts?mode=append":             `the table "hosts" can be neither imported nor exported`,
	} {
		answer := request(s, "POST", path, "")
		if answer.Code/100 != 4 || !strings.Contains(answer.Body.String(), strings.ReplaceAll(want, `"`, `\"`)) || !strings.Contains(answer.Body.String(), `"hint"`) {
			t.Errorf("%s: %d %s", path, answer.Code, answer.Body)
		}
	}
	if answer := request(s, "GET", "/v1/export/hosts", ""); answer.Code != http.StatusNotFound {
		t.Errorf("export: %d", answer.Code)
	}
}

func TestASecondImportIsToldToWait(t *testing.T) {
	s := &Server{}
	client := tester(t, s)
	reader, writer := io.Pipe()
	first := make(chan error, 1)
	go func() {
		_, err := client.Import(t.Context(), ImportRequest{Table: store.TableRules}, reader, noProgress)
		first <- err
	}()
	if _, err := io.WriteString(writer, "{\"host\":\"a.example.com\"}\n"); err != nil { // it is read: the first has begun
		t.Fatal(err)
	}
	_, err := client.Import(t.Context(), ImportRequest{Table: store.TableRules}, strings.NewReader(""), noProgress)
	var refused *Error
	if !errors.As(err, &refused) || refused.Status != http.StatusConflict || refused.Hint == "" {
		t.Errorf("the second: %v", err)
	}
	writer.Close()
	if err := <-first; err != nil {
		t.Errorf("the first: %v", err)
	}
}

func TestChainsOfRedirectsAreListed(t *testing.T) {
	client := tester(t, &Server{})
	mustEdit(t, client, store.Edit{Table: store.TableRedirects, Row: map[string]any{"host": "a.example.com", "to_url": "https://a.example.com/x"}})
	list, err := client.Chains(t.Context())
	if err != nil || len(list.Chains) != 1 || !list.Chains[0].Loop || list.Chains[0].ID != 1 {
		t.Errorf("%+v, %v", list, err)
	}
}
