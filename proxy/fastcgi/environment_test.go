package fastcgi

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// environment returns what an application is told of a request, whose status it would otherwise be.
func environment(t *testing.T, c Config, r *http.Request) (map[string]string, int) {
	t.Helper()
	c.Network, c.Address = "unix", "/nowhere"
	transport, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	where, refused := transport.locate(r)
	if refused != nil {
		return nil, refused.StatusCode
	}
	out, ok := transport.appendRequest(nil, r, where, r.ContentLength)
	if !ok {
		return nil, http.StatusRequestHeaderFieldsTooLarge
	}
	params, _, err := (&peer{in: bufio.NewReader(bytes.NewReader(out))}).request()
	if err != nil {
		t.Fatal(err)
	}
	return params, 0
}

func TestAnApplicationIsToldWhatRFC3875Says(t *testing.T) {
	r := newRequest(t, http.MethodPost, "/shop/index.php/a%20b?x=1&y=%zz", nil)
	r.Host, r.RemoteAddr, r.ContentLength = "shop.example:8443", "[2001:db8::1]:4711", 7
	r.TLS = &tls.ConnectionState{}
	r.Header = http.Header{"Content-Type": {"text/plain"}, "Content-Length": {"99"}, "User-Agent": {"x"}, "Cookie": {"a=1", "b=2"}, "Accept": {"a", "b"}, "Connection": {"x"}}
	got, _ := environment(t, Config{Root: "/srv/www/", Runs: func(s string) bool { return s == "/shop/index.php" }, Params: map[string]string{"APP_ENV": "live", "SERVER_SOFTWARE": "mine"}}, r)
	want := map[string]string{
		"GATEWAY_INTERFACE": "CGI/1.1", "SERVER_PROTOCOL": "HTTP/1.1", "SERVER_SOFTWARE": "mine", "REDIRECT_STATUS": "200",
		"SERVER_NAME": "shop.example", "SERVER_PORT": "8443", "REQUEST_SCHEME": "https", "HTTPS": "on",
		"REQUEST_METHOD": "POST", "REQUEST_URI": "/shop/index.php/a%20b?x=1&y=%zz", "QUERY_STRING": "x=1&y=%zz",
		"DOCUMENT_ROOT": "/srv/www", "DOCUMENT_URI": "/shop/index.php/a b",
		"SCRIPT_NAME": "/shop/index.php", "SCRIPT_FILENAME": "/srv/www/shop/index.php",
		"PATH_INFO": "/a b", "PATH_TRANSLATED": "/srv/www/a b",
		"CONTENT_TYPE": "text/plain", "CONTENT_LENGTH": "7", "REMOTE_ADDR": "2001:db8::1", "REMOTE_PORT": "4711",
		"HTTP_HOST": "shop.example:8443", "HTTP_USER_AGENT": "x", "HTTP_COOKIE": "a=1; b=2", "HTTP_ACCEPT": "a, b",
		"APP_ENV": "live",
	}
	if !maps.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestServerNameAndPortAreTheHostsOrTheSchemes(t *testing.T) {
	for host, want := range map[string]string{
		"a.test": "a.test 80", "a.test:81": "a.test 81", "[::1]": "[::1] 80", "[::1]:81": "[::1] 81", "a.test:": "a.test: 80",
		"a.test:99999": "a.test:99999 80", `"><script>`: " 80", "": " 80",
	} {
		r := newRequest(t, http.MethodGet, "/", nil)
		r.Host = host
		got, _ := environment(t, Config{}, r)
		if got["SERVER_NAME"]+" "+got["SERVER_PORT"] != want || got["HTTP_HOST"] != host {
			t.Errorf("%q: %s %s, not %s", host, got["SERVER_NAME"], got["SERVER_PORT"], want)
		}
	}
}

func TestTheOriginIsWhatTheConfigurationSays(t *testing.T) {
	r := newRequest(t, http.MethodGet, "/", nil)
	r.TLS = &tls.ConnectionState{}
	origin := Origin{Remote: netip.MustParseAddrPort("[::ffff:192.0.2.1]:0")}
	got, _ := environment(t, Config{Origin: func(*http.Request) Origin { return origin }}, r)
	if _, port := got["REMOTE_PORT"]; got["REMOTE_ADDR"] != "192.0.2.1" || port || got["HTTPS"] != "" || got["REQUEST_SCHEME"] != "http" {
		t.Errorf("%v", got)
	}
	r.RemoteAddr = "@"
	if got, _ := environment(t, Config{}, r); got["REMOTE_ADDR"] != "" {
		t.Errorf("%v", got)
	}
}

func TestAHeaderFieldsNameIsNoOthers(t *testing.T) {
	r := newRequest(t, http.MethodGet, "/", nil)
	r.Header = http.Header{
		"Remote-User": {"good"}, "Remote_User": {"evil"}, "Remote.User": {"evil"}, "Remote User": {"evil"}, "Remote-User[": {"evil"}, "Remote-Usér": {"evil"},
		"Proxy": {"evil"}, "proxy": {"evil"}, "pRoXy": {"evil"}, "": {"evil"}, "Expect": {"100-continue"},
		"Upgrade": {"evil"}, "te": {"evil"}, "transfer-encoding": {"evil"}, "content-length": {"99"}, "host": {"evil"}, "Nothing": {},
		"X-Very-Long-Name-Indeed": {"kept"},
	}
	got, _ := environment(t, Config{}, r)
	http := []string{}
	for name, value := range got {
		if strings.HasPrefix(name, "HTTP_") || strings.Contains(value, "evil") {
			http = append(http, name+"="+value)
		}
	}
	if len(http) != 3 || got["HTTP_REMOTE_USER"] != "good" || got["HTTP_X_VERY_LONG_NAME_INDEED"] != "kept" {
		t.Errorf("%q", http)
	}
}

func TestALongEnvironmentIsSplitBetweenPairsAndATooLongPairRefused(t *testing.T) {
	r := newRequest(t, http.MethodGet, "/", nil)
	for i := range 20 {
		r.Header.Set(fmt.Sprintf("X-%d", i), strings.Repeat("x", 15_000))
	}
	got, _ := environment(t, Config{}, r)
	for i := range 20 {
		if len(got[fmt.Sprintf("HTTP_X_%d", i)]) != 15_000 {
			t.Errorf("X-%d is not there", i)
		}
	}
	for length, want := range map[int]int{maxContent - 5 - len("HTTP_X"): 0, maxContent - 4 - len("HTTP_X"): http.StatusRequestHeaderFieldsTooLarge} {
		r.Header = http.Header{"X": {strings.Repeat("x", length)}}
		if _, status := environment(t, Config{}, r); status != want {
			t.Errorf("a value of %d bytes: %d", length, status)
		}
	}
}

// site makes a folder of a PHP site.
func site(t *testing.T, files ...string) string {
	t.Helper()
	root := t.TempDir()
	for _, file := range files {
		path := filepath.Join(root, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("<?php echo 'this is "+file+"';"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// found says in short what a path leads to.
func found(t *testing.T, c Config, path string) string {
	t.Helper()
	r := newRequest(t, http.MethodGet, "/", nil)
	raw, query, _ := strings.Cut(path, "?")
	r.URL.RawQuery = query
	var err error
	if r.URL.Path, err = url.PathUnescape(raw); err != nil {
		t.Fatal(err)
	}
	r.URL.RawPath = raw
	c.Network, c.Address = "unix", "/nowhere"
	transport, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	where, refused := transport.locate(r)
	switch {
	case refused != nil && refused.Header.Get("Location") != "":
		return fmt.Sprint(refused.StatusCode, " ", refused.Header.Get("Location"))
	case refused != nil:
		return fmt.Sprint(refused.StatusCode)
	}
	return where.script + "|" + where.info
}

func TestAPathNamesAScriptOnlyWhereThatIsAFile(t *testing.T) {
	root := site(t, "index.php", "remote.php", "wp-admin/index.php", "wp-admin/a.php", "uploads/cat.jpg", "v1.php.d/x.php", "odd.PHP", "K.php", "lib/x.phpt", "a b/ü.php")
	if err := os.Mkdir(filepath.Join(root, "folder.php"), 0o755); err != nil {
		t.Fatal(err)
	}
	c := Config{Root: root, Runs: LocalFiles(root, nil), Front: "/index.php"}
	for path, want := range map[string]string{
		"":                                     "/index.php|",
		"/":                                    "/index.php|",
		"*":                                    "/index.php|",
		"/index.php":                           "/index.php|",
		"/index.php/":                          "/index.php|/",
		"/index.php/blog/1.php":                "/index.php|/blog/1.php",
		"/remote.php/dav/files":                "/remote.php|/dav/files",
		"/wp-admin/":                           "/wp-admin/index.php|",
		"/wp-admin":                            "301 /wp-admin/",
		"/wp-admin?x=%zz":                      "301 /wp-admin/?x=%zz",
		"/wp-admin/a.php":                      "/wp-admin/a.php|",
		"/v1.php.d/x.php/y":                    "/v1.php.d/x.php|/y",
		"/a%20b/%C3%BC.php":                    "/a b/ü.php|",
		"/blog/post":                           "/index.php|",
		"/uploads/cat.jpg":                     "/index.php|", // not run, since its name does not end so
		"/uploads/cat.jpg/x.php":               "/index.php|", // php-fpm would run cat.jpg
		"/uploads/cat.jpg/x.php/y.php":         "/index.php|",
		"/uploads/cat.jpg%00x.php":             "400",
		"/uploads/cat.jpg%0Ax.php":             "400", // the pattern of nginx that stops at a line's end
		"/../index.php":                        "400",
		"/wp-admin/..":                         "400",
		"/wp-admin/%2e%2e/remote.php":          "400",
		"/wp-admin/..%2Fremote.php":            "400",
		`/wp-admin/..%5Cremote.php`:            "400",
		"/a..b/...":                            "/index.php|",
		"/wp-admin%2Fa.php":                    "/index.php|",
		"/wp-admin%2fa.php":                    "/index.php|",
		"/wp-admin%5Ca.php":                    "/index.php|",
		"//wp-admin/a.php":                     "/index.php|",
		"//evil.test":                          "/index.php|",
		"/wp-admin//a.php":                     "/index.php|",
		"/./wp-admin/a.php":                    "/index.php|",
		"/wp-admin/.":                          "/index.php|",
		"/REMOTE.PHP":                          "/index.php|",
		"/remote.PHP":                          "/index.php|",
		"/odd.PHP":                             "/index.php|",
		"/%E2%84%AA.php":                       "/index.php|", // the Kelvin sign, whose lower case is one byte
		"/%C4%B0%C4%B0/remote.php":             "/index.php|", // i with a dot, whose lower case is longer
		"/lib/x.phpt":                          "/index.php|",
		"/folder.php":                          "/index.php|",
		"/missing.php":                         "/index.php|",
		"/.php":                                "/index.php|",
		strings.Repeat("/x.php", 20):           "/index.php|",
		"/index.php%20":                        "/index.php|",
		"/remote.php" + strings.Repeat("/", 2): "/index.php|",
	} {
		if got := found(t, c, path); got != want {
			t.Errorf("%q: %s, not %s", path, got, want)
		}
	}
	c.Front = ""
	for path, want := range map[string]string{"/": "/index.php|", "/blog": "404", "/uploads/cat.jpg/x.php": "404", "/remote.php": "/remote.php|"} {
		if got := found(t, c, path); got != want {
			t.Errorf("without a front, %q: %s, not %s", path, got, want)
		}
	}
}

func TestWithoutARunsOnlyTheFrontAndTheIndexRun(t *testing.T) {
	c := Config{Root: "/srv", Front: "/app.php"}
	for path, want := range map[string]string{
		"/": "/index.php|", "/app.php/x": "/app.php|/x", "/index.php": "/index.php|", "/evil.php": "/app.php|", "/sub/": "/app.php|", "/sub/app.php": "/app.php|",
	} {
		if got := found(t, c, path); got != want {
			t.Errorf("%q: %s, not %s", path, got, want)
		}
	}
}

func TestAnApplicationWithoutScriptsGetsTheWholePath(t *testing.T) {
	for path, want := range map[string]string{"/": "|/", "": "|/", "/a.php/b": "|/a.php/b", "/a//b": "|/a//b", "/a/../b": "400"} {
		if got := found(t, Config{}, path); got != want {
			t.Errorf("%q: %s, not %s", path, got, want)
		}
	}
}

func TestARequestTargetThatWasKeptRawIsTheRequestURI(t *testing.T) {
	r := newRequest(t, http.MethodGet, "/", nil)
	r.URL = &url.URL{Scheme: "fcgi", Host: "x", Path: "/a|b/remote.php", Opaque: "/a|b%2fremote.php", RawQuery: "q"}
	got, _ := environment(t, Config{Root: "/srv", Front: "/index.php", Runs: func(string) bool { return true }}, r)
	if got["REQUEST_URI"] != "/a|b%2fremote.php?q" || got["SCRIPT_NAME"] != "/index.php" {
		t.Errorf("%v", got)
	}
}

func TestAConfigurationThatCannotBeIsRefused(t *testing.T) {
	good := Config{Network: "unix", Address: "/x"}
	if _, err := New(good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Config){
		"no address":       func(c *Config) { c.Address = "" },
		"udp":              func(c *Config) { c.Network = "udp" },
		"a relative root":  func(c *Config) { c.Root = "www" },
		"a path as index":  func(c *Config) { c.Index = "a/b.php" },
		"a path as split":  func(c *Config) { c.Split = "/.php" },
		"a relative front": func(c *Config) { c.Front = "index.php" },
		"a front outside":  func(c *Config) { c.Front = "/../index.php" },
		"a field":          func(c *Config) { c.Params = map[string]string{"HTTP_X": "y"} },
		"no name":          func(c *Config) { c.Params = map[string]string{"": "y"} },
		"a NUL":            func(c *Config) { c.Params = map[string]string{"X": "\x00"} },
		"a long value":     func(c *Config) { c.Params = map[string]string{"X": strings.Repeat("x", 40<<10)} },
		"much together": func(c *Config) {
			c.Params = map[string]string{"X": strings.Repeat("x", 30<<10), "Y": strings.Repeat("x", 30<<10), "Z": strings.Repeat("x", 30<<10)}
		},
		"fewer than none": func(c *Config) { c.MaxIdle = -1 },
	} {
		c := good
		if change(&c); true {
			if _, err := New(c); err == nil {
				t.Errorf("%s is taken", name)
			}
		}
	}
}

func TestScriptsThatNobodyCanSeeRunIfTheirPathNamesThemAndNothingElse(t *testing.T) {
	nobody := func(string) bool { return false }
	unseen := func() bool { return true }
	for path, want := range map[string]string{
		"/":                             "/index.php",
		"/wp-login.php":                 "/wp-login.php",
		"/wp-admin/":                    "/wp-admin/index.php",
		"/wp-admin":                     "",
		"/tools-5.2.1/x.php/info":       "/tools-5.2.1/x.php",
		"/.hidden/x.php":                "/.hidden/x.php",
		"/uploads/cat.jpg":              "",
		"/uploads/cat.jpg/x.php":        "",
		"/uploads/cat.jpg/":             "",
		"/uploads/cat.7z/x.php":         "",
		"/index.php/uploads/cat.jpg/x":  "/index.php",
		"/index.php/cat.jpg/other.php/": "/index.php",
	} {
		c := Config{Root: "/srv", Runs: nobody, Unseen: unseen}
		if got, status := environment(t, c, newRequest(t, http.MethodGet, path, nil)); got["SCRIPT_NAME"] != want || (status == http.StatusNotFound) != (want == "") {
			t.Errorf("%s: %q, %d; not %q", path, got["SCRIPT_NAME"], status, want)
		}
		if want == "" || strings.HasSuffix(path, "/") && want != "/index.php" {
			want = "/front.php"
		}
		if c.Front = "/front.php"; path == "/" {
			want = c.Front
		}
		if got, _ := environment(t, c, newRequest(t, http.MethodGet, path, nil)); got["SCRIPT_NAME"] != want {
			t.Errorf("%s with a front script: %q, not %q", path, got["SCRIPT_NAME"], want)
		}
	}
}

func TestAPathOfOursIsAScriptWhereItWouldBeNone(t *testing.T) {
	r := newRequest(t, http.MethodGet, "/ping", nil)
	c := Config{Root: "/srv"}
	if _, status := environment(t, c, r); status != http.StatusNotFound {
		t.Errorf("a visitor's: %d", status)
	}
	r = r.WithContext(WithOwnPath(r.Context()))
	if got, _ := environment(t, c, r); got["SCRIPT_NAME"] != "/ping" {
		t.Errorf("ours: %v", got)
	}
	c.Front = "/index.php"
	if got, _ := environment(t, c, r); got["SCRIPT_NAME"] != "/index.php" {
		t.Errorf("with a front script: %v", got)
	}
}
