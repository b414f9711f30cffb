package frontend

import (
	"bytes"
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

func TestAHeadThatIsNotEndedInTimeIsCountedAndARestIsNot(t *testing.T) {
	s, counted := newSite(t), &reasons{}
	s.serve(t, Options{
		Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), OnRefused: counted.add,
		ReadHeaderTimeout: 100 * time.Millisecond, IdleTimeout: 100 * time.Millisecond,
	})
	silent := dial(t, s.plain.Addr().String())
	silent.ended()
	resting := dial(t, s.plain.Addr().String())
	resting.get("/")
	resting.ended()
	if all := counted.all(); len(all) > 0 {
		t.Errorf("a rest is counted as %v", all)
	}
	slow := dial(t, s.plain.Addr().String())
	slow.send("GET / HTTP/1.1\r\nHost: shop")
	slow.ended()
	until(t, "it is counted", func() bool { return counted.has(SlowHeader) })
}

func TestAHeadThatIsTooLongIsAnswered431AndCounted(t *testing.T) {
	s, counted := newSite(t), &reasons{}
	s.serve(t, Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(431) }), OnRefused: counted.add})
	own := dial(t, s.plain.Addr().String())
	if answer, _ := own.get("/"); answer.StatusCode != 431 || len(counted.all()) > 0 {
		t.Errorf("a handler's own answer: %d, %v", answer.StatusCode, counted.all())
	}
	c := dial(t, s.plain.Addr().String())
	c.send("GET / HTTP/1.1\r\nHost: shop.example.com\r\nX-Long: " + strings.Repeat("x", 70<<10) + "\r\n\r\n")
	if answer, _ := c.answer(); answer.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("answered %d", answer.StatusCode)
	}
	until(t, "it is counted", func() bool { return counted.has(HeaderBytes) })
}

func TestABodyThatNobodyReadHoldsAConnectionNoLongerThanItsGrace(t *testing.T) {
	s := newSite(t)
	long := strings.Repeat("no thanks", 1000)
	server := s.serve(t, Options{BodyGrace: 100 * time.Millisecond, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/both":
			_ = http.NewResponseController(w).EnableFullDuplex()
		case "/long":
			_, _ = io.WriteString(w, long)
			return
		}
		_, _ = io.WriteString(w, "no thanks")
	})})
	for path, want := range map[string]string{"/": "no thanks", "/both": "no thanks", "/long": long} {
		c := dial(t, s.plain.Addr().String())
		c.send("POST " + path + " HTTP/1.1\r\nHost: shop.example.com\r\nContent-Length: 100\r\n\r\nten bytes.")
		if _, body := c.answer(); body != want {
			t.Errorf("%s: answered %q", path, body)
		}
		c.ended()
		until(t, "it is over", server.empty)
	}
	c := dial(t, s.plain.Addr().String()) // and whoever sends it in time may go on
	c.send("POST / HTTP/1.1\r\nHost: shop.example.com\r\nContent-Length: 10\r\n\r\nten bytes.")
	c.answer()
	c.get("/")
}

func TestAPostWhoseBodyWasReadLeavesItsConnectionOpen(t *testing.T) {
	s := newSite(t)
	s.serve(t, Options{BodyGrace: 50 * time.Millisecond, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/both" {
			_ = http.NewResponseController(w).EnableFullDuplex()
		}
		_, _ = io.Copy(io.Discard, r.Body)
	})})
	for _, path := range []string{"/", "/both"} {
		c := dial(t, s.plain.Addr().String())
		for range 3 {
			c.send("POST " + path + " HTTP/1.1\r\nHost: shop.example.com\r\nContent-Length: 10\r\n\r\nten bytes.")
			c.answer()
			<-time.After(100 * time.Millisecond) // beyond the grace
		}
		c.get("/")
	}
}

func TestARequestWithTwoLengthsIsTheLastOnItsConnection(t *testing.T) {
	s := newSite(t)
	s.serve(t, Options{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })})
	const chunks = "\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
	for name, row := range map[string]struct {
		head string
		last bool
	}{
		"a chunked body":                  {"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked" + chunks, false},
		"a length":                        {"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello", false},
		"a length, then a chunked body":   {"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\nTransfer-Encoding: chunked" + chunks, true},
		"a chunked body, then a length":   {"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\ncONTENT-LENGTH:5" + chunks, true},
		"a length after a bare line feed": {"POST / HTTP/1.1\nHost: a.test\nTransfer-Encoding: chunked\ncontent-length: 5" + chunks, true},
		"HTTP/1.0":                        {"POST / HTTP/1.0\r\nHost: a.test\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\nhello", true},
		"HTTP/1.0 without a body":         {"GET / HTTP/1.0\r\nHost: a.test\r\nConnection: keep-alive\r\n\r\n", true},
	} {
		c := dial(t, s.plain.Addr().String())
		for i := range len(row.head) { // byte by byte: the field is found wherever reads are cut
			c.send(row.head[i : i+1])
		}
		answer, _ := c.answer()
		if answer.StatusCode != http.StatusOK || answer.Close != row.last {
			t.Errorf("%s: answered %d, the last %t", name, answer.StatusCode, answer.Close)
		}
		if row.last {
			c.ended()
		} else {
			c.get("/")
		}
	}
}

func TestALengthOfAnEarlierRequestSaysNothingOfALaterOne(t *testing.T) {
	s := newSite(t)
	s.serve(t, Options{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })})
	c := dial(t, s.plain.Addr().String())
	for range 3 {
		for _, rest := range []string{"Content-Length: 5\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"} {
			c.send("POST / HTTP/1.1\r\nHost: a.test\r\n" + rest)
			if answer, _ := c.answer(); answer.Close {
				t.Fatalf("the last: %q", rest)
			}
		}
	}
}

// However a client that does not wait for answers cuts what it sends, a length of a request is not forgotten with the one before.
func TestALengthThatComesWithTheRequestBeforeIsSeen(t *testing.T) {
	s := newSite(t)
	s.serve(t, Options{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })})
	const first, doubtful = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", "POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nHost: a.test\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
	for cut := range len(doubtful) {
		c := dial(t, s.plain.Addr().String())
		c.send(first + doubtful[:cut])
		if answer, _ := c.answer(); answer.Close {
			t.Fatal("the first is the last")
		}
		c.send(doubtful[cut:])
		if answer, _ := c.answer(); answer.StatusCode != http.StatusOK || !answer.Close {
			t.Errorf("cut after %q: answered %d, the last %t", doubtful[:cut], answer.StatusCode, answer.Close)
		}
		c.ended()
	}
}

// pour answers until it cannot.
func pour(w http.ResponseWriter, _ *http.Request) {
	piece := bytes.Repeat([]byte("answer"), 5000)
	for {
		if _, err := w.Write(piece); err != nil {
			return
		}
	}
}

func TestAClientThatTakesNothingOfItsAnswerIsCut(t *testing.T) {
	s, counted := newSite(t), &reasons{}
	server := s.serve(t, Options{Stall: 200 * time.Millisecond, OnRefused: counted.add, Handler: http.HandlerFunc(pour)})
	dial(t, s.plain.Addr().String()).send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
	until(t, "it is cut", func() bool { return counted.has(Stalled) && server.Stats().Open == 0 })
	secure, err := tls.Dial("tcp", s.secure.Addr().String(), &tls.Config{RootCAs: s.roots, ServerName: "shop.example.com", NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = secure.Close() }()
	_, _ = io.WriteString(secure, http2.ClientPreface)
	framer := http2.NewFramer(secure, secure)
	_ = framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1})
	_ = framer.WriteWindowUpdate(0, 1<<30)
	_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: head("/"), EndStream: true, EndHeaders: true})
	until(t, "over HTTP/2, too", func() bool { return len(counted.all()) == 2 && server.Stats().Open == 0 })
}

func TestAnHTTP2ClientThatOpensNoWindowLosesTheStreamAndNotTheConnection(t *testing.T) {
	s, counted := newSite(t), &reasons{}
	s.serve(t, Options{Stall: 200 * time.Millisecond, OnRefused: counted.add, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" {
			pour(w, r)
		}
	})})
	f := s.rawHTTP2(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	if err := f.ask(1, true); err != nil {
		t.Fatal(err)
	}
	until(t, "the stream is reset", func() bool { return f.resets.Load() == 1 && counted.has(Stalled) })
	if status := f.answer(t); status != "200" {
		t.Errorf("it began with %s", status)
	}
	_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: head("/other"), EndStream: true, EndHeaders: true})
	if status := f.answer(t); status != "200" {
		t.Errorf("another got %s", status)
	}
}

func TestWhatIsIdleSinceNothingIsSentIsNoStall(t *testing.T) {
	s, counted, end := newSite(t), &reasons{}, make(chan struct{})
	s.serve(t, Options{Stall: 300 * time.Millisecond, OnRefused: counted.add, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/tunnel" {
			c, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = c.Close() }()
			_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
			<-end
			_, _ = io.WriteString(c, "last")
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: 1\n\n")
		_ = http.NewResponseController(w).Flush()
		<-end
		_, _ = io.WriteString(w, "data: 2\n\n")
	})})
	answers := make(chan *http.Response, 2)
	for _, over2 := range []bool{false, true} {
		answer, err := s.client(t, over2, true).Get("https://" + s.secure.Addr().String() + "/events")
		if err != nil {
			t.Fatal(err)
		}
		answers <- answer
	}
	tunnel := dial(t, s.plain.Addr().String())
	tunnel.send("GET /tunnel HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
	if _, err := http.ReadResponse(tunnel.in, nil); err != nil {
		t.Fatal(err)
	}
	<-time.After(time.Second) // many looks
	close(end)
	for range 2 {
		answer := <-answers
		if text, err := io.ReadAll(answer.Body); string(text) != "data: 1\n\ndata: 2\n\n" || err != nil {
			t.Errorf("%s: %q, %v", answer.Proto, text, err)
		}
	}
	if text, err := io.ReadAll(tunnel.in); string(text) != "last" || err != nil {
		t.Errorf("the tunnel said %q, %v", text, err)
	}
	if all := counted.all(); len(all) > 0 {
		t.Errorf("counted as %v", all)
	}
}

func TestRoomIsMadeByThoseThatHaveRestedLongest(t *testing.T) {
	s, counted, begun, release := newSite(t), &reasons{}, make(chan struct{}, 1), make(chan struct{})
	server := s.serve(t, Options{OnRefused: counted.add, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/busy" {
			begun <- struct{}{}
			<-release
		}
	})})
	busy := dial(t, s.plain.Addr().String())
	busy.send("GET /busy HTTP/1.1\r\nHost: a.test\r\n\r\n")
	<-begun
	over2 := s.rawHTTP2(t)
	_ = over2.ask(1, true)
	over2.answer(t)
	until(t, "it rests", func() bool { return server.Stats().Idle == 1 })
	old, young := dial(t, s.plain.Addr().String()), dial(t, s.plain.Addr().String())
	for i, c := range []*wire{old, young} {
		c.get("/")
		until(t, "it rests", func() bool { return server.Stats().Idle == 2+i })
	}
	if closed := server.MakeRoom(); closed != 1 {
		t.Errorf("closed %d", closed)
	}
	if last := <-over2.goAway; last != nil && (last.ErrCode != http2.ErrCodeNo || last.LastStreamID != 1) {
		t.Errorf("HTTP/2 was told %v", last)
	}
	if closed := server.MakeRoom(); closed != 1 {
		t.Errorf("closed %d", closed)
	}
	old.ended()
	young.get("/")
	close(release)
	busy.answer()
	if all := counted.all(); len(all) != 2 || all[0] != Resting {
		t.Errorf("counted as %v", all)
	}
}

// It is not told where that would have to wait for a frame that is being written.
func TestAnHTTP2ConnectionThatMakesRoomIsToldIfThatCanBeAtOnce(t *testing.T) {
	s := newSite(t)
	server := s.serve(t, Options{Handler: http.HandlerFunc(witness)})
	for range 20 {
		c := s.rawHTTP2(t)
		_ = c.ask(1, true)
		c.answer(t)
		until(t, "it rests", func() bool { return server.Stats().Idle == 1 })
		if closed := server.MakeRoom(); closed != 1 {
			t.Fatalf("closed %d", closed)
		}
		if last := <-c.goAway; last != nil {
			return
		}
		until(t, "it is gone", func() bool { return server.Stats().Open == 0 })
	}
	t.Error("none of twenty was told")
}

func TestWhereNothingRestsNoRoomIsMade(t *testing.T) {
	s, begun, release := newSite(t), make(chan struct{}), make(chan struct{})
	server := s.serve(t, Options{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { close(begun); <-release })})
	busy := dial(t, s.plain.Addr().String())
	busy.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
	<-begun
	dial(t, s.plain.Addr().String()) // it may be about to speak
	until(t, "both are there", func() bool { return server.Stats().Open == 2 })
	if closed := server.MakeRoom(); closed != 0 {
		t.Errorf("closed %d", closed)
	}
	close(release)
	busy.answer()
}
