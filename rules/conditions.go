package rules

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// Conditions made ready are bytes without pointers: first how many there are, then each as one of these, then what it
// needs. All must hold. Cookies come last, so that they are only looked at where the answer depends on them.
const (
	askMethod = 1 + iota // how many, and each
	askHeader            // name in canonical form, value
	askCookie            // name, value
	askQuery             // name, value
	askClient            // how many, and of each: bits, address
)

// anyValue is the expected value that every value meets.
const anyValue = "*"

// parseConditions turns a row's JSON into bytes, empty for a row without conditions.
func parseConditions(text string) (string, error) {
	if text == "" || text == "{}" {
		return "", nil
	}
	var row Conditions
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&row); err != nil || decoder.More() {
		return "", errors.New(`conditions must be a JSON object with some of methods, headers, cookies, query, client_ips`)
	}
	count := min(len(row.Methods), 1) + len(row.Headers) + len(row.Cookies) + len(row.Query) + min(len(row.ClientIPs), 1)
	if count == 0 {
		return "", nil
	}
	b := appendUint(nil, uint64(count))
	if len(row.Methods) > 0 {
		b = appendUint(append(b, askMethod), uint64(len(row.Methods)))
		for _, method := range row.Methods {
			b = appendText(b, method)
		}
	}
	b = appendExpected(b, askHeader, row.Headers)
	b = appendExpected(b, askQuery, row.Query)
	b, err := appendClients(b, row.ClientIPs)
	return string(appendExpected(b, askCookie, row.Cookies)), err
}

func appendExpected(b []byte, kind byte, values map[string]string) []byte {
	names := make([]string, 0, len(values))
	for name := range values {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		value := values[name]
		if kind == askHeader {
			name = http.CanonicalHeaderKey(name)
		}
		b = appendText(appendText(append(b, kind), name), value)
	}
	return b
}

func appendClients(b []byte, texts []string) ([]byte, error) {
	if len(texts) == 0 {
		return b, nil
	}
	b = appendUint(append(b, askClient), uint64(len(texts)))
	for _, text := range texts {
		prefix, err := parsePrefix(text)
		if err != nil {
			return nil, err
		}
		b = appendText(appendUint(b, uint64(prefix.Bits())), string(prefix.Addr().AsSlice()))
	}
	return b, nil
}

func parsePrefix(text string) (netip.Prefix, error) {
	if address, err := netip.ParseAddr(text); err == nil && address.Zone() == "" {
		address = address.Unmap()
		return netip.PrefixFrom(address, address.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("client_ips: %q is no address and no range such as 10.0.0.0/8", text)
	}
	return prefix.Masked(), nil
}

// conditionCount returns how many there are; more go before fewer.
func conditionCount(conditions string) uint64 {
	if conditions == "" {
		return 0
	}
	c := cursor{rest: conditions}
	return c.uint()
}

// holds reports whether all conditions hold for a request. asked is set if the answer depends on a cookie.
func holds(conditions string, r *Request, asked *bool) bool {
	c := cursor{rest: conditions}
	c.uint()
	for !c.done() {
		if !holdsNext(&c, r, asked) {
			return false
		}
	}
	return !c.damaged
}

func holdsNext(c *cursor, r *Request, asked *bool) bool {
	switch c.byte() {
	case askMethod:
		return holdsMethod(c, r.Method)
	case askHeader:
		return holdsValue(r.Header[c.text()], c.text())
	case askQuery:
		return queryIs(r.RawQuery, c.text(), c.text())
	case askClient:
		return holdsClient(c, r.ClientIP.Unmap())
	case askCookie:
		*asked = true
		return cookieIs(r.Header["Cookie"], c.text(), c.text())
	}
	return false
}

func holdsMethod(c *cursor, method string) bool {
	hold := false
	for range c.uint() {
		if c.done() {
			break
		}
		hold = c.text() == method || hold
	}
	return hold
}

func holdsValue(values []string, want string) bool {
	for _, value := range values {
		if want == anyValue || value == want {
			return true
		}
	}
	return false
}

func holdsClient(c *cursor, client netip.Addr) bool {
	hold := false
	for range c.uint() {
		if c.done() {
			break
		}
		bits, raw := int(c.uint()), c.text()
		hold = contains(raw, bits, client) || hold
	}
	return hold
}

// contains reports whether an address is in a range, given by the bytes of its first address.
func contains(raw string, bits int, client netip.Addr) bool {
	var first netip.Addr
	switch len(raw) {
	case 4:
		first = netip.AddrFrom4([4]byte([]byte(raw)))
	case 16:
		first = netip.AddrFrom16([16]byte([]byte(raw)))
	}
	return netip.PrefixFrom(first, bits).Contains(client)
}
