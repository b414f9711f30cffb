package digitalocean

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"cutover/proxy/discovery/digitalocean/dotest"
	"cutover/rules"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func withToken(t *testing.T, token string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func opened(t *testing.T, api, tokenFile string) *Account {
	t.Helper()
	account, err := Open(api, tokenFile)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(account.Close)
	return account
}

func newAccount(t *testing.T) (*dotest.API, *Account) {
	t.Helper()
	api := dotest.New()
	t.Cleanup(api.Close)
	return api, opened(t, api.URL, withToken(t, dotest.Token+"\n"))
}

func tagged(t *testing.T, a *Account, url string) (urls []string, again time.Duration, err error) {
	t.Helper()
	source, err := rules.ParseTarget(url)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := a.Tagged(source)(t.Context())
	for _, place := range answer.Places {
		urls = append(urls, place.URL)
	}
	return urls, answer.Again, err
}

func TestATagStandsForItsActiveDropletsAtTheirPrivateAddresses(t *testing.T) {
	api, account := newAccount(t)
	api.Add("both", []string{"web"}, "203.0.113.1", "10.135.0.1")
	api.Add("public", []string{"web", "db"}, "203.0.113.2")
	api.Add("other", []string{"db"}, "203.0.113.3")
	api.SetStatus(api.Add("off", []string{"web"}, "10.135.0.4"), "off")
	api.SetStatus(api.Add("new", []string{"web"}), "new")
	list, again, err := tagged(t, account, "droplets+h2c://web:8080")
	if want := []string{"h2c://10.135.0.1:8080", "h2c://203.0.113.2:8080"}; err != nil || !slices.Equal(list, want) {
		t.Errorf("%q, %v", list, err)
	}
	if again < 27*time.Second || again > 33*time.Second {
		t.Errorf("again after %s", again)
	}
	if list, _, err := tagged(t, account, "droplets+http://nobody:8080"); err != nil || len(list) > 0 {
		t.Errorf("a tag that none has: %q, %v", list, err)
	}
}

func TestAllPagesOfAListAreRead(t *testing.T) {
	api, account := newAccount(t)
	for n := range 450 {
		api.Add(fmt.Sprintf("web-%d", n), []string{"web"}, fmt.Sprintf("10.135.%d.%d", n/250, n%250))
	}
	list, err := account.List(t.Context(), "")
	if err != nil || len(list) != 450 || list[449].Name != "web-449" || api.Requests() != 3 {
		t.Errorf("%d droplets in %d requests, %v", len(list), api.Requests(), err)
	}
}

func TestWhatTheAPISaysIsHandedOn(t *testing.T) {
	api, account := newAccount(t)
	stranger := opened(t, api.URL, withToken(t, "dop_v1_wrong"))
	_, unauthorized := stranger.List(t.Context(), "")
	_, missing := account.Get(t.Context(), 42)
	_, wrong := account.Create(t.Context(), Wish{Names: []string{"web"}, Region: "mars1", Size: "s-1vcpu-1gb", Image: "debian-13-x64"})
	destroyed := account.Destroy(t.Context(), 42)
	for _, row := range []struct {
		err    error
		status int
		text   string
	}{
		{unauthorized, 401, "Unable to authenticate you"},
		{missing, 404, "could not be found"},
		{wrong, 422, "invalid region"},
		{destroyed, 404, "could not be found"},
	} {
		var answer *Error
		if !errors.As(row.err, &answer) || answer.Status != row.status || !strings.Contains(row.err.Error(), row.text) || strings.Contains(row.err.Error(), "dop_v1") {
			t.Errorf("%d: %v", row.status, row.err)
		}
	}
}

func TestTheRateLimitIsKept(t *testing.T) {
	api, account := newAccount(t)
	api.LimitUntil(time.Now().Add(10 * time.Minute))
	_, again, err := tagged(t, account, "droplets+http://web:8080")
	var answer *Error
	if !errors.As(err, &answer) || answer.Status != http.StatusTooManyRequests || again < 9*time.Minute || again > 10*time.Minute {
		t.Errorf("again after %s: %v", again, err)
	}
	for want, header := range map[time.Duration]http.Header{
		7 * time.Second: {"Retry-After": {"7"}, "Ratelimit-Reset": {"9999999999"}},
		time.Minute:     {},
		time.Second:     {"Ratelimit-Reset": {"1"}},
		time.Hour:       {"Ratelimit-Reset": {"9999999999"}},
	} {
		if pause := untilRoom(header, time.Now()); pause != want {
			t.Errorf("%v: %s", header, pause)
		}
	}
}

func TestATagIsAskedForLessOftenWhenRequestsRunShort(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("RateLimit-Limit", "5000")
		w.Header().Set("RateLimit-Remaining", "100")
		_, _ = fmt.Fprint(w, `{"droplets":[],"links":{},"meta":{"total":0}}`)
	}))
	t.Cleanup(server.Close)
	if _, again, err := tagged(t, opened(t, server.URL, withToken(t, "x")), "droplets+http://web:1"); err != nil || again < 2*time.Minute {
		t.Errorf("%s, %v", again, err)
	}
}

func TestAListThatChangesBetweenItsPagesIsNoAnswer(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprint(w, `{"droplets":[{"id":1,"name":"web","status":"active"}],"links":{},"meta":{"total":2}}`)
	}))
	t.Cleanup(server.Close)
	if _, err := opened(t, server.URL, withToken(t, "x")).List(t.Context(), ""); !errors.Is(err, errMoved) {
		t.Error(err)
	}
}

func TestANewDropletIsAwaited(t *testing.T) {
	api, account := newAccount(t)
	made, err := account.Create(t.Context(), Wish{
		Names: []string{"web-1", "web-2"}, Region: "fra1", Size: "s-1vcpu-1gb", Image: "12345", Tags: []string{"web"}, SSHKeys: []string{"7", "ab:cd"}, UserData: "#cloud-config",
	})
	if err != nil || len(made) != 2 || made[1].Status != "new" {
		t.Fatalf("%+v, %v", made, err)
	}
	var states []string
	d, err := account.AwaitActive(t.Context(), made[1].ID, time.Millisecond, func(d Droplet) { states = append(states, d.Status) })
	if err != nil || d.Name != "web-2" || d.PrivateIPv4 == "" || !slices.Equal(states, []string{"new", "active"}) {
		t.Errorf("%+v after %q, %v", d, states, err)
	}
	asked := api.Asked("web-1")
	if fmt.Sprintln(asked["image"], asked["ssh_keys"], asked["user_data"], asked["tags"]) != "12345 [7 ab:cd] #cloud-config [web]\n" {
		t.Errorf("%v", asked)
	}
	if err := account.Destroy(t.Context(), d.ID); err != nil {
		t.Error(err)
	}
	if left, err := account.List(t.Context(), "web"); err != nil || len(left) != 1 {
		t.Errorf("%+v, %v", left, err)
	}
}

func TestADropletThatCannotBeMadeIsNotAwaitedForEver(t *testing.T) {
	api, account := newAccount(t)
	api.FailCreations()
	made, err := account.Create(t.Context(), Wish{Names: []string{"web"}, Region: "fra1", Size: "s-1vcpu-1gb", Image: "debian-13-x64"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := account.AwaitActive(t.Context(), made[0].ID, time.Millisecond, func(Droplet) {}); err == nil || !strings.Contains(err.Error(), "could not make droplet") {
		t.Error(err)
	}
	late, cancel := context.WithCancel(t.Context())
	api.SetStatus(made[0].ID, "off") // no failure, but never active
	_, err = account.AwaitActive(late, made[0].ID, time.Hour, func(Droplet) { cancel() })
	if err == nil {
		t.Error("it is active")
	}
}

func TestADropletIsAwaitedThoughTheAPIFailsMeanwhile(t *testing.T) {
	api, account := newAccount(t)
	made, err := account.Create(t.Context(), Wish{Names: []string{"web"}, Region: "fra1", Size: "s-1vcpu-1gb", Image: "debian-13-x64"})
	if err != nil {
		t.Fatal(err)
	}
	api.Break(http.StatusServiceUnavailable)
	asked := api.Requests()
	mended := make(chan struct{})
	go func() {
		defer close(mended)
		for api.Requests() < asked+3 {
			runtime.Gosched()
		}
		api.Break(0)
	}()
	d, err := account.AwaitActive(t.Context(), made[0].ID, time.Millisecond, func(Droplet) {})
	<-mended
	if err != nil || d.ID != made[0].ID || d.Status != "active" {
		t.Errorf("%+v, %v", d, err)
	}
	api.Break(http.StatusServiceUnavailable)
	ended, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if d, err := account.AwaitActive(ended, made[0].ID, time.Millisecond, func(Droplet) {}); err == nil || d.ID != made[0].ID {
		t.Errorf("%+v, %v", d, err)
	}
}

func TestATokenThatOthersCanReadIsNotUsed(t *testing.T) {
	api := dotest.New()
	t.Cleanup(api.Close)
	path := withToken(t, dotest.Token)
	account := opened(t, api.URL, path)
	for _, mode := range []os.FileMode{0o604, 0o620, 0o644} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		var refused *TokenError
		if _, err := account.List(t.Context(), ""); !errors.As(err, &refused) || !strings.Contains(err.Error(), "chmod 600 "+path) {
			t.Errorf("%o: %v", mode, err)
		}
	}
	for _, text := range []string{"", "\n", "two words", "a\nb"} {
		if _, err := opened(t, api.URL, withToken(t, text)).List(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "does not hold a token") {
			t.Errorf("%q: %v", text, err)
		}
	}
	if api.Requests() != 0 {
		t.Errorf("%d requests were made", api.Requests())
	}
	if err := os.Chmod(path, 0o440); err != nil { // as systemd hands credentials over
		t.Fatal(err)
	}
	if _, err := account.List(t.Context(), ""); err != nil {
		t.Error(err)
	}
}

func TestATokenCanBeReplacedAtAnyTime(t *testing.T) {
	api := dotest.New()
	t.Cleanup(api.Close)
	path := withToken(t, "old")
	account := opened(t, api.URL, path)
	if _, err := account.List(t.Context(), ""); err == nil {
		t.Error("the old one counts")
	}
	if err := os.WriteFile(path, []byte(dotest.Token), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := account.List(t.Context(), ""); err != nil {
		t.Error(err)
	}
}

func TestTheTokenGoesToTheAPIAlone(t *testing.T) {
	thief := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { t.Errorf("it gets %v", r.Header) }))
	t.Cleanup(thief.Close)
	api := httptest.NewServer(http.RedirectHandler(thief.URL, http.StatusFound))
	t.Cleanup(api.Close)
	if _, err := opened(t, api.URL, withToken(t, "x")).List(t.Context(), ""); err == nil {
		t.Error("a redirect is an answer")
	}
	for _, url := range []string{"http://api.example.com", "api.example.com", ""} {
		if _, err := Open(url, ""); err == nil {
			t.Errorf("%q is taken", url)
		}
	}
}

func TestATextThatIsNoTagIsNotAskedFor(t *testing.T) {
	api, account := newAccount(t)
	if _, err := account.List(t.Context(), "web&name=x"); err == nil || api.Requests() > 0 {
		t.Error(err)
	}
}
