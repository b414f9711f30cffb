package fastcgi

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"net/url"
	"path"
	"strings"
	"testing"

	"golang.org/x/net/http/httpguts"
)

func FuzzAnAnswerIsReadOrRefusedAndNothingOfItIsHeldForMore(f *testing.F) {
	f.Add(append(record(typeStdout, "Status: 404 Not Found\r\nContent-Type: text/html\r\n\r\nbody"), ended(0, 0)...))
	f.Add(append(append(record(typeStderr, "a line\nanother"), record(typeStdout, "Location: /x\n\n")...), ended(1, 0)...))
	f.Add(ended(0, 2))
	f.Add(append(append(record(typeStdout, "Content-Length: 3\n"), record(typeStdout, "\nab")...), record(typeStdout, "")...))
	f.Fuzz(func(t *testing.T, sent []byte) {
		reported := 0
		a := &answer{in: bufio.NewReaderSize(bytes.NewReader(sent), 64), lines: &lines{report: func(line string) { reported += len(line) }}}
		whole, length, rest, err := readHead(a, nil, 1000)
		if length > 1000 || length+len(rest) > len(sent) || reported > len(sent)+200 {
			t.Errorf("a header of %d bytes, %d more, %d of standard error", length, len(rest), reported)
		}
		if err != nil {
			return
		}
		response, err := parseHead(string(whole[:length]))
		if err != nil {
			return
		}
		if response.StatusCode < 200 || response.StatusCode > 999 || response.ContentLength < -1 {
			t.Errorf("%+v", response)
		}
		for name, values := range response.Header {
			for _, value := range values {
				if !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) || http.CanonicalHeaderKey(name) != name {
					t.Errorf("%q: %q", name, value)
				}
			}
		}
		body, err := io.ReadAll(io.MultiReader(bytes.NewReader(rest), a))
		if len(body) > len(sent) || (err == nil && !a.ended) {
			t.Errorf("%d bytes of %d, ended %v, %v", len(body), len(sent), a.ended, err)
		}
	})
}

func FuzzAPathNeverLeavesTheRootNorRunsWhatMayNotRun(f *testing.F) {
	for _, seed := range []string{"/index.php/x", "/uploads/cat.jpg/x.php", "/%2e%2e/x.php", "/a%2Fx.php", "/\u212a.php/..", "/İ.php", "//x.php", "/x.php%00"} {
		f.Add(seed, seed)
	}
	runs := func(script string) bool { return len(script)%3 > 0 }
	transport, err := New(Config{Network: "unix", Address: "/x", Root: "/srv", Front: "/index.php", Runs: func(script string) bool {
		if path.Clean(script) != script || !path.IsAbs(script) || strings.ContainsAny(script, "\x00\n\\") {
			panic("asked for " + script)
		}
		return runs(script)
	}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, decoded, raw string) {
		where, refused := transport.locate(&http.Request{Method: http.MethodGet, URL: &url.URL{Path: decoded, RawPath: raw}})
		if refused != nil {
			if to := refused.Header.Get("Location"); to != "" && (!strings.HasPrefix(to, "/") || strings.HasPrefix(to, "//")) {
				t.Errorf("sent to %q", to)
			}
			return
		}
		front := where.script == "/index.php"
		if !front && !runs(where.script) {
			t.Errorf("%q runs", where.script)
		}
		if !front && where.script+where.info != decoded && where.script != decoded+"index.php" {
			t.Errorf("%q + %q is not %q", where.script, where.info, decoded)
		}
		if clean := path.Clean("/srv" + where.info); clean != "/srv" && !strings.HasPrefix(clean, "/srv/") {
			t.Errorf("%q leaves the root", where.info)
		}
	})
}

func FuzzEachFieldBecomesOneVariableOrNone(f *testing.F) {
	f.Add("Remote-User", "Remote_User")
	f.Add("Proxy", "X.Proxy")
	f.Add("content-length", "Content_Length")
	transport, err := New(Config{Network: "unix", Address: "/x"})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, one, other string) {
		if !httpguts.ValidHeaderFieldName(one) || !httpguts.ValidHeaderFieldName(other) || http.CanonicalHeaderKey(one) == http.CanonicalHeaderKey(other) {
			return
		}
		r := &http.Request{Method: http.MethodGet, URL: &url.URL{Path: "/"}, Header: http.Header{}}
		r.Header.Set(one, "1")
		r.Header.Set(other, "2")
		out, ok := transport.appendRequest(nil, r, place{}, -1)
		if !ok {
			return
		}
		params, _, err := (&peer{in: bufio.NewReader(bytes.NewReader(out))}).request()
		if err != nil {
			t.Fatal(err) // a name twice, say
		}
		if _, bad := params["HTTP_PROXY"]; bad {
			t.Error("there is an HTTP_PROXY")
		}
	})
}
