package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"cutover/rules"
)

func (x *examination) admin(context.Context) {
	switch {
	case errors.Is(x.problem, fs.ErrPermission):
		x.unseen("admin socket", x.problem.Error())
	case !x.answered:
		x.fail("admin socket", "no daemon answers"+because(x.problem), "sudo systemctl start cutover; journalctl -u cutover -n 20")
	case !x.status.Ready:
		x.fail("admin socket", "the daemon is not ready: "+x.status.NotReady, "journalctl -u cutover -n 20")
	default:
		x.ok("admin socket", fmt.Sprintf("process %d answers, ready", x.status.PID))
	}
}

func because(err error) string {
	if err == nil {
		return ""
	}
	return ": " + err.Error()
}

// release compares what serves with what the next restart would run.
func (x *examination) release(context.Context) {
	const link = "/opt/cutover/cutover"
	target, err := os.Readlink(x.path(link))
	if err != nil {
		x.fail("release", "there is no symlink "+link+because(err), "sudo cutover deploy FILE")
		return
	}
	linked, err := os.Stat(x.path(target))
	if err != nil {
		x.fail("release", link+" leads to "+target+", which is gone", "sudo cutover rollback, or deploy another one")
		return
	}
	if !x.answered {
		x.unseen("release", link+" leads to "+target+"; no daemon answers")
		return
	}
	running, err := os.Stat(x.path(fmt.Sprintf("/proc/%d/exe", x.status.PID)))
	switch {
	case err != nil:
		x.unseen("release", fmt.Sprintf("%s leads to %s; what process %d runs cannot be seen", link, target, x.status.PID))
	case !os.SameFile(linked, running):
		x.warn("release", fmt.Sprintf("%s leads to %s, and process %d runs another (%s)", link, target, x.status.PID, x.status.Version), "sudo systemctl restart cutover")
	default:
		x.ok("release", target+" serves ("+x.status.Version+")")
	}
}

// Descriptors: a connection takes two, one to the visitor and one to the target.
const (
	fewFiles  = 4096
	fineFiles = 1 << 20 // what the unit asks for
)

func (x *examination) limits(context.Context) {
	if !x.answered {
		x.unseen("file limit", "no daemon answers")
		return
	}
	text, err := x.read(fmt.Sprintf("/proc/%d/limits", x.status.PID))
	if err != nil {
		x.unseen("file limit", err.Error())
		return
	}
	limit, known := openFiles(text)
	next := "write LimitNOFILE=1048576 into [Service], then restart: systemctl edit cutover"
	found := fmt.Sprintf("process %d may open %d files", x.status.PID, limit)
	switch {
	case !known:
		x.unseen("file limit", "the kernel does not tell")
	case limit < fewFiles:
		x.fail("file limit", fmt.Sprintf("%s: enough for about %d connections", found, limit/2), next)
	case limit < fineFiles:
		x.warn("file limit", found, next)
	default:
		x.ok("file limit", found)
	}
}

// memory looks for a ceiling: without one, a flood takes memory from everything else on the machine.
func (x *examination) memory(context.Context) {
	switch m := x.status.Memory; {
	case !x.answered || m == nil:
		x.unseen("memory limit", "no daemon answers")
	case m.Limit == 0:
		x.warn("memory limit", "there is none: a flood may take memory from everything else on the machine",
			"write MemoryMax=80% into [Service], then restart: systemctl edit cutover; or set limits.memory")
	default:
		x.ok("memory limit", fmt.Sprintf("%d MiB, of which %d MiB are used (%s)", m.Limit/mebibyte, m.Used/mebibyte, m.From))
	}
}

// openFiles reads the soft limit from /proc/PID/limits.
func openFiles(text string) (limit uint64, known bool) {
	for line := range strings.Lines(text) {
		rest, found := strings.CutPrefix(line, "Max open files")
		if fields := strings.Fields(rest); found && len(fields) > 0 {
			limit, err := strconv.ParseUint(fields[0], 10, 64)
			return limit, err == nil
		}
	}
	return 0, false
}

func (x *examination) rules(ctx context.Context) {
	switch {
	case x.answered && x.status.Store.Problem != "":
		x.fail("rules", x.status.Store.Problem+"; the last good rules serve on", "cutover status; 'When something is wrong' in docs/operations.md")
	case x.answered && closedGuard(x.status.Rules.Problems) != "":
		x.fail("rules", closedGuard(x.status.Rules.Problems), "cutover status says what is wrong with it; cutover guards set mends it")
	case x.answered && x.status.Rules.ProblemsTotal > 0:
		x.warn("rules", fmt.Sprintf("%d rows are not served as they are written", x.status.Rules.ProblemsTotal), "cutover status lists them; mend the rows")
	case x.answered:
		x.ok("rules", fmt.Sprintf("%d rules, the database is well", x.status.Rules.Counts.Rules))
	case !x.Root:
		x.unseen("rules", "no daemon answers, and the database cannot be read")
	default:
		x.offline(ctx)
	}
}

// closedGuard names a guard that makes no sense and never did: visitors get 503 there.
func closedGuard(problems []rules.Problem) string {
	for _, p := range problems {
		if strings.Contains(p.Reason, rules.ReasonClosed) {
			return fmt.Sprintf("guard %s of %s never made sense, so nobody is let in there", p.Row, p.Host)
		}
	}
	return ""
}

// offline looks at the database itself.
func (x *examination) offline(ctx context.Context) {
	text, err := x.Rules(ctx)
	if err != nil {
		x.fail("rules", err.Error(), "put a backup back: 'When something is wrong' in docs/operations.md")
		return
	}
	x.ok("rules", text+" (no daemon runs; read from the file)")
}
