package fastcgi

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"
)

const chunk = 32 << 10 // of a body, in one record

// upload sends a request's body while the answer comes.
type upload struct {
	x    *exchange
	c    *connection
	from io.ReadCloser
	left int64

	failure atomic.Pointer[error] // why the exchange cannot go on
}

// run sends the body and closes it. What cannot be read ends the exchange, without the record that would end the body: the
// application must not take half of it for the whole. What cannot be written does not, since there may be an answer all the same.
func (u *upload) run() {
	buffer := make([]byte, min(u.left, chunk)+2*headerLength)
	for u.left > 0 {
		n, err := u.from.Read(buffer[headerLength : headerLength+min(u.left, chunk)])
		if n > 0 && !u.write(buffer, n) {
			break
		}
		if err != nil && u.left > 0 {
			u.fail(err)
			break
		}
	}
	u.x.uploaded(u.left == 0)
	_ = u.from.Close() // nothing more of it is needed
}

// write sends n bytes that stand in the buffer behind the room for a header; false means that no more can be sent.
func (u *upload) write(buffer []byte, n int) bool {
	if timeout := u.x.t.config.ResponseTimeout; timeout > 0 {
		_ = u.c.SetWriteDeadline(time.Now().Add(timeout)) // if the connection is closed, Write says so
	}
	record := appendHeader(buffer[:0], typeStdin, n)[:headerLength+n]
	if u.left == int64(n) {
		record = appendHeader(record, typeStdin, 0)
		u.x.lastRecord()
	}
	if _, err := u.c.Write(record); err != nil {
		return false
	}
	u.left -= int64(n)
	return true
}

// fail ends the exchange.
func (u *upload) fail(err error) {
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("%w: %w", errShortBody, io.ErrUnexpectedEOF)
	}
	u.failure.Store(&err)
	_ = u.c.Close() // whoever reads from it reports the failure
}
