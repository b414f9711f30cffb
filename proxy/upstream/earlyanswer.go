package upstream

import (
	"errors"
	"io"
	"net/http"
)

// withoutWait lets go of an answer by HTTP/2 that has ended, though its request has not: to close it, net/http waits for a Read
// of the request's body, which may wait for the visitor, who waits for the end of the answer. What is left ends with that Read, at
// the latest when whoever made the request closes its body.
func withoutWait(response *http.Response, r *http.Request) {
	if r.Body != nil && r.Body != http.NoBody && response.Body != http.NoBody {
		response.Body = &endingBody{ReadCloser: response.Body}
	}
}

type endingBody struct {
	io.ReadCloser
	ended bool
}

func (b *endingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.ended = b.ended || errors.Is(err, io.EOF)
	return n, err
}

func (b *endingBody) Close() error {
	if b.ended {
		return nil
	}
	return b.ReadCloser.Close()
}
