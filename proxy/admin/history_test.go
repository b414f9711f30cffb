package admin

import (
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cutover/rules/store"
)

// percents makes one edit for each percentage.
func percents(t *testing.T, client *Client, list ...int) {
	t.Helper()
	for _, percent := range list {
		mustEdit(t, client, rule(map[string]any{"host": "shop.example.com", "percent": percent}))
	}
}

// percent is what the one rule says.
func percent(t *testing.T, client *Client) float64 {
	t.Helper()
	list, err := client.Rules(t.Context(), "")
	if err != nil || len(list.Rules) != 1 {
		t.Fatal(list, err)
	}
	return list.Rules[0].Percent
}

func TestAHistoryComesWithEveryFilter(t *testing.T) {
	client := tester(t, &Server{})
	percents(t, client, 1, 2, 3)
	all := store.Filter{
		Host: "shop.example.com", Author: "tester", Table: store.TableRules, Before: 3, Limit: 1,
		Since: time.Now().Add(-time.Hour), Until: time.Now().Add(time.Hour),
	}
	list, err := client.History(t.Context(), all)
	if err != nil || len(list.Changes) != 1 || list.Changes[0].Seq != 2 {
		t.Fatalf("%+v, %v", list, err)
	}
	if now, _ := list.Changes[0].New.Get("percent"); now != int64(2) {
		t.Errorf("%+v", list.Changes[0])
	}
}

func TestAnUndoAndARestoreAreByWhoeverAsks(t *testing.T) {
	client := tester(t, &Server{})
	percents(t, client, 1, 2)
	if _, err := client.Undo(t.Context(), UndoRequest{Changes: []int64{2}, DryRun: true}); err != nil || percent(t, client) != 2 {
		t.Errorf("dry run: %v", err)
	}
	if _, err := client.Undo(t.Context(), UndoRequest{Changes: []int64{2}}); err != nil || percent(t, client) != 1 {
		t.Errorf("undo: %v", err)
	}
	if result, err := client.Restore(t.Context(), RestoreRequest{At: time.Now().Add(-time.Hour)}); err != nil || result.Removed != 1 {
		t.Errorf("restore: %+v, %v", result, err)
	}
	list, err := client.History(t.Context(), store.Filter{Limit: 2})
	if err != nil || list.Changes[0].Author != "tester via test" || list.Changes[1].Author != "tester via test" {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestAnUndoThatIsRefusedSaysWhyAndWhatToDo(t *testing.T) {
	client := tester(t, &Server{})
	percents(t, client, 1, 2)
	for seq, status := range map[int64]int{1: http.StatusConflict, 9: http.StatusNotFound} {
		_, err := client.Undo(t.Context(), UndoRequest{Changes: []int64{seq}})
		var refused *Error
		if !errors.As(err, &refused) || refused.Status != status || refused.Hint == "" {
			t.Errorf("change %d: %+v, want %d", seq, err, status)
		}
	}
}

func TestABadQuestionAboutThePastIsAnsweredWithAHint(t *testing.T) {
	s := &Server{Store: openStore(t)}
	for name, row := range map[string]struct{ method, path, body string }{
		"no time":         {"GET", "/v1/history?since=yesterday", ""},
		"no number":       {"GET", "/v1/history?before=x", ""},
		"too many":        {"GET", "/v1/history?limit=10001", ""},
		"no host":         {"GET", "/v1/history?host=a..b", ""},
		"nothing to undo": {"POST", "/v1/undo", "{}"},
		"no moment":       {"POST", "/v1/restore", "{}"},
	} {
		answer := request(s, row.method, row.path, row.body)
		if answer.Code != http.StatusBadRequest || !strings.Contains(answer.Body.String(), `"hint"`) {
			t.Errorf("%s: %d %s", name, answer.Code, answer.Body)
		}
	}
	if answer := request(s, "GET", "/v1/history", ""); strings.TrimSpace(answer.Body.String()) != `{"changes":[]}` {
		t.Errorf("an empty history: %s", answer.Body)
	}
}

func TestABackupComesOverTheSocketAndInProcess(t *testing.T) {
	server := &Server{Store: openStore(t)}
	socket := filepath.Join(t.TempDir(), "s")
	serving(t, server, socket)
	for name, client := range map[string]*Client{"socket": Dial(socket), "process": tester(t, server)} {
		defer client.Close()
		copied, size, err := client.Backup(t.Context())
		if err != nil {
			t.Fatal(name, err)
		}
		data, err := io.ReadAll(copied)
		if err = errors.Join(err, copied.Close()); err != nil || int64(len(data)) != size || size == 0 {
			t.Errorf("%s: %d of %d bytes, %v", name, len(data), size, err)
		}
		path := filepath.Join(t.TempDir(), "copy.db")
		if err := errors.Join(os.WriteFile(path, data, 0o600), store.CheckBackup(t.Context(), path)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestABackupThatNobodyReadsToItsEndHoldsNothing(t *testing.T) {
	client := tester(t, &Server{})
	copied, _, err := client.Backup(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(copied, make([]byte, 10)); err != nil {
		t.Error(err)
	}
	if err := copied.Close(); err != nil {
		t.Error(err)
	}
	percents(t, client, 1) // and the leak check at the end
}

func TestALockIsSaidToBeOne(t *testing.T) {
	if refused := publicError(storeError(store.ErrBusy)); !refused.Locked || refused.Status != http.StatusServiceUnavailable {
		t.Errorf("%+v", refused)
	}
}
