package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
)

// matches runs the benchmark of package rules, which compares the table with a Go map of the same hosts.
func (b *bench) matches(ctx context.Context) error {
	b.step("matching among a million hosts")
	count := "3"
	if b.rows < 1_000_000 {
		count = "1" // a short form: whether it can be measured
	}
	command := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "MatchAmongAMillionHosts", "-count", count, "cutover/rules")
	output, err := command.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, output)
	}
	best, allocations := readBenchmark(output)
	for _, kind := range []string{"cold", "hot"} {
		view, plain := best[kind+"/view"], best[kind+"/map"]
		if view == 0 || plain == 0 {
			return fmt.Errorf("the benchmark said\n%s", output)
		}
		b.line("a match, exact host, "+kind, fmt.Sprintf("%.0f ns, %.2f × a Go map's %.0f ns, %d allocations", view, view/plain, plain, allocations),
			"1.3 ×, 0 allocations", view/plain <= 1.3 && allocations == 0)
	}
	return nil
}

// readBenchmark returns the best time of each benchmark, and the most allocations.
func readBenchmark(output []byte) (best map[string]float64, allocations int) {
	best = map[string]float64{}
	lines := bufio.NewScanner(bytes.NewReader(output))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 8 || !strings.HasPrefix(fields[0], "BenchmarkMatchAmongAMillionHosts/") {
			continue
		}
		name, _, _ := strings.Cut(strings.TrimPrefix(fields[0], "BenchmarkMatchAmongAMillionHosts/"), "-")
		nanoseconds, _ := strconv.ParseFloat(fields[2], 64)
		if best[name] == 0 || nanoseconds < best[name] {
			best[name] = nanoseconds
		}
		n, _ := strconv.Atoi(fields[6])
		allocations = max(allocations, n)
	}
	return best, allocations
}
