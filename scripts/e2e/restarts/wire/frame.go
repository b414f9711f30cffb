package wire

import (
	"bufio"
	"crypto/sha1" //nolint:gosec // RFC 6455 wants it
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"
)

// Opcodes of RFC 6455.
const (
	Binary = 0x2
	Close  = 0x8
)

// maxPayload is all that the measurement sends in a frame.
const maxPayload = 4096

// errFrame says that what came is no frame that the other side of a measurement sends.
var errFrame = errors.New("not a whole frame of at most 4096 bytes")

// Accept is the answer to a Sec-WebSocket-Key.
func Accept(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) //nolint:gosec // RFC 6455 wants it
	return base64.StdEncoding.EncodeToString(sum[:])
}

// WriteFrame writes one whole message. A client masks; a mask of zeros leaves the payload readable.
func WriteFrame(w io.Writer, opcode byte, payload []byte, masked bool) error {
	if len(payload) > maxPayload {
		return errFrame
	}
	frame := []byte{0x80 | opcode}
	bit := byte(0)
	if masked {
		bit = 0x80
	}
	if len(payload) < 126 {
		frame = append(frame, bit|byte(len(payload)))
	} else {
		frame = append(frame, bit|126)
		frame = binary.BigEndian.AppendUint16(frame, uint16(len(payload)))
	}
	if masked {
		frame = append(frame, 0, 0, 0, 0)
	}
	_, err := w.Write(append(frame, payload...))
	return err
}

// ReadFrame reads one whole message. The end in the middle of a frame is io.ErrUnexpectedEOF, before one io.EOF.
func ReadFrame(r *bufio.Reader) (opcode byte, payload []byte, err error) {
	first, err := r.ReadByte()
	if err != nil {
		return 0, nil, err
	}
	length, masked, err := readLength(r)
	if err != nil {
		return 0, nil, inFrame(err)
	}
	if first&0x80 == 0 || length > maxPayload {
		return 0, nil, errFrame
	}
	var mask [4]byte
	if masked {
		if _, err := io.ReadFull(r, mask[:]); err != nil {
			return 0, nil, inFrame(err)
		}
	}
	payload = make([]byte, length)
	if _, err := io.ReadFull(r, payload); err != nil {
		return 0, nil, inFrame(err)
	}
	for i := range payload {
		payload[i] ^= mask[i%4]
	}
	return first & 0x0f, payload, nil
}

func readLength(r *bufio.Reader) (length int, masked bool, err error) {
	second, err := r.ReadByte()
	if err != nil {
		return 0, false, err
	}
	length, masked = int(second&0x7f), second&0x80 != 0
	switch length {
	case 126:
		var long [2]byte
		_, err = io.ReadFull(r, long[:])
		length = int(binary.BigEndian.Uint16(long[:]))
	case 127:
		err = errFrame
	}
	return length, masked, err
}

func inFrame(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
