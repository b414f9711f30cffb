package system

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// saidAccepted is said by a program with the time of its first connection.
const saidAccepted = "the first connection was accepted at"

// burstReport is what became of requests that were sent at once.
type burstReport struct {
	report

	Began time.Time `json:"began"` // the first of them
	Ended time.Time `json:"ended"` // the last answer
}

// burst sends so many requests at once, and prints what became of them.
func burst(count int) int {
	r := &burstReport{report: report{Requests: map[string]int{}}, Began: time.Now()}
	var clients sync.WaitGroup
	for range count {
		clients.Go(func() {
			began := time.Now()
			err := askOnce()
			r.note("burst", time.Since(began), err)
		})
	}
	clients.Wait()
	r.Ended = time.Now()
	if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
		return 1
	}
	return 0
}

func askOnce() error {
	c, err := dialPlain()
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	_, err = c.post("Connection: close\r\n")
	return err
}

// burst sends requests at once, and returns what became of them.
func (m *machine) burst(count int) *burstReport {
	m.t.Helper()
	r := &burstReport{}
	if err := json.Unmarshal([]byte(m.Run(fmt.Sprintf("E2E_BURST=%d %s/service", count, tools))), r); err != nil {
		m.t.Fatal(err)
	}
	return r
}

const shopUnit = "cutover-app@shop:a.service"

// waysToDie are shell lines after which a program is dead, and its connections are known to be gone.
func waysToDie() map[string]string {
	return map[string]string{
		"stopped": "systemctl stop " + shopUnit,
		"killed": "pid=$(systemctl show -P MainPID " + shopUnit + "); systemctl kill -s KILL " + shopUnit +
			"; while [ -e /proc/$pid ]; do sleep 0.01; done; sleep 0.2",
	}
}

// revival is what requests to a dead program have cost.
type revival struct {
	starts      int
	wrong       int           // requests that got no right answer
	own         time.Duration // from the program's exec to its first connection
	slowest     time.Duration // that a request has waited
	beforeStart time.Duration // from the first request to the exec; negative if systemd had begun by itself
	afterAccept time.Duration // from the first connection to the last answer
}

// beyond is what the last answer took beyond the program's own start.
func (r revival) beyond() time.Duration { return r.slowest - r.own }

// revive ends the program by a shell line, sends so many requests at once, and says what became of them.
func (m *machine) revive(end string, count int) revival {
	m.t.Helper()
	before := m.starts(shopUnit)
	m.Run("rm -f /run/cutover-starts/shop:a/starts; " + end) // as if it had lived for long
	b := m.burst(count)
	for _, failed := range b.Failed {
		m.t.Log(failed)
	}
	m.Eventually(10*time.Second, "journal", func() bool { return m.starts(shopUnit) > before })
	began, err := time.Parse("Mon 2006-01-02 15:04:05.000000 MST", m.Run("systemctl show --timestamp=us+utc -P ExecMainStartTimestamp "+shopUnit))
	if err != nil {
		m.t.Fatal(err)
	}
	accepted := m.lastAccept(began)
	return revival{
		starts: m.starts(shopUnit) - before, wrong: b.Failures + count - b.Requests["burst"], own: accepted.Sub(began),
		slowest: b.Slowest, beforeStart: began.Sub(b.Began), afterAccept: b.Ended.Sub(accepted),
	}
}

// lastAccept is when the program that was started then accepted its first connection.
func (m *machine) lastAccept(started time.Time) (at time.Time) {
	m.t.Helper()
	m.Eventually(10*time.Second, "line of the first connection", func() bool {
		line := m.Run("journalctl -o cat --no-pager -u '" + shopUnit + "' | grep '" + saidAccepted + "' | tail -n 1")
		var err error
		at, err = time.Parse(time.RFC3339Nano, strings.TrimPrefix(line, saidAccepted+" "))
		return err == nil && at.After(started)
	})
	return at
}

// Its attributes are the figures that scripts/bench/apps.sh prints, which sets CUTOVER_REVIVALS: how often each way is taken.
func TestADeadProgramIsStartedOnceForAHundredRequestsThatWait(t *testing.T) {
	rounds, _ := strconv.Atoi(os.Getenv("CUTOVER_REVIVALS")) // once in each way
	m := withApp(t, "http", "--env E2E_DELAY=1s")
	starts, wrong := 0, 0
	for how, end := range waysToDie() {
		var alone, hundred []revival
		for range max(1, rounds) {
			alone = append(alone, m.revive(end, 1))
			hundred = append(hundred, m.revive(end, 100))
		}
		for _, r := range slices.Concat(alone, hundred) {
			t.Logf("%s: %+v", how, r)
			if r.starts != 1 || r.wrong > 0 {
				t.Errorf("%s: %d starts, %d requests got no right answer", how, r.starts, r.wrong)
			}
			starts, wrong = max(starts, r.starts), wrong+r.wrong
		}
		attributes(t, how+"-alone", alone)
		attributes(t, how, hundred)
		t.Attr(how+"-median-more", milliseconds(middle(hundred)-middle(alone)))
		t.Attr(how+"-worst-more", milliseconds(worst(hundred)-middle(alone)))
	}
	t.Attr("starts", strconv.Itoa(starts))
	t.Attr("wrong", strconv.Itoa(wrong))
}

// attributes states the median and the worst of what answers took beyond the start.
func attributes(t *testing.T, name string, all []revival) {
	t.Helper()
	if w := worst(all); w > 10*time.Second { // the figure itself is measured on a machine that does nothing else
		t.Errorf("%s: the last answer came %v after the program's start", name, w)
	}
	t.Attr(name+"-median", milliseconds(middle(all)))
	t.Attr(name+"-worst", milliseconds(worst(all)))
}

func byBeyond(a, b revival) int { return cmp.Compare(a.beyond(), b.beyond()) }

// middle is the median of what answers took beyond the start.
func middle(all []revival) time.Duration {
	return slices.SortedFunc(slices.Values(all), byBeyond)[len(all)/2].beyond()
}

func worst(all []revival) time.Duration { return slices.MaxFunc(all, byBeyond).beyond() }

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
