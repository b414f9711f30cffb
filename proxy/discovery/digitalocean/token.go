package digitalocean

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"syscall"
)

// TokenError says that there is no token that can be used.
type TokenError struct {
	File string
	Err  error
}

// Error says why.
func (e *TokenError) Error() string { return "the token of DigitalOcean: " + e.Err.Error() }

// Unwrap returns why.
func (e *TokenError) Unwrap() error { return e.Err }

// bearer puts the token into requests to the API, and into no others.
type bearer struct {
	next http.RoundTripper
	host string
	file string
}

func (b *bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Host != b.host {
		return nil, errors.New("a request to somebody else than the API is not sent")
	}
	token, err := readToken(b.file)
	if err != nil {
		return nil, &TokenError{b.file, err}
	}
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+token)
	return b.next.RoundTrip(r)
}

// longestToken is far more than they have.
const longestToken = 4096

func readToken(path string) (string, error) {
	if path == "" {
		return "", errors.New("none is given")
	}
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe must not make it wait
	if err != nil {
		return "", err
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return "", err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !ok || !info.Mode().IsRegular():
		return "", fmt.Errorf("%s is no file", path)
	case stat.Uid != 0 && int(stat.Uid) != os.Geteuid():
		return "", fmt.Errorf("%s belongs to user %d: sudo chown root %[1]s", path, stat.Uid)
	case info.Mode().Perm()&0o027 != 0: // the credentials of a systemd unit may be read by its group, by an ACL
		return "", fmt.Errorf("%s can be read or written by others: sudo chmod 600 %[1]s", path)
	}
	text, err := io.ReadAll(io.LimitReader(file, longestToken))
	token := strings.TrimSpace(string(text))
	if err == nil && (token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' })) {
		err = fmt.Errorf("%s does not hold a token, alone on a line", path)
	}
	return token, err
}
