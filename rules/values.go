package rules

import (
	"net/textproto"
	"strings"
)

// The functions of this file read cookies and queries as net/http and net/url do, but allocate nothing; fuzz tests hold
// them to that.

// cookieIs reports whether one of the cookies of that name has the value.
func cookieIs(lines []string, name, want string) bool {
	for _, line := range lines {
		for line != "" {
			var part string
			part, line, _ = strings.Cut(textproto.TrimString(line), ";")
			found, value, _ := strings.Cut(textproto.TrimString(part), "=")
			if textproto.TrimString(found) != name || !isToken(name) {
				continue
			}
			if value, ok := cookieValue(value); ok && (want == anyValue || value == want) {
				return true
			}
		}
	}
	return false
}

// cookieValue takes the quotes off a value; false for one with bytes that no cookie may have (RFC 6265 §4.1.1, and space
// and comma, which are in use).
func cookieValue(raw string) (value string, ok bool) {
	if len(raw) > 1 && raw[0] == '"' && raw[len(raw)-1] == '"' {
		raw = raw[1 : len(raw)-1]
	}
	for i := range len(raw) {
		if c := raw[i]; c < 0x20 || c >= 0x7f || c == '"' || c == ';' || c == '\\' {
			return "", false
		}
	}
	return raw, true
}

// isToken reports whether text is a token of RFC 9110 §5.6.2.
func isToken(text string) bool {
	for i := range len(text) {
		c := text[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return text != ""
}

// queryIs reports whether one of the parameters of that name has the value. Parameters that net/url refuses do not count:
// those with a semicolon or a broken escape.
func queryIs(query, name, want string) bool {
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		key, value, _ := strings.Cut(pair, "=")
		if pair == "" || strings.IndexByte(pair, ';') >= 0 || !unescapesTo(key, name) {
			continue
		}
		if want == anyValue && isEscaped(value) || want != anyValue && unescapesTo(value, want) {
			return true
		}
	}
	return false
}

// isEscaped reports whether every % is followed by two hexadecimal digits.
func isEscaped(text string) bool {
	for i := 0; i < len(text); i++ {
		if text[i] != '%' {
			continue
		}
		if i+2 >= len(text) || !isHex(text[i+1]) || !isHex(text[i+2]) {
			return false
		}
		i += 2
	}
	return true
}

// unescapesTo reports whether part of a query means want.
func unescapesTo(part, want string) bool {
	if !isEscaped(part) {
		return false
	}
	for i := 0; i < len(part); i++ {
		c := part[i]
		switch c {
		case '+':
			c = ' '
		case '%':
			c = unhex(part[i+1])<<4 | unhex(part[i+2])
			i += 2
		}
		if want == "" || want[0] != c {
			return false
		}
		want = want[1:]
	}
	return want == ""
}
