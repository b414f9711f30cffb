package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// maxSocketPath is what fits into the kernel's sockaddr_un, without its ending zero.
const maxSocketPath = 107

// ListenUnix makes the unix socket at path, for ServeUnix.
//
// The socket has mode 0600 from its first moment on, and it takes the place of an older one in a single step: a
// client finds either the old process or the new one there, never nothing. A file that is no socket is left alone, and
// is an error. The socket is never removed, since by then it may be somebody else's; a socket that nobody listens on
// refuses connections, which says the same.
func ListenUnix(path string) (*net.UnixListener, error) {
	listener, err := listenUnix(path)
	if err != nil {
		return nil, fmt.Errorf("cannot open the admin socket: %w", err)
	}
	return listener, nil
}

// ServeUnix answers the API on a unix socket until ctx ends, then finishes what is under way; it closes listener.
func (s *Server) ServeUnix(ctx context.Context, listener net.Listener) error {
	server := s.newHTTPServer(s.Handler(true))
	server.ConnContext = askPeer
	return serve(ctx, server, listener)
}

// ServeTCP answers the API on listener until ctx ends, then finishes what is under way; it closes listener. There
// is no TLS here: let it listen on loopback or on a network of your own.
func (s *Server) ServeTCP(ctx context.Context, listener net.Listener) error {
	return serve(ctx, s.newHTTPServer(s.Handler(false)), listener)
}

func (s *Server) newHTTPServer(handler http.Handler) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      time.Minute,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(s.log().Handler(), slog.LevelDebug),
	}
}

// serve blocks until ctx has ended and the requests under way are answered, or 5 seconds have passed since.
func serve(ctx context.Context, server *http.Server, listener net.Listener) error {
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err := server.Shutdown(grace)
	if err != nil {
		err = errors.Join(err, server.Close())
	}
	if ended := <-failed; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, ended)
	}
	return err
}

// listenUnix binds in a folder of its own, which nobody else can enter, and moves the finished socket to path.
func listenUnix(path string) (*net.UnixListener, error) {
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() != os.ModeSocket {
		return nil, fmt.Errorf("%s is there already and is no socket", path)
	}
	folder, err := os.MkdirTemp(filepath.Dir(path), ".admin-*")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(folder) }() // empty by then, or useless
	temporary := filepath.Join(folder, "s")
	if length := max(len(path), len(temporary)); length > maxSocketPath {
		return nil, fmt.Errorf("%s: the path of a socket may have %d characters, and here %d are needed", path, maxSocketPath, length)
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: temporary, Net: "unix"})
	if err != nil {
		return nil, err
	}
	listener.SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(temporary, 0o600), os.Rename(temporary, path)); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return listener, nil
}
