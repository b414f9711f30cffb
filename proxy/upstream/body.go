package upstream

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"cutover/proxy/fastcgi"
)

// watched counts a request as in flight until its answer's body is closed, and a body that breaks off as a failure.
// A body that can be written to, as after a 101, stays one that can, and may rest for as long as it likes.
func (p *Pool) watched(r *http.Request, t *target, response *http.Response, idle *idle) io.ReadCloser {
	end := sync.OnceFunc(func() {
		idle.over()
		t.giveBack()
	})
	if tunnel, ok := response.Body.(io.ReadWriteCloser); ok {
		return &watchedTunnel{tunnel, end}
	}
	headed := time.Now()
	fail := func(err error) error {
		err = p.failed(r, t, idle.explain(err))
		p.turned(r, response, err, headed)
		return err
	}
	return &watchedBody{idle.download(response), fail, end, fastcgi.IsOwn(response)}
}

type watchedBody struct {
	io.ReadCloser
	fail func(error) error
	end  func()
	own  bool // the answer is not the target's
}

// isOwn reports whether an answer that send has returned was made without its target.
func isOwn(response *http.Response) bool {
	body, ok := response.Body.(*watchedBody)
	return ok && body.own
}

func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = b.fail(err)
	}
	return n, err
}

// Close ends the count last: until then the connection may still be busy.
func (b *watchedBody) Close() error {
	defer b.end()
	return b.ReadCloser.Close()
}

type watchedTunnel struct {
	io.ReadWriteCloser
	end func()
}

func (b *watchedTunnel) Close() error {
	b.end()
	return b.ReadWriteCloser.Close()
}

// CloseWrite ends one direction and leaves the other open, where the connection can do so.
func (b *watchedTunnel) CloseWrite() error {
	if half, ok := b.ReadWriteCloser.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
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
