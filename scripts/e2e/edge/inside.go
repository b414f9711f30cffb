package main

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"cutover/scripts/e2e/edge/attack"
	"cutover/scripts/e2e/restarts/load"
)

const (
	plainAddress  = "127.0.0.1:80"
	secureAddress = "127.0.0.1:443"
	loadHost      = "shop.test"
	strangers     = "198.18.0.0/15" // the attackers' addresses, for benchmarks by RFC 2544: this machine's own are bound by no limit for each client
	warmUp        = time.Second     // of the load, before it counts
)

// measured is all that was measured in one box.
type measured struct {
	Attacks   []attacked   `json:"attacks,omitempty"`
	Orders    *ordersSeen  `json:"orders,omitempty"`
	Scans     *scans       `json:"scans,omitempty"`
	H2spec    *conformance `json:"h2spec,omitempty"`
	Smuggling []smuggled   `json:"smuggling,omitempty"`
	Exposure  *float64     `json:"exposure,omitempty"`
}

// attacked is an attack, and what others met before and meanwhile.
type attacked struct {
	trial
	Calm    load.Report        `json:"calm"`
	During  load.Report        `json:"during"`
	Control *load.Report       `json:"control,omitempty"` // while as much processor time was burnt without touching the server
	Result  attack.Result      `json:"result"`
	Memory  memory             `json:"memory"`
	Worker  time.Duration      `json:"worker"` // processor time
	Died    bool               `json:"died"`   // the worker is another one
	Moved   map[string]float64 `json:"moved"`  // counters
	Idle    idle               `json:"idle"`
}

// inside is the measurement, where cutover runs.
type inside struct {
	sizes
	short  bool
	only   []string
	others string // the folder with scanners
	root   string // PEM file
	roots  *x509.CertPool
	calm   *attacked // that serves for several floods in a row, in the short measurement
	log    io.Writer
}

// runInside measures and prints it as JSON.
func runInside(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	in := &inside{sizes: full(), root: issuerFile, log: stderr}
	flags := flag.NewFlagSet("edge inside", flag.ContinueOnError)
	flags.BoolVar(&in.short, "short", false, "smaller numbers")
	only := flags.String("only", "", "parts, separated by commas")
	flags.StringVar(&in.others, "others", "", "the folder with scanners")
	within := flags.Duration("within", time.Hour, "what is not measured by then is left out")
	err := parse(flags, args, stderr)
	if err == nil {
		in.only, err = choose(*only)
	}
	if err == nil {
		in.roots, err = readRoots(in.root)
	}
	if err != nil {
		return err
	}
	if in.short {
		in.sizes = short()
	}
	ctx, cancel := context.WithTimeout(ctx, *within)
	defer cancel()
	var m measured
	err = in.measure(ctx, &m)
	return errors.Join(err, json.NewEncoder(stdout).Encode(m))
}

func readRoots(file string) (*x509.CertPool, error) {
	root, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(root)
	return roots, nil
}

func (in *inside) step(format string, arguments ...any) {
	fmt.Fprintf(in.log, "edge: "+format+"\n", arguments...)
}

// measure fills m with what is wanted. What was measured before an error stays.
func (in *inside) measure(ctx context.Context, m *measured) error {
	for _, t := range in.trials() {
		if !wanted(in.only, t.Attack) {
			continue
		}
		a, err := in.try(ctx, t, m)
		if err != nil {
			return fmt.Errorf("%s: %w", t.Attack, err)
		}
		m.Attacks = append(m.Attacks, a)
	}
	for _, part := range []struct {
		name string
		work func(context.Context, *measured) error
	}{{"scans", in.scan}, {"h2spec", in.conform}, {"smuggling", in.smuggle}, {"unit", in.exposure}} {
		if !wanted(in.only, part.name) {
			continue
		}
		in.step("%s", part.name)
		if err := part.work(ctx, m); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return nil
}

// try attacks beside a calm load.
func (in *inside) try(ctx context.Context, t trial, m *measured) (a attacked, err error) {
	a.trial = t
	if err := in.settle(ctx); err != nil {
		return a, err
	}
	if err := in.calmLoad(ctx, &a); err != nil {
		return a, err
	}
	in.step("%s: %d connections, %d a second", t.Attack, t.Connections, t.PerSecond)
	if err := in.during(ctx, t, &a, m); err != nil {
		return a, err
	}
	if in.short {
		return a, nil
	}
	if err := in.settle(ctx); err != nil {
		return a, err
	}
	share := a.Result.CPU.Seconds() / a.Result.Lasted.Seconds()
	in.step("%s: control, %.2f of a processor", t.Attack, share)
	control, err := in.ask(ctx, func(ctx context.Context) error {
		return in.nice(ctx, nil, "burn", "-share", fmt.Sprintf("%.3f", share), "-for", in.sizes.calm.String())
	})
	a.Control = &control
	return a, err
}

// calmLoad is what others meet while nobody attacks. In the short measurement, floods of frames share one.
func (in *inside) calmLoad(ctx context.Context, a *attacked) error {
	if in.short && a.isFlood() && in.calm != nil {
		a.Calm, a.Idle = in.calm.Calm, in.calm.Idle
		return nil
	}
	in.step("%s: calm", a.Attack)
	before := newIdleClock()
	report, err := in.ask(ctx, func(ctx context.Context) error {
		wait(ctx, in.sizes.calm)
		return ctx.Err()
	})
	a.Calm, a.Idle = report, idle{Of: runtime.NumCPU(), Calm: before.since()}
	if a.isFlood() {
		calm := *a
		in.calm = &calm
	}
	return err
}

// during attacks, and looks at the worker meanwhile.
func (in *inside) during(ctx context.Context, t trial, a *attacked, m *measured) error {
	before, err := counters(ctx)
	if err != nil {
		return err
	}
	pid, resident := worker(ctx)
	used, idle := processorTime(pid), newIdleClock()
	a.Memory.Before = resident
	watching, stop := context.WithCancel(ctx)
	var looking sync.WaitGroup
	looking.Go(func() { a.Memory.Most = watchMemory(watching, pid) })
	a.During, err = in.ask(ctx, func(ctx context.Context) (err error) {
		if t.Attack == "handshakes" {
			a.Result, m.Orders, err = in.flood(ctx, t)
			return err
		}
		a.Result, err = in.attack(ctx, t, nil)
		return err
	})
	stop()
	looking.Wait()
	if err != nil {
		return err
	}
	a.Worker, a.Idle.During = processorTime(pid)-used, idle.since()
	now, resident := worker(ctx)
	a.Memory.After, a.Died = resident, now != pid
	after, err := counters(ctx)
	a.Moved = moved(before, after)
	return err
}

// calmKinds are the clients whose p99 is judged: short requests of all protocols, over new and kept connections.
func calmKinds() []string {
	return []string{"h1 new", "h1 busy keep-alive", "TLS full", "TLS resumed", "h2 one stream", "h2 16 streams"}
}

// ask lets others ask for as long as work goes on. What they meet at first, when all connect at once, does not count.
func (in *inside) ask(ctx context.Context, work func(context.Context) error) (load.Report, error) {
	record := load.NewRecorder()
	clients := load.New(load.Options{Plain: plainAddress, Secure: secureAddress, Host: loadHost, Roots: in.roots, Record: record, Patience: 20 * time.Second})
	running, stop := context.WithCancel(ctx)
	var all sync.WaitGroup
	for _, kind := range calmKinds() {
		all.Go(func() { load.Kinds()[kind](running, clients) })
	}
	wait(ctx, warmUp)
	record.Mark()
	err := work(ctx)
	stop()
	all.Wait()
	return record.Report(), errors.Join(err, ctx.Err())
}

// attack runs an attack in a process of its own, which gives way to all others.
func (in *inside) attack(ctx context.Context, t trial, names []string) (result attack.Result, err error) {
	arguments := []string{
		"attack", "-name", t.Attack, "-connections", strconv.Itoa(t.Connections), "-per-second", strconv.Itoa(t.PerSecond),
		"-total", strconv.Itoa(t.Total), "-for", t.Lasts.String(), "-bound", t.Bound.String(), "-root", in.root,
		"-enough", strconv.Itoa(t.enough()), "-wait", cutWait.String(),
	}
	for _, name := range names {
		arguments = append(arguments, "-ask-for", name)
	}
	return result, in.nice(ctx, &result, arguments...)
}

// nice runs this program again, as something that gives way to all others, and reads the attack's result if one is wanted.
func (in *inside) nice(ctx context.Context, result *attack.Result, arguments ...string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	command := exec.CommandContext(ctx, "nice", append([]string{"-n", "19", self}, arguments...)...)
	command.Stderr = in.log
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	command.WaitDelay = 10 * time.Second
	output, err := command.Output()
	if err != nil || result == nil {
		return err
	}
	err = json.Unmarshal(output, result)
	result.CPU = command.ProcessState.UserTime() + command.ProcessState.SystemTime()
	return err
}

const (
	settleAtMost = 60 * time.Second
	settled      = 50 // open connections that need not be waited for
)

// settle waits until the server is rid of the connections of the attack before.
func (in *inside) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, settleAtMost)
	defer cancel()
	for {
		now, err := counters(ctx)
		if err != nil {
			return err
		}
		if now["cutover_connections"] <= settled {
			return nil
		}
		if !wait(ctx, time.Second) {
			in.step("%.0f connections are still open after %v", now["cutover_connections"], settleAtMost)
			return nil
		}
	}
}

// runAttack attacks, and prints the result as JSON.
func runAttack(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o := attack.Options{Plain: plainAddress, Secure: secureAddress, Host: loadHost, From: netip.MustParsePrefix(strangers).Addr()}
	flags := flag.NewFlagSet("edge attack", flag.ContinueOnError)
	name := flags.String("name", "", "of the attack")
	root := flags.String("root", issuerFile, "PEM file of the server's root")
	lasting := flags.Duration("for", 0, "how long; 0 until the total is reached")
	flags.IntVar(&o.Connections, "connections", 1, "at once")
	flags.IntVar(&o.PerSecond, "per-second", 1, "new connections, or frames")
	flags.IntVar(&o.Total, "total", 0, "handshakes or requests; 0 for as long as it lasts")
	flags.DurationVar(&o.Bound, "bound", 0, "a connection that lives longer was cut late")
	flags.IntVar(&o.Enough, "enough", 0, "a connection of a flood that has sent so much is to be cut")
	flags.DurationVar(&o.Wait, "wait", cutWait, "for connections that are to be cut, at the end")
	flags.Func("ask-for", "a name that some handshakes ask for; may be given again", func(name string) error {
		o.Names = append(o.Names, name)
		return nil
	})
	err := parse(flags, args, stderr)
	if err == nil {
		o.Roots, err = readRoots(*root)
	}
	if err != nil {
		return err
	}
	if *lasting > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, *lasting)
		defer cancel()
	}
	a, err := attack.Find(*name)
	if err != nil {
		return err
	}
	result, err := a.Run(ctx, o)
	return errors.Join(err, json.NewEncoder(stdout).Encode(result))
}
