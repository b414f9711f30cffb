package load

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"time"

	"cutover/scripts/e2e/restarts/wire"
)

func downloads(ctx context.Context, l *Load) { l.bulk(ctx, "download", l.plain, (*conn1).download) }
func downloadsTLS(ctx context.Context, l *Load) {
	l.bulk(ctx, "TLS download", l.secure, (*conn1).download)
}
func uploads(ctx context.Context, l *Load)    { l.bulk(ctx, "upload", l.plain, (*conn1).upload) }
func uploadsTLS(ctx context.Context, l *Load) { l.bulk(ctx, "TLS upload", l.secure, (*conn1).upload) }

// bulk carries large bodies, one after the other, each over a connection of its own and over the time that is set.
func (l *Load) bulk(ctx context.Context, kind string, connect func() (*conn1, error), carry func(*conn1) error) {
	for ctx.Err() == nil {
		conn, err := connect()
		if err == nil {
			err = carry(conn)
			_ = conn.Close()
		}
		if err != nil {
			l.Record.failed(kind, err)
			wait(ctx, 100*time.Millisecond)
			continue
		}
		l.Record.carried(kind)
	}
}

// carried notes a request whose time says nothing.
func (r *Recorder) carried(kind string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kind(kind).Requests++
}

// download reads a body that the service paces, and compares each byte.
func (c *conn1) download() error {
	if err := c.begin(); err != nil {
		return err
	}
	l := c.load
	head := c.head(http.MethodGet, fmt.Sprintf("/download?bytes=%d&ms=%d", l.Bulk, l.Life.Milliseconds()), 0, "Connection: close\r\n")
	if _, err := io.WriteString(c, head); err != nil {
		return during("write", c.seen, err)
	}
	response, err := c.answer()
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }() // the connection ends
	buffer, read := make([]byte, 64<<10), int64(0)
	for {
		n, err := response.Body.Read(buffer)
		if !l.pattern.Check(buffer[:n], read) {
			return wrong("wrong bytes", c.seen, "after %d bytes", read)
		}
		read += int64(n)
		if errors.Is(err, io.EOF) && read == l.Bulk {
			return nil
		}
		if err = cmp.Or(err, l.renew(c.Conn)); err != nil {
			return during("body", c.seen, err)
		}
	}
}

// upload sends a body at a steady pace, and compares the receipt.
func (c *conn1) upload() error {
	if err := c.begin(); err != nil {
		return err
	}
	l := c.load
	if _, err := io.WriteString(c, c.head(http.MethodPost, "/echo", l.Bulk, "Connection: close\r\n")); err != nil {
		return during("write of the head", c.seen, err)
	}
	began, sum, buffer := time.Now(), crc32.NewIEEE(), make([]byte, 64<<10)
	for sent := int64(0); sent < l.Bulk; {
		part := buffer[:min(int64(len(buffer)), l.Bulk-sent)]
		l.pattern.Fill(part, sent)
		_, _ = sum.Write(part) // it never fails
		pace(began.Add(time.Duration(float64(l.Life) * float64(sent) / float64(l.Bulk))))
		if err := l.renew(c.Conn); err != nil {
			return during("deadline", c.seen, err)
		}
		if _, err := c.Write(part); err != nil {
			return during("write of the body", c.seen, err)
		}
		sent += int64(len(part))
	}
	_, err := c.receipt(wire.Receipt(l.Bulk, sum.Sum32()))
	return err
}
