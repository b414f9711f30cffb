package fastcgi

import (
	"bytes"
	"fmt"
)

const (
	longestLine = 8 << 10
	mostStderr  = 64 << 10
)

// lines reports what an application writes to its standard error.
type lines struct {
	report  func(line string) // nil for nobody
	part    []byte            // of the line under way
	written int
}

// write takes what comes, in whatever parts.
func (l *lines) write(text []byte) {
	if l.report == nil || l.written > mostStderr {
		return
	}
	if l.written += len(text); l.written > mostStderr {
		text = text[:len(text)-(l.written-mostStderr)]
	}
	for len(text) > 0 {
		line, rest, ended := bytes.Cut(text, []byte("\n"))
		room := longestLine - len(l.part)
		if len(line) > room {
			line, rest, ended = text[:room], text[room:], true
		}
		l.part = append(l.part, line...)
		if text = rest; ended {
			l.flush()
		}
	}
	if l.written > mostStderr {
		l.flush()
		l.report("[the application wrote more to its standard error: it is left out]")
	}
}

func (l *lines) flush() {
	if line := bytes.TrimRight(l.part, "\r"); len(line) > 0 {
		l.report(string(line))
	}
	l.part = l.part[:0]
}

// end is for when the request has ended; status is the application's.
func (l *lines) end(status uint32) {
	if l.report == nil {
		return
	}
	l.flush()
	if status != 0 {
		l.report(fmt.Sprintf("[the application ended the request with the status %d]", status))
	}
}
