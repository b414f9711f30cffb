// Package release puts releases of a program on a machine, under systemd: it copies, checks, swaps a symlink, restarts,
// judges, and puts the release before back if the new one is worse.
package release

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

// System is what a deploy asks of the machine beside files.
type System interface {
	// Installed says why there is nothing to deploy to; nil if there is.
	Installed() error
	// Check lets a release check itself just as the service would run it, beside the one that runs. The text is what it said.
	Check(ctx context.Context, release string) (said string, err error)
	// Notes tells what the operator should know of a release that has passed.
	Notes(ctx context.Context, release string) []string
	// Losses lists what is in force now, and would not be with a release, since it does not know of such things.
	Losses(ctx context.Context, release string) ([]string, error)
	// Restart makes the service run what the symlink leads to. An error says that it does not.
	Restart(ctx context.Context) error
	// Stop ends the service.
	Stop(ctx context.Context) error
	// Restarts says how often systemd has restarted the service by itself; an error says that it is not active.
	Restarts(ctx context.Context) (int, error)
	// Sample asks the process that serves. An error says that none answers.
	Sample(ctx context.Context) (Sample, error)
	// Runs reports whether a process runs a release.
	Runs(pid int, release string) bool
	// Journal returns the last lines of the service's log.
	Journal(ctx context.Context) string
}

// Deployer takes releases into use. All fields are required but the times.
type Deployer struct {
	Folder   Folder
	System   System
	Say      func(format string, values ...any) // tells of each step; whether anybody reads it does not matter
	Progress func(text string)                  // is told every second how the judging goes

	Force    bool          // take a release that does not know all that is in force
	Judge    time.Duration // how long a new release is watched; 0 means 30 s
	Shortly  time.Duration // how long one that was put back is; 0 means 3 s
	Patience time.Duration // how long a started process may take to answer; 0 means 10 s
}

// Refused says that a release was not taken into use, and that nothing was changed.
type Refused struct{ Reason string }

func (e *Refused) Error() string { return e.Reason + "; nothing was changed" }

// Forgets says that a release does not know all that is in force, and was not taken into use for that reason.
type Forgets struct {
	Release string
	Lost    []string
}

func (e *Forgets) Error() string {
	return fmt.Sprintf("%s does not know what is in force: %s; nothing was changed", e.Release, strings.Join(e.Lost, "; "))
}

// PutBack says that a release was worse, and that the one before serves again.
type PutBack struct {
	Release, Before string
	Reason          error
}

func (e *PutBack) Error() string {
	return fmt.Sprintf("%s was put back: %v; %s serves again", e.Release, e.Reason, e.Before)
}
func (e *PutBack) Unwrap() error { return e.Reason }

// Deploy takes a file into use as a release. It returns nil only if that serves and was judged good. Before the symlink
// is swapped, the end of ctx ends the deploy with nothing changed; afterwards ctx is not looked at: nothing stays half done.
func (d *Deployer) Deploy(ctx context.Context, file string) error {
	if err := d.System.Installed(); err != nil {
		return err
	}
	unlock, err := d.Folder.Lock()
	if err != nil {
		return err
	}
	defer unlock()
	release, added, err := d.Folder.Put(file)
	if err != nil {
		return err
	}
	if err := d.take(ctx, release); err != nil {
		return errors.Join(err, d.forget(release, added))
	}
	return d.prune()
}

// DryRun checks a file as Deploy would, and leaves everything as it was.
func (d *Deployer) DryRun(ctx context.Context, file string) error {
	if err := d.System.Installed(); err != nil {
		return err
	}
	unlock, err := d.Folder.Lock()
	if err != nil {
		return err
	}
	defer unlock()
	release, added, err := d.Folder.Put(file) // the sandbox of the service sees no other place
	if err != nil {
		return err
	}
	err = d.check(ctx, release)
	if added {
		err = errors.Join(err, remove(release))
	}
	return err
}

// Rollback takes a release into use that is there already; "" is the one before.
func (d *Deployer) Rollback(ctx context.Context, name string) error {
	if err := d.System.Installed(); err != nil {
		return err
	}
	unlock, err := d.Folder.Lock()
	if err != nil {
		return err
	}
	defer unlock()
	release, err := d.Folder.Find(name)
	if err != nil {
		return err
	}
	return d.take(ctx, release)
}

// forget removes a release that was refused: it is none. The one in use stays in any case.
func (d *Deployer) forget(release string, added bool) error {
	current, err := d.Folder.Current()
	if !added || err != nil || current == release {
		return err
	}
	return remove(release)
}

func (d *Deployer) prune() error {
	removed, err := d.Folder.Prune()
	for _, name := range removed {
		d.Say("removed the old release %s", name)
	}
	if err != nil {
		d.Say("note: old releases cannot be removed: %v", err) // the new one serves all the same
	}
	return nil
}

// take checks a release and switches to it.
func (d *Deployer) take(ctx context.Context, release string) error {
	began := time.Now()
	first := d.sample(ctx)
	if err := d.check(ctx, release); err != nil {
		return err
	}
	last := d.sample(ctx)
	before := newBaseline(first, last, time.Since(began))
	if last != nil && !last.Counts {
		d.Say("note: the release that serves does not count failures of its own: whether they are more cannot be judged")
	}
	return d.switchTo(context.WithoutCancel(ctx), release, before)
}

// sample returns nil where nobody answers, as on a machine where nothing runs yet.
func (d *Deployer) sample(ctx context.Context) *Sample {
	s, err := d.System.Sample(ctx)
	if err != nil {
		return nil
	}
	return &s
}

func (d *Deployer) check(ctx context.Context, release string) error {
	d.Say("checking %s beside what runs", release)
	said, err := d.System.Check(ctx, release)
	if said != "" {
		d.Say("%s", said)
	}
	if ctx.Err() != nil {
		return &Refused{"told to stop"}
	}
	if err != nil {
		return &Refused{fmt.Sprintf("%s refuses to serve here: %v", release, err)}
	}
	for _, note := range d.System.Notes(ctx, release) {
		d.Say("note: %s", note)
	}
	return d.mayForget(ctx, release)
}

// mayForget refuses a release that does not know what is in force, unless it is to be taken all the same.
func (d *Deployer) mayForget(ctx context.Context, release string) error {
	lost, err := d.System.Losses(ctx, release)
	if err != nil {
		d.Say("note: whether %s knows all that is in force is not known: %v", release, err)
	}
	if len(lost) == 0 {
		return nil
	}
	if !d.Force {
		return &Forgets{release, lost}
	}
	for _, each := range lost {
		d.Say("WARNING: lost with this release: %s", each)
	}
	return nil
}

// switchTo points to a release, restarts, judges, and puts back what was there if that fails.
func (d *Deployer) switchTo(ctx context.Context, release string, before baseline) error {
	old, err := d.Folder.Current()
	if err != nil {
		return err
	}
	d.Say("swapping the symlink to %s", release)
	err = point(d.Folder.Link(), release)
	if err == nil {
		err = d.start(ctx, release, before, orDefault(d.Judge, 30*time.Second))
	}
	if err != nil {
		d.Say("%s is not good: %v", release, err)
		return d.putBack(ctx, release, old, err)
	}
	if old != "" && old != release {
		err = point(d.Folder.PreviousLink(), old)
	}
	return err
}

func (d *Deployer) putBack(ctx context.Context, release, old string, reason error) error {
	if text := d.System.Journal(ctx); text != "" {
		d.Say("%s", text)
	}
	switch old {
	case "":
		err := errors.Join(d.System.Stop(ctx), os.Remove(d.Folder.Link()))
		return errors.Join(fmt.Errorf("%s does not serve, and there is no release before it: %w", release, reason), err)
	case release:
		return fmt.Errorf("%s does not serve, and it is the one that was in use: %w", release, reason)
	}
	d.Say("putting %s back", old)
	if err := point(d.Folder.Link(), old); err != nil {
		return fmt.Errorf("%s does not serve (%w), and the symlink cannot be put back: %w", release, reason, err)
	}
	if err := d.start(ctx, old, baseline{running: true}, orDefault(d.Shortly, 3*time.Second)); err != nil {
		return fmt.Errorf("%s does not serve (%w), and neither does %s: %w", release, reason, old, err)
	}
	return &PutBack{Release: release, Before: old, Reason: reason}
}

// start restarts the service and watches it for a time.
func (d *Deployer) start(ctx context.Context, release string, before baseline, span time.Duration) error {
	d.Say("restarting")
	if err := d.System.Restart(ctx); err != nil {
		return fmt.Errorf("the restart failed: %w", err)
	}
	restarts, err := d.System.Restarts(ctx)
	if err != nil {
		return err
	}
	w := watch{Deployer: d, release: release, restarts: restarts, before: before, span: span}
	if err := w.awaitAnswer(ctx); err != nil {
		return err
	}
	d.Say("process %d serves, watching it for %v", w.pid, span)
	return w.run(ctx)
}

func orDefault(d, initial time.Duration) time.Duration {
	if d <= 0 {
		return initial
	}
	return d
}
