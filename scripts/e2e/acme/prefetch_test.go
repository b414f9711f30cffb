package acme

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"

	"cutover/rules/store/observed"
	"cutover/scripts/e2e/pebble"
	"cutover/tlsbridge"
)

// childVariable makes the test binary a process that works a queue off, see runChild.
const childVariable = "CUTOVER_PREFETCH_CHILD"

// workQueue is this program's main where it is such a process; the exit code is 0 once it was told to end.
func workQueue(text string) int {
	if err := runChild(text); err != nil {
		fmt.Fprintln(os.Stderr, "child:", err)
		return 1
	}
	return 0
}

// child is what the process is told.
type child struct {
	Dir, Directory string
	Root           []byte
	Limits         tlsbridge.Limits
	Names          int // to queue; 0 goes on with what is queued
}

func prefetchName(i int) string { return fmt.Sprintf("www.shop-%d.test", i) }

// runChild works the queue off on the sockets 3 and 4 until it is told to end, or killed.
func runChild(text string) error {
	var c child
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return err
	}
	certmagic.RateLimitEvents, certmagic.RateLimitEventsWindow = 0, 0 // else it makes one order a second
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	db, err := observed.Open(ctx, c.Dir)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	e := &edge{handler: http.NotFoundHandler()}
	for i, listener := range []*net.Listener{&e.web, &e.secure} {
		if *listener, err = net.FileListener(os.NewFile(uintptr(3+i), "socket")); err != nil {
			return err
		}
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(c.Root)
	e.certificates, err = tlsbridge.NewCertificates(tlsbridge.CertificateOptions{
		Dir: filepath.Join(c.Dir, "certs"), Directory: c.Directory, Root: roots, Limits: c.Limits, Budget: budgets{db}, Queue: db,
		HTTPPort: portOf(e.web), TLSPort: portOf(e.secure), ListenHost: "127.0.0.1", Allowed: func(string) bool { return true },
	})
	if err != nil {
		return err
	}
	var names []string
	for i := range c.Names {
		names = append(names, prefetchName(i))
	}
	if len(names) > 0 {
		if _, err := e.certificates.Prefetch(ctx, 0, names); err != nil {
			return err
		}
	}
	return e.runUntil(ctx)
}

// budgets keeps budgets in observed.db, as the daemon does.
type budgets struct{ *observed.DB }

func (b budgets) Spend(ctx context.Context, at time.Time, uses []tlsbridge.BudgetUse) (tlsbridge.BudgetHold, bool, error) {
	rows := make([]observed.Use, len(uses))
	for i, use := range uses {
		rows[i] = observed.Use(use)
	}
	hold, held, err := b.DB.Spend(ctx, at, rows)
	return tlsbridge.BudgetHold(hold), held, err
}

func (b budgets) Hold(ctx context.Context, h tlsbridge.BudgetHold) error {
	return b.DB.Hold(ctx, observed.Hold(h))
}

func (b budgets) Holds(ctx context.Context, after time.Time) (list []tlsbridge.BudgetHold, err error) {
	rows, err := b.DB.Holds(ctx, after)
	for _, row := range rows {
		list = append(list, tlsbridge.BudgetHold(row))
	}
	return list, err
}

func fromEnvironment(t *testing.T, name string, initial int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return initial
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// TestAQueueIsWorkedOffWithinTheCAsLimitThroughKills takes a fraction of the real figures. The whole of them:
//
//	CUTOVER_PREFETCH_NAMES=1000 CUTOVER_PREFETCH_ORDERS=300 CUTOVER_PREFETCH_WINDOW=60 go test -v -run WithinTheCAsLimit ./acme
//
// where the window, in seconds, stands for three hours. Its attributes are the figures that scripts/bench/edge.sh prints.
func TestAQueueIsWorkedOffWithinTheCAsLimitThroughKills(t *testing.T) {
	names := fromEnvironment(t, "CUTOVER_PREFETCH_NAMES", 60)
	orders := fromEnvironment(t, "CUTOVER_PREFETCH_ORDERS", 24)
	window := time.Duration(fromEnvironment(t, "CUTOVER_PREFETCH_WINDOW", 8)) * time.Second
	s := newSockets(t)
	ca := startPebble(t, s, func(o *pebble.Options) { o.Orders, o.OrdersWindow = orders, window })
	dir := t.TempDir()
	c := child{Dir: dir, Directory: ca.Directory(), Root: ca.Root(), Names: names}
	c.Limits = tlsbridge.Limits{Orders: orders, OrdersWindow: window}
	began := time.Now()
	var resumed []string
	for at := names / 10; at < names; at += names / 3 {
		process := startChild(t, s, c)
		c.Names = 0
		waitFor(t, 15*time.Minute, fmt.Sprintf("certificate number %d", at), func() bool { return certificates(t, dir) >= at })
		if err := process.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = process.Wait() // says that it was killed
		done := wantProgress(t, dir)
		resumed = append(resumed, strconv.Itoa(done))
		t.Logf("%v: killed after %d of %d certificates and %d orders", time.Since(began).Round(time.Second), certificates(t, dir), names, ca.Orders())
	}
	kills := len(resumed)
	process := startChild(t, s, c)
	waitFor(t, 15*time.Minute, "certificates", func() bool { return certificates(t, dir) >= names })
	if err := process.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := process.Wait(); err != nil {
		t.Error(err)
	}
	stats := ca.Stats()
	for name, value := range map[string]any{
		"names": names, "certificates": certificates(t, dir), "done": wantProgress(t, dir), "resumed": strings.Join(resumed, ","), "orders": stats.Orders,
		"most": stats.Most, "limit": orders, "window": window, "refused": stats.Refused, "took": time.Since(began).Round(time.Second),
	} {
		t.Attr(name, fmt.Sprint(value))
	}
	if stats.Refused > 0 {
		t.Errorf("%d orders were made beyond the limit", stats.Refused)
	}
	if most := names + names/10 + 4*kills; stats.Orders > most {
		t.Errorf("%d orders, want at most %d: one a name, those that a kill broke off, and some for answers that came late", stats.Orders, most)
	}
}

func startChild(t *testing.T, s sockets, c child) *exec.Cmd {
	t.Helper()
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), os.Args[0])
	command.Env = append(os.Environ(), childVariable+"="+string(text))
	command.Stderr = os.Stderr
	for _, listener := range []net.Listener{s.web, s.secure} {
		file, err := listener.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = file.Close() }()
		command.ExtraFiles = append(command.ExtraFiles, file)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	return command
}

// inFlight is how many certificates are obtained at once.
const inFlight = 20

// wantProgress returns how many names are said to be done, while nobody works on them. That lags behind what is stored by
// those whose end nobody could note any more.
func wantProgress(t *testing.T, dir string) int {
	t.Helper()
	db, err := observed.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	done, failed, err := db.Finished(t.Context(), 0)
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	if there := certificates(t, dir); done > there || done < there-inFlight || failed > 0 {
		t.Errorf("%d are said to be done and %d to have failed, and there are %d", done, failed, there)
	}
	return done
}

// certificates counts those that are stored.
func certificates(t *testing.T, dir string) int {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "certs", "certificates", "*", "*", "*.crt"))
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}
