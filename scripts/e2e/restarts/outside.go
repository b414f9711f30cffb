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
)

// outside is the measurement as the machine sees it.
type outside struct {
	plan
	release string // the program to measure, named as a release
	scripts string // the folder with install.sh
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
	times := flags.String("rtt", "0,30,150", "round-trip times in milliseconds")
	flags.BoolVar(&o.strict, "strict", false, "a bar that is missed is an error")
	raw := flags.String("json", "", "a file for all that was measured")
	err := flags.Parse(args)
	if err == nil && (o.release == "" || o.scripts == "") {
		err = errors.New("-release and -scripts are needed")
		fmt.Fprintln(stderr, err)
	}
	if err == nil {
		if o.trips, err = trips(*times); err != nil {
			fmt.Fprintln(stderr, err)
		}
	}
	if err != nil {
		return &usageError{err}
	}
	return play(stderr, func(s *stage) error { return o.measure(ctx, s, *raw) })
}

// measure prints a table for each round-trip time.
func (o *outside) measure(ctx context.Context, s *stage, raw string) error {
	b, program := o.install(s)
	missed := 0
	all := map[string]measured{}
	for _, trip := range o.trips {
		m, err := o.at(ctx, b, program, trip)
		if err != nil {
			return fmt.Errorf("at %v: %w", trip, err)
		}
		all[trip.String()] = m
		missed += printTable(o.out, trip, m)
	}
	if raw != "" {
		text, err := json.MarshalIndent(all, "", " ")
		if err = errors.Join(err, os.WriteFile(raw, text, 0o644)); err != nil { //nolint:gosec // figures are for all
			return err
		}
	}
	if missed > 0 && o.strict {
		return fmt.Errorf("%d bars are missed", missed)
	}
	return nil
}

// install boots a box with v1, v2 and cutover, which serves https with certificates of its local CA.
func (o *outside) install(s *stage) (b *box.Box, program string) {
	folder := s.TempDir()
	program = filepath.Join(folder, "restarts")
	self, err := os.Executable()
	if err != nil {
		s.Fatal(err)
	}
	files := map[string]string{self: program, o.release: filepath.Join(folder, filepath.Base(o.release))}
	for _, name := range []string{"install.sh", "lib/release.sh"} {
		files[filepath.Join(o.scripts, name)] = filepath.Join(folder, "scripts", name)
	}
	for from, to := range files {
		if err := copyFile(from, to); err != nil {
			s.Fatal(err)
		}
	}
	fmt.Fprintln(o.log, "restarts: booting a box, installing", filepath.Base(o.release))
	b = box.Boot(s, folder)
	b.Run("echo 127.0.0.1 " + loadHost + " >>/etc/hosts")
	for name, port := range map[string]string{"v1": "9001", "v2": "9002"} {
		b.Start(o.log, program, "service", "-name", name, "-listen", "127.0.0.1:"+port)
	}
	b.Run("mkdir -p /etc/cutover && printf '[acme]\\nissuer = \"local\"\\n' >/etc/cutover/cutover.toml")
	b.Run("CUTOVER_JUDGE_SECONDS=1 bash " + folder + "/scripts/install.sh " + files[o.release])
	b.Run("cutover upstreams set v1 http://127.0.0.1:9001 && cutover upstreams set v2 http://127.0.0.1:9002 && cutover rules set " + loadHost + " --percent 50")
	b.Run("curl -sS --max-time 20 --cacert " + rootFile + " -d x https://" + loadHost + "/echo")
	return b, program
}

func copyFile(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, data, 0o755)) //nolint:gosec // programs and scripts
}

// at measures at one round-trip time, in the box.
func (o *outside) at(ctx context.Context, b *box.Box, program string, trip time.Duration) (m measured, err error) {
	command := b.Command(ctx, program, "inside", "-trip", trip.String(), "-restarts", strconv.Itoa(o.plan.restarts),
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
