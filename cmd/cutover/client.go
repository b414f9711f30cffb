package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"cutover/proxy"
	"cutover/proxy/admin"
	"cutover/rules/store"
)

const (
	// patience is how long a verb waits for whoever holds the rules to answer or to let go: a starting daemon, or
	// another command.
	patience = 5 * time.Second
	between  = 100 * time.Millisecond // attempts
)

// session is a verb's way to the rules: the daemon, or the rules themselves where no daemon runs.
type session struct {
	*admin.Client
	running bool // a daemon answers
	close   func() error
}

// withSession runs a verb's work with the rules at hand.
func withSession(cmd *cobra.Command, env *environment, work func(*session) error) error {
	config, err := env.config()
	if err != nil {
		return err
	}
	s, err := connect(cmd.Context(), config)
	if err != nil {
		return err
	}
	return errors.Join(explainFailure(cmd, config.StateDir, work(s)), s.close())
}

// explainFailure turns the hint of an answer into the hint of the command.
func explainFailure(cmd *cobra.Command, stateDir string, err error) error {
	var answer *admin.Error
	if errors.As(err, &answer) {
		hint := cmp.Or(answer.Hint, "nothing was changed; see '"+cmd.CommandPath()+" --help'")
		return withHint(err, cmp.Or(lockHint(answer, stateDir), hint))
	}
	return withHint(err, "see 'cutover status'")
}

// lockHint names who holds the write lock of the database: the daemon's sandbox keeps it from knowing, this process may
// know.
func lockHint(answer *admin.Error, stateDir string) string {
	if !answer.Locked {
		return ""
	}
	holder := store.LockHolder(stateDir)
	if holder == "" {
		return ""
	}
	return holder + " holds the lock: type COMMIT or ROLLBACK there, or end it"
}

// connect finds the daemon, or else opens the rules. Where neither works, somebody else holds the rules without
// answering, and connect tries again until its patience ends.
func connect(ctx context.Context, config Config) (*session, error) {
	limit, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	socket := adminSocket(config)
	again := time.NewTicker(between)
	defer again.Stop()
	for {
		running, err := answers(ctx, socket)
		if err != nil {
			return nil, err
		}
		if running {
			client := admin.Dial(socket)
			return &session{Client: client, running: true, close: func() error { client.Close(); return nil }}, nil
		}
		s, err := openRules(ctx, config)
		if !errors.Is(err, store.ErrLocked) {
			return s, err
		}
		select {
		case <-again.C:
		case <-limit.Done():
			return nil, withHint(fmt.Errorf("nobody answers at %s, and yet the rules are taken: %w", socket, err),
				"name the runtime_dir of the process that runs with --runtime-dir, or see 'systemctl status cutover'")
		}
	}
}

// answers reports whether a process listens on the admin socket.
func answers(ctx context.Context, socket string) (bool, error) {
	dialer := net.Dialer{Timeout: patience} // it blocks only if the daemon accepts no more
	connection, err := dialer.DialContext(ctx, "unix", socket)
	switch {
	case err == nil:
		return true, connection.Close()
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOTDIR):
		return false, nil
	case errors.Is(err, fs.ErrPermission):
		return false, withHint(fmt.Errorf("not allowed to use %s", socket), "run the command with sudo")
	default:
		return false, withHint(fmt.Errorf("cannot reach the daemon: %w", err), "see 'systemctl status cutover'")
	}
}

// openRules opens the rules in this process, for as long as the session lasts.
func openRules(ctx context.Context, config Config) (*session, error) {
	author := store.Author{Name: admin.UserName(os.Getuid()), Via: "cli"}
	if err := becomeOwner(config.StateDir); err != nil {
		return nil, err
	}
	opened, err := store.Open(ctx, storeOptions(config))
	if err != nil {
		return nil, explainOpen(err)
	}
	handler, err := newDecider(config, opened)
	if err != nil {
		return nil, errors.Join(err, opened.Close())
	}
	certificates := &offlineCertificates{config: config, view: opened.Load}
	server := &admin.Server{Store: opened, Decide: handler.Decide, Guarding: handler.Guarding, Certificates: certificates, Version: version}
	stop := runRules(ctx, opened)
	return &session{Client: directClient(server, author), close: func() error { return errors.Join(certificates.close(), stop()) }}, nil
}

func storeOptions(config Config) store.Options {
	return store.Options{Dir: config.StateDir, KeepChanges: config.HistoryChanges, KeepFor: time.Duration(config.HistoryDays) * 24 * time.Hour}
}

func directClient(server *admin.Server, author store.Author) *admin.Client {
	return admin.Direct(admin.As(author, server.Handler(true)))
}

// runRules starts the owner of the rules, and returns what ends it.
func runRules(ctx context.Context, opened *store.Store) (stop func() error) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- opened.Run(ctx) }()
	return func() error {
		cancel()
		return errors.Join(<-ended, opened.Close())
	}
}

// explainOpen adds the next step to why the rules cannot be opened.
func explainOpen(err error) error {
	if errors.Is(err, store.ErrLocked) {
		return err // connect tries again
	}
	return withHint(err, "'cutover serve --check' looks at the database without changing it")
}

// newDecider decides about requests as the daemon would.
func newDecider(config Config, opened *store.Store) (*proxy.Handler, error) {
	visitors, err := proxy.LoadVisitors(filepath.Join(config.StateDir, "visitor.key"))
	if err != nil {
		return nil, withHint(fmt.Errorf("visitor key: %w", err), "it must be readable for the owner of the state directory")
	}
	return &proxy.Handler{Views: opened, Visitors: visitors, Trusted: config.TrustedProxies}, nil
}
