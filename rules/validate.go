package rules

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
)

// The errors of this file are read by operators: `cutover status` and the table rule_errors show them as they are.

// Validate returns why the row makes no sense by itself, nil if it does.
func (r *Rule) Validate() error {
	_, err := r.check()
	_, conditionsErr := parseConditions(r.Conditions)
	return firstError(err, conditionsErr)
}

// check looks at everything but the conditions, and returns the host as patternKey does.
func (r *Rule) check() (pattern string, err error) {
	pattern, hostErr := patternKey(r.Host)
	return pattern, firstError(
		needsErr(r.Needs), hostErr, validatePath(r.Path), r.Match.validate(), validateName(r.V1), validateName(r.V2),
		validatePercent(r.Percent), r.Sticky.validate(), validateSpan(r.StartsAt, r.EndsAt),
	)
}

// Validate returns why the row makes no sense by itself, nil if it does.
func (r *Redirect) Validate() error {
	_, _, err := r.check()
	return err
}

// check returns the host as patternKey does, and the destination; none for 410.
func (r *Redirect) check() (pattern string, to destination, err error) {
	pattern, hostErr := patternKey(r.Host)
	err = firstError(needsErr(r.Needs), hostErr, validatePath(r.Path), r.Match.validate())
	if err == nil {
		to, err = r.answer()
	}
	return pattern, to, err
}

func (r *Redirect) answer() (destination, error) {
	switch r.Status {
	case 410:
		if r.ToURL != "" {
			return destination{}, errors.New("to_url must be empty with status 410: what is gone has no other place")
		}
		return destination{}, nil
	case 301, 302, 307, 308:
		return parseDestination(r.ToURL)
	}
	return destination{}, errors.New("status must be 301, 302, 307, 308 or 410")
}

// Validate returns why the row makes no sense by itself, nil if it does.
func (t *Target) Validate() error {
	if t.Weight < 0 || t.Weight > 1000 {
		return errors.New("weight must be a whole number from 0 to 1000")
	}
	switch t.State {
	case StateReady, StateDrain, StateMaint:
	default:
		return errors.New("state must be ready, drain or maint")
	}
	_, err := ParseTarget(t.URL)
	return err
}

// Validate returns why the row makes no sense by itself, nil if it does.
func (h *Host) Validate() error {
	_, err := patternKey(h.Host)
	if h.HTTPS != HTTPSOff && h.HTTPS != HTTPSRedirect {
		return errors.New("https must be off or redirect")
	}
	if h.HSTS < 0 {
		return errors.New("hsts must be a number of seconds, 0 for none")
	}
	if h.TLS != "" && h.TLS != TLSTerminate && h.TLS != TLSPassthrough {
		return errors.New("tls must be terminate or passthrough")
	}
	return firstError(needsErr(h.Needs), err, h.validateCertificate())
}

// maxCertificateName bounds the name of a pair of files.
const maxCertificateName = 128

func (h *Host) validateCertificate() error {
	switch h.Certificate {
	case "", CertificateAuto, CertificateAny, CertificateOff:
		return nil
	}
	name, ok := h.CertificateFile()
	if !ok || name == "" || len(name) > maxCertificateName || name[0] == '.' || !isName(name) {
		return errors.New("certificate must be auto, any, off or file:NAME, with a NAME of letters, digits, . _ and - that begins with no dot")
	}
	return nil
}

func firstError(all ...error) error {
	for _, err := range all {
		if err != nil {
			return err
		}
	}
	return nil
}

func needsErr(needs int) error {
	if needs > Schema {
		return fmt.Errorf("this row needs a newer cutover (rules schema %d, this one has %d)", needs, Schema)
	}
	return nil
}

func (k Kind) validate() error {
	if k != KindPrefix && k != KindExact {
		return errors.New("match must be prefix or exact")
	}
	return nil
}

func (s Sticky) validate() error {
	if s != StickyCookie && s != StickyAddress {
		return errors.New("sticky must be cookie or address")
	}
	return nil
}

func validatePercent(percent float64) error {
	if math.IsNaN(percent) || percent < 0 || percent > 100 {
		return errors.New("percent must be a number from 0 to 100")
	}
	return nil
}

// patternKey returns a row's host in normal form: a name, "*.parent" or "*".
func patternKey(host string) (string, error) {
	if isNormal(host) { // nearly all are
		return host, nil
	}
	key := strings.TrimSuffix(strings.ToLower(strings.TrimSpace(host)), ".")
	if key == "*" || isNormal(strings.TrimPrefix(key, "*.")) {
		return key, nil
	}
	if address, ok := literal(key); ok {
		return address, nil
	}
	if !isASCII(key) {
		return "", errors.New("host may hold only a-z 0-9 . - _ and a leading *. (write names of other scripts as xn--…)")
	}
	return "", errors.New("host must be a name such as shop.example.com, *.example.com or *, without port or path")
}

func validatePath(path string) error {
	if !strings.HasPrefix(path, "/") || strings.ContainsAny(path, " ?#") {
		return errors.New("path must start with / and hold no space, ? or #")
	}
	for i := range len(path) {
		if path[i] <= ' ' || path[i] > '~' {
			return errors.New("path must be printable ASCII (write other characters as %XX)")
		}
	}
	return nil
}

func validateName(name string) error {
	if name == "" || len(name) > 63 || !isName(name) {
		return errors.New("the name of an upstream may hold only letters, digits, . _ and -, at most 63 of them")
	}
	return nil
}

func isName(text string) bool {
	for i := range len(text) {
		switch c := text[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}

// validateSpan checks starts_at and ends_at; both are optional.
func validateSpan(starts, ends string) error {
	from, err := parseTime("starts_at", starts)
	if err != nil {
		return err
	}
	to, err := parseTime("ends_at", ends)
	if err != nil {
		return err
	}
	if !from.IsZero() && !to.IsZero() && !to.After(from) {
		return errors.New("ends_at must be later than starts_at")
	}
	return nil
}

// parseTime returns the zero time for an empty text.
func parseTime(column, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("%s must be a time with its offset, such as 2026-11-21T03:00:00+01:00", column)
	}
	return at, nil
}
