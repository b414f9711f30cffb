package upstream

import (
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// taking is how a target takes an upload. What net/http reads of a body at once may take a slow target longer than idle_timeout, and
// the kernel tells a writer of room late; so the kernel is asked what the target's machine has acknowledged. Where it cannot say, as
// for a socket in the file system or a connection that requests share, only the next Read is progress.
type taking struct {
	mu      sync.Mutex
	socket  syscall.RawConn // nil if it is not known
	waits   bool            // for the target, not for the visitor
	taken   uint64          // bytes, acknowledged when it was looked last
	movedAt time.Time
}

// steps is how often it is looked in the time that counts as idle.
func (i *idle) steps() time.Duration { return (i.limit + 3) / 4 }

// sendsOver is for when a connection was found.
func (i *idle) sendsOver(conn net.Conn) {
	own, ok := conn.(*laneConn)
	if !ok || !i.watches() {
		return
	}
	i.taking.mu.Lock()
	defer i.taking.mu.Unlock()
	i.taking.socket = socketOf(own.Conn)
}

// begin is for when the target gets something of the body.
func (i *idle) begin() {
	t := &i.taking
	t.mu.Lock()
	defer t.mu.Unlock()
	if i.expired.Load() {
		return
	}
	t.waits, t.movedAt, t.taken = true, time.Now(), acknowledged(t.socket)
	i.up.Reset(i.steps())
}

// rest is for when it has taken that.
func (i *idle) rest() {
	i.taking.mu.Lock()
	defer i.taking.mu.Unlock()
	i.taking.waits = false
	i.up.Stop()
}

func (i *idle) lookAtUpload() {
	if i.isStuck() {
		i.expire()
	}
}

// isStuck has it looked again later, if it is not.
func (i *idle) isStuck() bool {
	t := &i.taking
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.waits {
		return false
	}
	now := time.Now()
	if taken := acknowledged(t.socket); taken != t.taken {
		t.taken, t.movedAt = taken, now
	}
	if now.Sub(t.movedAt) >= i.limit {
		return true
	}
	i.up.Reset(i.steps())
	return false
}

// acknowledged returns how many bytes the other side's machine has taken; 0 if nobody can say.
func acknowledged(socket syscall.RawConn) (bytes uint64) {
	if socket == nil {
		return 0
	}
	_ = socket.Control(func(fd uintptr) { // one that is closed acknowledges nothing
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			bytes = info.Bytes_acked
		}
	})
	return bytes
}
