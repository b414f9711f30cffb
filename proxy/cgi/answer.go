package cgi

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// answer is what the visitor gets.
type answer struct {
	http.ResponseWriter
	begun bool
	// whole reports whether the body of the request was read. Where it was not, the connection ends with the answer: net/http
	// cannot read a further request behind it in full duplex, which it panics about.
	whole func() bool
}

// longestHeader bounds what a program may say before its body.
const longestHeader = 64 << 10

// copyFrom reads what a program says to the end, and sends it on as it comes.
func (a *answer) copyFrom(output io.Reader, method string) error {
	limited := &io.LimitedReader{R: output, N: longestHeader}
	reader := bufio.NewReader(limited)
	header, err := textproto.NewReader(reader).ReadMIMEHeader()
	switch {
	case limited.N <= 0:
		return fmt.Errorf("its header has more than %d bytes", longestHeader)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("it ended before the end of its header, which is an empty line")
	case err != nil:
		return fmt.Errorf("its header: %w", err)
	}
	limited.N = 1<<63 - 1
	status, err := statusFrom(header)
	if err != nil {
		return err
	}
	if err := a.putHeader(header); err != nil {
		return err
	}
	if !a.whole() {
		a.Header().Set("Connection", "close")
	}
	a.begun = true
	a.WriteHeader(status)
	return a.copyBody(reader, method)
}

// statusFrom reads Status, of which a redirect has none (RFC 3875 §6.2, §6.3).
func statusFrom(header textproto.MIMEHeader) (int, error) {
	text := header.Get("Status")
	if text == "" {
		switch {
		case header.Get("Location") != "":
			return http.StatusFound, nil
		case header.Get("Content-Type") == "":
			return 0, errors.New("its header has none of Content-Type, Location and Status")
		}
		return http.StatusOK, nil
	}
	code, _, _ := strings.Cut(strings.TrimSpace(text), " ")
	status, err := strconv.Atoi(code)
	if err != nil || len(code) != 3 || status < 200 {
		return 0, fmt.Errorf("its header has the status %q", text)
	}
	return status, nil
}

func (a *answer) putHeader(header textproto.MIMEHeader) error {
	for name, values := range header {
		if name == "Status" || isHopByHop(name) {
			continue
		}
		for _, value := range values {
			if !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
				return fmt.Errorf("its header has %q: %q, which is none of HTTP", name, value)
			}
			a.Header().Add(name, value)
		}
	}
	return nil
}

// copyBody sends each piece at once. What answers to HEAD is read and left out.
func (a *answer) copyBody(from io.Reader, method string) error {
	flusher := http.NewResponseController(a.ResponseWriter)
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 && method != http.MethodHead {
			if _, wrong := a.Write(buffer[:n]); wrong != nil {
				if errors.Is(wrong, http.ErrBodyNotAllowed) {
					continue // 204 and 304 have none
				}
				return fmt.Errorf("the visitor is gone: %w", wrong)
			}
			if wrong := flusher.Flush(); wrong != nil {
				return fmt.Errorf("the visitor is gone: %w", wrong)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("its answer: %w", err)
		}
	}
}
