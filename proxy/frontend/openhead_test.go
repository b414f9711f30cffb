package frontend

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

func TestAnHTTP2HeadThatDoesNotEndIsCutWithinTheHeaderTimeout(t *testing.T) {
	const timeout = 300 * time.Millisecond
	for name, begin := range map[string]func(f *flooder) error{
		"HEADERS, then silence": func(f *flooder) error {
			return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: head("/")})
		},
		"HEADERS that are announced and do not come": func(f *flooder) error {
			_, err := f.conn.Write([]byte{0, 0x40, 0, frameHeaders, flagEndHeaders | flagEndStream, 0, 0, 0, 1, 0x82})
			return err
		},
		"CONTINUATION that drips": func(f *flooder) error {
			err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: head("/")})
			ticker := time.NewTicker(timeout / 10)
			defer ticker.Stop()
			for range 15 { // half as long again as it may take
				<-ticker.C
				if f.WriteContinuation(1, false, []byte{0x82}) != nil {
					break // it is cut
				}
			}
			return err
		},
		"beside a request that is under way": func(f *flooder) error {
			return errors.Join(f.ask(1, false), f.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: head("/")}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, counted := newSite(t), &reasons{}
			server := s.serve(t, Options{Handler: &waiting{}, ReadHeaderTimeout: timeout, OnRefused: counted.add})
			f := s.rawHTTP2(t)
			if err := begin(f); err != nil {
				t.Fatal(err)
			}
			for range f.goAway { // until the connection ends
			}
			until(t, "nothing is open", server.empty)
			if all := counted.all(); len(all) != 1 || all[0] != SlowHeader {
				t.Errorf("counted as %v", all)
			}
		})
	}
}

func TestAnHTTP2HeadThatEndsInTimeLeavesTheConnectionAsLongAsItLikes(t *testing.T) {
	s, counted := newSite(t), &reasons{}
	s.serve(t, Options{ReadHeaderTimeout: 200 * time.Millisecond, OnRefused: counted.add, Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})})
	f := s.rawHTTP2(t)
	for i := range 3 {
		stream := uint32(2*i + 1)
		block := head("/")
		if err := errors.Join(
			f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block[:5], EndStream: true}),
			f.WriteContinuation(stream, true, block[5:])); err != nil {
			t.Fatal(err)
		}
		if status := f.answer(t); status != "200" {
			t.Errorf("answered %s", status)
		}
		<-time.After(400 * time.Millisecond) // twice as long as a head may take
	}
	if all := counted.all(); len(all) > 0 {
		t.Errorf("counted as %v", all)
	}
}
