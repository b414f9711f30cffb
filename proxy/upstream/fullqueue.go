package upstream

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"
)

const (
	soonAgain  = time.Millisecond
	laterAgain = 25 * time.Millisecond
)

// dialPatiently makes a connection. Where the queue of a socket is full, the kernel says so at once, and not, as with TCP, by
// letting us wait: that is done here, as long as the dialer's time lasts.
func dialPatiently(ctx context.Context, dialer *net.Dialer, network, address string) (net.Conn, error) {
	if network != "unix" {
		return dialer.DialContext(ctx, network, address)
	}
	limited, cancel := context.WithTimeout(ctx, dialer.Timeout)
	defer cancel()
	var full error
	for again := soonAgain; ; again = min(2*again, laterAgain) {
		conn, err := dialer.DialContext(limited, network, address)
		switch {
		case err == nil:
			return conn, nil
		case errors.Is(err, syscall.EAGAIN):
			full = err
		case full != nil && limited.Err() != nil && ctx.Err() == nil: // the time was over just as it was tried again
			return nil, full
		default:
			return nil, err
		}
		timer := time.NewTimer(again)
		select {
		case <-timer.C:
		case <-limited.Done():
			timer.Stop()
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return nil, full
		}
	}
}
