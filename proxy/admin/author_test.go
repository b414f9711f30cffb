package admin

import (
	"database/sql"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	_ "github.com/mattn/go-sqlite3"

	"cutover/rules/store"
)

// lastAuthor reads the journal as an operator would.
func lastAuthor(t *testing.T, folder string) string {
	t.Helper()
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(folder, "rules.db")+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var author string
	if err := db.QueryRowContext(t.Context(), "SELECT author FROM changes ORDER BY seq DESC LIMIT 1").Scan(&author); err != nil {
		t.Fatal(err)
	}
	return author
}

func TestTheJournalNamesWhoTheKernelSaysIsCalling(t *testing.T) {
	folder, path := t.TempDir(), filepath.Join(socketDir(t), "admin.sock")
	serving(t, &Server{Store: openStoreIn(t, folder)}, path)
	client := Dial(path)
	defer client.Close()
	// What a client says about itself does not count.
	client.http.Transport = lying{client.http.Transport}
	mustEdit(t, client, rule(map[string]any{"host": "shop.example.com"}))
	if got, want := lastAuthor(t, folder), UserName(os.Getuid()); !strings.Contains(got, want) || strings.Contains(got, "mallory") {
		t.Errorf("the journal says %q, want %q", got, want)
	}
}

// lying adds headers by which other programs are told who calls.
type lying struct{ next http.RoundTripper }

func (l lying) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	for _, name := range []string{"X-Remote-User", "X-Forwarded-User", "Author", "X-Cutover-Author", "From"} {
		r.Header.Set(name, "mallory")
	}
	r.SetBasicAuth("mallory", "x")
	return l.next.RoundTrip(r)
}

func TestTheJournalNamesTheHolderOfTheKey(t *testing.T) {
	folder := t.TempDir()
	s := &Server{Store: openStoreIn(t, folder), Keys: keyFile(t, keyLine("deploy", "secret-2"))}
	url := overTCP(t, s)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/v1/edits",
		strings.NewReader(`{"edits":[{"table":"rules","row":{"host":"shop.example.com","percent":10}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer secret-2")
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Fatalf("status %d", response.StatusCode)
	}
	if got := lastAuthor(t, folder); !strings.Contains(got, "key deploy") {
		t.Errorf("the journal says %q, want key deploy", got)
	}
}

func TestInProcessTheGivenAuthorCounts(t *testing.T) {
	folder := t.TempDir()
	s := &Server{Store: openStoreIn(t, folder)}
	client := Direct(As(store.Author{Name: "alice (uid 1000)", Via: "cli"}, s.Handler(true)))
	mustEdit(t, client, rule(map[string]any{"host": "shop.example.com"}))
	if got := lastAuthor(t, folder); !strings.Contains(got, "alice (uid 1000)") {
		t.Errorf("the journal says %q", got)
	}
}

func TestAUserWithoutANameIsANumber(t *testing.T) {
	if got := UserName(4242424); got != "uid 4242424" {
		t.Errorf("got %q", got)
	}
	if got := UserName(0); got != "root (uid 0)" {
		t.Errorf("got %q", got)
	}
}
