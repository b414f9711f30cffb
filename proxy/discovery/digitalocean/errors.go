package digitalocean

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"github.com/digitalocean/godo"
)

// Error is what the API says against a request.
type Error struct {
	Status  int // of the answer
	Message string
	Request string        // id to name to DigitalOcean's support; may be empty
	Again   time.Duration // with status 429, when there is room for another request
}

// Error is its message, with what it stands for.
func (e *Error) Error() string {
	text := fmt.Sprintf("DigitalOcean answers %d %s: %s", e.Status, http.StatusText(e.Status), e.Message)
	if e.Request != "" {
		text += " (request " + e.Request + ")"
	}
	return text
}

// explain turns what godo says into an *Error.
func explain(err error) error {
	var answer *godo.ErrorResponse
	if !errors.As(err, &answer) || answer.Response == nil {
		return err
	}
	e := &Error{Status: answer.Response.StatusCode, Message: answer.Message, Request: answer.RequestID}
	if e.Status == http.StatusTooManyRequests {
		e.Again = untilRoom(answer.Response.Header, time.Now())
	}
	return e
}

const longestPause = time.Hour // of the rate limit, which is one for an hour

// untilRoom reads from the headers of an answer when there is room for another request.
func untilRoom(h http.Header, now time.Time) time.Duration {
	pause := time.Minute
	if seconds, err := strconv.Atoi(h.Get("Retry-After")); err == nil {
		pause = time.Duration(seconds) * time.Second
	} else if at, err := strconv.ParseInt(h.Get("RateLimit-Reset"), 10, 64); err == nil {
		pause = time.Unix(at, 0).Sub(now)
	}
	return min(max(pause, time.Second), longestPause)
}

// checkTag returns why a text is no tag.
func checkTag(tag string) error {
	if !regexp.MustCompile(`^[a-zA-Z0-9:_-]{1,255}$`).MatchString(tag) {
		return fmt.Errorf("%q is no tag: it must be of letters, digits, colons, dashes and underscores, at most 255", tag)
	}
	return nil
}
