package fastcgi

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
)

var (
	// ErrOverloaded says that the application refused the request since it has too many (FCGI_OVERLOADED).
	ErrOverloaded = errors.New("the application has too many requests")

	errBrokeOff  = errors.New("the application closed the connection before its answer had ended")
	errNoAnswer  = errors.New("the application ended the request without an answer")
	errHeadLong  = errors.New("the header of the application's answer is too long")
	errTooMuch   = errors.New("the application's answer is longer than its Content-Length")
	errTooLittle = errors.New("the application's answer is shorter than its Content-Length")
)

// answer reads what an application writes for a request.
type answer struct {
	in      *bufio.Reader
	lines   *lines
	began   bool // something has come
	ended   bool // nothing more may come
	left    int  // of the record under way
	padding int  // after it
}

// Read reads from the application's standard output. io.EOF means that the request has ended as it should.
func (a *answer) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for a.left == 0 {
		if err := a.next(); err != nil {
			return 0, err
		}
	}
	n, err := a.in.Read(p[:min(len(p), a.left)])
	a.left -= n
	return n, brokeOff(err)
}

// next goes to the next record of standard output, dealing with others on the way.
func (a *answer) next() error {
	if a.ended {
		return io.EOF
	}
	if err := a.skip(a.padding); err != nil {
		return err
	}
	a.padding = 0
	head, err := a.in.Peek(headerLength)
	a.began = a.began || len(head) > 0
	if err != nil {
		return brokeOff(err)
	}
	kind, length, padding := head[1], int(binary.BigEndian.Uint16(head[4:])), int(head[6])
	if head[0] != version || binary.BigEndian.Uint16(head[2:]) != requestID {
		return fmt.Errorf("the application's answer is no FastCGI: % x", head)
	}
	_, _ = a.in.Discard(headerLength) // it is there
	a.padding = padding
	switch kind {
	case typeStdout:
		a.left = length
		return nil
	case typeStderr:
		return a.stderr(length)
	case typeEnd:
		return a.end(length)
	}
	return fmt.Errorf("the application's answer has a record of the type %d", kind)
}

func (a *answer) skip(n int) error {
	_, err := a.in.Discard(n)
	return brokeOff(err)
}

func brokeOff(err error) error {
	if errors.Is(err, io.EOF) {
		return errBrokeOff
	}
	return err
}

func (a *answer) stderr(length int) error {
	for length > 0 {
		if _, err := a.in.Peek(1); err != nil {
			return brokeOff(err)
		}
		part, _ := a.in.Peek(min(length, a.in.Buffered())) // it is there
		a.lines.write(part)
		_, _ = a.in.Discard(len(part))
		length -= len(part)
	}
	return nil
}

// end reads how the request has ended.
func (a *answer) end(length int) error {
	if length != 8 {
		return fmt.Errorf("the application's answer ends with a record of %d bytes, not 8", length)
	}
	body, err := a.in.Peek(8)
	if err != nil {
		return brokeOff(err)
	}
	status, how := binary.BigEndian.Uint32(body), body[4]
	_, _ = a.in.Discard(8) // it is there
	if err := a.skip(a.padding); err != nil {
		return err
	}
	a.ended = true
	a.lines.end(status)
	switch how {
	case 0:
		return io.EOF
	case 1:
		return errors.New("the application takes no second request on a connection (FCGI_CANT_MPX_CONN)")
	case 2:
		return ErrOverloaded
	case 3:
		return errors.New("the application is no responder (FCGI_UNKNOWN_ROLE)")
	}
	return fmt.Errorf("the application ended the request with the unknown status %d", how)
}

// remaining returns how much of standard output is still to come, if all is there already, up to a good end.
func (a *answer) remaining() (n int, ok bool) {
	there, _ := a.in.Peek(a.in.Buffered()) // it is there
	n = a.left
	for at := a.left + a.padding; at+headerLength <= len(there); {
		head := there[at:]
		length, padding := int(binary.BigEndian.Uint16(head[4:])), int(head[6])
		at += headerLength + length + padding
		switch {
		case head[0] != version || binary.BigEndian.Uint16(head[2:]) != requestID:
			return 0, false
		case head[1] == typeStdout:
			n += length
		default:
			return n, head[1] == typeEnd && length == 8 && at == len(there) && head[headerLength+4] == 0
		}
	}
	return 0, false
}

// readHead reads an answer's header into buffer, which may grow. It returns the buffer, how long the header in it is, with the
// empty line, and what follows it already.
func readHead(a io.Reader, buffer []byte, most int64) (whole []byte, length int, rest []byte, err error) {
	whole = buffer[:0]
	for {
		if len(whole) == cap(whole) {
			whole = append(whole, make([]byte, max(4096, len(whole)))...)[:len(whole)]
		}
		n, err := a.Read(whole[len(whole):cap(whole)])
		from := max(0, len(whole)-3)
		whole = whole[:len(whole)+n]
		length := headLength(whole, from)
		switch {
		case int64(length) > most, length == 0 && int64(len(whole)) > most:
			return whole, 0, nil, errHeadLong
		case length > 0:
			return whole, length, whole[length:], nil
		case errors.Is(err, io.EOF):
			return whole, 0, nil, errNoAnswer
		case err != nil:
			return whole, 0, nil, err
		}
	}
}

// headLength returns how long a header is, with the empty line that ends it; 0 means that it has not ended. from is where to begin.
func headLength(text []byte, from int) int {
	if from == 0 {
		if bytes.HasPrefix(text, []byte("\n")) {
			return 1
		}
		if bytes.HasPrefix(text, []byte("\r\n")) {
			return 2
		}
	}
	for at := from; ; at++ {
		next := bytes.IndexByte(text[at:], '\n')
		if next < 0 {
			return 0
		}
		at += next
		switch after := text[at+1:]; {
		case bytes.HasPrefix(after, []byte("\n")):
			return at + 2
		case bytes.HasPrefix(after, []byte("\r\n")):
			return at + 3
		}
	}
}

// parseHead makes a response of an answer's header (RFC 3875 §6.2, §6.3).
func parseHead(text string) (*http.Response, error) {
	response := &http.Response{Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, ContentLength: -1}
	response.Header = make(http.Header, strings.Count(text, "\n"))
	for first := true; text != ""; first = false {
		line, rest, _ := strings.Cut(text, "\n")
		text = rest
		if line = strings.TrimSuffix(line, "\r"); line == "" {
			continue
		}
		if first && strings.HasPrefix(line, "HTTP/1.") { // php writes so if cgi.rfc2616_headers is on
			_, line, _ = strings.Cut(line, " ")
			line = "Status: " + line
		}
		if err := parseField(response.Header, line); err != nil {
			return nil, err
		}
	}
	if err := takeStatus(response); err != nil {
		return nil, err
	}
	for _, name := range []string{"Connection", "Proxy-Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade"} {
		delete(response.Header, name) // of a connection that is none of HTTP
	}
	return response, takeLength(response)
}

func parseField(header http.Header, line string) error {
	name, value, ok := strings.Cut(line, ":")
	value = textproto.TrimString(value)
	if !ok || !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
		return fmt.Errorf("the application's answer has a line that is no header field: %.80q", line)
	}
	name = textproto.CanonicalMIMEHeaderKey(name)
	header[name] = append(header[name], value)
	return nil
}

// takeStatus takes the status out of the header; 200 if it does not say one, 302 if it says a Location.
func takeStatus(response *http.Response) error {
	said := response.Header["Status"]
	delete(response.Header, "Status")
	response.StatusCode = http.StatusOK
	if len(response.Header["Location"]) > 0 {
		response.StatusCode = http.StatusFound
	}
	if len(said) > 0 {
		number, _, _ := strings.Cut(said[0], " ")
		code, err := strconv.Atoi(number)
		if err != nil || len(number) != 3 || code < 200 {
			return fmt.Errorf("the application's answer has the status %.80q", said[0])
		}
		response.StatusCode = code
	}
	response.Status = strconv.Itoa(response.StatusCode) + " " + http.StatusText(response.StatusCode)
	return nil
}

// takeLength finds out how long the body is to be; -1 means that nobody said.
func takeLength(response *http.Response) error {
	said := response.Header["Content-Length"]
	for _, length := range said {
		n, err := strconv.ParseUint(length, 10, 63)
		if err != nil || length != said[0] {
			return fmt.Errorf("the application's answer has the Content-Length %.80q", said)
		}
		response.ContentLength = int64(n) //nolint:gosec // it has 63 bits
	}
	switch {
	case response.StatusCode == http.StatusNoContent:
		response.ContentLength = 0
		delete(response.Header, "Content-Length")
	case len(said) > 1:
		response.Header["Content-Length"] = said[:1]
	}
	return nil
}
