package rules

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// conditions is Conditions made ready to be asked.
type conditions struct {
	methods                 []string
	headers, cookies, query []expected
	clients                 []netip.Prefix
	count                   int // how many there are; more go before fewer
}

// expected is a name and the value that it must have; "*" is any value.
type expected struct{ name, value string }

func (e expected) is(value string) bool { return e.value == "*" || e.value == value }

// parseConditions returns nil for a row without conditions.
func parseConditions(text string) (*conditions, error) {
	if text == "" || text == "{}" {
		return nil, nil
	}
	var row Conditions
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&row); err != nil || decoder.More() {
		return nil, errors.New(`conditions must be a JSON object with some of methods, headers, cookies, query, client_ips`)
	}
	c := &conditions{methods: row.Methods, headers: expectations(row.Headers), cookies: expectations(row.Cookies), query: expectations(row.Query)}
	for _, text := range row.ClientIPs {
		prefix, err := parsePrefix(text)
		if err != nil {
			return nil, err
		}
		c.clients = append(c.clients, prefix)
	}
	c.count = min(len(c.methods), 1) + len(c.headers) + len(c.cookies) + len(c.query) + min(len(c.clients), 1)
	if c.count == 0 {
		return nil, nil
	}
	return c, nil
}

func expectations(values map[string]string) []expected {
	list := make([]expected, 0, len(values))
	for name, value := range values {
		list = append(list, expected{name, value})
	}
	slices.SortFunc(list, func(a, b expected) int { return strings.Compare(a.name, b.name) })
	return list
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

// hold reports whether all conditions hold for a request.
func (c *conditions) hold(r *Request) bool {
	if len(c.methods) > 0 && !slices.Contains(c.methods, r.Method) {
		return false
	}
	return c.holdHeaders(r) && c.holdCookies(r) && c.holdQuery(r) && c.holdClient(r)
}

func (c *conditions) holdHeaders(r *Request) bool {
	for _, want := range c.headers {
		values := r.Header[http.CanonicalHeaderKey(want.name)]
		if !slices.ContainsFunc(values, want.is) {
			return false
		}
	}
	return true
}

func (c *conditions) holdCookies(r *Request) bool {
	if len(c.cookies) == 0 {
		return true
	}
	request := http.Request{Header: r.Header}
	for _, want := range c.cookies {
		if !slices.ContainsFunc(request.CookiesNamed(want.name), func(cookie *http.Cookie) bool { return want.is(cookie.Value) }) {
			return false
		}
	}
	return true
}

func (c *conditions) holdQuery(r *Request) bool {
	if len(c.query) == 0 {
		return true
	}
	values, _ := url.ParseQuery(r.RawQuery) // what cannot be parsed is left out
	for _, want := range c.query {
		if !slices.ContainsFunc(values[want.name], want.is) {
			return false
		}
	}
	return true
}

func (c *conditions) holdClient(r *Request) bool {
	if len(c.clients) == 0 {
		return true
	}
	address := r.ClientIP.Unmap()
	return slices.ContainsFunc(c.clients, func(prefix netip.Prefix) bool { return prefix.Contains(address) })
}
