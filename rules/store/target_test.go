package store

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"cutover/rules"
)

// targetsOf returns the URLs of an upstream's targets that are in force.
func targetsOf(s *Store, name string) (urls []string) {
	upstream, ok := s.Load().Upstream(name)
	if !ok {
		return nil
	}
	for _, target := range upstream.Targets {
		urls = append(urls, target.URL)
	}
	return urls
}

func TestATargetOfAKindThatOnlyANewerVersionKnowsIsQuarantinedAndItsLastGoodVersionServes(t *testing.T) {
	dir := t.TempDir()
	s, stop := start(t, dir)
	mustSqlite(t, dir, "INSERT INTO targets(upstream,url) VALUES('v1','http://10.0.0.1:80'),('v1','http://10.0.0.2:80')")
	eventually(t, "the targets", func() bool { return len(targetsOf(s, "v1")) == 2 })
	mustSqlite(t, dir, "PRAGMA ignore_check_constraints=1; UPDATE targets SET url='quic://10.0.0.9' WHERE url='http://10.0.0.1:80'; INSERT INTO targets(upstream,url) VALUES('v1','warp://x')")
	quarantined := func() bool {
		return len(s.Snapshot().Problems) == 2 && slices.Equal(targetsOf(s, "v1"), []string{"http://10.0.0.1:80", "http://10.0.0.2:80"})
	}
	eventually(t, "both rows to be set aside, and the good version of one to serve", quarantined)
	eventually(t, "the reason at the prompt", func() bool {
		return strings.Count(mustSqlite(t, dir, "SELECT * FROM v_errors"), "url must be http://") == 2
	})
	stop()
	s, _ = start(t, dir)
	eventually(t, "the same after a restart", func() bool {
		return len(s.Snapshot().Problems) == 2 && slices.Contains(targetsOf(s, "v1"), "http://10.0.0.2:80")
	})
	mustSqlite(t, dir, "UPDATE targets SET url='http://10.0.0.3:80' WHERE url='quic://10.0.0.9'; DELETE FROM targets WHERE url='warp://x'")
	eventually(t, "the mended row", func() bool {
		return len(s.Snapshot().Problems) == 0 && slices.Equal(targetsOf(s, "v1"), []string{"http://10.0.0.3:80", "http://10.0.0.2:80"})
	})
}

var errOurs = errors.New("it leads to us")

// startRefusing is start for a process that listens on 127.0.0.1:80.
func startRefusing(t *testing.T, dir string) (s *Store, stop func()) {
	t.Helper()
	s, err := Open(t.Context(), Options{Dir: dir, RefuseTarget: func(target *rules.Target) error {
		if target.URL == "http://127.0.0.1:80" {
			return errOurs
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := errors.Join(<-done, s.Close()); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return s, stop
}

func TestATargetThatThisProcessRefusesIsSetAsideHoweverItCameIntoTheTable(t *testing.T) {
	dir := t.TempDir()
	s, stop := start(t, dir) // one that knows nothing of it
	mustSqlite(t, dir, "INSERT INTO targets(upstream,url) VALUES('v1','http://127.0.0.1:80'),('v1','http://10.0.0.2:80')")
	eventually(t, "the targets", func() bool { return len(targetsOf(s, "v1")) == 2 })
	stop()
	s, stop = startRefusing(t, dir)
	aside := func(want ...string) func() bool {
		return func() bool {
			problems := s.Snapshot().Problems
			return len(problems) == 1 && problems[0].Table == "targets" && problems[0].Reason == errOurs.Error() && slices.Equal(targetsOf(s, "v1"), want)
		}
	}
	eventually(t, "the row to be set aside at the start, though a snapshot has it", aside("http://10.0.0.2:80"))
	mustSqlite(t, dir, "DELETE FROM targets WHERE url='http://127.0.0.1:80'")
	eventually(t, "no problem", func() bool { return len(s.Snapshot().Problems) == 0 })
	mustSqlite(t, dir, "UPDATE targets SET url='http://127.0.0.1:80'")
	eventually(t, "the row that was changed to serve as it was", aside("http://10.0.0.2:80"))
	eventually(t, "the reason at the prompt", func() bool { return strings.Contains(mustSqlite(t, dir, "SELECT * FROM v_errors"), errOurs.Error()) })
	stop()
	s, _ = startRefusing(t, dir)
	mustSqlite(t, dir, "INSERT INTO targets(upstream,url) VALUES('v1','http://10.0.0.3:80')")
	eventually(t, "the other to serve after a restart", func() bool { return slices.Contains(targetsOf(s, "v1"), "http://10.0.0.3:80") })
	if slices.Contains(targetsOf(s, "v1"), "http://127.0.0.1:80") {
		t.Errorf("what leads to us is in force: %v", targetsOf(s, "v1"))
	}
}
