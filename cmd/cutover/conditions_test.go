package main

import (
	"io"
	"testing"
)

// conditionsOf returns the column that some flags lead to.
func conditionsOf(t *testing.T, args ...string) (any, error) {
	t.Helper()
	var f ruleFlags
	cmd := newRulesSetCommand(&environment{stdout: io.Discard, stderr: io.Discard})
	cmd.ResetFlags()
	f.conditionFlags.add(cmd)
	if err := cmd.ParseFlags(args); err != nil {
		t.Fatal(err)
	}
	row := map[string]any{}
	err := f.put(cmd, row)
	return row["conditions"], err
}

func TestTheSameConditionsAreTheSameTextHoweverTheyAreGiven(t *testing.T) {
	want := `{"methods":["GET","HEAD"],"headers":{"X-A":"1","X-B":"*"},"cookies":{"staff":"a=b"}}`
	for _, args := range [][]string{
		{"--method", "get,HEAD", "--header", "X-B: *", "--header", "X-A:1", "--cookie", "staff=a=b"},
		{"--cookie", "staff=a=b", "--method", "GET", "--method", "HEAD", "--header", "X-A: 1", "--header", "X-B:*"},
		{"--conditions", ` {"cookies": {"staff":"a=b"}, "headers":{"x-b":"*","X-A":"1"}, "methods": ["GET", "HEAD"] } `},
	} {
		if got, err := conditionsOf(t, args...); err != nil || got != want {
			t.Errorf("%q: got %v, %v, want %s", args, got, err, want)
		}
	}
}

func TestConditionsCanBeTakenAway(t *testing.T) {
	if got, err := conditionsOf(t, "--conditions", "{}"); err != nil || got != "{}" {
		t.Errorf("got %v, %v", got, err)
	}
	if got, err := conditionsOf(t); err != nil || got != nil {
		t.Errorf("without flags the column is left alone, but got %v, %v", got, err)
	}
}

func TestConditionsThatCannotBeReadAreRefused(t *testing.T) {
	for _, args := range [][]string{
		{"--conditions", ""},
		{"--conditions", "[]"},
		{"--conditions", `{"methods":["GET"]} {}`},
		{"--conditions", `{"method":["GET"]}`},
		{"--header", "X-Beta"},
		{"--header", ": 1"},
		{"--cookie", "staff"},
		{"--query", "a=1", "--query", "a=2"},
	} {
		if got, err := conditionsOf(t, args...); err == nil {
			t.Errorf("%q became %v", args, got)
		}
	}
}
