package main

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// meter shows on a terminal how far something is; elsewhere it is silent.
type meter struct {
	mutex sync.Mutex
	out   io.Writer // nil: silent
	last  time.Time
}

func newMeter(env *environment) *meter {
	if !isTerminal(env.stderr) {
		return &meter{}
	}
	return &meter{out: env.stderr, last: time.Now()} // what is quick needs none
}

const meterEvery = 200 * time.Millisecond

func (m *meter) show(done int, what string) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	if m.out == nil || time.Since(m.last) < meterEvery {
		return
	}
	m.last = time.Now()
	_, _ = fmt.Fprintf(m.out, "\r\x1b[K%d %s", done, what)
}

// line shows a text in the place of what was shown before.
func (m *meter) line(text string) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	if m.out != nil {
		_, _ = fmt.Fprintf(m.out, "\r\x1b[K%s", text)
	}
}

// wipe makes room for other output; the meter goes on.
func (m *meter) wipe() { m.line("") }

// clear ends the meter.
func (m *meter) clear() {
	m.wipe()
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.out = nil
}
