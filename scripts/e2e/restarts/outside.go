package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"cutover/scripts/e2e/box"
	"cutover/scripts/e2e/installed"
)

// outside is the measurement as the machine sees it.
type outside struct {
	plan
	release string // the program to measure, named as a release
	scripts string // the folder with install.sh
	others  string // the folder where other programs were unpacked
	subject subject
	trips   []time.Duration
	strict  bool
	out     io.Writer
	log     io.Writer
}

// runOutside boots a box, installs cutover there, measures at each round-trip time, and prints the table.
func runOutside(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o := &outside{out: stdout, log: stderr}
	flags := flag.NewFlagSet("restarts", flag.ContinueOnError)
	flags.SetOutput(stderr)
	o.flags(flags)
	flags.StringVar(&o.release, "release", "", "the cutover-YYYYMMDDHHMMSS to measure")
	flags.StringVar(&o.scripts, "scripts", "", "the folder with install.sh")
	flags.StringVar(&o.others, "others", "", "the folder where another subject's packages were unpacked")
	name := flags.String("subject", "cutover", "what is measured: cutover, nginx-reload, nginx-upgrade, haproxy-reload or caddy-restart")
	times := flags.String("rtt", "0,30,150", "round-trip times in milliseconds")
	flags.BoolVar(&o.strict, "strict", false, "a bar that is missed is an error, but for times: the machine may be shared")
	raw := flags.String("json", "", "a file for all that was measured")
	if err := flags.Parse(args); err != nil {
		return &usageError{err}
	}
	if err := o.complete(*name, *times); err != nil {
		fmt.Fprintln(stderr, "restarts:", err)
		return &usageError{err}
	}
	return box.Play(stderr, func(s *box.Stage) error { return o.measure(ctx, s, *raw) })
}

// complete checks what was asked for.
func (o *outside) complete(name, times string) (err error) {
	if o.trips, err = trips(times); err != nil {
		return err
	}
	if o.subject, err = findSubject(name); err != nil {
		return err
	}
	if o.subject.isCutover() && (o.release == "" || o.scripts == "") {
		return errors.New("-release and -scripts are needed")
	}
	if !o.subject.isCutover() && o.others == "" {
		return errors.New("-others is needed")
	}
	return nil
}

// measure prints a table for each round-trip time.
func (o *outside) measure(ctx context.Context, s *box.Stage, raw string) error {
	b, program := o.boot(s)
	missed := 0
	figures := map[string]measured{}
	for _, trip := range o.trips {
		m, err := o.at(ctx, b, program, trip)
		if err != nil {
			return fmt.Errorf("at %v: %w", trip, err)
		}
		figures[trip.String()] = m
		all, slow := printTable(o.out, o.subject, trip, m)
		missed += all - slow
	}
	if raw != "" {
		text, err := json.MarshalIndent(figures, "", " ")
		if err = errors.Join(err, os.WriteFile(raw, text, 0o644)); err != nil { //nolint:gosec // figures are for all
			return err
		}
	}
	if missed > 0 && o.strict {
		return fmt.Errorf("%d bars are missed, times left out", missed)
	}
	return nil
}

// boot boots a box with v1, v2 and the subject, which serves https, too.
func (o *outside) boot(s *box.Stage) (b *box.Box, program string) {
	folder := s.TempDir()
	program = installed.Self(s, folder, "restarts")
	fmt.Fprintln(o.log, "restarts: booting a box for", o.subject.name, filepath.Base(o.release))
	shared := []string{folder}
	if o.others != "" {
		shared = append(shared, o.others)
	}
	b = box.Boot(s, shared...)
	b.Run("echo 127.0.0.1 " + loadHost + " >>/etc/hosts")
	for name, port := range map[string]string{"v1": "9001", "v2": "9002"} {
		b.Start(o.log, program, "service", "-name", name, "-listen", "127.0.0.1:"+port)
	}
	if o.subject.isCutover() {
		o.installCutover(s, b, folder)
	} else {
		o.subject.installOther(b, o.others)
	}
	b.Run("curl -sS --max-time 20 --retry 5 --retry-connrefused --cacert " + o.subject.root + " -d x https://" + loadHost + "/echo")
	return b, program
}

// installCutover installs as an operator does. Its certificates are of its local CA.
func (o *outside) installCutover(s *box.Stage, b *box.Box, folder string) {
	installed.Install(s, b, folder, o.release, o.scripts, "[acme]\nissuer = \"local\"\n")
	b.Run("cutover upstreams set v1 http://127.0.0.1:9001 && cutover upstreams set v2 http://127.0.0.1:9002 && cutover rules set " + loadHost + " --percent 50")
}

// at measures at one round-trip time, in the box.
func (o *outside) at(ctx context.Context, b *box.Box, program string, trip time.Duration) (m measured, err error) {
	command := b.Command(ctx, program, "inside", "-subject", o.subject.name, "-trip", trip.String(), "-restarts", strconv.Itoa(o.plan.restarts),
		"-every", o.every.String(), "-bulk", strconv.FormatInt(o.bulk, 10))
	var output bytes.Buffer
	command.Stdout, command.Stderr = &output, o.log
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	command.WaitDelay = 10 * time.Second
	if err := command.Run(); err != nil {
		return m, err
	}
	return m, json.Unmarshal(output.Bytes(), &m)
}
