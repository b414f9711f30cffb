package main

import (
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"cutover/proxy/admin"
)

// Where a limit on memory comes from.
const (
	memoryFromEnvironment = "GOMEMLIMIT"
	memoryFromSetting     = "limits.memory"
	memoryFromUnit        = "90 % of the control group's"
	memoryFromNowhere     = "none"
)

// applyMemoryLimit has the runtime stay within a limit: it then collects more often instead of taking more. What the
// environment says, which the runtime has read by itself, goes before the setting.
func applyMemoryLimit(setting string, environment int64) admin.MemoryStatus {
	if environment > 0 {
		return admin.MemoryStatus{Limit: environment, From: memoryFromEnvironment}
	}
	status := admin.MemoryStatus{From: memoryFromNowhere}
	switch setting {
	case "off":
	case "auto":
		if bytes := groupMemory("/"); bytes > 0 {
			status = admin.MemoryStatus{Limit: bytes / 10 * 9, From: memoryFromUnit}
		}
	default:
		bytes, err := parseSize(setting)
		if err == nil { // the configuration was checked
			status = admin.MemoryStatus{Limit: bytes, From: memoryFromSetting}
		}
	}
	if status.Limit > 0 {
		debug.SetMemoryLimit(status.Limit)
	}
	return status
}

// groupMemory returns the least that this process's control group (version 2) and those above it allow; 0 for no limit.
// root is where the file system begins.
func groupMemory(root string) (least int64) {
	text, err := os.ReadFile(filepath.Join(root, "proc/self/cgroup"))
	if err != nil {
		return 0
	}
	top := filepath.Join(root, "sys/fs/cgroup")
	for line := range strings.Lines(string(text)) {
		group, ok := strings.CutPrefix(strings.TrimSpace(line), "0::")
		if !ok {
			continue
		}
		for folder := filepath.Join(top, filepath.Clean("/"+group)); strings.HasPrefix(folder, top); folder = filepath.Dir(folder) {
			for _, name := range []string{"memory.max", "memory.high"} {
				if bytes := readBytes(filepath.Join(folder, name)); bytes > 0 && (least == 0 || bytes < least) {
					least = bytes
				}
			}
		}
	}
	return least
}

// readBytes returns a number from a file; 0 for "max", or if there is none.
func readBytes(name string) int64 {
	text, err := os.ReadFile(name)
	if err != nil {
		return 0
	}
	bytes, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return 0
	}
	return bytes
}

// machineMemory returns what the machine has.
func machineMemory() int64 {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return math.MaxInt64 // then files alone count
	}
	return int64(info.Totalram * uint64(info.Unit))
}

// usedMemory returns what counts towards the limit.
func usedMemory() int64 {
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(samples)
	if samples[0].Value.Kind() != metrics.KindUint64 || samples[1].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return int64(samples[0].Value.Uint64() - samples[1].Value.Uint64())
}
