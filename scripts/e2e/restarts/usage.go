package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"cutover/scripts/e2e/installed"
)

// usage is what all processes of cutover hold at a moment.
type usage struct {
	Processes   int   `json:"processes"`
	Descriptors int   `json:"descriptors"`
	Memory      int64 `json:"memory"`     // resident, in bytes
	Goroutines  int   `json:"goroutines"` // of the process that answers on the admin socket; 0 if none does
	Late        int   `json:"late"`       // connections that older processes have accepted since they were replaced; -1 if nobody tells
}

// readUsage looks at the processes of the unit. One that ends meanwhile counts as nothing.
func readUsage(ctx context.Context, unit string) usage {
	u := usage{Goroutines: goroutines(ctx), Late: lateAccepts(ctx)}
	for _, pid := range installed.Processes(ctx, unit) {
		u.Processes++
		open, _ := os.ReadDir("/proc/" + pid + "/fd")
		u.Descriptors += len(open)
		u.Memory += installed.ResidentBytes(pid)
	}
	return u
}

func goroutines(ctx context.Context) int {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://admin/metrics", nil)
	if err != nil {
		return 0
	}
	answer, err := installed.AdminClient().Do(request)
	if err != nil {
		return 0
	}
	defer func() { _ = answer.Body.Close() }() // it was only read
	var text bytes.Buffer
	_, _ = text.ReadFrom(answer.Body) // what is missing is not found below
	for line := range strings.Lines(text.String()) {
		var n int
		if _, err := fmt.Sscanf(line, "go_goroutines %d", &n); err == nil {
			return n
		}
	}
	return 0
}

// lateAccepts asks what cutover tells of the processes that were replaced.
func lateAccepts(ctx context.Context) (sum int) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://admin/v1/status", nil)
	if err != nil {
		return -1
	}
	answer, err := installed.AdminClient().Do(request)
	if err != nil {
		return -1
	}
	defer func() { _ = answer.Body.Close() }() // it was only read
	var status struct {
		Older []struct{ Late int }
	}
	if json.NewDecoder(answer.Body).Decode(&status) != nil {
		return -1
	}
	for _, older := range status.Older {
		sum += older.Late
	}
	return sum
}

// listenDrops is how many connections the kernel has dropped here because nobody accepted them.
func listenDrops() (int64, error) {
	text, err := os.ReadFile("/proc/net/netstat")
	if err != nil {
		return 0, err
	}
	var names []string
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] != "TcpExt:" {
			continue
		}
		if names == nil {
			names = fields
			continue
		}
		return sumOf(names, fields, "ListenOverflows", "ListenDrops"), nil
	}
	return 0, fmt.Errorf("/proc/net/netstat has no TcpExt")
}

func sumOf(names, values []string, wanted ...string) (sum int64) {
	for i, name := range names {
		for _, want := range wanted {
			if name == want && i < len(values) {
				n, _ := strconv.ParseInt(values[i], 10, 64) // the kernel writes numbers
				sum += n
			}
		}
	}
	return sum
}

// queue watches how long connections wait to be accepted.
type queue struct {
	longest time.Duration
	since   time.Time // when some began to wait; zero: none does
}

// watch looks every few milliseconds, until ctx ends.
func (q *queue) watch(ctx context.Context) {
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			q.look(now, waiting())
		}
	}
}

func (q *queue) look(now time.Time, some bool) {
	switch {
	case !some:
		q.since = time.Time{}
	case q.since.IsZero():
		q.since = now
	default:
		q.longest = max(q.longest, now.Sub(q.since))
	}
}

// waiting reports whether connections to ports 80 or 443 wait to be accepted. The kernel lists listeners first, with the
// length of their queue as what there is to receive.
func waiting() bool {
	file, err := os.Open("/proc/net/tcp")
	if err != nil {
		return false
	}
	defer func() { _ = file.Close() }() // it was only read
	buffer := make([]byte, 4096)
	n, _ := file.Read(buffer)
	return someWait(string(buffer[:n]))
}

func someWait(table string) bool {
	const listening = "0A"
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if len(fields) < 5 || fields[3] != listening {
			continue
		}
		_, port, _ := strings.Cut(fields[1], ":")
		if _, queued, _ := strings.Cut(fields[4], ":"); (port == "0050" || port == "01BB") && strings.Trim(queued, "0") != "" {
			return true
		}
	}
	return false
}
