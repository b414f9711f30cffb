package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"time"

	"cutover/proxy/fastcgi"
	"cutover/rules"
)

const (
	noticeChecks = time.Second // until a change of the rows changes what is checked
	checkedBody  = 64 << 10    // of an answer's body is looked at
)

// checkers are the checks under way; only Run uses them.
type checkers struct {
	set     *Set
	running sync.WaitGroup
	of      map[*state]checker
}

type checker struct {
	task   task
	cancel context.CancelFunc
}

// task is to look at a target.
type task struct {
	upstream string
	target   *target
	check    rules.Check
}

// adjust starts the checks that the rows want, and ends others.
func (c *checkers) adjust(ctx context.Context) {
	wanted := c.wanted()
	for of, running := range c.of {
		if task, ok := wanted[of]; ok && task == running.task {
			continue
		}
		running.cancel()
		delete(c.of, of)
		if _, goesOn := wanted[of]; !goesOn {
			c.release(running.task)
		}
	}
	for of, task := range wanted {
		if _, runs := c.of[of]; !runs {
			c.start(ctx, task)
		}
	}
}

func (c *checkers) wanted() map[*state]task {
	tasks := map[*state]task{}
	for _, u := range c.set.upstreams() {
		if u.Check.Path == "" {
			continue
		}
		for _, t := range c.set.For(u).targets {
			if t.row.State != rules.StateMaint {
				tasks[t.state] = task{u.Name, t, u.Check}
			}
		}
	}
	return tasks
}

func (c *checkers) start(ctx context.Context, t task) {
	ctx, cancel := context.WithCancel(ctx)
	c.of[t.target.state] = checker{t, cancel}
	t.target.state.health.checked.Store(true)
	c.running.Go(func() { c.set.keepChecking(ctx, t) })
}

// release leaves a target to what requests show of it.
func (c *checkers) release(t task) {
	health := &t.target.state.health
	health.checked.Store(false)
	if f := health.failing.Load(); f != nil {
		c.set.watch(probe{t.upstream, t.target, f})
	}
}

func (c *checkers) stop() {
	for _, running := range c.of {
		running.cancel()
	}
	c.running.Wait()
}

// keepChecking looks at a target again and again until ctx ends; at first within a second.
func (s *Set) keepChecking(ctx context.Context, t task) {
	timer := time.NewTimer(rand.N(min(t.check.Every(), time.Second)))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		err := t.look(ctx)
		if ctx.Err() != nil {
			return
		}
		began, ended := t.target.state.health.look(err, &t.check, time.Now())
		if began != nil {
			s.fails(t.upstream, t.target, began)
		}
		s.answers(t.upstream, t.target, ended)
		timer.Reset(t.check.Every()*9/10 + rand.N(t.check.Every()/5)) // so that not all are looked at together
	}
}

var (
	errCheckedBody = errors.New("the answer does not hold the text of check_body")
	errNotAsked    = errors.New("the path names no script, so the application was not asked: let check_path name one, or php-fpm's ping.path")
)

// look asks a target, and returns why the answer is no good one.
func (t *task) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, t.check.Within())
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, t.check.Path, nil)
	if err != nil {
		return err
	}
	r.Close = t.target.connections.multiplexed == nil // else the connection would be given up that requests share
	r.Host = t.host()
	r.Header.Set("User-Agent", "cutover-check")
	began := time.Now()
	response, err := t.target.connections.send(r.WithContext(fastcgi.WithOwnPath(ctx)))
	if err != nil {
		return fmt.Errorf("check %s: %w", t.check.Path, err)
	}
	defer func() { _ = response.Body.Close() }()
	if fastcgi.IsOwn(response) {
		return fmt.Errorf("check %s: %w", t.check.Path, errNotAsked)
	}
	t.target.state.checkTook.Store(int64(time.Since(began)))
	if !t.check.Accepts(response.StatusCode) {
		return fmt.Errorf("check %s: the answer is %s", t.check.Path, response.Status)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, checkedBody))
	if err == nil && !bytes.Contains(body, []byte(t.check.Body)) {
		err = errCheckedBody
	}
	if err != nil {
		return fmt.Errorf("check %s: %w", t.check.Path, err)
	}
	return nil
}

func (t *task) host() string {
	switch address := t.target.connections.address; {
	case t.check.Host != "":
		return t.check.Host
	case address.Network == "unix":
		return "localhost"
	default:
		_, port, _ := net.SplitHostPort(address.Dial)
		return net.JoinHostPort(address.Host, port) // a name that has led to the address, where there is one
	}
}
