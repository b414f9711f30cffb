package upstream

import (
	"context"
	"io"
	"sync"
)

// heldBody keeps a request's body open when an attempt ends: the server that the request came to closes it.
type heldBody struct{ io.ReadCloser }

func (heldBody) Close() error { return nil }

// countedBody counts a request as in flight until its answer's body is closed. A body that can be written to, as after
// a 101, stays one that can.
func countedBody(body io.ReadCloser, c *counts) io.ReadCloser {
	end := sync.OnceFunc(func() { c.inFlight.Add(-1) })
	if tunnel, ok := body.(io.ReadWriteCloser); ok {
		return &countedTunnel{tunnel, end}
	}
	return &countedReader{body, end}
}

type countedReader struct {
	io.ReadCloser
	end func()
}

func (b *countedReader) Close() error {
	b.end()
	return b.ReadCloser.Close()
}

type countedTunnel struct {
	io.ReadWriteCloser
	end func()
}

func (b *countedTunnel) Close() error {
	b.end()
	return b.ReadWriteCloser.Close()
}

type chosenKey struct{}

// WithChosen returns a context that makes RoundTrip write the URL of each target that it tries into chosen.
func WithChosen(ctx context.Context, chosen *string) context.Context {
	return context.WithValue(ctx, chosenKey{}, chosen)
}

func chosenTarget(ctx context.Context) *string {
	chosen, _ := ctx.Value(chosenKey{}).(*string)
	return chosen
}
