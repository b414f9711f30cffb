package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"cutover/scripts/e2e/installed"
)

const unit = "cutover.service"

func rooted(roots *x509.CertPool) *tls.Config { return &tls.Config{RootCAs: roots} }

func pemOf(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

// memory is that of the process that has most, in bytes.
type memory struct {
	Before int64 `json:"before"`
	Most   int64 `json:"most"`
	After  int64 `json:"after"` // once the attack has ended
}

// worker is the process of the unit that has most memory: not the supervisor.
func worker(ctx context.Context) (pid string, resident int64) {
	for _, each := range installed.Processes(ctx, unit) {
		if bytes := installed.ResidentBytes(each); bytes > resident {
			pid, resident = each, bytes
		}
	}
	return pid, resident
}

const memoryEvery = 100 * time.Millisecond

// watchMemory looks at a process until ctx ends, and returns the most that it had.
func watchMemory(ctx context.Context, pid string) (most int64) {
	for wait(ctx, memoryEvery) {
		most = max(most, installed.ResidentBytes(pid))
	}
	return max(most, installed.ResidentBytes(pid))
}

// ticksPerSecond is what Linux counts processor time in, on every architecture that Go knows.
const ticksPerSecond = 100

// processorTime is what a process has used.
func processorTime(pid string) time.Duration {
	text, _ := os.ReadFile("/proc/" + pid + "/stat")
	_, rest, _ := strings.Cut(string(text), ") ") // the name may hold spaces
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.ParseInt(fields[11], 10, 64) // the kernel writes numbers
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * time.Second / ticksPerSecond
}

// idle is how many processors had nothing to do.
type idle struct {
	Of     int     `json:"of"`
	Calm   float64 `json:"calm"`
	During float64 `json:"during"`
}

// busy: the calm load uses less than half of the machine, so something else was at work, too.
func (i idle) busy() bool { return i.Calm < float64(i.Of)/2 }

// idleClock counts the time in which processors have nothing to do.
type idleClock struct {
	began time.Time
	idle  time.Duration
}

func newIdleClock() idleClock { return idleClock{time.Now(), idleTime()} }

// since is how many processors had nothing to do since the clock was made.
func (c idleClock) since() float64 {
	return (idleTime() - c.idle).Seconds() / time.Since(c.began).Seconds()
}

// idleTime is that of all processors since the machine was booted.
func idleTime() time.Duration {
	text, _ := os.ReadFile("/proc/stat")
	fields := strings.Fields(string(text))
	if len(fields) < 6 {
		return 0
	}
	ticks, _ := strconv.ParseInt(fields[4], 10, 64) // the kernel writes numbers
	return time.Duration(ticks) * time.Second / ticksPerSecond
}

// counters reads cutover's metrics.
func counters(ctx context.Context) (map[string]float64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://admin/metrics", nil)
	if err != nil {
		return nil, err
	}
	answer, err := installed.AdminClient().Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }() // it was only read
	return readCounters(answer.Body)
}

// readCounters keeps those of Prometheus' text that are cutover's own.
func readCounters(r io.Reader) (map[string]float64, error) {
	values := map[string]float64{}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := lines.Text()
		i := strings.LastIndexByte(line, ' ')
		if i < 0 || !strings.HasPrefix(line, "cutover_") {
			continue
		}
		if value, err := strconv.ParseFloat(line[i+1:], 64); err == nil {
			values[line[:i]] = value
		}
	}
	return values, lines.Err()
}

// moved lists counters that have grown and that say why something was refused: requests and durations are left out.
func moved(before, after map[string]float64) map[string]float64 {
	grown := map[string]float64{}
	for name, value := range after {
		family, _, _ := strings.Cut(name, "{")
		if !strings.HasSuffix(family, "_total") || family == "cutover_requests_total" || strings.Contains(name, `outcome="ok"`) {
			continue
		}
		if by := value - before[name]; by > 0 {
			grown[strings.TrimPrefix(name, "cutover_")] = by
		}
	}
	return grown
}

// tell lists counters by name.
func tell(grown map[string]float64) string {
	if len(grown) == 0 {
		return "nothing"
	}
	var list []string
	for _, name := range slices.Sorted(maps.Keys(grown)) {
		list = append(list, name+" +"+strconv.FormatFloat(grown[name], 'f', -1, 64))
	}
	return strings.Join(list, ", ")
}
