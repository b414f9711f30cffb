package main

import (
	"strings"
	"testing"
	"time"

	"cutover/rules"
)

func TestATableIsAlignedAndHasNoEmptyCells(t *testing.T) {
	var out strings.Builder
	if err := printTable(&out, []string{"HOST", "NOTE"}, [][]string{{"a.example.com", ""}, {"b", "two\nlines"}}); err != nil {
		t.Fatal(err)
	}
	want := "HOST           NOTE\na.example.com  -\nb              two lines\n"
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}

func TestWhatOthersWroteCannotSteerTheTerminal(t *testing.T) {
	for _, text := range []string{"\x1b[2J", "\u009b2J", "a\tb", "a\rb", "\u202egnp.exe", "\x7f"} {
		if got := oneLine(text); strings.ContainsAny(got, "\x1b\u009b\t\r\n\u202e\x7f") {
			t.Errorf("oneLine(%q) = %q", text, got)
		}
	}
	if got := oneLine("größe – 10 %"); got != "größe – 10 %" {
		t.Errorf("got %q", got)
	}
}

func TestTimesAreSaidAsPeopleSayThem(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 59 * time.Second: "59s", 61 * time.Second: "1m", 59*time.Minute + 59*time.Second: "59m",
		3*time.Hour + 12*time.Minute: "3h12m", 50 * time.Hour: "2d2h",
	} {
		if got := ageText(d); got != want {
			t.Errorf("%v: got %q, want %q", d, got, want)
		}
	}
	if got := timeText(time.Time{}); got != "never" {
		t.Errorf("got %q", got)
	}
}

func TestARowIsPrintedByItsNameFirst(t *testing.T) {
	row := map[string]any{"percent": 10, "note": "", "path": "/", "v1": "v1", "host": "shop.example.com", "id": 7}
	if got, want := describeRow(row), "id=7 host=shop.example.com path=/ percent=10 v1=v1"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestWhatWasStoredButIsNotInForceIsAnError(t *testing.T) {
	problems := []rules.Problem{{Table: "rules", Row: "7", Host: "shop.example.com", Reason: "v2 is not the name of an upstream", Serving: true}}
	err := confirm("rules", "7", true, problems)
	if err == nil || !strings.Contains(err.Error(), "its last good version still serves") {
		t.Errorf("got %v", err)
	}
	if err := confirm("rules", "8", true, problems); err != nil {
		t.Errorf("another row's problem: %v", err)
	}
	if err := confirm("redirects", "7", true, problems); err != nil {
		t.Errorf("another table's problem: %v", err)
	}
	if err := confirm("rules", "8", false, nil); err == nil {
		t.Error("a row that is gone again was confirmed")
	}
}
