package load

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"cutover/scripts/e2e/restarts/wire"
)

// messageEvery is the pace of messages and events.
const messageEvery = 50 * time.Millisecond

// webSockets echo messages, with and without TLS, for as long as is set on each connection.
func webSockets(ctx context.Context, l *Load) {
	many(8, func(i int) { l.stream(ctx, "WebSocket", i%2 == 1, (*conn1).webSocket) })
}

// events read streams of numbered events.
func events(ctx context.Context, l *Load) {
	many(8, func(i int) { l.stream(ctx, "SSE", i%2 == 1, (*conn1).events) })
}

// stream keeps a stream open, and then the next. Each counts as a request.
func (l *Load) stream(ctx context.Context, kind string, secure bool, run func(*conn1, string) error) {
	connect := l.plain
	if secure {
		connect = l.secure
	}
	wait(ctx, rand.N(l.Life)) // so that they do not all end at once
	for ctx.Err() == nil {
		conn, err := connect()
		if err == nil {
			err = run(conn, kind)
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

// messages is how many fit into the life of a stream.
func (l *Load) messages() int { return max(2, int(l.Life/messageEvery)) }

// webSocket opens one, sends numbered messages at a steady pace, and closes it when all have come back.
func (c *conn1) webSocket(kind string) error {
	if err := c.upgrade(); err != nil {
		return err
	}
	count, began := c.load.messages(), time.Now()
	var sending sync.WaitGroup
	var unsent error
	sending.Go(func() { unsent = c.sendMessages(began, count) })
	for number := range count {
		if err := c.readMessage(kind, number); err != nil {
			_ = c.Close() // so that the sender ends
			sending.Wait()
			return err
		}
	}
	sending.Wait()
	if unsent != nil {
		return unsent
	}
	return c.farewell()
}

func (c *conn1) upgrade() error {
	if err := c.begin(); err != nil {
		return err
	}
	const key = "dGhlIHNhbXBsZSBub25jZQ=="
	_, err := fmt.Fprintf(c, "GET /websocket HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n\r\n", c.load.Host, key)
	if err != nil {
		return during("write of the upgrade", c.seen, err)
	}
	response, err := http.ReadResponse(c.reader, nil) //nolint:bodyclose // a 101 has none, and after anything else the connection is closed
	if err != nil {
		return during("upgrade", c.seen, err)
	}
	if response.StatusCode != http.StatusSwitchingProtocols || response.Header.Get("Sec-WebSocket-Accept") != wire.Accept(key) {
		return wrong("upgrade: "+http.StatusText(response.StatusCode), c.seen, "%s", response.Status)
	}
	return nil
}

// sendMessages sends a number, the moment, and some more.
func (c *conn1) sendMessages(began time.Time, count int) error {
	for i := range count {
		pace(began.Add(time.Duration(i) * messageEvery))
		message := make([]byte, 200)
		binary.BigEndian.PutUint64(message, uint64(i))
		binary.BigEndian.PutUint64(message[8:], uint64(time.Now().UnixNano()))
		if err := errors.Join(c.load.renew(c.Conn), wire.WriteFrame(c, wire.Binary, message, true)); err != nil {
			return during("message", 0, err) // what was seen is the reader's to tell
		}
	}
	return nil
}

// readMessage wants the message of a number.
func (c *conn1) readMessage(kind string, number int) error {
	opcode, message, err := wire.ReadFrame(c.reader)
	if err != nil {
		return during("cut", c.seen, fmt.Errorf("at message %d: %w", number, err))
	}
	if opcode == wire.Close {
		return wrong("closed by the server before its time", c.seen, "at message %d, code %x", number, message)
	}
	if len(message) != 200 || binary.BigEndian.Uint64(message) != uint64(number) {
		return wrong("message lost or out of order", c.seen, "%.16x instead of number %d", message, number)
	}
	c.load.Record.late(kind, time.Since(time.Unix(0, int64(binary.BigEndian.Uint64(message[8:])))))
	return nil
}

// farewell closes in order, and waits for the other side to do so.
func (c *conn1) farewell() error {
	if err := wire.WriteFrame(c, wire.Close, []byte{0x03, 0xe8}, true); err != nil {
		return during("farewell", c.seen, err)
	}
	opcode, _, err := wire.ReadFrame(c.reader)
	if err != nil {
		return during("farewell", c.seen, err)
	}
	if opcode != wire.Close {
		return wrong("farewell: more messages than were sent", c.seen, "opcode %d", opcode)
	}
	return nil
}

// events reads one stream to its end. An id that is left out is a loss, and so is an end before the last.
func (c *conn1) events(kind string) error {
	if err := c.begin(); err != nil {
		return err
	}
	count := c.load.messages()
	head := c.head(http.MethodGet, fmt.Sprintf("/events?count=%d&ms=%d", count, messageEvery.Milliseconds()), 0, "Accept: text/event-stream\r\n")
	if _, err := io.WriteString(c, head); err != nil {
		return during("write", c.seen, err)
	}
	response, err := c.answer()
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }() // the connection ends
	return c.readEvents(kind, bufio.NewReader(response.Body), count)
}

func (c *conn1) readEvents(kind string, body *bufio.Reader, count int) error {
	for id := 1; ; id++ {
		event, err := readEvent(body)
		if err != nil {
			return during("cut", c.seen, fmt.Errorf("after event %d: %w", id-1, err))
		}
		if event["event"] == "end" && id == count+1 {
			return nil
		}
		if event["id"] != strconv.Itoa(id) {
			return wrong("event lost", c.seen, "%v instead of id %d", event, id)
		}
		sent, err := strconv.ParseInt(event["data"], 10, 64)
		if err != nil {
			return wrong("wrong event", c.seen, "%v", event)
		}
		c.load.Record.late(kind, time.Since(time.Unix(0, sent)))
		if err := c.load.renew(c.Conn); err != nil {
			return during("deadline", c.seen, err)
		}
	}
}

// readEvent reads lines up to an empty one. An end within is io.ErrUnexpectedEOF, too.
func readEvent(body *bufio.Reader) (map[string]string, error) {
	event := map[string]string{}
	for {
		line, err := body.ReadString('\n')
		if errors.Is(err, io.EOF) {
			return nil, io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, err
		}
		name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		if !ok {
			return event, nil
		}
		event[name] = value
	}
}
