package frontend

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
)

// recorder is a connection that keeps what is written.
type recorder struct {
	net.Conn // nil: nothing else may be called
	bytes.Buffer
}

func (r *recorder) Write(b []byte) (int, error)      { return r.Buffer.Write(b) }
func (r *recorder) Read([]byte) (int, error)         { return 0, io.EOF }
func (r *recorder) SetWriteDeadline(time.Time) error { return nil }

// speech is what an HTTP/2 server may say: each byte of script is a frame.
func speech(script []byte) []byte {
	var out bytes.Buffer
	framer := http2.NewFramer(&out, nil)
	_ = framer.WriteSettings()
	for i, step := range script {
		stream := uint32(2*i + 1)
		switch step % 7 {
		case 0:
			_ = framer.WriteSettingsAck()
		case 1:
			_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: []byte("block"), EndHeaders: true})
		case 2:
			_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: []byte("a ")})
			_ = framer.WriteContinuation(stream, false, []byte("long "))
			_ = framer.WriteContinuation(stream, true, []byte("block"))
		case 3:
			_ = framer.WriteData(stream, true, bytes.Repeat([]byte{step}, int(step)*3))
		case 4:
			_ = framer.WritePing(false, [8]byte{step})
		case 5:
			_ = framer.WriteWindowUpdate(0, 1+uint32(step))
		case 6:
			_ = framer.WriteRSTStream(stream, http2.ErrCodeCancel)
		}
	}
	return out.Bytes()
}

// checkSpeech fails unless heard is said, with at most one warning put between two frames of it.
func checkSpeech(t *testing.T, said, heard []byte, announced bool) {
	t.Helper()
	before, after, warned := bytes.Cut(heard, goAway())
	if rest := append(bytes.Clone(before), after...); !bytes.Equal(rest, said) {
		t.Fatalf("without the warning it is %x, but said was %x", rest, said)
	}
	if warned != announced {
		t.Fatalf("warned %t, announced %t", warned, announced)
	}
	framer := http2.NewFramer(nil, bytes.NewReader(heard)) // its reader refuses a frame between HEADERS and CONTINUATION
	for first := true; ; first = false {
		frame, err := framer.ReadFrame()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatalf("the client cannot read %x: %v", heard, err)
		}
		if _, settings := frame.(*http2.SettingsFrame); first && !settings {
			t.Fatalf("%v comes before SETTINGS", frame)
		}
	}
}

func FuzzTheWarningStandsBetweenTwoFramesWhereverTheWritesAreCut(f *testing.F) {
	f.Add([]byte{}, uint16(0), []byte{})                              // nothing but SETTINGS, announced before it
	f.Add([]byte{0, 1, 3, 4}, uint16(9), []byte{255})                 // announced after SETTINGS, all in one write
	f.Add([]byte{2, 2, 2}, uint16(14), []byte{1})                     // byte by byte, announced inside HEADERS
	f.Add([]byte{2}, uint16(20), []byte{9, 2, 9})                     // announced between HEADERS and CONTINUATION
	f.Add([]byte{3, 10, 17, 24, 31}, uint16(40), []byte{9, 1, 8, 13}) // DATA, writes that cut headers in two
	f.Add([]byte{6, 5, 4, 3, 2, 1, 0}, uint16(65535), []byte{3, 5})   // never announced
	f.Add([]byte{200, 199, 198}, uint16(500), []byte{250, 1, 250})    // large payloads
	f.Fuzz(func(t *testing.T, script []byte, at uint16, cuts []byte) {
		if len(script) > 64 {
			script = script[:64]
		}
		said, out := speech(script), &recorder{}
		c := (&registry{}).newFramedConn(out, nil)
		announced := false
		for written := 0; written < len(said); {
			if !announced && written >= int(at) {
				c.announce()
				announced = true
			}
			size := len(said) - written
			if len(cuts) > 0 {
				size = min(size, 1+int(cuts[written%len(cuts)]))
			}
			n, err := c.Write(said[written : written+size])
			if n != size || err != nil {
				t.Fatalf("wrote %d of %d: %v", n, size, err)
			}
			written += size
		}
		checkSpeech(t, said, out.Bytes(), announced)
	})
}

func TestTheWarningIsSentAtOnceWhereTheServerIsSilent(t *testing.T) {
	out := &recorder{}
	c := (&registry{}).newFramedConn(out, nil)
	said := speech([]byte{1, 3})
	if _, err := c.Write(said); err != nil {
		t.Fatal(err)
	}
	c.announce()
	c.announce()
	if want := append(bytes.Clone(said), goAway()...); !bytes.Equal(out.Bytes(), want) {
		t.Errorf("got %x, want %x", out.Bytes(), want)
	}
}

func TestNoWarningFollowsTheServersOwnGoAway(t *testing.T) {
	out := &recorder{}
	c := (&registry{}).newFramedConn(out, nil)
	var said bytes.Buffer
	said.Write(speech(nil))
	if err := http2.NewFramer(&said, nil).WriteGoAway(7, http2.ErrCodeNo, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(said.Bytes()); err != nil {
		t.Fatal(err)
	}
	c.announce()
	if _, err := c.Write(speech([]byte{4})[frameHeader:]); err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(out.Bytes(), goAway()) {
		t.Error("a second GOAWAY raised the last stream")
	}
	if !c.warnedFor(0, time.Now()) {
		t.Error("the drain would wait for a warning that is not due")
	}
}

func TestAWarningAskedForDuringAWriteIsSentWhenThatWriteIsDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		c := (&registry{}).newFramedConn(theirs, nil)
		said := speech([]byte{4})
		wrote := make(chan error, 1)
		go func() {
			_, err := c.Write(said)
			wrote <- err
		}()
		synctest.Wait() // the write is held up: nobody reads
		c.announce()    // and yet this returns
		heard := make([]byte, len(said)+len(goAway()))
		if _, err := io.ReadFull(ours, heard); err != nil {
			t.Fatal(err)
		}
		if err := <-wrote; err != nil {
			t.Fatal(err)
		}
		checkSpeech(t, said, heard, true)
		_, _ = ours.Close(), theirs.Close()
	})
}

func TestAClientThatDoesNotReadTheWarningLosesTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		c := (&registry{}).newFramedConn(theirs, nil)
		go func() { _, _ = io.CopyN(io.Discard, ours, int64(len(speech(nil)))) }()
		if _, err := c.Write(speech(nil)); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		c.announce()
		if passed := time.Since(began); passed != announceTimeout {
			t.Errorf("the warning gave up after %v", passed)
		}
		if _, err := c.Write(speech(nil)); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("the connection goes on after half a frame: %v", err)
		}
		_, _ = ours.Close(), theirs.Close()
	})
}
