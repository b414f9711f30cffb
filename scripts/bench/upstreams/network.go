package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// insideNetwork runs this program again, in a network of its own that has nothing but a loopback device.
func insideNetwork(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	command := exec.CommandContext(ctx, self, append([]string{"-inside"}, args...)...)
	command.Stdout, command.Stderr = stdout, stderr
	command.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGTERM}
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	command.WaitDelay = 10 * time.Second
	return command.Run()
}

// machines are the addresses of three targets, each as if it were a machine, in a network for benchmarks (RFC 2544).
func machines() []string { return []string{"198.18.0.11", "198.18.0.12", "198.18.0.13"} }

// network is a folder of addresses that are there or are not. Those of the range that are not swallow what is sent to them.
type network struct{}

// up makes the loopback device carry the range. What goes to an address that is not there comes back on it and is dropped
// without a word, as by a machine that is switched off.
func (network) up(ctx context.Context) error {
	for _, arguments := range [][]string{{"link", "set", "lo", "up"}, {"addr", "add", "198.18.0.1/32", "dev", "lo"}, {"route", "add", "198.18.0.0/24", "dev", "lo"}} {
		if err := ip(ctx, arguments...); err != nil {
			return err
		}
	}
	return nil
}

func (network) add(ctx context.Context, address string) error {
	return ip(ctx, "addr", "add", address+"/32", "dev", "lo")
}

func (network) remove(ctx context.Context, address string) error {
	return ip(ctx, "addr", "del", address+"/32", "dev", "lo")
}

func ip(ctx context.Context, arguments ...string) error {
	said, err := exec.CommandContext(ctx, "ip", arguments...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %v: %w: %s", arguments, err, said)
	}
	return nil
}
