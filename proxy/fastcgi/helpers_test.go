package fastcgi

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/fcgi"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience is how long a test waits for what must come; the machine may be busy.
const patience = 30 * time.Second

// listen listens on a socket of its own.
func listen(t testing.TB, network string) net.Listener {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		address = filepath.Join(t.TempDir(), "app.sock")
	}
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// counted counts the connections that a listener accepts, and closes them in the end.
type counted struct {
	net.Listener

	mu    sync.Mutex
	conns []net.Conn
}

func (c *counted) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err == nil {
		c.mu.Lock()
		c.conns = append(c.conns, conn)
		c.mu.Unlock()
	}
	return conn, err
}

func (c *counted) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.conns)
}

func (c *counted) closeAll() {
	c.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		conn.Close()
	}
}

// serveGo runs Go's own FastCGI server.
func serveGo(t *testing.T, network string, handler http.HandlerFunc) *counted {
	t.Helper()
	l := &counted{Listener: listen(t, network)}
	var serving sync.WaitGroup
	serving.Go(func() { _ = fcgi.Serve(l, handler) })
	t.Cleanup(func() {
		l.closeAll()
		serving.Wait()
	})
	return l
}

// serveRaw hands each connection, numbered from 0, to a function. It is closed when that returns.
func serveRaw(t *testing.T, network string, serve func(n int, c *peer)) *counted {
	t.Helper()
	l := &counted{Listener: listen(t, network)}
	var serving sync.WaitGroup
	serving.Go(func() {
		for n := 0; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer c.Close()
				serve(n, newPeer(c))
			})
		}
	})
	t.Cleanup(func() {
		l.closeAll()
		serving.Wait()
	})
	return l
}

// peer is the application's side of a connection, record by record.
type peer struct {
	net.Conn
	in *bufio.Reader
}

func newPeer(c net.Conn) *peer { return &peer{Conn: c, in: bufio.NewReader(c)} }

// record reads one.
func (p *peer) record() (kind byte, content []byte, err error) {
	var head [headerLength]byte
	if _, err := io.ReadFull(p.in, head[:]); err != nil {
		return 0, nil, err
	}
	content = make([]byte, int(binary.BigEndian.Uint16(head[4:])))
	if _, err := io.ReadFull(p.in, content); err != nil {
		return 0, nil, err
	}
	if head[0] != version || binary.BigEndian.Uint16(head[2:]) != requestID || head[6] != 0 {
		return 0, nil, errors.New("a wrong record")
	}
	return head[1], content, nil
}

// request reads one up to where its body begins, which has one record if it is empty.
func (p *peer) request() (params map[string]string, flags byte, err error) {
	var encoded []byte
	for {
		kind, content, err := p.record()
		switch {
		case err != nil:
			return nil, 0, err
		case kind == typeBegin:
			flags = content[2]
		case kind != typeParams:
			return nil, 0, errors.New("no parameters")
		case len(content) == 0:
			params, err := decode(encoded)
			return params, flags, err
		}
		if _, err := decode(content); kind == typeParams && err != nil {
			return nil, 0, errors.New("a pair stands in two records")
		} else if kind == typeParams {
			encoded = append(encoded, content...)
		}
	}
}

// body reads what a request's body has, to its end.
func (p *peer) body() (string, error) {
	var all strings.Builder
	for {
		kind, content, err := p.record()
		switch {
		case err != nil:
			return all.String(), err
		case kind != typeStdin:
			return all.String(), errors.New("no body")
		case len(content) == 0:
			return all.String(), nil
		}
		all.Write(content)
	}
}

// ask reads a whole request.
func (p *peer) ask() (params map[string]string, body string, err error) {
	if params, _, err = p.request(); err == nil {
		body, err = p.body()
	}
	return params, body, err
}

func (p *peer) write(kind byte, content string) error {
	_, err := p.Write(record(kind, content))
	return err
}

// answer writes a whole answer.
func (p *peer) answer(text string) error {
	_, err := p.Write(append(record(typeStdout, text), ended(0, 0)...))
	return err
}

func record(kind byte, content string) []byte {
	out := []byte{version, kind, 0, requestID, byte(len(content) >> 8), byte(len(content)), 3, 0}
	return append(append(out, content...), 0, 0, 0) // padding
}

func ended(application uint32, protocol byte) []byte {
	return record(typeEnd, string(append(binary.BigEndian.AppendUint32(nil, application), protocol, 0, 0, 0)))
}

func decode(encoded []byte) (map[string]string, error) {
	params := map[string]string{}
	length := func() int {
		if len(encoded) == 0 {
			return -1
		}
		if n := int(encoded[0]); n < 0x80 {
			encoded = encoded[1:]
			return n
		}
		if len(encoded) < 4 {
			return -1
		}
		n := int(binary.BigEndian.Uint32(encoded) &^ (1 << 31))
		encoded = encoded[4:]
		return n
	}
	for len(encoded) > 0 {
		name, value := length(), length()
		if name < 0 || value < 0 || len(encoded) < name+value {
			return nil, errors.New("a cut pair")
		}
		if _, twice := params[string(encoded[:name])]; twice {
			return nil, errors.New("a name twice")
		}
		params[string(encoded[:name])] = string(encoded[name : name+value])
		encoded = encoded[name+value:]
	}
	return params, nil
}

// newTransport returns a transport to an application that keeps up to four connections, and forgets them in the end.
func newTransport(t *testing.T, l net.Listener, change func(*Config)) *Transport {
	t.Helper()
	c := Config{Network: l.Addr().Network(), Address: l.Addr().String(), MaxIdle: 4, IdleTimeout: time.Hour}
	if change != nil {
		change(&c)
	}
	transport, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(transport.CloseIdleConnections)
	return transport
}

func newRequest(t *testing.T, method, path string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://shop.example"+path, body)
	if err != nil {
		t.Fatal(err)
	}
	r.RemoteAddr = "192.0.2.7:4711"
	return r
}

// roundTrip reads the whole answer.
func roundTrip(t *testing.T, transport *Transport, r *http.Request) (*http.Response, string, error) {
	t.Helper()
	response, err := transport.RoundTrip(r)
	if err != nil {
		return nil, "", err
	}
	text, err := io.ReadAll(response.Body)
	if closed := response.Body.Close(); closed != nil {
		t.Error(closed)
	}
	return response, string(text), err
}

// get asks for a path and expects an answer.
func get(t *testing.T, transport *Transport, path string) (*http.Response, string) {
	t.Helper()
	response, text, err := roundTrip(t, transport, newRequest(t, http.MethodGet, path, nil))
	if err != nil {
		t.Fatal(err)
	}
	return response, text
}

// idle returns how many connections are kept.
func (t *Transport) idle() int {
	t.pool.mu.Lock()
	defer t.pool.mu.Unlock()
	return len(t.pool.idle)
}

// receive waits for what must come.
func receive[T any](t *testing.T, from <-chan T) T {
	t.Helper()
	select {
	case value := <-from:
		return value
	case <-time.After(patience):
		t.Fatal("it does not come")
		panic("unreachable")
	}
}
