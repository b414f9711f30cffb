package proxy

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"cutover/rules"
)

// CookieName is the name of the visitor cookie.
const CookieName = "cutover_visitor"

const (
	cookieAge  = 365 * 24 * 3600 // seconds
	macSize    = 16
	tokenSize  = 16 + macSize
	keyMinimum = 32 // bytes
)

// Visitors tells visitors apart. A visitor who returns no valid cookie is known by the client's address, and the cookie
// that is issued then carries the same id: so the first and the second request agree, and a client that never returns
// cookies stays where it is.
type Visitors struct {
	keys [][]byte // the first signs; all are accepted
}

// LoadVisitors reads the signing keys, one a line in hexadecimal, the newest first. A file that is missing is made, with
// one key, readable by its owner alone.
func LoadVisitors(path string) (*Visitors, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		text, err = makeKeyFile(path)
	}
	if err != nil {
		return nil, err
	}
	v := &Visitors{}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		key, err := hex.DecodeString(line)
		if err != nil || len(key) < keyMinimum {
			return nil, fmt.Errorf("%s: a line is not a key of %d bytes in hexadecimal: restore the file, or delete it and let visitors be known anew", path, keyMinimum)
		}
		v.keys = append(v.keys, key)
	}
	if len(v.keys) == 0 {
		return nil, fmt.Errorf("%s holds no key: delete it and a new one is made", path)
	}
	return v, nil
}

// makeKeyFile writes a new key under another name first, so that the file is whole or not there.
func makeKeyFile(path string) ([]byte, error) {
	key := make([]byte, keyMinimum)
	_, _ = rand.Read(key) // never fails: crypto/rand ends the program instead
	text := []byte(hex.EncodeToString(key) + "\n")
	file, err := os.CreateTemp(filepath.Dir(path), ".visitor-*")
	if err != nil {
		return nil, err
	}
	_, err = file.Write(text)
	err = errors.Join(err, file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return nil, errors.Join(err, os.Remove(file.Name()))
	}
	return text, nil
}

// identify is rules.Request's Identify.
func (v *Visitors) identify(r *rules.Request, sticky rules.Sticky) rules.Visitor {
	if sticky == rules.StickyCookie {
		if id, ok := v.returned(r.Header, r.Host); ok {
			return rules.Visitor{ID: id, Returned: true}
		}
	}
	return rules.Visitor{ID: v.byAddress(r.Host, r.ClientIP)}
}

// returned finds a valid cookie for a host.
func (v *Visitors) returned(header http.Header, host string) (id [16]byte, ok bool) {
	request := http.Request{Header: header}
	for _, cookie := range request.CookiesNamed(CookieName) {
		if id, ok := v.parse(cookie.Value, host); ok {
			return id, true
		}
	}
	return id, false
}

// parse checks a cookie's value. Another host's cookie does not pass.
func (v *Visitors) parse(value, host string) (id [16]byte, ok bool) {
	if base64.RawURLEncoding.DecodedLen(len(value)) != tokenSize {
		return id, false
	}
	token, err := base64.RawURLEncoding.Strict().DecodeString(value)
	if err != nil {
		return id, false
	}
	copy(id[:], token)
	for _, key := range v.keys {
		if hmac.Equal(token[16:], sign(key, "cookie", host, id[:])) {
			return id, true
		}
	}
	return [16]byte{}, false
}

// byAddress derives an id from an address: all of an IPv4 address, the network (/64) of an IPv6 one, since a visitor
// has a whole network there.
func (v *Visitors) byAddress(host string, address netip.Addr) (id [16]byte) {
	address = address.Unmap()
	if address.Is6() {
		if network, err := address.Prefix(64); err == nil {
			address = network.Addr()
		}
	}
	copy(id[:], sign(v.keys[0], "address", host, address.AsSlice()))
	return id
}

// sign returns HMAC-SHA256 of a purpose, a host and data, cut to 16 bytes. A zero byte ends purpose and host, which hold
// none.
func sign(key []byte, purpose, host string, data []byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(purpose + "\x00" + host + "\x00"))
	mac.Write(data)
	return mac.Sum(nil)[:macSize]
}

// cookie makes a visitor known to the browser, for this host alone.
func (v *Visitors) cookie(host string, visitor rules.Visitor, secure bool) *http.Cookie {
	token := append(visitor.ID[:len(visitor.ID):len(visitor.ID)], sign(v.keys[0], "cookie", host, visitor.ID[:])...)
	return &http.Cookie{
		Name: CookieName, Value: base64.RawURLEncoding.EncodeToString(token), Path: "/", MaxAge: cookieAge,
		Secure: secure, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	}
}
