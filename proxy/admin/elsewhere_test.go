package admin

import (
	"context"
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cutover/rules/store"
)

// follows returns a store that follows the one in a folder, until the test ends.
func follows(t *testing.T, folder string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{Dir: folder, Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-ended, s.Close()); err != nil {
			t.Error(err)
		}
	})
	return s
}

// to reaches the process that listens at a path.
func to(path string) http.RoundTripper {
	return &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}
}

// twoWorkers serves a writer and a follower of one database, and returns clients of both.
func twoWorkers(t *testing.T, trust func(pid, uid int) bool) (folder string, writer, follower *Client) {
	t.Helper()
	folder = t.TempDir()
	current, old := filepath.Join(socketDir(t), "admin.sock"), filepath.Join(socketDir(t), "admin.sock")
	serving(t, &Server{Store: openStoreIn(t, folder), TrustPeer: trust}, current)
	serving(t, &Server{Store: follows(t, folder), Elsewhere: func(context.Context) (http.RoundTripper, error) { return to(current), nil }}, old)
	writer, follower = Dial(current), Dial(old)
	t.Cleanup(writer.Close)
	t.Cleanup(follower.Close)
	return folder, writer, follower
}

func TestAnEditThatReachesAWorkerThatWasReplacedIsMadeByItsSuccessor(t *testing.T) {
	folder, writer, follower := twoWorkers(t, func(int, int) bool { return true })
	mustEdit(t, follower, rule(map[string]any{"host": "shop.example.com"}))
	list, err := writer.Rules(t.Context(), "")
	if err != nil || len(list.Rules) != 1 {
		t.Fatalf("%+v, %v", list, err)
	}
	if got := lastAuthor(t, folder); !strings.Contains(got, "uid") || !strings.Contains(got, "admin socket") {
		t.Errorf("the journal says %q", got)
	}
	var refused *Error
	if _, err := follower.Edit(t.Context(), EditRequest{Edits: []store.Edit{rule(map[string]any{"host": "not a host"})}}); !errors.As(err, &refused) || refused.Status != http.StatusUnprocessableEntity {
		t.Errorf("a bad edit: %v", err)
	}
}

func TestAnImportThatReachesAWorkerThatWasReplacedIsMadeByItsSuccessor(t *testing.T) {
	_, writer, follower := twoWorkers(t, func(int, int) bool { return true })
	result, err := follower.Import(t.Context(), ImportRequest{Table: store.TableRules}, strings.NewReader("{\"host\":\"a.example.com\"}\n"), noProgress)
	if err != nil || result.Added != 1 {
		t.Fatalf("%+v, %v", result, err)
	}
	if list, err := writer.Rules(t.Context(), ""); err != nil || len(list.Rules) != 1 {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestOnlyAWorkerOfTheServiceMayNameAnotherAuthor(t *testing.T) {
	for name, c := range map[string]struct {
		trusted bool
		want    string
	}{"a worker": {true, "mallory"}, "anybody else": {false, "uid"}} {
		t.Run(name, func(t *testing.T) {
			folder, writer, _ := twoWorkers(t, func(int, int) bool { return c.trusted })
			writer.http.Transport = naming{writer.http.Transport}
			mustEdit(t, writer, rule(map[string]any{"host": "shop.example.com"}))
			if got := lastAuthor(t, folder); !strings.Contains(got, c.want) {
				t.Errorf("the journal says %q", got)
			}
		})
	}
}

// naming claims to ask on behalf of mallory.
type naming struct{ next http.RoundTripper }

func (n naming) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set(authorHeader, `{"Name":"mallory"}`)
	return n.next.RoundTrip(r)
}

func TestWithoutAWriterAnEditIsRefusedWithTheNextStep(t *testing.T) {
	folder := t.TempDir()
	openStoreIn(t, folder)
	s := &Server{Store: follows(t, folder), Elsewhere: func(context.Context) (http.RoundTripper, error) {
		return nil, errors.New("no process holds the rules just now")
	}}
	path := filepath.Join(socketDir(t), "admin.sock")
	serving(t, s, path)
	client := Dial(path)
	defer client.Close()
	var refused *Error
	_, err := client.Edit(t.Context(), EditRequest{Edits: []store.Edit{rule(map[string]any{"host": "shop.example.com"})}})
	if !errors.As(err, &refused) || refused.Status != http.StatusServiceUnavailable || refused.Hint == "" {
		t.Errorf("%v", err)
	}
}

func TestAnEditWaitsForTheWorkerThatIsAboutToHoldTheRules(t *testing.T) {
	folder := t.TempDir()
	writer, err := store.Open(t.Context(), store.Options{Dir: folder})
	if err != nil {
		t.Fatal(err)
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	next := follows(t, folder)
	s := &Server{Store: next, Elsewhere: func(ctx context.Context) (http.RoundTripper, error) {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		return nil, next.Promote(ctx)
	}}
	path := filepath.Join(socketDir(t), "admin.sock")
	serving(t, s, path)
	client := Dial(path)
	defer client.Close()
	mustEdit(t, client, rule(map[string]any{"host": "shop.example.com"}))
}
