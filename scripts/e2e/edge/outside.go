package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"cutover/scripts/e2e/box"
	"cutover/scripts/e2e/edge/smuggle"
	"cutover/scripts/e2e/installed"
)

// outside is the measurement as the machine sees it.
type outside struct {
	release string // the program to measure, named as a release
	scripts string // the folder with install.sh
	others  string // the folder where scanners were unpacked
	only    string
	short   bool
	strict  bool
	within  time.Duration
	until   time.Time
	summary string // a file for the table in short
	out     io.Writer
	log     io.Writer
}

// runOutside boots a box, installs cutover there, measures, and prints the table.
func runOutside(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o := &outside{out: stdout, log: stderr}
	flags := flag.NewFlagSet("edge", flag.ContinueOnError)
	flags.StringVar(&o.release, "release", "", "the cutover-YYYYMMDDHHMMSS to measure")
	flags.StringVar(&o.scripts, "scripts", "", "the folder with install.sh")
	flags.StringVar(&o.others, "others", "", "the folder where scanners were unpacked")
	flags.StringVar(&o.only, "only", "", "parts, separated by commas: "+strings.Join(parts(), ", "))
	flags.BoolVar(&o.short, "short", false, "smaller numbers, for CI")
	flags.BoolVar(&o.strict, "strict", false, "a bar that is missed is an error, but for times, since the machine may be shared")
	flags.StringVar(&o.summary, "summary", "", "a file for the table in short, as docs/edge.md has it")
	flags.DurationVar(&o.within, "within", time.Hour, "what is not measured by then is left out, which is an error")
	raw := flags.String("json", "", "a file for all that was measured")
	err := parse(flags, args, stderr)
	if err == nil {
		_, err = choose(o.only)
	}
	if err == nil && (o.release == "" || o.scripts == "" || o.others == "") {
		err = errors.New("-release, -scripts and -others are needed")
	}
	if err != nil {
		fmt.Fprintln(stderr, "edge:", err)
		return &usageError{err}
	}
	o.until = time.Now().Add(o.within)
	return box.Play(stderr, func(s *box.Stage) error { return o.measure(ctx, s, *raw) })
}

// measure prints the table. What was measured before an error is printed, too.
func (o *outside) measure(ctx context.Context, s *box.Stage, raw string) error {
	b, program := o.boot(s)
	m, err := o.inside(ctx, b, program)
	t := printTable(o.out, o.short, m)
	if o.summary != "" {
		var text bytes.Buffer
		t.summary(&text)
		err = errors.Join(err, os.WriteFile(o.summary, text.Bytes(), 0o644)) //nolint:gosec // figures are for all
	}
	if raw != "" {
		text, wrong := json.MarshalIndent(m, "", " ")
		err = errors.Join(err, wrong, os.WriteFile(raw, text, 0o644)) //nolint:gosec // figures are for all
	}
	if missed := t.missed - t.times; missed > 0 && o.strict {
		err = errors.Join(err, fmt.Errorf("%d bars are missed, beside times", missed))
	}
	return err
}

// boot boots a box with a web service, a CA that can fail, and cutover, which has a certificate from it.
func (o *outside) boot(s *box.Stage) (b *box.Box, program string) {
	folder := s.TempDir()
	program = installed.Self(s, folder, "edge")
	fmt.Fprintln(o.log, "edge: booting a box for", filepath.Base(o.release))
	b = box.Boot(s, folder, o.others)
	b.Run("for name in " + loadHost + " " + smuggle.Host + "; do echo 127.0.0.1 $name >>/etc/hosts; done")
	b.Run("ip route add local " + strangers + " dev lo")
	b.Start(o.log, program, "service", "-listen", "127.0.0.1:9001")
	directory := o.startCA(s, b, program)
	installed.Install(s, b, folder, o.release, o.scripts, "[acme]\ndirectory = \""+directory+"\"\nroot = \""+caRootFile+"\"\n")
	b.Run("cutover upstreams set v1 http://127.0.0.1:9001 && cutover upstreams set v2 http://127.0.0.1:9001 && " +
		"cutover upstreams set recorder http://" + recorderAddress + " && cutover rules set " + loadHost + " --percent 50 && " +
		"cutover rules set " + smuggle.Host + " --v1 recorder --v2 recorder")
	b.Run("runuser -u cutover -- sqlite3 -cmd '.timeout 5000' /var/lib/cutover/rules.db \"INSERT INTO rules(host) VALUES('" +
		strings.Join(knownAll(), "'),('") + "')\"")
	b.Run("curl -sS --max-time 60 --retry 5 --retry-connrefused --cacert " + issuerFile + " -d x https://" + loadHost + "/echo")
	return b, program
}

// knownAll are all names that the rules know and the CA gives nothing for.
func knownAll() (names []string) {
	for _, mode := range modes() {
		names = append(names, namesFor(mode.name)...)
	}
	return names
}

// startCA returns the URL of the CA's directory.
func (o *outside) startCA(s *box.Stage, b *box.Box, program string) string {
	reader, writer := io.Pipe()
	s.Cleanup(func() { _ = reader.Close() })
	b.Start(writer, program, "ca", "-fail", strings.Join(knownAll(), ","))
	line, err := bufio.NewReader(reader).ReadString('\n')
	if err != nil {
		s.Fatal(err)
	}
	return strings.TrimSpace(line)
}

// inside measures in the box.
func (o *outside) inside(ctx context.Context, b *box.Box, program string) (m measured, err error) {
	command := b.Command(ctx, program, "inside", "-only", o.only, "-others", o.others, fmt.Sprintf("-short=%t", o.short),
		"-within", time.Until(o.until).String())
	var output bytes.Buffer
	command.Stdout, command.Stderr = &output, o.log
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	command.WaitDelay = 10 * time.Second
	err = command.Run()
	if output.Len() == 0 {
		return m, err
	}
	return m, errors.Join(err, json.Unmarshal(output.Bytes(), &m))
}
