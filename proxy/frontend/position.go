package frontend

// Frames of HTTP/2 (RFC 9113 §4.1, §6), as far as position tells them apart.
const (
	frameHeader       = 9 // bytes
	flagEndHeaders    = 0x4
	frameHeaders      = 0x1
	framePushPromise  = 0x5
	frameGoAway       = 0x7
	frameContinuation = 0x9
)

// position is a place in the bytes that an HTTP/2 server sends. The zero value is the begin.
type position struct {
	header  [frameHeader]byte
	have    int  // bytes of the header that were seen
	left    int  // bytes of the payload that are still to come
	begun   bool // a whole frame has gone by: the server's SETTINGS must come first (§3.4)
	headers bool // between HEADERS and its last CONTINUATION, where no other frame may come (§6.10)
	gone    bool // the server has sent GOAWAY itself: another must not raise its last stream (§6.8)
	// entered is told the header of each frame; may be nil.
	entered func(kind, flags byte, length int)
}

// border reports whether a GOAWAY may be put here.
func (p *position) border() bool {
	return p.begun && p.have == 0 && p.left == 0 && !p.headers && !p.gone
}

// follow goes on by a piece of one frame, from the start of b, and returns how many bytes that is: at least one, if
// b has any. Nothing of the next frame is in it.
func (p *position) follow(b []byte) int {
	if p.left > 0 {
		n := min(p.left, len(b))
		p.left -= n
		p.begun = p.begun || p.left == 0
		return n
	}
	n := copy(p.header[p.have:], b)
	p.have += n
	if p.have == frameHeader {
		p.enter()
	}
	return n
}

// enter reads a complete frame header.
func (p *position) enter() {
	p.have = 0
	p.left = int(p.header[0])<<16 | int(p.header[1])<<8 | int(p.header[2])
	p.begun = p.begun || p.left == 0
	if p.entered != nil {
		p.entered(p.header[3], p.header[4], p.left)
	}
	switch p.header[3] {
	case frameHeaders, framePushPromise, frameContinuation:
		p.headers = p.header[4]&flagEndHeaders == 0
	case frameGoAway:
		p.gone = true
	}
}
