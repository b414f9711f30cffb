package upstream

import (
	"context"
	"errors"
	"net"
)

// ErrNoTarget says that an upstream has no target that may get requests.
var ErrNoTarget = errors.New("the upstream has no target that is ready")

// Cause names, in one word for logs and metrics, why an attempt failed.
func Cause(err error) string {
	var dial *net.OpError
	switch {
	case errors.Is(err, ErrNoTarget):
		return "no_target"
	case errors.Is(err, context.Canceled):
		return "canceled"
	case IsTimeout(err):
		return "timeout"
	case errors.As(err, &dial) && dial.Op == "dial":
		return "dial"
	}
	return "broken"
}

// IsTimeout reports whether a target took too long.
func IsTimeout(err error) bool {
	var timeout net.Error
	return errors.Is(err, context.DeadlineExceeded) || (errors.As(err, &timeout) && timeout.Timeout())
}

// isDial reports whether no connection could be made, so that nothing of the request was sent.
func isDial(err error) bool {
	var dial *net.OpError
	return errors.As(err, &dial) && dial.Op == "dial"
}
