package fastcgi

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"unicode"
)

// place is what a path means to the application.
type place struct {
	uri    string // the request's target, as it was said
	script string // below the root; "" if there are no scripts
	info   string // what the path says beyond
}

// LocalFiles returns a Config.Runs for scripts that are on this machine: those that are files below root now. denied is told of
// what this process may not look at, which the application may; it may be nil.
func LocalFiles(root string, denied func(error)) func(script string) bool {
	root = strings.TrimRight(root, "/")
	return func(script string) bool {
		info, err := os.Stat(root + script)
		if denied != nil && errors.Is(err, fs.ErrPermission) {
			denied(err)
		}
		return err == nil && info.Mode().IsRegular()
	}
}

// IsFolder is for Config.Unseen: it reports whether there is such a folder that this process can see.
func IsFolder(root string) bool {
	info, err := os.Stat(root)
	return err == nil && info.IsDir()
}

type ownPathKey struct{}

// WithOwnPath returns a context for requests whose path no visitor has said: where it would else find no script, it is handed to
// the application as one. So php-fpm can be asked for its ping.path and pm.status_path.
func WithOwnPath(ctx context.Context) context.Context {
	return context.WithValue(ctx, ownPathKey{}, true)
}

// locate finds the script for a request, or answers it.
func (t *Transport) locate(r *http.Request) (place, *http.Response) {
	where := place{uri: r.URL.RequestURI()}
	said := r.URL.Path
	if said == "" || said == "*" {
		said = "/"
	}
	raw, _, _ := strings.Cut(where.uri, "?")
	switch {
	case isHostile(said) || isHostile(raw) || said[0] != '/':
		return place{}, refuse(r, http.StatusBadRequest, "The path of the request cannot be forwarded.")
	case t.config.Root == "":
		where.info = said
		return where, nil
	case isPlain(said, raw):
		if where.script, where.info = t.split(said); where.script != "" {
			return where, nil
		}
		script, isFolder := t.index(said)
		if isFolder {
			return place{}, redirect(r, said+"/")
		}
		where.script = script
	}
	switch {
	case where.script != "":
	case t.config.Front != "":
		where.script = t.config.Front
	case r.Context().Value(ownPathKey{}) != nil:
		where.script = said
	default:
		return place{}, refuse(r, http.StatusNotFound, "There is no script for this path.")
	}
	return where, nil
}

// index returns the script of a folder, "" if there is none; isFolder says that the path lacks the folder's slash.
func (t *Transport) index(said string) (script string, isFolder bool) {
	folder := strings.TrimSuffix(said, "/")
	script = folder + "/" + t.config.Index
	switch {
	case t.config.Runs(script):
		return script, folder == said
	case folder != said && t.config.Front == "" && isPlausible(script) && t.config.Unseen():
		return script, false
	}
	return "", false
}

// isPlausible reports whether a script that nobody can see may be run: if no folder on its way has a name like a file's, of which
// the application would otherwise perhaps run the file.
func isPlausible(script string) bool {
	folders := strings.Split(script, "/")
	for _, folder := range folders[:len(folders)-1] {
		dot := strings.LastIndexByte(folder, '.')
		if dot > 0 && strings.ContainsFunc(folder[dot:], unicode.IsLetter) {
			return false
		}
	}
	return true
}

// isHostile reports whether a path has a control character, or a ".." between slashes or backslashes.
func isHostile(path string) bool {
	for i := range len(path) {
		if path[i] < ' ' || path[i] == 0x7f {
			return true
		}
	}
	for at := 0; ; {
		next := strings.Index(path[at:], "..")
		if next < 0 {
			return false
		}
		begin, end := at+next, at+next+2
		if (begin == 0 || isSlash(path[begin-1])) && (end == len(path) || isSlash(path[end])) {
			return true
		}
		at = begin + 1
	}
}

func isSlash(c byte) bool { return c == '/' || c == '\\' }

// isPlain reports whether a path reads the same to everybody. One that does not names no script: what decided that the visitor
// may have it may have read it in another way than the file system would.
func isPlain(said, raw string) bool {
	if strings.Contains(said, "//") || strings.Contains(said, `\`) || strings.Contains(said, "/./") || strings.HasSuffix(said, "/.") {
		return false
	}
	if !strings.Contains(raw, "%") {
		return true
	}
	lower := strings.ToLower(raw)
	return !strings.Contains(lower, "%2f") && !strings.Contains(lower, "%5c")
}

// split finds the first script in a path, "" if there is none, and what the path says beyond. Letters are compared as they are:
// to fold their case can change how long a text is, and would find scripts whose names the file system does not have.
func (t *Transport) split(said string) (script, info string) {
	const most = 8 // questions to the file system for one request
	end := 0
	for range most {
		next := strings.Index(said[end:], t.config.Split)
		if next < 0 {
			return "", ""
		}
		end += next + len(t.config.Split)
		if (end == len(said) || said[end] == '/') && (t.config.Runs(said[:end]) || isPlausible(said[:end]) && t.config.Unseen()) {
			return said[:end], said[end:]
		}
	}
	return "", ""
}

// redirect sends the visitor to a folder, since links in its index are relative to it.
func redirect(r *http.Request, folder string) *http.Response {
	status := http.StatusPermanentRedirect
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		status = http.StatusMovedPermanently
	}
	response := refuse(r, status, "This is a folder.")
	location := url.URL{Path: folder, RawQuery: r.URL.RawQuery}
	response.Header.Set("Location", location.String())
	return response
}

// ownBody is the body of an answer that the application has no part in.
type ownBody struct{ io.Reader }

// Close does nothing.
func (*ownBody) Close() error { return nil }

// IsOwn reports whether a Transport made an answer itself, so that it says nothing of the application. Ask before the body is
// replaced.
func IsOwn(response *http.Response) bool {
	_, is := response.Body.(*ownBody)
	return is
}

// refuse makes an answer without the application.
func refuse(r *http.Request, status int, text string) *http.Response {
	text += "\n"
	response := &http.Response{
		Status:     strconv.Itoa(status) + " " + http.StatusText(status),
		StatusCode: status,
		Proto:      "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{
			"Content-Type":           {"text/plain; charset=utf-8"},
			"Content-Length":         {strconv.Itoa(len(text))},
			"X-Content-Type-Options": {"nosniff"},
		},
		ContentLength: int64(len(text)),
		Body:          &ownBody{strings.NewReader(text)},
		Request:       r,
	}
	if r.Method == http.MethodHead {
		response.Body = &ownBody{http.NoBody}
	}
	return response
}
