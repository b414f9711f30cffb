package box

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// ErrNoMemoryController says that no control group here has the kernel's memory controller, as in some containers.
var ErrNoMemoryController = errors.New("no control group of this machine has the memory controller")

// MemoryController reports whether systemd would see that a process has died for want of memory: where the memory controller is
// still that of cgroup v1, it sees a SIGKILL and no more. ErrNoMemoryController says that OutOfMemory cannot be.
func (b *Box) MemoryController() (seen bool, err error) {
	if _, err := memoryRoot(); err == nil {
		return false, nil
	}
	if _, err := os.Stat(filepath.Join(b.group, "system.slice", "memory.max")); err != nil {
		return false, ErrNoMemoryController
	}
	return true, nil
}

// OutOfMemory has the kernel's OOM killer end a process of the box, as it does when a control group has used its memory up.
func (b *Box) OutOfMemory(pid string) error {
	b.test.Helper()
	process, err := b.outside(pid)
	if err != nil {
		return err
	}
	if root, err := memoryRoot(); err == nil {
		return b.outOfMemoryAlone(root, process)
	}
	group, err := b.groupOf(process)
	if err != nil {
		return err
	}
	return b.outOfMemoryAmongOthers(group, process)
}

// outOfMemoryAlone moves a process to a group of its own that may have no memory, so that it dies when it asks for some.
func (b *Box) outOfMemoryAlone(root, process string) error {
	removeLeftovers(root)
	group := filepath.Join(root, filepath.Base(b.group))
	if err := os.Mkdir(group, 0o755); err != nil {
		return err
	}
	defer func() { b.Eventually(10*time.Second, "end of "+group, func() bool { return os.Remove(group) == nil }) }()
	err := errors.Join(write(filepath.Join(group, "memory.limit_in_bytes"), "0"), write(filepath.Join(group, "cgroup.procs"), process))
	if err != nil {
		return err
	}
	b.awaitEnd(process)
	return wasKilled(filepath.Join(group, "memory.oom_control"), 0)
}

// outOfMemoryAmongOthers takes memory from a process's group until the kernel ends the process: little by little, so that its end
// is enough. Meanwhile the others may not be chosen: the kernel would take a second one when the first is slow to die.
func (b *Box) outOfMemoryAmongOthers(group, process string) error {
	spare, err := spareOthers(group, process)
	if err != nil {
		return err
	}
	defer spare()
	limit, events := filepath.Join(group, "memory.max"), filepath.Join(group, "memory.events")
	left, err := figure(filepath.Join(group, "memory.current"), "")
	if err != nil {
		return err
	}
	before, err := figure(events, "oom_kill")
	if err != nil {
		return err
	}
	b.Eventually(time.Minute, "death of process "+process, func() bool {
		killed, _ := figure(events, "oom_kill") // read again below
		if killed > before {
			return true
		}
		left -= 512 << 10
		err = write(limit, strconv.FormatInt(left, 10))
		return err != nil
	})
	if err = errors.Join(err, write(limit, "max")); err != nil {
		return err
	}
	b.awaitEnd(process)
	return wasKilled(events, before)
}

// spareOthers keeps the OOM killer from all of a group but one process, until what it returns is called.
func spareOthers(group, process string) (end func(), err error) {
	text, err := os.ReadFile(filepath.Join(group, "cgroup.procs"))
	if err != nil {
		return nil, err
	}
	scores := map[string]string{}
	for other := range strings.FieldsSeq(string(text)) {
		path := filepath.Join("/proc", other, "oom_score_adj")
		if score, err := os.ReadFile(path); err == nil && other != process {
			scores[path] = string(score)
			_ = write(path, "-1000") // it may have ended
		}
	}
	return func() {
		for path, score := range scores {
			_ = write(path, score) // the same
		}
	}, nil
}

func (b *Box) awaitEnd(process string) {
	b.test.Helper()
	b.Eventually(20*time.Second, "end of process "+process+", which has no memory", func() bool {
		_, err := os.Stat(filepath.Join("/proc", process))
		return errors.Is(err, fs.ErrNotExist)
	})
}

// wasKilled looks whether the kernel's count of those that it killed has grown, and by one only.
func wasKilled(counts string, before int64) error {
	after, err := figure(counts, "oom_kill")
	if err == nil && after != before+1 {
		err = fmt.Errorf("%d processes were killed for want of memory, not one", after-before)
	}
	return err
}

// figure reads the number that stands behind a name, or the first one if there is no name.
func figure(path, name string) (int64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if name == "" && len(fields) > 0 {
			return strconv.ParseInt(fields[0], 10, 64)
		}
		if len(fields) > 1 && fields[0] == name {
			return strconv.ParseInt(fields[1], 10, 64)
		}
	}
	return 0, fmt.Errorf("%s has no %s", path, name)
}

func write(path, text string) error { return os.WriteFile(path, []byte(text), 0) }

// outside returns the machine's id of a process of the box.
func (b *Box) outside(pid string) (process string, err error) {
	err = filepath.WalkDir(b.group, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.Name() != "cgroup.procs" {
			return nil // a group that has just ended has no processes
		}
		text, _ := os.ReadFile(path) // the same
		for candidate := range strings.FieldsSeq(string(text)) {
			if b.inside(candidate) == pid {
				process = candidate
				return filepath.SkipAll
			}
		}
		return nil
	})
	if err == nil && process == "" {
		err = fmt.Errorf("the box has no process %s", pid)
	}
	return process, err
}

// inside returns the box's own id of a process; empty if it has ended.
func (b *Box) inside(process string) string {
	text, _ := os.ReadFile(filepath.Join("/proc", process, "status")) // it may have ended
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		if ids, ok := strings.CutPrefix(lines.Text(), "NSpid:"); ok {
			fields := strings.Fields(ids)
			return fields[len(fields)-1]
		}
	}
	return ""
}

// groupOf returns the folder of a process's cgroup.
func (b *Box) groupOf(process string) (string, error) {
	root, err := groupRoot()
	if err != nil {
		return "", err
	}
	text, err := os.ReadFile(filepath.Join("/proc", process, "cgroup"))
	for line := range strings.Lines(string(text)) {
		if path, ok := strings.CutPrefix(line, "0::"); ok {
			return filepath.Join(root, strings.TrimSpace(path)), nil
		}
	}
	return "", errors.Join(err, fmt.Errorf("process %s is in no cgroup", process))
}

// memoryRoot returns where cgroup v1 has the memory controller.
func memoryRoot() (string, error) {
	return groupMount(func(fields []string) bool {
		return fields[2] == "cgroup" && strings.Contains(","+fields[3]+",", ",memory,")
	})
}
