package system

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/fcgi"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// beApp is a managed program: kind says what it speaks. E2E_DELAY is how long it takes to start, E2E_NAME what it says first.
func beApp(kind string) int {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	fmt.Fprintln(os.Stderr, "the program has started")
	if delay, err := time.ParseDuration(os.Getenv("E2E_DELAY")); err == nil {
		select {
		case <-time.After(delay):
		case <-stop:
			return 1
		}
	}
	descriptor := 3
	if kind == "stdin" || kind == "fcgi" {
		descriptor = 0
	} else if os.Getenv("LISTEN_FDS") != "1" || os.Getenv("LISTEN_PID") != fmt.Sprint(os.Getpid()) {
		fmt.Fprintln(os.Stderr, "no socket was handed over")
		return 1
	}
	listener, err := net.FileListener(os.NewFile(uintptr(descriptor), "socket"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	listener = &firstAccept{Listener: listener}
	if kind == "fcgi" {
		go func() { _ = fcgi.Serve(listener, http.HandlerFunc(answerAsApp)) }() // ends with the program
		<-stop
		return 0
	}
	return serveApp(kind, listener, stop)
}

func serveApp(kind string, listener net.Listener, stop <-chan os.Signal) int {
	server := &http.Server{Handler: http.HandlerFunc(answerAsApp), ReadHeaderTimeout: 10 * time.Second, Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(kind != "h2c")
	server.Protocols.SetUnencryptedHTTP2(kind == "h2c")
	done := make(chan error)
	go func() { done <- server.Serve(listener) }()
	<-stop
	err := server.Shutdown(context.Background())
	if served := <-done; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// firstAccept says when the first connection was accepted: until then the program was starting.
type firstAccept struct {
	net.Listener
	once sync.Once
}

func (l *firstAccept) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	l.once.Do(func() { fmt.Fprintln(os.Stderr, saidAccepted, time.Now().Format(time.RFC3339Nano)) })
	return c, err
}

func answerAsApp(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/die":
		os.Exit(1)
	case "/up":
		if os.Getenv("E2E_SICK") != "" {
			http.Error(w, "sick", http.StatusInternalServerError)
		}
		return
	case "/slow":
		<-time.After(5 * time.Second)
	case "/told":
		_ = json.NewEncoder(w).Encode([]any{os.Args[1:], os.Getenv("E2E_TOLD")})
		return
	}
	n, _ := io.Copy(io.Discard, r.Body) // a short count shows in the answer
	fmt.Fprintf(w, "%s: %s %s%s by %d, %d bytes\n", os.Getenv("E2E_NAME"), r.Method, r.Host, r.URL.RequestURI(), os.Getpid(), n)
}
