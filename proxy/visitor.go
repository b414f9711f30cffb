package proxy

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/netip"

	"cutover/rules"
)

// CookieName is the name of the visitor cookie.
const CookieName = rules.VisitorCookie

const (
	cookieAge = 365 * 24 * 3600 // seconds
	macSize   = 16
	tokenSize = 16 + macSize
)

// Visitors tells visitors apart. A visitor who returns no valid cookie is known by the client's address, and the cookie
// that is issued then carries the same id: so the first and the second request agree, and a client that never returns
// cookies stays where it is.
//
// Keys can be rotated: the newest signs cookies, and those that an older one has signed stay valid. Ids of addresses are
// derived by the oldest, so that a new key moves nobody; when that key goes, visitors without a cookie are known anew.
type Visitors struct {
	keys [][]byte // the newest first; at least one
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

// returned finds a valid cookie for a host. There may be several, of which others have been set by strangers.
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
	if err != nil || len(token) != tokenSize { // line ends count for DecodedLen, and are passed over
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
	network := networkOf(address.Unmap())
	copy(id[:], sign(v.keys[len(v.keys)-1], "address", host, network.AsSlice()))
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
