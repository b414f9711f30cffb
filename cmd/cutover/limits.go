package main

import (
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"cutover/proxy"
	"cutover/proxy/admin"
	"cutover/proxy/frontend"
	"cutover/tlsbridge"
)

// LimitsConfig is what strangers may hold and how slow they may be. Numbers are 0 for "auto" where the settings allow it,
// and for no limit where those allow that.
type LimitsConfig struct {
	Connections        int
	NetworkConnections int
	Handshakes         int
	NetworkHandshakes  int
	NetworkRequests    int
	Headers            int
	BodyRate           int
	BodyGrace          time.Duration
	Stall              time.Duration
	PassthroughIdle    time.Duration
	Streams            int
	Memory             string // auto, off, or a size
}

func limitSettings() []setting {
	limits := func(field func(*LimitsConfig) *int) func(*Config) *int {
		return func(c *Config) *int { return field(&c.Limits) }
	}
	const most = 1_000_000_000
	return []setting{
		{key: "limits.connections", initial: "auto", doc: "open connections of clients in all; auto: by open files and memory", set: setAuto(most, limits(func(l *LimitsConfig) *int { return &l.Connections }))},
		{key: "limits.network_connections", initial: "512", doc: "open connections of one client network: an IPv4 address or an IPv6 /64; 0: no limit", set: setNumber(0, most, limits(func(l *LimitsConfig) *int { return &l.NetworkConnections }))},
		{key: "limits.handshakes", initial: "auto", doc: "TLS handshakes under way in all; auto: an eighth of the connections", set: setAuto(most, limits(func(l *LimitsConfig) *int { return &l.Handshakes }))},
		{key: "limits.network_handshakes", initial: "64", doc: "TLS handshakes under way of one client network; 0: no limit", set: setNumber(0, most, limits(func(l *LimitsConfig) *int { return &l.NetworkHandshakes }))},
		{key: "limits.network_requests", initial: "1024", doc: "requests under way of one client network, tunnels and event streams too; more are answered 429; 0: no limit", set: setNumber(0, most, limits(func(l *LimitsConfig) *int { return &l.NetworkRequests }))},
		{key: "limits.headers", initial: "200", doc: "header fields of a request; more are answered 431; 0: no limit", set: setNumber(0, most, limits(func(l *LimitsConfig) *int { return &l.Headers }))},
		{key: "limits.body_rate", initial: "512", doc: "bytes a second that an upload must come at on average, or it is answered 408; 0: no limit", set: setNumber(0, most, limits(func(l *LimitsConfig) *int { return &l.BodyRate }))},
		{key: "limits.body_grace", initial: "10s", doc: "how long an upload may be slower than that", set: setDuration(func(c *Config) *time.Duration { return &c.Limits.BodyGrace })},
		{key: "limits.stall", initial: "5m", doc: "how long a client may take nothing of its answer, or send nothing of its upload", set: setDuration(func(c *Config) *time.Duration { return &c.Limits.Stall })},
		{key: "limits.passthrough_idle", initial: "1h", doc: "how long nothing may move on a TLS connection that is passed on as it is; once one side has ended, stall holds", set: setDuration(func(c *Config) *time.Duration { return &c.Limits.PassthroughIdle })},
		{key: "limits.streams", initial: "128", doc: "requests under way on one HTTP/2 connection", set: setNumber(1, 10_000, limits(func(l *LimitsConfig) *int { return &l.Streams }))},
		{key: "limits.memory", initial: "auto", doc: "memory to stay within, such as 2GiB; auto: 90 % of the unit's; off; GOMEMLIMIT in the environment goes before", set: setMemory},
	}
}

// setAuto stores a number from 1, or 0 for "auto".
func setAuto(most int, field func(*Config) *int) func(*Config, string) error {
	return func(c *Config, value string) error {
		if value == "auto" {
			*field(c) = 0
			return nil
		}
		if err := setNumber(1, most, field)(c, value); err != nil {
			return fmt.Errorf("%w, or auto", err)
		}
		return nil
	}
}

func setNumber(least, most int, field func(*Config) *int) func(*Config, string) error {
	return func(c *Config, value string) error {
		n, err := strconv.Atoi(value)
		if err != nil || n < least || n > most {
			return fmt.Errorf("%q must be a whole number from %d to %d", value, least, most)
		}
		*field(c) = n
		return nil
	}
}

func setMemory(c *Config, value string) error {
	if value != "auto" && value != "off" {
		if _, err := parseSize(value); err != nil {
			return err
		}
	}
	c.Limits.Memory = value
	return nil
}

// leastMemory is below what the program needs for itself.
const leastMemory = 64 << 20

// parseSize reads a number of bytes such as 512MiB.
func parseSize(text string) (int64, error) {
	number, unit := text, int64(1)
	for i, suffix := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if before, ok := strings.CutSuffix(text, suffix); ok {
			number, unit = before, 1<<(10*(i+1))
		}
	}
	n, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
	if err != nil || n > math.MaxInt64/unit || n*unit < leastMemory {
		return 0, fmt.Errorf("%q must be a size of 64MiB or more such as 512MiB or 2GiB, auto or off", text)
	}
	return n * unit, nil
}

// Descriptors and memory that are not for connections, and what one connection takes of them.
const (
	spareFiles         = 1024
	filesPerConnection = 2         // one to the client, one to the target
	bytesPerConnection = 128 << 10 // at worst, with 64 KiB of a head that does not end over TLS
	leastConnections   = 512
	leastHandshakes    = 256
)

// derive fills in what is to be derived from the number of files that may be open, and the bytes of memory to stay within.
func (l LimitsConfig) derive(files uint64, memory int64) LimitsConfig {
	if l.Connections == 0 {
		byFiles := int64(min(files, math.MaxInt32)) - spareFiles
		l.Connections = int(max(leastConnections, min(byFiles/filesPerConnection, memory/bytesPerConnection)))
	}
	if l.Handshakes == 0 {
		l.Handshakes = max(leastHandshakes, l.Connections/8)
	}
	return l
}

// openLimits sets the limit on memory, and makes what counts connections.
func (d *daemon) openLimits() {
	d.memory = applyMemoryLimit(d.config.Limits.Memory, goMemoryLimit())
	budget := d.memory.Limit
	if budget == 0 {
		budget = machineMemory()
	}
	var files unix.Rlimit
	_ = unix.Getrlimit(unix.RLIMIT_NOFILE, &files) // cannot fail for what exists; 0 makes for the least
	d.limits = d.config.Limits.derive(files.Cur, budget)
	d.log.Info("limits", slog.Int("connections", d.limits.Connections), slog.Int("handshakes", d.limits.Handshakes),
		slog.Int64("memory", d.memory.Limit), slog.String("memory_from", d.memory.From))
	d.refusals = newRefusals(d.metrics, d.log)
	d.limiter = tlsbridge.NewLimiter(tlsbridge.LimiterOptions{
		Connections: d.limits.Connections, NetworkConnections: d.limits.NetworkConnections,
		Handshakes: d.limits.Handshakes, NetworkHandshakes: d.limits.NetworkHandshakes,
		Exempt: d.exempt, OnRefused: d.refusals.count,
		MakeRoom: func() bool { return d.front.Load().MakeRoom() > 0 },
	})
}

// exempt reports whether an address may speak for many, or is no stranger's: a trusted proxy's, or this machine's own.
func (d *daemon) exempt(address netip.Addr) bool { return address.IsLoopback() || d.trusts(address) }

func (d *daemon) trusts(address netip.Addr) bool { return within(d.config.TrustedProxies, address) }

// speaksForMany reports whether an address stands for visitors whose own are not known: a trusted proxy's, or that of a load
// balancer whose connections come without a header.
func (d *daemon) speaksForMany(address netip.Addr) bool {
	return d.trusts(address) || within(d.config.ProxyProtocol.Trusted, address)
}

func within(ranges []netip.Prefix, address netip.Addr) bool {
	return slices.ContainsFunc(ranges, func(p netip.Prefix) bool { return p.Contains(address) })
}

// proxyLimits are those that the handler keeps.
func (d *daemon) proxyLimits() proxy.Limits {
	l := d.limits
	return proxy.Limits{
		NetworkRequests: l.NetworkRequests, Exempt: d.exempt, OnRefused: d.refusals.count,
		Headers: l.Headers, BodyRate: l.BodyRate, Grace: l.BodyGrace, Stall: l.Stall,
	}
}

// frontendOptions are those that every frontend gets.
func (d *daemon) frontendOptions() frontend.Options {
	l := d.limits
	return frontend.Options{MaxStreams: l.Streams, Stall: l.Stall, BodyGrace: l.BodyGrace, OnRefused: d.refusals.count, Trusted: d.trusts, Log: d.log}
}

// memoryStatus is what 'cutover status' says of it.
func (d *daemon) memoryStatus() *admin.MemoryStatus {
	status := d.memory
	status.Used = usedMemory()
	return &status
}

// goMemoryLimit returns the limit that Go's runtime has, from GOMEMLIMIT; 0 for none.
func goMemoryLimit() int64 {
	if limit := debug.SetMemoryLimit(-1); limit < math.MaxInt64 {
		return limit
	}
	return 0
}
