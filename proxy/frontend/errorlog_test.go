package frontend

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestOfManyReportsAFewASecondReachTheLogWithTheCountOfTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := newErrorLog(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})))
		for range 100 {
			log.Print("http: a client's mistake")
		}
		if lines := strings.Count(out.String(), "level=DEBUG"); lines != linesASecond {
			t.Errorf("%d lines passed, want %d", lines, linesASecond)
		}
		time.Sleep(time.Second)
		log.Print("http: another")
		if !strings.Contains(out.String(), `msg="http: another" omitted=90`) {
			t.Errorf("the next line does not count those left out: %s", out.String())
		}
	})
}

func TestReportsAreNotEvenCountedWhereDebugIsOff(t *testing.T) {
	var out bytes.Buffer
	newErrorLog(slog.New(slog.NewTextHandler(&out, nil))).Print("http: a client's mistake")
	if out.Len() > 0 {
		t.Errorf("got %s", out.String())
	}
}
