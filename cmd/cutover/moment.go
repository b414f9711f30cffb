package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// momentHelp says which times parseMoment understands.
const momentHelp = "RFC 3339, '2026-11-21 03:00' in local time, or how long ago, such as 10m or 2d"

// parseMoment reads a time as people give it. Times without an offset are local; a duration counts back from now.
func parseMoment(flag, text string, now time.Time) (time.Time, error) {
	if moment, err := time.Parse(time.RFC3339, text); err == nil {
		return moment, nil
	}
	for _, layout := range []string{"2006-01-02 15:04", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02T15:04:05", time.DateOnly} {
		if moment, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			return moment, nil
		}
	}
	if ago, ok := parseAgo(text); ok {
		return now.Add(-ago), nil
	}
	return time.Time{}, withHint(&usageError{fmt.Errorf("%s %q is not a time", flag, text)}, "give "+momentHelp)
}

// parseAgo reads 90s, 10m, 1h30m or 2d.
func parseAgo(text string) (time.Duration, bool) {
	const day = 24 * time.Hour
	if number, ok := strings.CutSuffix(text, "d"); ok {
		days, err := strconv.ParseUint(number, 10, 16)
		return time.Duration(days) * day, err == nil
	}
	ago, err := time.ParseDuration(text)
	return ago, err == nil && ago >= 0
}

// momentFlag reads a flag that may be left out.
func momentFlag(flag, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	return parseMoment(flag, text, time.Now())
}

// localTime prints a moment as the operator's clock shows it.
func localTime(t time.Time) string { return t.Local().Format(time.DateTime) }
