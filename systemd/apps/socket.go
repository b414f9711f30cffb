package apps

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

// connections counts the connections to a socket: those that were accepted, and those that wait for it.
func connections(socket string) (accepted, waiting int, err error) {
	file, err := os.Open("/proc/net/unix")
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = file.Close() }() // it was only read
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		fields := strings.Fields(lines.Text()) // Num RefCount Protocol Flags Type St Inode Path
		if len(fields) != 8 || fields[7] != socket {
			continue
		}
		switch fields[5] {
		case "02": // SS_CONNECTING: nobody has accepted it yet
			waiting++
		case "03": // SS_CONNECTED
			accepted++
		}
	}
	return accepted, waiting, lines.Err()
}

// askHealth asks for a path, and expects a status from 200 to 399.
func askHealth(ctx context.Context, socket, protocol, path string) error {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(protocol != H2C)
	protocols.SetUnencryptedHTTP2(protocol == H2C)
	transport := &http.Transport{
		Protocols: protocols, DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost"+path, http.NoBody)
	if err != nil {
		return err
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return fmt.Errorf("GET %s: %w", path, err)
	}
	_ = response.Body.Close()
	if response.StatusCode < 200 || response.StatusCode > 399 {
		return fmt.Errorf("GET %s: %s", path, response.Status)
	}
	return nil
}

// awaitAccepted connects, and returns when nothing waits for the program to accept.
func awaitAccepted(ctx context.Context, socket string) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	for {
		_, waiting, err := connections(socket)
		if err != nil || waiting == 0 {
			return err
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return fmt.Errorf("it accepts no connection: %w", err)
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
