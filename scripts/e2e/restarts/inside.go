package main

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"cutover/scripts/e2e/restarts/load"
	"cutover/scripts/e2e/restarts/relay"
)

const (
	plainAddress  = "127.0.0.1:80"
	secureAddress = "127.0.0.1:443"
	loadHost      = "shop.test"
	warmUp        = 3 * time.Second // before the first mark
)

// restart is one restart as systemd told it.
type restart struct {
	Took time.Duration `json:"took"`
	Said string        `json:"said,omitempty"` // why it failed
}

// phase is what was measured in one go.
type phase struct {
	Load     load.Report   `json:"load"`
	Restarts []restart     `json:"restarts"` // none in the control
	Edits    edits         `json:"edits"`
	Usage    []usage       `json:"usage"`    // before each mark, and at the end
	Unserved time.Duration `json:"unserved"` // the longest time in which connections waited to be accepted
	Dropped  int64         `json:"dropped"`  // by the kernel, since a queue of connections was full
}

// measured is a round-trip time's control and restarts.
type measured struct {
	Control  phase `json:"control"`
	Restarts phase `json:"restarts"`
}

// inside is the measurement, where cutover runs.
type inside struct {
	plan
	subject       subject
	plain, secure string
	roots         *x509.CertPool
	log           io.Writer
}

// runInside measures at one round-trip time and prints it as JSON.
func runInside(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	in := &inside{plain: plainAddress, secure: secureAddress, log: stderr}
	flags := flag.NewFlagSet("restarts inside", flag.ContinueOnError)
	flags.SetOutput(stderr)
	in.flags(flags)
	flags.DurationVar(&in.trip, "trip", 0, "round-trip time")
	name := flags.String("subject", "cutover", "what is measured")
	err := flags.Parse(args)
	if err == nil {
		in.subject, err = findSubject(*name)
	}
	if err != nil {
		return &usageError{err}
	}
	root, err := os.ReadFile(in.subject.root)
	if err != nil {
		return err
	}
	in.roots = x509.NewCertPool()
	in.roots.AppendCertsFromPEM(root)
	ended, err := in.lengthen(ctx)
	if err != nil {
		return err
	}
	m, err := in.both(ctx)
	return errors.Join(err, ended(), json.NewEncoder(stdout).Encode(m))
}

// lengthen puts relays in the way, unless the round-trip time is 0. The caller ends them.
func (in *inside) lengthen(ctx context.Context) (end func() error, err error) {
	if in.trip == 0 {
		return func() error { return nil }, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 2)
	for _, address := range []*string{&in.plain, &in.secure} {
		listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it does not wait
		if err != nil {
			cancel()
			return nil, err
		}
		r := &relay.Relay{Listener: listener.(*net.TCPListener), Target: *address, Each: in.trip / 2}
		*address = listener.Addr().String()
		go func() { ended <- r.Run(ctx) }() // end waits for it
	}
	return func() error {
		cancel()
		return errors.Join(<-ended, <-ended)
	}, nil
}

func (in *inside) both(ctx context.Context) (m measured, err error) {
	in.step("%v: control without restarts", in.trip)
	if m.Control, err = in.phase(ctx, "control", func(context.Context) *restart { return nil }); err != nil {
		return m, err
	}
	in.step("%v: %d restarts", in.trip, in.plan.restarts)
	m.Restarts, err = in.phase(ctx, "restarts", func(ctx context.Context) *restart { return in.restart(ctx) })
	return m, err
}

func (in *inside) step(format string, arguments ...any) {
	fmt.Fprintf(in.log, "restarts: "+format+"\n", arguments...)
}

// phase loads, and does something at each mark.
func (in *inside) phase(ctx context.Context, name string, at func(context.Context) *restart) (p phase, err error) {
	dropped, err := listenDrops()
	if err != nil {
		return p, err
	}
	record := load.NewRecorder()
	editor := &editor{name: strings.ReplaceAll(fmt.Sprintf("%s-%v", name, in.trip), ".", "-")}
	queue := &queue{}
	running, stop := context.WithCancel(ctx)
	var all sync.WaitGroup
	all.Go(func() { in.newLoad(record).Run(running) })
	if in.subject.isCutover() {
		all.Go(func() { editor.run(running) })
	}
	all.Go(func() { queue.watch(running) })
	in.marks(ctx, record, at, &p)
	stop()
	all.Wait()
	if ctx.Err() != nil {
		return p, context.Cause(ctx)
	}
	p.Load, p.Edits, p.Unserved = record.Report(), editor.report(), queue.longest
	if in.subject.isCutover() {
		if err := p.Edits.check(ctx, editor); err != nil {
			return p, err
		}
	}
	after, err := listenDrops()
	p.Dropped = after - dropped
	return p, err
}

// marks spends the time of a phase.
func (in *inside) marks(ctx context.Context, record *load.Recorder, at func(context.Context) *restart, p *phase) {
	waitFor(ctx, warmUp)
	for i := range in.plan.restarts {
		began := time.Now()
		p.Usage = append(p.Usage, readUsage(ctx, in.subject.unit))
		record.Mark()
		if r := at(ctx); r != nil {
			p.Restarts = append(p.Restarts, *r)
			in.step("restart %d took %v %s", i+1, r.Took.Round(time.Millisecond), r.Said)
		}
		waitFor(ctx, max(in.every-time.Since(began), in.every/3))
	}
	p.Usage = append(p.Usage, readUsage(ctx, in.subject.unit))
}

func (in *inside) newLoad(record *load.Recorder) *load.Load {
	o := load.Options{Plain: in.plain, Secure: in.secure, Host: loadHost, Roots: in.roots, Record: record, Life: in.life(), Bulk: in.bulk}
	if in.trip > 0 {
		o.Bulk /= 10
	}
	return load.New(o)
}

// restart is what an operator does.
func (in *inside) restart(ctx context.Context) *restart {
	began := time.Now()
	said, err := exec.CommandContext(ctx, "sh", "-c", in.subject.replace).CombinedOutput()
	r := &restart{Took: time.Since(began)}
	if err != nil {
		r.Said = fmt.Sprintf("%v: %s\n%s", err, said, lastWords(ctx, in.subject.unit))
	}
	return r
}

// lastWords is what the unit said of late, without requests.
func lastWords(ctx context.Context, unit string) string {
	text, _ := exec.CommandContext(ctx, "sh", "-c", "journalctl --no-pager -o short-precise -n 5000 -u "+unit+" | grep -v '\"msg\":\"request\"' | tail -n 20").Output() // nothing, if it cannot be had
	return string(text)
}

func waitFor(ctx context.Context, long time.Duration) {
	timer := time.NewTimer(long)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
