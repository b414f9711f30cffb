package systemd

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// oomScore is where the kernel lets a process say how much it would rather be killed than others, when memory runs out.
const oomScore = "/proc/self/oom_score_adj"

// expendable is what is added to it: the process then counts as half the memory there is.
const expendable = 500

// MakeExpendable has the kernel end this process before those that serve, should memory run out: one that loads costs nobody
// anything. The function that it returns takes that back.
func MakeExpendable() (takeBack func() error, err error) {
	text, err := os.ReadFile(oomScore)
	if err != nil {
		return nil, err
	}
	own, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", oomScore, err)
	}
	if err := writeOOMScore(min(own+expendable, 1000)); err != nil {
		return nil, err
	}
	return func() error { return writeOOMScore(own) }, nil
}

func writeOOMScore(score int) error { return os.WriteFile(oomScore, []byte(strconv.Itoa(score)), 0) }
