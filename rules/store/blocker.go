package store

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// ErrBusy says that another program holds the write lock of the database.
var ErrBusy = errors.New("the database is locked")

// LockHolder names who holds the write lock of the rules in dir, such as "pid 123 (sqlite3)"; empty if nobody does, or if
// the kernel does not tell this process.
func LockHolder(dir string) string {
	return strings.TrimPrefix(lockHolder(filepath.Join(dir, File)), " by ")
}

// lockHolder names who holds the write lock, as far as the kernel tells: " by pid 123 (sqlite3)". SQLite's write lock
// is byte 120 of the -shm file (sqlite.org/walformat.html §2.3.1).
func lockHolder(path string) string {
	info, err := os.Stat(path + "-shm")
	if err != nil {
		return ""
	}
	inode := info.Sys().(*syscall.Stat_t).Ino
	file, err := os.Open("/proc/locks")
	if err != nil {
		return ""
	}
	defer func() { _ = file.Close() }()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if pid, ok := writeLock(lines.Text(), inode); ok {
			return describeProcess(pid)
		}
	}
	return ""
}

// writeLock reads a line such as "1: POSIX ADVISORY WRITE 4711 fe:01:1234 120 120".
func writeLock(line string, inode uint64) (pid int, ok bool) {
	fields := strings.Fields(line)
	if len(fields) != 8 || fields[1] != "POSIX" || fields[3] != "WRITE" || !strings.HasSuffix(fields[5], ":"+strconv.FormatUint(inode, 10)) {
		return 0, false
	}
	first, err1 := strconv.Atoi(fields[6])
	last, err2 := strconv.Atoi(fields[7])
	pid, err3 := strconv.Atoi(fields[4])
	return pid, err1 == nil && err2 == nil && err3 == nil && first <= 120 && 120 <= last && pid > 0
}

func describeProcess(pid int) string {
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return fmt.Sprintf(" by pid %d", pid)
	}
	return fmt.Sprintf(" by pid %d (%s)", pid, strings.TrimSpace(string(name)))
}
