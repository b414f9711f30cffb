package box

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// groupPrefix begins the name of each box's cgroup; the pid of the test that made it follows.
const groupPrefix = "cutover-box-"

// makeGroup makes a cgroup, so that boxes and the machine's services stay apart, and returns its folder.
func makeGroup() (string, error) {
	root, err := groupRoot()
	if err != nil {
		return "", err
	}
	removeLeftovers(root)
	group := filepath.Join(root, fmt.Sprintf("%s%d-%d", groupPrefix, os.Getpid(), time.Now().UnixNano()))
	return group, os.Mkdir(group, 0o755)
}

func groupRoot() (string, error) {
	root, err := groupMount(func(fields []string) bool { return fields[2] == "cgroup2" })
	if err != nil {
		return "", fmt.Errorf("a box needs cgroup2: %w", err)
	}
	return root, nil
}

// groupMount returns where a hierarchy of control groups is mounted; wanted sees the fields of /proc/mounts.
func groupMount(wanted func(fields []string) bool) (string, error) {
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(mounts)) {
		if fields := strings.Fields(line); len(fields) > 3 && wanted(fields) {
			return fields[1], nil
		}
	}
	return "", errors.New("it is not mounted")
}

// removeLeftovers ends what tests left behind that were killed: boxes whose test is no more.
func removeLeftovers(root string) {
	groups, _ := filepath.Glob(filepath.Join(root, groupPrefix+"*")) // the pattern is good
	for _, group := range groups {
		text, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(group), groupPrefix), "-")
		pid, err := strconv.Atoi(text)
		if err != nil || pid == os.Getpid() {
			continue
		}
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); errors.Is(err, fs.ErrNotExist) {
			killGroup(group)
			_ = removeGroup(group) // the next test tries again
		}
	}
}

// killGroup ends every process of a box.
func killGroup(group string) {
	_ = os.WriteFile(filepath.Join(group, "cgroup.kill"), []byte("1"), 0) // before Linux 5.14 its PID 1 alone is ended, by its parent
}

// removeGroup removes a cgroup and those below it, the innermost first.
func removeGroup(root string) error {
	var groups []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			groups = append(groups, path)
		}
		return err
	})
	for i := len(groups) - 1; i >= 0; i-- {
		err = errors.Join(err, syscall.Rmdir(groups[i]))
	}
	return err
}
