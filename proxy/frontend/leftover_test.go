package frontend

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// Over HTTP/2, net/http keeps up to 4 KiB of an answer until the handler has returned, and then waits for the client's window.
func TestWhatAHandlerLeftOfItsAnswerIsResetWhereTheClientOpensNoWindow(t *testing.T) {
	s := newSite(t)
	server := s.serve(t, Options{Stall: 200 * time.Millisecond, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "small")
	})})
	f := s.rawHTTP2(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	for i := range 20 {
		if err := f.ask(uint32(2*i+1), true); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "all are reset", func() bool { return f.resets.Load() == 20 })
	until(t, "the connection rests", func() bool { return server.Stats().Idle == 1 })
}

func TestAnAnswerThatWaitsForAWindowIsResetHoweverItsHandlerWritesIt(t *testing.T) {
	large := strings.Repeat("large", 10_000)
	for name, write := range map[string]func(w http.ResponseWriter){
		"Write":       func(w http.ResponseWriter) { _, _ = w.Write([]byte(large)) },
		"WriteString": func(w http.ResponseWriter) { _, _ = io.WriteString(w, large) },
		"ReadFrom":    func(w http.ResponseWriter) { _, _ = w.(io.ReaderFrom).ReadFrom(strings.NewReader(large)) },
		"Flush": func(w http.ResponseWriter) {
			_, _ = io.WriteString(w, "small")
			_ = http.NewResponseController(w).Flush()
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, counted := newSite(t), &reasons{}
			s.serve(t, Options{Stall: 200 * time.Millisecond, OnRefused: counted.add, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				write(w)
			})})
			f := s.rawHTTP2(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
			if err := f.ask(1, true); err != nil {
				t.Fatal(err)
			}
			until(t, "the stream is reset", func() bool { return f.resets.Load() == 1 && counted.has(Stalled) })
		})
	}
}

func TestAnAnswerThatIsTakenLittleByLittleIsNotCutThoughItTakesLongerThanAStall(t *testing.T) {
	const pieces, piece = 30, 1000
	s, counted := newSite(t), &reasons{}
	s.serve(t, Options{Stall: 1500 * time.Millisecond, OnRefused: counted.add, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for range pieces {
			_, _ = w.Write(bytes.Repeat([]byte("x"), piece))
		}
	})})
	f := s.rawHTTP2(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	if err := f.ask(1, true); err != nil {
		t.Fatal(err)
	}
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for range pieces {
		<-ticker.C
		if err := f.WriteWindowUpdate(1, piece); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "it is there", func() bool { return f.data.Load() == pieces*piece })
	if f.resets.Load() != 0 || len(counted.all()) > 0 {
		t.Errorf("cut: %d resets, %v", f.resets.Load(), counted.all())
	}
}

func TestARequestThatItsClientTookBackIsNotResetLongAfterwards(t *testing.T) {
	s := newSite(t)
	asked, took := make(chan struct{}), make(chan struct{})
	const stall = 100 * time.Millisecond
	s.serve(t, Options{Stall: stall, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" {
			close(asked)
			<-r.Context().Done() // the stream is closed before the handler returns
			close(took)
		}
	})})
	f := s.rawHTTP2(t)
	if err := f.ask(1, true); err != nil {
		t.Fatal(err)
	}
	<-asked
	if err := f.WriteRSTStream(1, http2.ErrCodeCancel); err != nil {
		t.Fatal(err)
	}
	<-took
	<-time.After(5 * stall) // by then it would have been
	if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: head("/next"), EndStream: true, EndHeaders: true}); err != nil {
		t.Fatal(err)
	}
	if status, resets := f.answer(t), f.resets.Load(); status != "200" || resets != 0 {
		t.Errorf("the next answer is %s, after %d resets", status, resets)
	}
}
