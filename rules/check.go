package rules

import (
	"errors"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Check says how the targets of an upstream are looked at, whether requests come or not.
type Check struct {
	Path     string  `json:"check_path"`     // what is asked for by GET, with a query if need be; empty for no check
	Host     string  `json:"check_host"`     // whom it is asked for; empty for the target's own host
	Interval float64 `json:"check_interval"` // seconds from one look to the next
	Timeout  float64 `json:"check_timeout"`  // seconds that an answer may take
	Status   string  `json:"check_status"`   // of a good answer: codes and ranges, separated by commas
	Body     string  `json:"check_body"`     // text that a good answer holds within its first 64 KiB; empty for any
	Rise     int     `json:"check_rise"`     // good answers in a row until a target that failed gets requests again
	Fall     int     `json:"check_fall"`     // bad ones in a row until it fails
}

// Every returns the time from one look to the next.
func (c *Check) Every() time.Duration { return Seconds(c.Interval) }

// Within returns the time that an answer may take.
func (c *Check) Within() time.Duration { return Seconds(c.Timeout) }

// Accepts reports whether a status is that of a good answer.
func (c *Check) Accepts(status int) bool {
	for part := range strings.SplitSeq(c.Status, ",") {
		if first, last, ok := statusRange(part); ok && first <= status && status <= last {
			return true
		}
	}
	return false
}

// statusRange reads 200 or 200-399.
func statusRange(text string) (first, last int, ok bool) {
	from, to, isRange := strings.Cut(text, "-")
	if !isRange {
		to = from
	}
	first, err := strconv.Atoi(strings.TrimSpace(from))
	last, err2 := strconv.Atoi(strings.TrimSpace(to))
	return first, last, err == nil && err2 == nil && first >= 100 && last <= 599 && first <= last
}

func (c *Check) validate() error {
	if c.Path == "" {
		return nil
	}
	if _, err := url.ParseRequestURI(c.Path); err != nil || c.Path[0] != '/' || len(c.Path) > 1000 || !isVisible(c.Path) || strings.Contains(c.Path, "#") {
		return errors.New("check_path must begin with / and hold no space")
	}
	if c.Host != "" && (len(c.Host) > 259 || !isVisible(c.Host) || strings.ContainsAny(c.Host, "/?#@")) {
		return errors.New("check_host must be a name, with a port if need be")
	}
	if !(c.Interval >= 0.5 && c.Interval <= 3600) || !(c.Timeout >= 0.1 && c.Timeout <= 300) {
		return errors.New("check_interval must be 0.5 to 3600 seconds, check_timeout 0.1 to 300")
	}
	if c.Rise < 1 || c.Rise > 100 || c.Fall < 1 || c.Fall > 100 {
		return errors.New("check_rise and check_fall must be whole numbers from 1 to 100")
	}
	for part := range strings.SplitSeq(c.Status, ",") {
		if _, _, ok := statusRange(part); !ok {
			return errors.New("check_status must be codes and ranges such as 200,301 or 200-399")
		}
	}
	return nil
}

// isVisible reports whether text is of visible ASCII alone.
func isVisible(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' })
}
