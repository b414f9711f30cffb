package admin

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cutover/rules"
	"cutover/rules/store"
)

// tester returns a client for a server in this process, whose edits are by a tester.
func tester(t *testing.T, s *Server) *Client {
	t.Helper()
	if s.Store == nil {
		s.Store = openStore(t)
	}
	return Direct(As(store.Author{Name: "tester", Via: "test"}, s.Handler(true)))
}

func mustEdit(t *testing.T, c *Client, edits ...store.Edit) store.Result {
	t.Helper()
	result, err := c.Edit(t.Context(), EditRequest{Edits: edits})
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func rule(columns map[string]any) store.Edit {
	return store.Edit{Table: store.TableRules, Row: columns}
}

func TestAnEditIsInForceWhenItsAnswerComes(t *testing.T) {
	s := &Server{}
	client := tester(t, s)
	mustEdit(t, client, rule(map[string]any{"host": "shop.example.com", "percent": 100}))
	d := s.Store.Load().Match(&rules.Request{Method: "GET", Host: "shop.example.com", Path: "/"})
	if d.Version != rules.V2 {
		t.Errorf("the view says %q, want v2", d.Version)
	}
	list, err := client.Rules(t.Context(), "")
	if err != nil || len(list.Rules) != 1 || list.Rules[0].Percent != 100 {
		t.Errorf("the list says %+v, %v", list, err)
	}
}

func TestADryRunChangesNothing(t *testing.T) {
	client := tester(t, &Server{})
	result, err := client.Edit(t.Context(), EditRequest{DryRun: true, Edits: []store.Edit{rule(map[string]any{"host": "shop.example.com"})}})
	if err != nil || result.Changed != 1 {
		t.Errorf("the dry run says %+v, %v", result, err)
	}
	if list, err := client.Rules(t.Context(), ""); err != nil || len(list.Rules) != 0 {
		t.Errorf("there is %+v, %v", list, err)
	}
}

func TestAnEditThatMakesNoSenseIsRefusedInPlainWords(t *testing.T) {
	client := tester(t, &Server{})
	_, err := client.Edit(t.Context(), EditRequest{Edits: []store.Edit{
		rule(map[string]any{"host": "good.example.com", "percent": 5}),
		rule(map[string]any{"host": "shop.example.com", "percent": 101}),
	}})
	var refused *Error
	if !errors.As(err, &refused) {
		t.Fatalf("got %v, want an *Error", err)
	}
	if refused.Status != http.StatusUnprocessableEntity || refused.Edit == nil || *refused.Edit != 1 {
		t.Errorf("got status %d, edit %v; want 422 for edit 1", refused.Status, refused.Edit)
	}
	if !strings.Contains(refused.Message, "percent must be a number from 0 to 100") {
		t.Errorf("message: %q", refused.Message)
	}
	if list, err := client.Rules(t.Context(), ""); err != nil || len(list.Rules) != 0 {
		t.Errorf("the good edit beside it was kept: %+v, %v", list, err)
	}
}

func TestToRemoveWhatIsNotThereIs404(t *testing.T) {
	client := tester(t, &Server{})
	_, err := client.Edit(t.Context(), EditRequest{Edits: []store.Edit{{Table: store.TableRules, Remove: true, Row: map[string]any{"host": "shop.example.com"}}}})
	var refused *Error
	if !errors.As(err, &refused) || refused.Status != http.StatusNotFound {
		t.Errorf("got %v, want a 404", err)
	}
}

func TestAListCanBeNarrowedToAHost(t *testing.T) {
	client := tester(t, &Server{})
	mustEdit(t, client, rule(map[string]any{"host": "a.example.com"}), rule(map[string]any{"host": "*.example.com"}), rule(map[string]any{"host": "*"}))
	for given, want := range map[string]string{"A.example.com.": "a.example.com", "*.EXAMPLE.com": "*.example.com", "*": "*"} {
		list, err := client.Rules(t.Context(), given)
		if err != nil || len(list.Rules) != 1 || list.Rules[0].Host != want {
			t.Errorf("%s: got %+v, %v", given, list.Rules, err)
		}
	}
}

func TestEmptyListsAreListsInJSON(t *testing.T) {
	s := &Server{Store: openStore(t)}
	for _, path := range []string{"/v1/rules", "/v1/redirects", "/v1/hosts", "/v1/guards"} {
		answer := request(s, http.MethodGet, path, "")
		if strings.Contains(answer.Body.String(), "null") {
			t.Errorf("%s: %s", path, answer.Body)
		}
	}
}

// request calls the API without a client, to see the bare answer.
func request(s *Server, method, path, body string) *httptest.ResponseRecorder {
	recorder := httptest.NewRecorder()
	handler := As(store.Author{Name: "tester", Via: "test"}, s.Handler(true))
	handler.ServeHTTP(recorder, httptest.NewRequest(method, path, strings.NewReader(body)))
	return recorder
}

func TestABadRequestIsAnsweredWithErrorAndHint(t *testing.T) {
	s := &Server{Store: openStore(t), Decide: func(*http.Request) rules.Decision { return rules.Decision{} }}
	for name, row := range map[string]struct {
		method, path, body string
		status             int
		want               string
	}{
		"no such path":         {"GET", "/v2/rules", "", 404, "there is no GET /v2/rules"},
		"wrong method":         {"DELETE", "/v1/rules", "", 404, "there is no DELETE /v1/rules"},
		"not JSON":             {"POST", "/v1/edits", "percent=10", 400, "not the JSON"},
		"no body":              {"POST", "/v1/edits", "", 400, "not the JSON"},
		"no edits":             {"POST", "/v1/edits", "{}", 400, "there are no edits"},
		"unknown key":          {"POST", "/v1/edits", `{"edit":[]}`, 400, `unknown field "edit"`},
		"two values":           {"POST", "/v1/edits", `{"edits":[]}{}`, 400, "more follows"},
		"too large":            {"POST", "/v1/edits", `{"edits":[` + strings.Repeat(" ", maxBody) + "]}", 413, "larger than"},
		"host that cannot be":  {"GET", "/v1/rules?host=a..b", "", 400, "a..b"},
		"URL without host":     {"POST", "/v1/explain", `{"url":"/cart"}`, 400, "not an absolute"},
		"URL of another kind":  {"POST", "/v1/explain", `{"url":"ftp://a.example.com"}`, 400, "not an absolute"},
		"method with a space":  {"POST", "/v1/explain", `{"url":"http://a.example.com","method":"GE T"}`, 400, "not a method"},
		"header with newline":  {"POST", "/v1/explain", `{"url":"http://a.example.com","headers":{"A":["b\nc"]}}`, 400, "not a header"},
		"cookie with newline":  {"POST", "/v1/explain", `{"url":"http://a.example.com","cookie":"b\nc"}`, 400, "not a cookie"},
		"address with letters": {"POST", "/v1/explain", `{"url":"http://a.example.com","ip":"localhost"}`, 400, "not an address"},
		"no metrics":           {"GET", "/metrics", "", 404, "no metrics"},
	} {
		t.Run(name, func(t *testing.T) {
			answer := request(s, row.method, row.path, row.body)
			var body map[string]any
			if err := json.Unmarshal(answer.Body.Bytes(), &body); err != nil {
				t.Fatalf("%s: %v", answer.Body, err)
			}
			text, _ := body["error"].(string)
			if answer.Code != row.status || !strings.Contains(text, row.want) || body["hint"] == "" || body["hint"] == nil {
				t.Errorf("got %d %v, want %d, %q and a hint", answer.Code, body, row.status, row.want)
			}
		})
	}
}

func TestAnIdKeepsAllItsDigits(t *testing.T) {
	client := tester(t, &Server{})
	const id = 1<<53 + 1 // no float64 has it
	_, err := client.Edit(t.Context(), EditRequest{Edits: []store.Edit{rule(map[string]any{"id": int64(id), "percent": 1})}})
	if err == nil || !strings.Contains(err.Error(), "9007199254740993") {
		t.Errorf("got %v, want an error that names the id", err)
	}
}

func TestADrainingProcessIsNotReady(t *testing.T) {
	var draining error
	s := &Server{Store: openStore(t), Ready: func() error { return draining }}
	if answer := request(s, "GET", "/readyz", ""); answer.Code != http.StatusOK {
		t.Errorf("ready: %d", answer.Code)
	}
	draining = errors.New("draining")
	answer := request(s, "GET", "/readyz", "")
	if answer.Code != http.StatusServiceUnavailable || !strings.Contains(answer.Body.String(), "draining") {
		t.Errorf("draining: %d %s", answer.Code, answer.Body)
	}
	if answer := request(s, "GET", "/healthz", ""); answer.Code != http.StatusOK {
		t.Errorf("a draining process is still healthy, but says %d", answer.Code)
	}
}

func TestAnEditThatTheDatabaseCannotTakeIsNotTheEditorsFault(t *testing.T) {
	folder := t.TempDir()
	client := tester(t, &Server{Store: openStoreIn(t, folder)})
	database := filepath.Join(folder, store.File)
	if err := os.Rename(database, database+".moved"); err != nil {
		t.Fatal(err)
	}
	_, err := client.Edit(t.Context(), EditRequest{Edits: []store.Edit{rule(map[string]any{"host": "shop.example.com"})}})
	var refused *Error
	if !errors.As(err, &refused) || refused.Status != http.StatusServiceUnavailable || refused.Hint == "" || !strings.Contains(refused.Message, "nothing was changed") {
		t.Errorf("got %+v, want a 503 that says that nothing was changed", err)
	}
}

func TestTheUnixHandlerTrustsNoConnectionOfAnotherKind(t *testing.T) {
	recorder := httptest.NewRecorder()
	(&Server{Store: openStore(t)}).Handler(true).ServeHTTP(recorder, httptest.NewRequest("GET", "/v1/rules", nil))
	if recorder.Code != http.StatusInternalServerError || strings.Contains(recorder.Body.String(), "unix") {
		t.Errorf("got %d %s, want 500 without the private cause", recorder.Code, recorder.Body)
	}
}
