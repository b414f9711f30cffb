package websocket

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"
)

const (
	opContinuation = 0x0
	opText         = 0x1
	opPing         = 0x9
	fin            = 0x80
)

// frame returns a frame whose first byte is given; masked with zeros if it is a client's.
func frame(first byte, payload []byte, side Side) []byte {
	masked := byte(0)
	if side == FromClient {
		masked = maskedBit
	}
	b := []byte{first}
	switch n := len(payload); {
	case n < length16:
		b = append(b, masked|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, masked|length16), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, masked|length64), uint64(n))
	}
	if side == FromClient {
		b = append(b, make([]byte, maskSize)...)
	}
	return append(b, payload...)
}

// borders returns where frames end in a stream that comes in pieces as long as the cuts say, in turn.
func borders(stream, cuts []byte) (found []int) {
	var p position
	place := 0
	for i := 0; len(stream) > 0; i++ {
		size := len(stream)
		if len(cuts) > 0 {
			size = min(size, 1+int(cuts[i%len(cuts)]))
		}
		for piece := stream[:size]; len(piece) > 0; {
			n := p.follow(piece)
			piece, place = piece[n:], place+n
			if p.border() {
				found = append(found, place)
			}
		}
		stream = stream[size:]
	}
	return found
}

func FuzzBordersDoNotDependOnHowTheBytesAreSplit(f *testing.F) {
	long := frame(fin|opText, make([]byte, 300), FromClient)
	f.Add(append(long, frame(fin|opPing, nil, FromServer)...), []byte{0})
	f.Add(frame(opText, make([]byte, 1<<16), FromServer), []byte{6, 0, 200})
	f.Add([]byte{fin | opText, length64, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3}, []byte{1})
	f.Fuzz(func(t *testing.T, stream, cuts []byte) {
		whole, split := borders(stream, nil), borders(stream, cuts)
		if len(whole) != len(split) {
			t.Fatalf("%v in one piece, %v in pieces of %v", whole, split, cuts)
		}
		for i := range whole {
			if whole[i] != split[i] {
				t.Fatalf("%v in one piece, %v in pieces of %v", whole, split, cuts)
			}
		}
	})
}

func TestBordersAreWhereFramesEnd(t *testing.T) {
	for _, side := range []Side{FromServer, FromClient} {
		var stream []byte
		var want []int
		for _, size := range []int{0, 1, 125, 126, 127, 1<<16 - 1, 1 << 16, 70000} {
			stream = append(stream, frame(fin|opText, bytes.Repeat([]byte{opClose}, size), side)...)
			want = append(want, len(stream))
		}
		got := borders(stream, []byte{2, 0, 77})
		if len(got) != len(want) {
			t.Fatalf("side %t: borders at %v, want %v", side, got, want)
		}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("side %t: border %d at %d, want %d", side, i, got[i], want[i])
			}
		}
	}
}

func write(t *testing.T, w *Writer, b []byte) {
	t.Helper()
	if n, err := w.Write(b); n != len(b) || err != nil {
		t.Fatalf("wrote %d of %d bytes: %v", n, len(b), err)
	}
}

func TestACloseIsPutAtOnceWhereNoFrameIsUnderWay(t *testing.T) {
	var out bytes.Buffer
	w := NewWriter(&out, FromServer)
	write(t, w, frame(fin|opText, []byte("whole"), FromServer))
	w.Replace(ServiceRestart)
	if err := w.End(); err != nil {
		t.Fatal(err)
	}
	if want := append(frame(fin|opText, []byte("whole"), FromServer), 0x88, 2, 0x03, 0xf4); !bytes.Equal(out.Bytes(), want) {
		t.Errorf("% x, want % x", out.Bytes(), want)
	}
}

func TestACloseWaitsForTheFrameAndNothingComesBehindIt(t *testing.T) {
	first, second := frame(opText, []byte("first fragment"), FromServer), frame(fin|opContinuation, []byte("the last"), FromServer)
	for cut := range len(first) + 1 {
		var out bytes.Buffer
		w := NewWriter(&out, FromServer)
		w.Replace(ServiceRestart)
		write(t, w, first[:cut])
		if err := w.End(); err != nil {
			t.Fatal(err)
		}
		if closed := isClosed(w.Closed()); closed != (cut == 0 || cut == len(first)) {
			t.Errorf("cut at %d: closed %t", cut, closed)
		}
		write(t, w, append(first[cut:], second...))
		want := append(bytes.Clone(first), 0x88, 2, 0x03, 0xf4)
		if cut == 0 {
			want = want[len(first):]
		}
		if !bytes.Equal(out.Bytes(), want) || !isClosed(w.Closed()) {
			t.Errorf("cut at %d: % x", cut, out.Bytes())
		}
	}
}

func TestACloseOfAClientIsMasked(t *testing.T) {
	var out bytes.Buffer
	w := NewWriter(&out, FromClient)
	w.Replace(GoingAway)
	if err := w.End(); err != nil {
		t.Fatal(err)
	}
	b := out.Bytes()
	if len(b) != 8 || b[0] != 0x88 || b[1] != 0x82 || uint16(b[6]^b[2])<<8|uint16(b[7]^b[3]) != GoingAway {
		t.Errorf("% x", b)
	}
}

func TestTheCloseOfTheSourceIsReplaced(t *testing.T) {
	text, bye := frame(fin|opText, []byte("text"), FromServer), frame(fin|opClose, []byte{3, 0xe8}, FromServer)
	stream := append(bytes.Clone(text), bye...)
	for cut := range len(stream) {
		var out bytes.Buffer
		w := NewWriter(&out, FromServer)
		w.Replace(ServiceRestart)
		write(t, w, stream[:cut])
		write(t, w, stream[cut:])
		if want := append(bytes.Clone(text), 0x88, 2, 0x03, 0xf4); !bytes.Equal(out.Bytes(), want) || !isClosed(w.Left()) {
			t.Errorf("cut at %d: % x", cut, out.Bytes())
		}
	}
}

func TestWithoutReplaceAllBytesPassAsTheyAre(t *testing.T) {
	var out bytes.Buffer
	w := NewWriter(&out, FromServer)
	stream := append(frame(fin|opText, []byte("text"), FromServer), frame(fin|opClose, []byte{3, 0xe8}, FromServer)...)
	for i := range stream {
		if err := w.End(); err != nil || isClosed(w.Closed()) {
			t.Fatalf("%v, closed after %d bytes", err, i)
		}
		write(t, w, stream[i:i+1])
	}
	w.Replace(ServiceRestart)
	if err := w.End(); err != nil || !bytes.Equal(out.Bytes(), stream) || !isClosed(w.Closed()) || !isClosed(w.Left()) {
		t.Errorf("%v, % x", err, out.Bytes())
	}
}

func TestACloseThatCannotBeSentIsAnErrorOfAllThatFollows(t *testing.T) {
	broken := errors.New("broken")
	w := NewWriter(failing{broken}, FromServer)
	w.Replace(ServiceRestart)
	if err := w.End(); !errors.Is(err, broken) || isClosed(w.Closed()) {
		t.Errorf("End: %v", err)
	}
	if _, err := w.Write([]byte{fin | opPing, 0}); !errors.Is(err, broken) {
		t.Errorf("Write: %v", err)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

// held is a sink whose first Write waits.
type held struct {
	bytes.Buffer
	entered, proceed chan struct{}
}

func (h *held) Write(b []byte) (int, error) {
	if h.entered != nil {
		close(h.entered)
		<-h.proceed
		h.entered = nil
	}
	return h.Buffer.Write(b)
}

func TestAWriteUnderWaySendsTheCloseWhenItIsDone(t *testing.T) {
	out := &held{entered: make(chan struct{}), proceed: make(chan struct{})}
	w := NewWriter(out, FromServer)
	w.Replace(ServiceRestart)
	text := frame(fin|opText, []byte("text"), FromServer)
	entered := out.entered
	done := make(chan error, 1)
	go func() {
		_, err := io.Copy(w, bytes.NewReader(text))
		done <- err
	}()
	<-entered
	if err := w.End(); err != nil || isClosed(w.Closed()) {
		t.Fatalf("End: %v; it must not wait, nor send now", err)
	}
	close(out.proceed)
	if err := <-done; err != nil || !bytes.Equal(out.Bytes(), append(text, 0x88, 2, 0x03, 0xf4)) {
		t.Errorf("%v, % x", err, out.Bytes())
	}
}
