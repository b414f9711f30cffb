package takeover

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// Protocol is the version of what is said. A worker talks to another of the same version only; the other then is replaced by
// a stop and a start.
const Protocol = 1

// The types of messages.
const (
	typeHello     = "hello"
	typeWelcome   = "welcome"
	typeRefused   = "refused"
	typePrepare   = "prepare"
	typePrepared  = "prepared"
	typeAccepting = "accepting"
	typePaused    = "paused"
	typeCommit    = "commit"
	typeStatus    = "status"
	typeEnd       = "end"
)

// maxMessage bounds a message, in bytes.
const maxMessage = 64 << 10

// message is all that is ever said; most fields are of one type only.
type message struct {
	Type     string  `json:"type"`
	Protocol int     `json:"protocol,omitempty"`
	Worker   *Worker `json:"worker,omitempty"` // of hello, welcome and status
	Reason   string  `json:"reason,omitempty"` // of refused
}

// Worker is what a worker says of itself.
type Worker struct {
	PID     int       `json:"pid"`
	Version string    `json:"version"`
	Started time.Time `json:"started"`
	State   State     `json:"state"`
	Holds   Holds     `json:"holds"`
	Ends    time.Time `json:"ends,omitzero"` // of one that drains: what is left by then is cut
}

// State is what a worker does.
type State string

// The states of a worker.
const (
	Loading  State = "loading"
	Serving  State = "serving"
	Paused   State = "paused"   // has handed over, and would take back
	Draining State = "draining" // has handed over for good
)

// Holds counts what a worker has not finished yet.
type Holds struct {
	Connections int `json:"connections"`
	Requests    int `json:"requests"`
	Tunnels     int `json:"tunnels"`
	Streams     int `json:"streams"`
	Late        int `json:"late"` // connections that it has accepted since it stopped accepting, of which there must be none
}

func send(w io.Writer, m message) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	frame := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(text)), uint32(len(text)))
	_, err = w.Write(append(frame, text...))
	return err
}

// receive reads a message; io.EOF says that the other end is gone, between two of them.
func receive(r io.Reader) (m message, err error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return m, err
	}
	size := binary.BigEndian.Uint32(head[:])
	if size > maxMessage {
		return m, fmt.Errorf("a message of %d bytes: that is no worker of cutover", size)
	}
	text := make([]byte, size)
	if _, err := io.ReadFull(r, text); err != nil {
		return m, fmt.Errorf("in the middle of a message: %w", err)
	}
	return m, json.Unmarshal(text, &m)
}
