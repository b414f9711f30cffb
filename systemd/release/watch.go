package release

import (
	"context"
	"fmt"
	"time"
)

// watch is the judging of one release that was started.
type watch struct {
	*Deployer
	release  string
	restarts int
	before   baseline
	span     time.Duration
	pid      int
}

// every is the time between two looks.
const every = time.Second

// awaitAnswer waits until the process that serves is one of this release. Whoever answered before may do so for a moment
// longer.
func (w *watch) awaitAnswer(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, orDefault(w.Patience, 10*time.Second))
	defer cancel()
	again := time.NewTicker(every / 10)
	defer again.Stop()
	var last error // why nobody was there so far
	for {
		if err := w.active(ctx); err != nil {
			if ctx.Err() != nil && last != nil {
				err = last
			}
			return err
		}
		s, err := w.System.Sample(ctx)
		if err == nil {
			err = w.mine(&s)
		}
		if err == nil {
			w.pid = s.PID
			return nil
		}
		last = err
		select {
		case <-again.C:
		case <-ctx.Done():
			return err
		}
	}
}

// active says why systemd does not take the service for running well.
func (w *watch) active(ctx context.Context) error {
	restarts, err := w.System.Restarts(ctx)
	if err != nil {
		return err
	}
	if restarts != w.restarts {
		return fmt.Errorf("the process ended and was started again")
	}
	return nil
}

// mine says why a sample is not that of a process of this release that is ready.
func (w *watch) mine(s *Sample) error {
	if !w.System.Runs(s.PID, w.release) {
		return fmt.Errorf("process %d answers, and does not run %s", s.PID, w.release)
	}
	if !s.Ready {
		return fmt.Errorf("process %d is not ready: %s", s.PID, s.NotReady)
	}
	if w.pid != 0 && s.PID != w.pid {
		return fmt.Errorf("process %d serves instead of %d, which has ended", s.PID, w.pid)
	}
	return nil
}

// run looks every second until the time is over.
func (w *watch) run(ctx context.Context) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for end := time.Now().Add(w.span); ; {
		<-tick.C
		if err := w.look(ctx, time.Until(end)); err != nil {
			return err
		}
		if !time.Now().Before(end) {
			return nil
		}
	}
}

func (w *watch) look(ctx context.Context, left time.Duration) error {
	if err := w.active(ctx); err != nil {
		return err
	}
	s, err := w.System.Sample(ctx)
	if err != nil {
		return fmt.Errorf("it does not answer: %w", err)
	}
	if err := w.mine(&s); err != nil {
		return err
	}
	if text := w.before.objection(&s, w.span); text != "" {
		return fmt.Errorf("%s", text)
	}
	w.Progress(fmt.Sprintf("%v left: %s", max(0, left).Round(time.Second), s.describe()))
	return nil
}
