package main

import (
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
)

func TestLimitsAreDerivedFromFilesAndMemory(t *testing.T) {
	for name, row := range map[string]struct {
		given                   LimitsConfig
		files                   uint64
		memory                  int64
		connections, handshakes int
	}{
		"the unit on 2 GiB": {files: 1 << 20, memory: 2 << 30, connections: 16384, handshakes: 2048},
		"few files":         {files: 65536, memory: 64 << 30, connections: 32256, handshakes: 4032},
		"a small machine":   {files: 1024, memory: 128 << 20, connections: 512, handshakes: 256},
		"without bounds":    {files: math.MaxUint64, memory: math.MaxInt64, connections: 1073741311, handshakes: 134217663},
		"as set":            {given: LimitsConfig{Connections: 10, Handshakes: 3}, files: 1 << 20, memory: 2 << 30, connections: 10, handshakes: 3},
	} {
		got := row.given.derive(row.files, row.memory)
		if got.Connections != row.connections || got.Handshakes != row.handshakes {
			t.Errorf("%s: %d connections, %d handshakes", name, got.Connections, got.Handshakes)
		}
	}
}

func TestMistakesInLimitsAreNamed(t *testing.T) {
	for text, want := range map[string]string{
		"connections = 0": "from 1 to 1000000000, or auto", "handshakes = -1": ", or auto", "body_rate = -1": "from 0",
		"streams = 0": "from 1 to 10000", "memory = '1MiB'": "64MiB or more", "memory = 'much'": "auto or off", "memory = '9999999999TiB'": "must be a size",
	} {
		if _, err := load(t, "[limits]\n"+text, nil, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
	c, err := load(t, "[limits]\nconnections = 7\nhandshakes = 'auto'\nbody_rate = 0\nmemory = '2GiB'", nil, nil)
	if err != nil || c.Limits.Connections != 7 || c.Limits.Handshakes != 0 || c.Limits.BodyRate != 0 || c.Limits.Memory != "2GiB" {
		t.Errorf("%+v, %v", c.Limits, err)
	}
}

// group makes a file system with a control group in it.
func group(t *testing.T, files map[string]string) (root string) {
	t.Helper()
	root = t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestTheLeastOfTheControlGroupsAboveIsTheLimit(t *testing.T) {
	const self, top = "proc/self/cgroup", "sys/fs/cgroup/"
	for name, row := range map[string]struct {
		files map[string]string
		want  int64
	}{
		"no control groups": {nil, 0},
		"no limit":          {map[string]string{self: "0::/a.slice/b.service\n", top + "a.slice/b.service/memory.max": "max\n"}, 0},
		"its own":           {map[string]string{self: "0::/a.slice/b.service\n", top + "a.slice/b.service/memory.max": "1000\n"}, 1000},
		"one above":         {map[string]string{self: "0::/a.slice/b.service\n", top + "a.slice/b.service/memory.max": "1000\n", top + "a.slice/memory.max": "900\n"}, 900},
		"a soft one":        {map[string]string{self: "0::/a.slice/b.service\n", top + "a.slice/b.service/memory.max": "1000\n", top + "a.slice/b.service/memory.high": "800\n"}, 800},
		"of a container":    {map[string]string{self: "0::/\n", top + "memory.max": "700\n"}, 700},
		"of another":        {map[string]string{self: "0::/../../x\n", top + "memory.max": "700\n", "sys/fs/memory.max": "1\n"}, 700},
		"version 1":         {map[string]string{self: "4:memory:/a\n", top + "memory.max": "700\n"}, 0},
	} {
		if got := groupMemory(group(t, row.files)); got != row.want {
			t.Errorf("%s: %d, want %d", name, got, row.want)
		}
	}
}

func TestTheEnvironmentsLimitOnMemoryGoesBeforeTheSetting(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	t.Cleanup(func() { debug.SetMemoryLimit(before) })
	if status := applyMemoryLimit("2GiB", 1<<30); status.Limit != 1<<30 || status.From != memoryFromEnvironment || debug.SetMemoryLimit(-1) != before {
		t.Errorf("%+v", status)
	}
	if status := applyMemoryLimit("off", 0); status.Limit != 0 || debug.SetMemoryLimit(-1) != before {
		t.Errorf("%+v", status)
	}
	if status := applyMemoryLimit("2GiB", 0); status.Limit != 2<<30 || debug.SetMemoryLimit(-1) != 2<<30 {
		t.Errorf("%+v", status)
	}
	if used := usedMemory(); used < 1<<20 || used > 2<<30 {
		t.Errorf("%d bytes are used", used)
	}
}

func TestProxiesAndBalancersSpeakForMany(t *testing.T) {
	d := &daemon{config: Config{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")}}}
	d.config.ProxyProtocol.Trusted = []netip.Prefix{netip.MustParsePrefix("10.0.1.0/24")}
	for address, want := range map[string]bool{"10.0.0.1": true, "10.0.1.1": true, "10.0.2.1": false, "127.0.0.1": false} {
		if got := d.speaksForMany(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s: %v", address, got)
		}
	}
}
