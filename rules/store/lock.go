package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// ErrLocked says that another process holds the rules.
var ErrLocked = errors.New("another process holds the rules")

const lockAgain = 20 * time.Millisecond // between attempts

// awaitLock is takeLock with patience.
func awaitLock(ctx context.Context, o *Options) (*os.File, error) {
	deadline := time.Now().Add(o.LockPatience)
	for {
		lock, err := takeLock(o.Dir)
		if !errors.Is(err, ErrLocked) || !time.Now().Before(deadline) {
			return lock, err
		}
		if ended := rest(ctx, lockAgain); ended != nil {
			return nil, errors.Join(err, ended)
		}
	}
}

// takeLock makes this process the only writer, until the file is closed. The kernel drops the lock with the process,
// however it ends.
func takeLock(dir string) (*os.File, error) {
	path := filepath.Join(dir, "rules.lock")
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	readOnly := errors.Is(err, syscall.EROFS)
	if readOnly {
		file, err = os.Open(path) // a lock needs no writing
	}
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		holder := make([]byte, 20)
		n, _ := file.ReadAt(holder, 0) // the pid is a help, not needed
		_ = file.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: pid %s, in %s", ErrLocked, strings.TrimSpace(string(holder[:n])), dir)
		}
		return nil, fmt.Errorf("lock %s: %w", file.Name(), err)
	}
	if readOnly {
		return file, nil
	}
	if err := writePID(file); err != nil {
		_ = file.Close()
		return nil, err
	}
	return file, nil
}

func writePID(file *os.File) error {
	if err := file.Truncate(0); err != nil {
		return err
	}
	_, err := file.WriteAt([]byte(fmt.Sprintf("%d\n", os.Getpid())), 0)
	return err
}
