package main

import (
	"errors"
	"testing"
	"time"
)

func TestATimeIsReadAsPeopleGiveIt(t *testing.T) {
	zone := time.FixedZone("somewhere", 3600)
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, zone)
	for text, want := range map[string]string{
		"2026-11-21T03:00:00+01:00": "2026-11-21T02:00:00Z",
		"2026-11-21T03:00:00.5Z":    "2026-11-21T03:00:00.5Z",
		"2026-11-21 03:00":          "2026-11-21T02:00:00Z",
		"2026-11-21 03:00:07":       "2026-11-21T02:00:07Z",
		"2026-11-21":                "2026-11-20T23:00:00Z",
		"10m":                       "2026-11-21T10:50:00Z",
		"1h30m":                     "2026-11-21T09:30:00Z",
		"2d":                        "2026-11-19T11:00:00Z",
		"0s":                        "2026-11-21T11:00:00Z",
	} {
		got, err := parseMoment("--at", text, now)
		if err != nil || got.UTC().Format(time.RFC3339Nano) != want {
			t.Errorf("%s: got %v, %v", text, got, err)
		}
	}
}

func TestWhatIsNoTimeIsAUsageError(t *testing.T) {
	for _, text := range []string{"", "yesterday", "10", "-10m", "d", "-1d", "2026-13-01 03:00", "03:00"} {
		var hinted *hintError
		if got, err := parseMoment("--at", text, time.Now()); !errors.As(err, new(*usageError)) || !errors.As(err, &hinted) {
			t.Errorf("%q: got %v, %v", text, got, err)
		}
	}
}
