package system

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"cutover/systemd/takeover"
)

// TestMain lets this program be the web services, the load and the bad releases inside a box, too.
func TestMain(m *testing.M) {
	if name := os.Getenv("E2E_SERVICE"); name != "" {
		os.Exit(serve(name, os.Getenv("E2E_ADDRESS")))
	}
	if address := os.Getenv("E2E_ACCOUNT"); address != "" {
		os.Exit(serveAccount(address))
	}
	if kind := os.Getenv("E2E_APP"); kind != "" {
		os.Exit(beApp(kind))
	}
	if count, err := strconv.Atoi(os.Getenv("E2E_BURST")); err == nil {
		os.Exit(burst(count))
	}
	if request := os.Getenv("E2E_HOOK"); request != "" {
		os.Exit(askHook(request))
	}
	if address := os.Getenv("E2E_STUCK"); address != "" {
		os.Exit(beStuck(address))
	}
	if seconds := os.Getenv("E2E_LOAD"); seconds != "" {
		os.Exit(load(seconds))
	}
	if len(os.Args) == 4 && (os.Args[1] == "units" || os.Args[1] == "version") {
		os.Exit(1) // a deploy asks its release
	}
	if fault := os.Getenv("E2E_FAULT"); fault != "" {
		os.Exit(fail(fault))
	}
	os.Exit(m.Run())
}

// serve answers with its name; a body that was sent is read first, and counted.
func serve(name, address string) int {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body) // a short count shows in the answer
		fmt.Fprintf(w, "%s: %s %s%s over %s, %d bytes\n", name, r.Method, r.Host, r.URL.RequestURI(), r.Header.Get("X-Forwarded-Proto"), n)
	})
	server := &http.Server{Addr: address, Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	fmt.Fprintln(os.Stderr, server.ListenAndServe())
	return 1
}

// beStuck listens, accepts nothing, and has filled its queue: to whoever connects nobody answers.
func beStuck(address string) int {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return 2
	}
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	err = errors.Join(err, syscall.Bind(socket, &syscall.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}), syscall.Listen(socket, 0))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	var held []net.Conn // open until this process ends
	for err == nil {
		var c net.Conn
		c, err = net.DialTimeout("tcp", address, 100*time.Millisecond)
		held = append(held, c)
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	<-stop
	runtime.KeepAlive(held)
	return 0
}

// fail is a release that goes wrong after its start: it hangs before it is ready, dies a while after, or serves with
// failures of its own.
func fail(fault string) int {
	if slices.Contains(os.Args, "--check") {
		return 0
	}
	if perSecond, err := strconv.Atoi(fault); err == nil {
		return serveAndFail(perSecond)
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	if step, ok := strings.CutPrefix(fault, "after "); ok {
		return takeOverHalfWay(step)
	}
	if fault == "hangs" {
		<-stop
		return 1
	}
	c, err := net.Dial("unixgram", os.Getenv("NOTIFY_SOCKET"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if _, err := io.WriteString(c, "READY=1"); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	select {
	case <-stop:
	case <-time.After(500 * time.Millisecond):
	}
	fmt.Fprintln(os.Stderr, "this release dies after it was ready")
	return 1
}

// takeOverHalfWay is a worker that dies in the middle of taking over.
func takeOverHalfWay(step string) int {
	successor, err := takeover.Find(context.Background(), os.Getenv("RUNTIME_DIRECTORY"), takeover.Worker{PID: os.Getpid(), Version: "bad"})
	if err == nil && step != "hello" {
		err = successor.Prepare()
	}
	if err == nil && step == "accepting" {
		err = successor.Accepting()
	}
	fmt.Fprintln(os.Stderr, "this release dies after", step, err)
	return 1
}

// serveAndFail is a release that is up and ready, and says of itself that it causes so many failures a second.
func serveAndFail(perSecond int) int {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGUSR1)
	began := time.Now()
	path := os.Getenv("RUNTIME_DIRECTORY") + "/admin.sock"
	_ = os.Remove(path) // the process before has left it, or has not
	listener, err := net.Listen("unix", path)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	server := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		up := int(time.Since(began).Seconds())
		fmt.Fprintf(w, `{"running":true,"ready":true,"pid":%d,"uptime_seconds":%d,"totals":{"own_failures":{"panic":%d}}}`, os.Getpid(), up, up*perSecond)
	})}
	defer server.Close()
	go func() { _ = server.Serve(listener) }() // ends with the process
	c, err := net.Dial("unixgram", os.Getenv("NOTIFY_SOCKET"))
	if err == nil {
		_, err = io.WriteString(c, "READY=1")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	<-stop
	return 0
}
