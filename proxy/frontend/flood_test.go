package frontend

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// reasons keeps what clients were cut off for.
type reasons struct {
	mu   sync.Mutex
	list []string
}

func (r *reasons) add(reason string, _ net.Addr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, reason)
}

func (r *reasons) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.list)
}

func (r *reasons) has(reason string) bool { return slices.Contains(r.all(), reason) }

// flooder is a raw HTTP/2 client that reads all the time.
type flooder struct {
	*http2.Framer
	conn   net.Conn
	goAway chan *http2.GoAwayFrame // gets the first one; closed at the end of the connection
	resets atomic.Int64            // RST_STREAM frames that came
	data   atomic.Int64            // bytes of answers that came
	status chan string             // of answers
}

// rawHTTP2 opens a connection and says the preface. Writing fails once the server has gone, which the caller looks at.
func (s *site) rawHTTP2(t *testing.T, settings ...http2.Setting) *flooder {
	t.Helper()
	conn, err := tls.Dial("tcp", s.secure.Addr().String(), &tls.Config{RootCAs: s.roots, ServerName: "shop.example.com", NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	f := &flooder{conn: conn, goAway: make(chan *http2.GoAwayFrame, 1), status: make(chan string, 10_000)}
	f.Framer = http2.NewFramer(conn, conn)
	f.AllowIllegalWrites = true
	_, _ = io.WriteString(conn, http2.ClientPreface)
	if err := f.WriteSettings(settings...); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.read()
	}()
	t.Cleanup(func() { _ = conn.Close(); <-done })
	return f
}

func (f *flooder) read() {
	defer close(f.goAway)
	decoder := hpack.NewDecoder(4096, nil)
	told := false
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return
		}
		switch frame := frame.(type) {
		case *http2.GoAwayFrame:
			if !told {
				f.goAway <- &http2.GoAwayFrame{FrameHeader: frame.FrameHeader, LastStreamID: frame.LastStreamID, ErrCode: frame.ErrCode}
				told = true
			}
		case *http2.RSTStreamFrame:
			f.resets.Add(1)
		case *http2.DataFrame:
			f.data.Add(int64(len(frame.Data())))
		case *http2.HeadersFrame:
			fields, _ := decoder.DecodeFull(frame.HeaderBlockFragment())
			if len(fields) > 0 && fields[0].Name == ":status" {
				f.status <- fields[0].Value
			}
		}
	}
}

// answer returns the next answer's status.
func (f *flooder) answer(t *testing.T) string {
	t.Helper()
	select {
	case status := <-f.status:
		return status
	case last := <-f.goAway:
		t.Fatalf("the server has gone: %v", last)
	case <-time.After(20 * time.Second):
		t.Fatal("no answer")
	}
	return ""
}

// head returns a request's header block.
func head(path string, more ...hpack.HeaderField) []byte {
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	encoder.SetMaxDynamicTableSize(0) // so that blocks can be used again
	for _, field := range append([]hpack.HeaderField{
		{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "https"}, {Name: ":authority", Value: "shop.example.com"}, {Name: ":path", Value: path},
	}, more...) {
		_ = encoder.WriteField(field)
	}
	return block.Bytes()
}

func (f *flooder) ask(stream uint32, end bool) error {
	return f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: head("/"), EndStream: end, EndHeaders: true})
}

// untilRefused calls send, with odd stream numbers, until the server has gone, and returns what it said.
func (f *flooder) untilRefused(t *testing.T, atMost int, send func(stream uint32) error) *http2.GoAwayFrame {
	t.Helper()
	for i := range atMost {
		if err := send(uint32(2*i + 1)); err != nil {
			break
		}
	}
	select {
	case frame := <-f.goAway:
		return frame
	case <-time.After(10 * time.Second):
		t.Fatal("the server goes on")
	}
	return nil
}

// waiting is a handler that answers when its request is taken back or after a moment, and counts how many do so at once.
type waiting struct{ now, most atomic.Int64 }

func (h *waiting) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n := h.now.Add(1)
	defer h.now.Add(-1)
	for {
		most := h.most.Load()
		if n <= most || h.most.CompareAndSwap(most, n) {
			break
		}
	}
	_, _ = io.Copy(io.Discard, r.Body)
	w.WriteHeader(http.StatusNoContent)
}

func TestEachFloodOfFramesIsToldToCalmDownAndIsCounted(t *testing.T) {
	for name, row := range map[string]struct {
		want string
		send func(f *flooder, stream uint32) error
	}{
		"rapid reset": {Resets, func(f *flooder, stream uint32) error {
			return errors.Join(f.ask(stream, true), f.WriteRSTStream(stream, http2.ErrCodeCancel))
		}},
		"resets that the client makes the server send": {ProvokedResets, func(f *flooder, stream uint32) error {
			return errors.Join(f.ask(stream, true), f.WriteWindowUpdate(stream, 0))
		}},
		"resets by a window beyond its bound": {ProvokedResets, func(f *flooder, stream uint32) error {
			return errors.Join(f.ask(stream, false), f.WriteWindowUpdate(stream, 1<<31-1))
		}},
		"SETTINGS": {SettingsFlood, func(f *flooder, stream uint32) error {
			return f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 65535 + stream})
		}},
		"PING":          {PingFlood, func(f *flooder, _ uint32) error { return f.WritePing(false, [8]byte{}) }},
		"PRIORITY":      {ControlFlood, func(f *flooder, stream uint32) error { return f.WritePriority(stream, http2.PriorityParam{Weight: 1}) }},
		"WINDOW_UPDATE": {ControlFlood, func(f *flooder, _ uint32) error { return f.WriteWindowUpdate(0, 1) }},
		"unknown":       {ControlFlood, func(f *flooder, _ uint32) error { return f.WriteRawFrame(0xbb, 0, 0, nil) }},
		"empty DATA": {EmptyData, func(f *flooder, stream uint32) error {
			if stream == 1 {
				return f.ask(1, false)
			}
			return f.WriteData(1, false, nil)
		}},
		"DATA of padding": {EmptyData, func(f *flooder, stream uint32) error {
			if stream == 1 {
				return f.ask(1, false)
			}
			return f.WriteDataPadded(1, false, nil, make([]byte, 9))
		}},
		"empty CONTINUATION": {EmptyHeaders, func(f *flooder, stream uint32) error {
			if stream == 1 {
				return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: head("/")})
			}
			return f.WriteContinuation(1, false, nil)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s, counted, handler := newSite(t), &reasons{}, &waiting{}
			s.serve(t, Options{Handler: handler, OnRefused: counted.add})
			f := s.rawHTTP2(t)
			last := f.untilRefused(t, 20_000, func(stream uint32) error { return row.send(f, stream) })
			if last == nil || last.ErrCode != http2.ErrCodeEnhanceYourCalm {
				t.Errorf("the server said %v", last)
			}
			until(t, "it is counted", func() bool { return len(counted.all()) > 0 })
			if all := counted.all(); len(all) != 1 || all[0] != row.want && (row.want != ProvokedResets || all[0] != StreamFlood) {
				t.Errorf("counted as %v, want %s", all, row.want)
			}
			if most := handler.most.Load(); most > 128 {
				t.Errorf("%d requests of one connection were under way", most)
			}
			answer, err := s.client(t, true, true).Get("https://" + s.secure.Addr().String() + "/")
			if err != nil || answer.StatusCode != http.StatusNoContent {
				t.Errorf("another visitor got %v, %v", answer, err)
			}
		})
	}
}

func TestWhatNetHTTPStopsByItselfIsStopped(t *testing.T) {
	var long bytes.Buffer
	_ = hpack.NewEncoder(&long).WriteField(hpack.HeaderField{Name: "x-long", Value: string(bytes.Repeat([]byte("v"), 16000))})
	piece := long.Bytes()
	for name, row := range map[string]struct {
		want http2.ErrCode
		send func(f *flooder) error
	}{
		"a head without end in CONTINUATION frames": {http2.ErrCodeProtocol, func(f *flooder) error {
			err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: head("/")})
			for range 60 {
				err = errors.Join(err, f.WriteContinuation(1, false, piece))
			}
			return err
		}},
		"a SETTINGS frame of many": {http2.ErrCodeProtocol, func(f *flooder) error { return f.WriteSettings(make([]http2.Setting, 200)...) }},
		"another frame inside a head": {http2.ErrCodeProtocol, func(f *flooder) error {
			return errors.Join(f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: head("/")}), f.WritePing(false, [8]byte{}))
		}},
		"a frame beyond 1 MiB":     {http2.ErrCodeFrameSize, func(f *flooder) error { return f.WriteRawFrame(0, 0, 1, make([]byte, 1<<20+1)) }},
		"SETTINGS that say a word": {http2.ErrCodeProtocol, func(f *flooder) error { return errors.Join(f.WriteSettingsAck(), f.WriteSettingsAck()) }},
		"a stream of the server's": {http2.ErrCodeProtocol, func(f *flooder) error { return f.ask(2, true) }},
		"a window beyond its bound": {http2.ErrCodeFlowControl, func(f *flooder) error {
			return errors.Join(f.WriteWindowUpdate(0, 1<<31-1), f.WriteWindowUpdate(0, 1<<31-1))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.serve(t, Options{Handler: &waiting{}})
			f := s.rawHTTP2(t)
			_ = row.send(f) // the server may have gone by its end
			select {
			case last := <-f.goAway:
				if last != nil && last.ErrCode != row.want {
					t.Errorf("the server said %v, want %v", last.ErrCode, row.want)
				}
			case <-time.After(10 * time.Second):
				t.Error("the server goes on")
			}
		})
	}
}

func TestAHeadThatGrowsBeyondTheBoundWhenItIsUnpackedIsAnswered431(t *testing.T) {
	s := newSite(t)
	s.serve(t, Options{Handler: &waiting{}})
	f := s.rawHTTP2(t)
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, field := range []hpack.HeaderField{{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "https"}, {Name: ":authority", Value: "shop.example.com"}, {Name: ":path", Value: "/"}} {
		_ = encoder.WriteField(field)
	}
	for range 10_000 { // each but the first is one byte, and 4,000 unpacked
		_ = encoder.WriteField(hpack.HeaderField{Name: "x-bomb", Value: string(bytes.Repeat([]byte("b"), 4000))})
	}
	if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true}); err != nil {
		t.Fatal(err)
	}
	if status := f.answer(t); status != "431" {
		t.Errorf("answered %s", status)
	}
}

func TestStreamsBeyondTheBoundAreRefusedAndTheOthersServed(t *testing.T) {
	s, release, begun := newSite(t), make(chan struct{}), atomic.Int64{}
	s.serve(t, Options{MaxStreams: 4, Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		begun.Add(1)
		<-release
	})})
	f := s.rawHTTP2(t)
	for i := range 10 {
		if err := f.ask(uint32(2*i+1), true); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "six are refused", func() bool { return f.resets.Load() == 6 })
	close(release)
	for range 4 {
		if status := f.answer(t); status != "200" {
			t.Errorf("answered %s", status)
		}
	}
	if begun.Load() != 4 {
		t.Errorf("%d were begun", begun.Load())
	}
}

func TestATrustedProxyMaySendWhatManyClientsSend(t *testing.T) {
	s, counted := newSite(t), &reasons{}
	s.serve(t, Options{OnRefused: counted.add, Trusted: netip.Addr.IsLoopback, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/last" {
			w.WriteHeader(http.StatusAccepted)
		}
	})})
	f := s.rawHTTP2(t)
	stream := uint32(1)
	for range 100 { // net/http has a bound of its own for those that are taken back faster than handlers end
		for range 20 {
			if err := errors.Join(f.ask(stream, true), f.WriteRSTStream(stream, http2.ErrCodeCancel), f.WritePing(false, [8]byte{})); err != nil {
				t.Fatal(err)
			}
			stream += 2
		}
		if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: head("/last"), EndStream: true, EndHeaders: true}); err != nil {
			t.Fatal(err)
		}
		stream += 2
		for f.answer(t) != "202" { // some were not taken back in time, and were answered
		}
	}
	if all := counted.all(); len(all) > 0 {
		t.Errorf("cut off for %v", all)
	}
}

func TestBrowsersThatLeavePagesAndTakeLargeAnswersAreNoFlood(t *testing.T) {
	s, counted := newSite(t), &reasons{}
	large := bytes.Repeat([]byte("data"), 4<<20)
	s.serve(t, Options{OnRefused: counted.add, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/large" {
			_, _ = w.Write(large)
			return
		}
		<-r.Context().Done()
	})})
	client, url := s.client(t, true, true), "https://"+s.secure.Addr().String()
	for range 3 { // three pages with a hundred pictures each
		ctx, cancel := context.WithCancel(t.Context())
		var pictures sync.WaitGroup
		var sent atomic.Int64
		for range 100 {
			pictures.Go(func() {
				request, _ := http.NewRequestWithContext(ctx, http.MethodGet, url+"/picture", nil)
				sent.Add(1)
				if _, err := client.Do(request); !errors.Is(err, context.Canceled) {
					t.Errorf("a picture: %v", err)
				}
			})
		}
		until(t, "they are asked for", func() bool { return sent.Load() == 100 })
		cancel()
		pictures.Wait()
	}
	for range 4 {
		answer, err := client.Get(url + "/large")
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, answer.Body); n != int64(len(large)) || err != nil {
			t.Errorf("%d bytes, %v", n, err)
		}
	}
	if all := counted.all(); len(all) > 0 {
		t.Errorf("cut off for %v", all)
	}
}

func TestWindowUpdatesThatAnswersCallForAreNoFlood(t *testing.T) {
	f := newFlood(128)
	now := time.Now()
	f.follow(make([]byte, prefaceLength), now)
	update := []byte{0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 0, 0, 1}
	for range 10_000 {
		f.answered(frameData, 0, 16<<10)
		for range 30 {
			if reason := f.follow(update, now); reason != "" {
				t.Fatal(reason)
			}
		}
	}
}

func TestAnAllowanceComesBackWithTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFlood(128)
		ping := []byte{0, 0, 8, framePing, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8}
		f.follow(make([]byte, prefaceLength), time.Now())
		for range 1000 {
			for range 40 {
				f.follow(ping, time.Now())
			}
			time.Sleep(time.Second)
		}
		if f.exceeded != "" {
			t.Errorf("40 a second are %s", f.exceeded)
		}
	})
}

// plainReader reads frames the simple way, from the whole of what was sent.
func plainReader(sent []byte) (heads []frameHead, empty int) {
	sent = sent[min(prefaceLength, len(sent)):]
	for len(sent) >= frameHeader {
		length := int(binary.BigEndian.Uint32(append([]byte{0}, sent[:3]...)))
		h := frameHead{length, sent[3], sent[4], binary.BigEndian.Uint32(sent[5:9]) & 0x7fffffff}
		payload := sent[frameHeader:min(len(sent), frameHeader+length)]
		padded := h.kind == frameData && h.flags&flagPadded != 0 && length > 0
		if padded && len(payload) == 0 {
			return heads, empty // its padding has not come
		}
		heads = append(heads, h)
		if h.kind == frameData && h.flags&flagEndStream == 0 && (length == 0 || padded && int(payload[0]) == length-1) {
			empty++
		}
		sent = sent[frameHeader+len(payload):]
	}
	return heads, empty
}

func FuzzFramesAreCountedAsAPlainReaderSeesThemWhereverTheReadsAreCut(f *testing.F) {
	preface := []byte(http2.ClientPreface)
	f.Add([]byte{}, []byte{})
	f.Add(preface[:10], []byte{1})
	f.Add(append(bytes.Clone(preface), speech([]byte{0, 1, 2, 3, 4, 5, 6})...), []byte{1})
	f.Add(append(bytes.Clone(preface), speech([]byte{3, 10, 200})...), []byte{9, 2, 255})
	f.Add(append(bytes.Clone(preface), 0, 0, 3, frameData, flagPadded, 0, 0, 0, 1, 2, 0, 0), []byte{3})
	f.Add(append(bytes.Clone(preface), 0, 0, 0, frameData, flagPadded, 0x80, 0, 0, 1), []byte{8})
	f.Add(append(bytes.Clone(preface), 0xff, 0xff, 0xff, 0xbb, 0, 0, 0, 0, 0), []byte{})
	f.Fuzz(func(t *testing.T, sent, cuts []byte) {
		want, wantEmpty := plainReader(sent)
		var got []frameHead
		empty := 0
		a := newArrivals()
		for read := 0; read < len(sent); {
			size := len(sent) - read
			if len(cuts) > 0 {
				size = min(size, 1+int(cuts[read%len(cuts)]))
			}
			a.follow(sent[read:read+size], func(h frameHead, padding byte) {
				got = append(got, h)
				if h.empty(padding) {
					empty++
				}
			})
			read += size
		}
		if !slices.Equal(got, want) || empty != wantEmpty {
			t.Errorf("%+v with %d empty, want %+v with %d", got, empty, want, wantEmpty)
		}
	})
}
