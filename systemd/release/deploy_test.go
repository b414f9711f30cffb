package release

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// fake is a machine whose processes serve what the symlink leads to, and keeps the order of what was asked of it.
type fake struct {
	folder  Folder
	steps   []string
	serving string // the release of the process
	pid     int
	started time.Time
	dead    bool // nobody answers

	check    error
	lost     []string // with another release
	restart  func(release string) error
	restarts func() int
	active   error
	say      func(s *Sample) // what a process says of itself
}

func (f *fake) step(text string) { f.steps = append(f.steps, text) }

func (f *fake) Installed() error                                 { return nil }
func (f *fake) Notes(context.Context, string) []string           { return nil }
func (f *fake) Journal(context.Context) string                   { return "" }
func (f *fake) Losses(context.Context, string) ([]string, error) { return f.lost, nil }
func (f *fake) Runs(pid int, release string) bool                { return pid == f.pid && release == f.serving }

func (f *fake) Stop(context.Context) error { f.step("stop"); f.dead = true; return nil }

func (f *fake) Check(_ context.Context, r string) (string, error) {
	f.step("check " + filepath.Base(r))
	time.Sleep(time.Second)
	return "", f.check
}

func (f *fake) Restart(context.Context) error {
	current, err := f.folder.Current()
	if err != nil {
		return err
	}
	f.step("restart " + filepath.Base(current))
	if f.restart != nil {
		if err := f.restart(current); err != nil {
			return err
		}
	}
	f.dead, f.serving, f.started = false, current, time.Now()
	f.pid++
	return nil
}

func (f *fake) Restarts(context.Context) (int, error) {
	if f.restarts != nil {
		return f.restarts(), f.active
	}
	return 0, f.active
}

func (f *fake) Sample(context.Context) (Sample, error) {
	if f.dead {
		return Sample{}, errors.New("nobody answers")
	}
	s := Sample{PID: f.pid, Ready: true, Uptime: time.Since(f.started), Counts: true, Failures: map[string]uint64{"panic": 0}}
	if f.say != nil {
		f.say(&s)
	}
	return s, nil
}

// up is how long the process has been serving, in whole seconds.
func (s *Sample) up() uint64 { return uint64(s.Uptime / time.Second) }

const (
	one   = "cutover-20260101000001"
	two   = "cutover-20260101000002"
	three = "cutover-20260101000003"
)

// machine is a folder with a fake system where release one serves.
func machine(t *testing.T) (*fake, *Deployer, func(name string) string) {
	t.Helper()
	folder := Folder{Root: filepath.Join(t.TempDir(), "opt")}
	f := &fake{folder: folder, started: time.Now()}
	d := &Deployer{Folder: folder, System: f, Say: func(format string, v ...any) { t.Logf(format, v...) }, Progress: func(string) {}}
	build := func(name string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	if err := d.Deploy(t.Context(), build(one)); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Hour) // in the bubble: the old process has run for long
	f.steps = nil
	return f, d, build
}

func (f *fake) expect(t *testing.T, current string, steps ...string) {
	t.Helper()
	got, err := f.folder.Current()
	if err != nil || filepath.Base(got) != current {
		t.Errorf("the symlink leads to %s (%v), not to %s", got, err, current)
	}
	if !slices.Equal(f.steps, steps) {
		t.Errorf("steps %q, want %q", f.steps, steps)
	}
}

func (f *fake) expectKept(t *testing.T, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(f.folder.Releases())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	if !slices.Equal(names, want) {
		t.Errorf("releases %q, want %q", names, want)
	}
}

func TestAGoodReleaseIsCheckedSwappedRestartedAndWatchedToTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, d, build := machine(t)
		began := time.Now()
		if err := d.Deploy(t.Context(), build(two)); err != nil {
			t.Fatal(err)
		}
		f.expect(t, two, "check "+two, "restart "+two)
		f.expectKept(t, one, two)
		if took := time.Since(began); took < 30*time.Second || took > 35*time.Second {
			t.Errorf("it was watched for %v", took)
		}
		if previous, err := d.Folder.Previous(); err != nil || filepath.Base(previous) != one {
			t.Errorf("the one before is %s (%v)", previous, err)
		}
	})
}

func TestAReleaseThatRefusesChangesNothingAndIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, d, build := machine(t)
		f.check = errors.New("cannot read the rules")
		err := d.Deploy(t.Context(), build(two))
		if !errors.As(err, new(*Refused)) || !strings.Contains(err.Error(), "nothing was changed") {
			t.Errorf("error %v", err)
		}
		f.expect(t, one, "check "+two)
		f.expectKept(t, one)
	})
}

// putBack deploys release two, which must be put back for a reason.
func putBack(t *testing.T, f *fake, d *Deployer, build func(string) string, reason string) {
	t.Helper()
	err := d.Deploy(t.Context(), build(two))
	if !errors.As(err, new(*PutBack)) || !strings.Contains(err.Error(), reason) {
		t.Errorf("error %v, want one that says %q", err, reason)
	}
	f.expect(t, one, "check "+two, "restart "+two, "restart "+one)
	f.expectKept(t, one)
	if previous, err := d.Folder.Previous(); previous != "" || err != nil {
		t.Errorf("a release that was put back is the one before: %s, %v", previous, err)
	}
}

func TestAReleaseIsPutBack(t *testing.T) {
	for reason, spoil := range map[string]func(*fake){
		"the restart failed": func(f *fake) {
			f.restart = func(release string) error {
				if filepath.Base(release) == two {
					return errors.New("job failed")
				}
				return nil
			}
		},
		"is not ready": func(f *fake) {
			f.say = func(s *Sample) { s.Ready = !f.runs(two) }
		},
		"the process ended and was started again": func(f *fake) {
			f.restarts = func() int {
				if f.runs(two) && time.Since(f.started) > 20*time.Second {
					return 1
				}
				return 0
			}
		},
		"which has ended": func(f *fake) {
			f.say = func(s *Sample) {
				if f.runs(two) && s.up() > 10 {
					f.pid = 77
					s.PID = 77
				}
			}
		},
		"failures itself (panic)": func(f *fake) {
			f.say = func(s *Sample) {
				if f.runs(two) {
					s.Failures["panic"] = s.up()
				}
			}
		},
		"not one of": func(f *fake) {
			f.say = func(s *Sample) {
				s.Outcomes = map[string]Outcome{"requests": {Good: s.up()}}
				if f.runs(two) {
					s.Outcomes["requests"] = Outcome{Bad: s.up()}
				}
			}
		},
		"rows of the rules are not served": func(f *fake) {
			f.say = func(s *Sample) {
				if f.runs(two) {
					s.Problems = 2
				}
			}
		},
	} {
		t.Run(reason, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, d, build := machine(t)
				spoil(f)
				putBack(t, f, d, build, reason)
			})
		})
	}
}

func (f *fake) runs(name string) bool { return filepath.Base(f.serving) == name }

func TestAReleaseIsNoWorseThanWhatWasThereAlready(t *testing.T) {
	for what, say := range map[string]func(*fake, *Sample){
		"as many failures as before":         func(_ *fake, s *Sample) { s.Failures["accept"] = s.up() },
		"two failures, which may be anybody": func(f *fake, s *Sample) { s.Failures["panic"] = 2 },
		"a release before that counts nothing": func(f *fake, s *Sample) {
			s.Counts = f.runs(two)
			s.Failures["panic"] = s.up()
		},
		"requests that nobody could serve before either": func(_ *fake, s *Sample) {
			s.Outcomes = map[string]Outcome{"requests": {Bad: s.up()}}
		},
		"requests that went well an hour ago": func(f *fake, s *Sample) {
			s.Outcomes = map[string]Outcome{"requests": {Good: 9, Bad: s.up()}}
			if f.runs(two) {
				s.Outcomes["requests"] = Outcome{Bad: s.up()}
			}
		},
		"rows that somebody has spoiled meanwhile": func(f *fake, s *Sample) {
			if f.runs(two) {
				s.Problems, s.LastEdit = 2, time.Now()
			}
		},
		"a burst that began before": func(f *fake, s *Sample) {
			if f.runs(one) {
				s.Failures["accept"] = 10 * uint64(time.Since(f.started.Add(time.Hour))/time.Second)
			} else {
				s.Failures["accept"] = 10 * s.up()
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, d, build := machine(t)
				f.say = func(s *Sample) { say(f, s) }
				if err := d.Deploy(t.Context(), build(two)); err != nil {
					t.Error(err)
				}
				f.expect(t, two, "check "+two, "restart "+two)
			})
		})
	}
}

func TestWhereTheOneBeforeFailsTooBothAreNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, d, build := machine(t)
		f.restart = func(string) error { return errors.New("no disk") }
		err := d.Deploy(t.Context(), build(two))
		if err == nil || !strings.Contains(err.Error(), "and neither does") {
			t.Errorf("error %v", err)
		}
		f.expect(t, one, "check "+two, "restart "+two, "restart "+one)
	})
}

func TestAFirstReleaseThatFailsLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, d, build := machine(t)
		if err := errors.Join(os.RemoveAll(d.Folder.Root)); err != nil {
			t.Fatal(err)
		}
		f.dead, f.restart = true, func(string) error { return errors.New("job failed") }
		err := d.Deploy(t.Context(), build(two))
		if err == nil || !strings.Contains(err.Error(), "no release before it") {
			t.Errorf("error %v", err)
		}
		if current, err := d.Folder.Current(); current != "" || err != nil {
			t.Errorf("the symlink leads to %s, %v", current, err)
		}
		f.expectKept(t)
	})
}

func TestToldToStopBeforeTheSwapNothingIsChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, d, build := machine(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := d.Deploy(ctx, build(two)); !errors.As(err, new(*Refused)) {
			t.Errorf("error %v", err)
		}
		f.expect(t, one, "check "+two)
	})
}

func TestToldToStopAfterTheSwapItGoesOnToTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, d, build := machine(t)
		ctx, cancel := context.WithCancel(t.Context())
		f.restart = func(string) error { cancel(); return nil }
		if err := d.Deploy(ctx, build(two)); err != nil {
			t.Error(err)
		}
		f.expect(t, two, "check "+two, "restart "+two)
	})
}

func TestARollbackGoesBackAndForthOrToANamedRelease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, d, build := machine(t)
		if err := d.Rollback(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "no release before this one") {
			t.Errorf("a first release was rolled back: %v", err)
		}
		for _, name := range []string{two, three} {
			if err := d.Deploy(t.Context(), build(name)); err != nil {
				t.Fatal(err)
			}
		}
		for _, step := range []struct{ to, want string }{{"", two}, {"", three}, {one, one}, {"", three}, {filepath.Join(d.Folder.Releases(), two), two}} {
			f.steps = nil
			if err := d.Rollback(t.Context(), step.to); err != nil {
				t.Error(err)
			}
			f.expect(t, step.want, "check "+step.want, "restart "+step.want)
		}
		for _, wrong := range []string{"cutover-20260101000009", "../cutover", "/bin/sh", "/tmp/" + two} {
			if err := d.Rollback(t.Context(), wrong); err == nil {
				t.Errorf("rolled back to %s", wrong)
			}
		}
	})
}

func TestAReleaseThatDoesNotKnowWhatIsInForceIsTakenByForceAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, d, build := machine(t)
		if err := d.Deploy(t.Context(), build(two)); err != nil {
			t.Fatal(err)
		}
		f.lost, f.steps = []string{"2 guards: everybody would get in there"}, nil
		var forgets *Forgets
		for name, err := range map[string]error{"rollback": d.Rollback(t.Context(), ""), "dry run": d.DryRun(t.Context(), build(three)), "deploy": d.Deploy(t.Context(), build(three))} {
			if !errors.As(err, &forgets) || !strings.Contains(err.Error(), "everybody would get in") || !strings.Contains(err.Error(), "nothing was changed") {
				t.Errorf("%s: got %v", name, err)
			}
		}
		if current, err := f.folder.Current(); err != nil || filepath.Base(current) != two {
			t.Errorf("%s is in use, %v", current, err)
		}
		f.steps, d.Force = nil, true
		if err := d.Rollback(t.Context(), ""); err != nil {
			t.Error(err)
		}
		f.expect(t, one, "check "+one, "restart "+one)
	})
}

func TestAReleaseThatIsWorseIsPutBackWhateverTheOneBeforeKnows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, d, build := machine(t)
		f.restart = func(release string) error {
			if filepath.Base(release) != two {
				return nil
			}
			f.lost = []string{"2 guards: everybody would get in there"}
			return errors.New("it does not start")
		}
		if err := d.Deploy(t.Context(), build(two)); !errors.As(err, new(*PutBack)) {
			t.Errorf("got %v", err)
		}
		f.expect(t, one, "check "+two, "restart "+two, "restart "+one)
	})
}

func TestADryRunLeavesEverythingAsItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, d, build := machine(t)
		if err := d.DryRun(t.Context(), build(two)); err != nil {
			t.Error(err)
		}
		f.expect(t, one, "check "+two)
		f.expectKept(t, one)
	})
}

func TestASecondDeployAtTheSameTimeIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, d, build := machine(t)
		unlock, err := d.Folder.Lock()
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Deploy(t.Context(), build(two)); !errors.Is(err, ErrBusy) {
			t.Errorf("error %v", err)
		}
		f.expect(t, one)
		unlock()
		if err := d.Deploy(t.Context(), build(two)); err != nil {
			t.Error(err)
		}
	})
}

func TestAReleaseIsNeverReplacedAndNeverHalf(t *testing.T) {
	folder := Folder{Root: t.TempDir()}
	file := filepath.Join(t.TempDir(), one)
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("first")
	if err := os.MkdirAll(folder.Releases(), 0o755); err != nil {
		t.Fatal(err)
	}
	part := filepath.Join(folder.Releases(), "."+two+".new")
	if err := os.WriteFile(part, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for i, added := range []bool{true, false} {
		if _, got, err := folder.Put(file); got != added || err != nil {
			t.Errorf("put %d: added %v, %v", i, got, err)
		}
	}
	write("second")
	path, _, err := folder.Put(file)
	if !errors.Is(err, ErrTaken) {
		t.Errorf("error %v", err)
	}
	if text, err := os.ReadFile(path); string(text) != "first" || err != nil {
		t.Errorf("it is %q now, %v", text, err)
	}
	if _, err := os.Stat(part); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what was cut short is still there: %v", err)
	}
	if _, _, err := folder.Put("/bin/sh"); !errors.Is(err, ErrName) {
		t.Errorf("a wrong name: %v", err)
	}
}

func TestPruningKeepsTenAndWhatIsInUse(t *testing.T) {
	folder := Folder{Root: t.TempDir()}
	if err := os.MkdirAll(folder.Releases(), 0o755); err != nil {
		t.Fatal(err)
	}
	path := func(i int) string { return filepath.Join(folder.Releases(), fmt.Sprintf("cutover-%014d", i)) }
	for i := range 15 {
		if err := os.WriteFile(path(i), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	err := errors.Join(point(folder.Link(), path(1)), point(folder.PreviousLink(), path(3)), os.WriteFile(filepath.Join(folder.Releases(), "notes"), nil, 0o600))
	if err != nil {
		t.Fatal(err)
	}
	removed, err := folder.Prune()
	if want := []string{"cutover-00000000000004", "cutover-00000000000002", "cutover-00000000000000"}; err != nil || !slices.Equal(removed, want) {
		t.Errorf("removed %q, want %q; %v", removed, want, err)
	}
}
