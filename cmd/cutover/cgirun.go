package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/spf13/cobra"

	"cutover/proxy/cgi"
)

// newCGIRunCommand is what the units of a CGI program run, as its user.
func newCGIRunCommand(env *environment) *cobra.Command {
	o := cgi.Options{Spool: 64 << 20, Stderr: os.Stderr}
	cmd := &cobra.Command{
		Use:    "cgi-run [flags] -- CMD ARGS...",
		Short:  "Answer HTTP on the socket that systemd hands over, with a process for each request",
		Hidden: true,
		Args:   cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.Processes < 1 || o.Waiting < 0 || o.TimeLimit <= 0 {
				return &usageError{errors.New("--processes and --time-limit must be above 0, --waiting not below")}
			}
			o.Program, o.Environment = args, programEnvironment(os.Environ())
			o.Log = slog.New(slog.NewTextHandler(env.stderr, nil))
			listeners, err := activation.Listeners()
			if err != nil {
				return err
			}
			if len(listeners) != 1 || listeners[0] == nil {
				return withHint(fmt.Errorf("systemd handed over %d sockets, not 1", len(listeners)), "this is for cutover-app@.service; see: cutover app add --help")
			}
			return serveCGI(cmd.Context(), listeners[0], cgi.New(o))
		},
	}
	cmd.Flags().IntVar(&o.Processes, "processes", 16, "processes at once")
	cmd.Flags().IntVar(&o.Waiting, "waiting", 100, "requests that wait for one")
	cmd.Flags().DurationVar(&o.TimeLimit, "time-limit", time.Minute, "how long a request may take")
	return cmd
}

// programEnvironment is what a program has of ours: not what systemd says to us alone, and nothing that looks like a header.
func programEnvironment(ours []string) []string {
	list := make([]string, 0, len(ours)+1)
	list = append(list, "PATH=/usr/local/bin:/usr/bin:/bin") // the last of a name holds
	for _, entry := range ours {
		name, _, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, "HTTP_") && !strings.HasPrefix(name, "LISTEN_") && name != "NOTIFY_SOCKET" && name != "WATCHDOG_USEC" {
			list = append(list, entry)
		}
	}
	return list
}

// serveCGI serves until ctx ends, and then lets requests end for a while.
func serveCGI(ctx context.Context, listener net.Listener, handler http.Handler) error {
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	patient, cancel := context.WithTimeout(context.WithoutCancel(ctx), 25*time.Second) // below TimeoutStopSec=
	defer cancel()
	err := server.Shutdown(patient)
	if err != nil {
		err = errors.Join(fmt.Errorf("requests were cut: %w", err), server.Close())
	}
	if served := <-ended; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}
