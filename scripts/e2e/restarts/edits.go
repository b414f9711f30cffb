package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"time"

	"cutover/scripts/e2e/installed"
)

const (
	editEvery    = 50 * time.Millisecond
	commandEvery = 20 // edits, of which one is made by the command line
)

// edits is what became of edits during a phase.
type edits struct {
	Acknowledged int           `json:"acknowledged"`
	Refused      int           `json:"refused"` // the editor knows: nothing was promised
	Lost         []string      `json:"lost"`    // acknowledged, and not in the database at the end
	Said         string        `json:"said"`    // why the first was refused
	Slowest      time.Duration `json:"slowest"`
}

// editor makes edits, each a rule of its own, and remembers which were acknowledged.
type editor struct {
	name         string
	acknowledged []string // hosts
	result       edits
}

// run edits until ctx ends: over the admin socket, and now and then by the command line.
func (e *editor) run(ctx context.Context) {
	ticker := time.NewTicker(editEvery)
	defer ticker.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			e.edit(fmt.Sprintf("edit-%d-%s.test", n, e.name), n%commandEvery == 0)
		}
	}
}

func (e *editor) edit(host string, byCommand bool) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // what was begun is finished
	defer cancel()
	began, err := time.Now(), error(nil)
	if byCommand {
		err = editByCommand(ctx, host)
	} else {
		err = editBySocket(ctx, host)
	}
	e.result.Slowest = max(e.result.Slowest, time.Since(began))
	if err == nil {
		e.acknowledged = append(e.acknowledged, host)
		return
	}
	e.result.Refused++
	if e.result.Said == "" {
		e.result.Said = err.Error()
	}
}

func editByCommand(ctx context.Context, host string) error {
	said, err := exec.CommandContext(ctx, "/opt/cutover/cutover", "rules", "set", host, "--percent", "7").CombinedOutput()
	if err != nil {
		return fmt.Errorf("cutover rules set: %w: %s", err, bytes.TrimSpace(said))
	}
	return nil
}

func editBySocket(ctx context.Context, host string) error {
	body, err := json.Marshal(map[string]any{"edits": []any{map[string]any{"table": "rules", "row": map[string]any{"host": host, "percent": 7}}}})
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://admin/v1/edits", bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	answer, err := installed.AdminClient().Do(request)
	if err != nil {
		return err
	}
	text, err := io.ReadAll(answer.Body)
	_ = answer.Body.Close() // it was only read
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %.200s", answer.Status, text)
	}
	return err
}

func (e *editor) report() edits {
	e.result.Acknowledged = len(e.acknowledged)
	return e.result
}

// check looks into the database for what was acknowledged.
func (r *edits) check(ctx context.Context, e *editor) error {
	output, err := exec.CommandContext(ctx, "runuser", "-u", "cutover", "--", "sqlite3", "-readonly", "-cmd", ".timeout 5000", "/var/lib/cutover/rules.db",
		"SELECT host FROM rules WHERE percent = 7 AND host LIKE 'edit-%'").CombinedOutput()
	if err != nil {
		return fmt.Errorf("cannot read the rules: %w: %s", err, output)
	}
	there := map[string]bool{}
	for _, host := range strings.Fields(string(output)) {
		there[host] = true
	}
	for _, host := range e.acknowledged {
		if !there[host] {
			r.Lost = append(r.Lost, host)
		}
	}
	return nil
}
