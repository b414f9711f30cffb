package fastcgi

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"testing"
	"time"
)

func TestARequestReachesAnApplicationAndItsAnswerTheVisitor(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		l := serveGo(t, network, func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			w.Header().Add("Set-Cookie", "a=1")
			w.Header().Add("Set-Cookie", "b=2")
			w.WriteHeader(http.StatusTeapot)
			fmt.Fprintf(w, "%s %s %s %s %s %v %s %s", r.Method, r.Host, r.URL.RequestURI(), r.RemoteAddr, r.Header.Get("X-Of-The-Visitor"), r.TLS != nil, r.Header.Get("Cookie"), body)
		})
		transport := newTransport(t, l, nil)
		r := newRequest(t, http.MethodPut, "/a%2Fb/?q=%zz&r", strings.NewReader("the body"))
		r.Header = http.Header{"X-Of-The-Visitor": {"one", "two"}, "Cookie": {"c=3", "d=4"}}
		r.TLS = &tls.ConnectionState{}
		response, text, err := roundTrip(t, transport, r)
		if err != nil {
			t.Fatal(err)
		}
		if want := "PUT shop.example /a%2Fb/?q=%zz&r 192.0.2.7:4711 one, two true c=3; d=4 the body"; text != want {
			t.Errorf("%s: %q, not %q", network, text, want)
		}
		if response.StatusCode != http.StatusTeapot || fmt.Sprint(response.Header["Set-Cookie"]) != "[a=1 b=2]" || response.Request != r {
			t.Errorf("%s: %+v", network, response)
		}
	}
}

func TestBodiesOfAnySizeArriveAsTheyWereSent(t *testing.T) {
	l := serveGo(t, "unix", func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })
	transport := newTransport(t, l, nil)
	for _, size := range []int{0, 1, 127, 128, atOnce, atOnce + 1, chunk - 1, chunk, chunk + 1, maxContent, maxContent + 1, 3 << 20} {
		sent := strings.Repeat("x", size)
		_, text, err := roundTrip(t, transport, newRequest(t, http.MethodPost, "/", strings.NewReader(sent)))
		if err != nil || text != sent {
			t.Errorf("of %d bytes came %d: %v", size, len(text), err)
		}
	}
}

func TestAnAnswerStreamsBackWhileTheBodyIsSent(t *testing.T) {
	l := serveRaw(t, "tcp", func(_ int, c *peer) {
		if _, _, err := c.request(); err != nil {
			t.Error(err)
			return
		}
		_, first, err := c.record()
		_ = c.write(typeStdout, "Content-Type: text/plain\n\ngot "+string(first))
		rest, err2 := c.body()
		if err != nil || err2 != nil {
			t.Error(err, err2)
		}
		_ = c.answer(", then " + rest)
	})
	transport := newTransport(t, l, nil)
	from, to := io.Pipe()
	r := newRequest(t, http.MethodPost, "/", from)
	other := strings.Repeat("x", atOnce)
	r.ContentLength = int64(len("first" + other))
	asked := make(chan *http.Response, 1)
	go func() {
		response, err := transport.RoundTrip(r)
		if err != nil {
			t.Error(err)
		}
		asked <- response
	}()
	_, _ = io.WriteString(to, "first")
	response := receive(t, asked)
	if response == nil {
		return
	}
	defer response.Body.Close()
	start := make([]byte, len("got first"))
	if _, err := io.ReadFull(response.Body, start); err != nil || string(start) != "got first" {
		t.Fatalf("%q, %v", start, err)
	}
	_, _ = io.WriteString(to, other)
	if rest, err := io.ReadAll(response.Body); err != nil || string(rest) != ", then "+other {
		t.Errorf("%d bytes, %v", len(rest), err)
	}
}

func TestAnAnswerThatComesBeforeTheBodyHasEndedIsWholeAndItsConnectionNotKept(t *testing.T) {
	l := serveRaw(t, "unix", func(_ int, c *peer) {
		if _, _, err := c.request(); err == nil {
			_ = c.answer("Status: 403 Forbidden\n\nno")
		}
	})
	transport := newTransport(t, l, nil)
	r := newRequest(t, http.MethodPost, "/", endless{})
	r.ContentLength = 1 << 40
	response, text, err := roundTrip(t, transport, r)
	if err != nil || text != "no" || response.StatusCode != http.StatusForbidden {
		t.Errorf("%q, %v", text, err)
	}
	if transport.idle() != 0 {
		t.Error("the connection was kept")
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestABodyThatDoesNotSayItsLengthIsNotSent(t *testing.T) {
	l := listen(t, "unix")
	r := newRequest(t, http.MethodPost, "/", io.MultiReader(strings.NewReader("body")))
	if _, _, err := roundTrip(t, newTransport(t, l, nil), r); !errors.Is(err, errNoLength) {
		t.Errorf("got %v", err)
	}
}

// waitFor asks again until something is so.
func waitFor(t *testing.T, so func() bool) {
	t.Helper()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for began := time.Now(); !so(); <-ticker.C {
		if time.Since(began) > patience {
			t.Fatal("it never becomes so")
		}
	}
}

func TestWhatFailsInTheVisitorsBodyIsNamedAndHalfABodyIsNeverEnded(t *testing.T) {
	broken := errors.New("the visitor's request broke off")
	for name, length := range map[string]int64{"short": 100, "long": atOnce + 1} {
		seen := make(chan error, 1)
		l := serveRaw(t, "tcp", func(_ int, c *peer) {
			_, _, err := c.ask()
			seen <- err
		})
		transport := newTransport(t, l, nil)
		r := newRequest(t, http.MethodPost, "/", io.MultiReader(strings.NewReader("half"), failing{broken}))
		r.ContentLength = length
		if _, _, err := roundTrip(t, transport, r); !errors.Is(err, broken) {
			t.Errorf("%s: %v", name, err)
		}
		transport.CloseIdleConnections()
		if err := receive(t, seen); err == nil {
			t.Errorf("%s: the application got it for a whole body", name)
		}
	}
	l := serveRaw(t, "tcp", func(_ int, c *peer) { _, _, _ = c.ask() })
	for _, length := range []int64{100, atOnce + 1} {
		r := newRequest(t, http.MethodPost, "/", strings.NewReader("half"))
		r.ContentLength = length
		if _, _, err := roundTrip(t, newTransport(t, l, nil), r); !errors.Is(err, errShortBody) {
			t.Errorf("a body that is too short for %d: %v", length, err)
		}
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestTheBodyIsClosedWhateverHappens(t *testing.T) {
	good := serveGo(t, "unix", func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })
	gone := listen(t, "unix")
	gone.Close()
	transports := map[string]*Transport{
		"answered": newTransport(t, good, nil),
		"refused":  newTransport(t, good, func(c *Config) { c.Root = "/srv" }),
		"dead":     newTransport(t, gone, nil),
	}
	for name, transport := range transports {
		for _, length := range []int64{-1, 4, 2 * atOnce} {
			body := &closing{Reader: strings.NewReader(strings.Repeat("x", int(max(0, length)))), closed: make(chan struct{})}
			r := newRequest(t, http.MethodPost, "/x", body)
			r.ContentLength = length
			_, _, _ = roundTrip(t, transport, r)
			select {
			case <-body.closed:
			case <-time.After(patience):
				t.Errorf("%s, length %d: not closed", name, length)
			}
		}
	}
}

type closing struct {
	io.Reader
	closed chan struct{}
}

func (c *closing) Close() error {
	close(c.closed) // panics the second time
	return nil
}

func TestAVisitorWhoLeavesEndsTheRequestAtTheApplication(t *testing.T) {
	for _, after := range []string{"", "Content-Type: text/plain\n\nstart"} {
		asked, ended := make(chan struct{}), make(chan error, 1)
		l := serveRaw(t, "unix", func(_ int, c *peer) {
			_, _, _ = c.ask()
			if after != "" {
				_ = c.write(typeStdout, after)
			}
			close(asked)
			_, _, err := c.record()
			ended <- err
		})
		transport := newTransport(t, l, nil)
		ctx, leave := context.WithCancel(t.Context())
		go func() {
			<-asked
			leave()
		}()
		_, _, err := roundTrip(t, transport, newRequest(t, http.MethodGet, "/", nil).WithContext(ctx))
		if !errors.Is(err, context.Canceled) {
			t.Errorf("after %q: %v", after, err)
		}
		if err := receive(t, ended); err == nil {
			t.Errorf("after %q: the application sees nothing", after)
		}
		if transport.idle() != 0 {
			t.Error("the connection was kept")
		}
		leave()
	}
}

func TestAnAnswerThatIsNotReadToItsEndCostsTheConnection(t *testing.T) {
	ended := make(chan error, 1)
	l := serveRaw(t, "unix", func(_ int, c *peer) {
		_, _, _ = c.ask()
		_ = c.answer("X: y\n\n" + strings.Repeat("x", 20<<10))
		_, _, err := c.record()
		ended <- err
	})
	transport := newTransport(t, l, nil)
	response, err := transport.RoundTrip(newRequest(t, http.MethodGet, "/", nil))
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if _, err := response.Body.Read(make([]byte, 1)); !errors.Is(err, http.ErrBodyReadAfterClose) {
		t.Errorf("got %v", err)
	}
	if err := receive(t, ended); err == nil {
		t.Error("the application sees nothing")
	}
	if transport.idle() != 0 {
		t.Error("the connection was kept")
	}
}

func TestAnApplicationHasItsTimeForTheFirstHeaderAndToReadTheBody(t *testing.T) {
	quiet := serveRaw(t, "unix", func(_ int, c *peer) {
		_, _, _ = c.ask()
		_, _, _ = c.record()
	})
	deaf := serveRaw(t, "unix", func(_ int, c *peer) {
		_, _, _ = c.request()
		<-t.Context().Done()
	})
	short := func(c *Config) { c.ResponseTimeout = 50 * time.Millisecond }
	long := newRequest(t, http.MethodPost, "/", endless{})
	long.ContentLength = 1 << 40
	for name, ask := range map[string]func() error{
		"silent": func() error {
			_, err := newTransport(t, quiet, short).RoundTrip(newRequest(t, http.MethodGet, "/", nil))
			return err
		},
		"silent after the body": func() error {
			_, err := newTransport(t, quiet, short).RoundTrip(newRequest(t, http.MethodPost, "/", strings.NewReader("x")))
			return err
		},
		"deaf": func() error { _, err := newTransport(t, deaf, short).RoundTrip(long); return err },
	} {
		if err := ask(); !isTimeout(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestASlowBodyCountsNeitherForTheApplicationsTimeNorAnAnswerThatBeganInTime(t *testing.T) {
	const mayTake, takes = time.Second, 1200 * time.Millisecond
	for name, serve := range map[string]func(c *peer){
		"header after the body": func(c *peer) {
			_, body, _ := c.ask()
			_ = c.write(typeStdout, "X: y\n\n"+body)
		},
		"header before the body": func(c *peer) {
			_, _, _ = c.request()
			_ = c.write(typeStdout, "X: y\n\n")
			body, _ := c.body()
			_ = c.write(typeStdout, body)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := serveRaw(t, "unix", func(_ int, c *peer) {
				serve(c)
				<-time.After(takes)
				_ = c.answer(".")
			})
			transport := newTransport(t, l, func(c *Config) { c.ResponseTimeout = mayTake })
			r := newRequest(t, http.MethodPost, "/", &slow{text: "abc", pause: takes / 3})
			r.ContentLength = 3
			if _, text, err := roundTrip(t, transport, r); err != nil || text != "abc." {
				t.Errorf("%q, %v", text, err)
			}
		})
	}
}

// slow gives a byte at a time.
type slow struct {
	text  string
	pause time.Duration
}

func (s *slow) Read(p []byte) (int, error) {
	if s.text == "" {
		return 0, io.EOF
	}
	<-time.After(s.pause)
	n := copy(p, s.text[:1])
	s.text = s.text[1:]
	return n, nil
}

func TestTheTraceTellsWhetherTheApplicationWasReached(t *testing.T) {
	good := serveGo(t, "tcp", func(http.ResponseWriter, *http.Request) {})
	gone := listen(t, "tcp")
	gone.Close()
	asks := 0
	trace := func(log *string) context.Context {
		return httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
			GetConn: func(string) { *log += "get " },
			GotConn: func(i httptrace.GotConnInfo) { *log += fmt.Sprintf("got:%v ", i.Reused) },
		})
	}
	transport := newTransport(t, good, nil)
	for _, want := range []string{"get got:false ", "get got:true "} {
		log := ""
		if _, _, err := roundTrip(t, transport, newRequest(t, http.MethodGet, "/", nil).WithContext(trace(&log))); err != nil || log != want {
			t.Errorf("%q, not %q: %v", log, want, err)
		}
	}
	log := ""
	r := newRequest(t, http.MethodPost, "/", readFunc(func([]byte) (int, error) { asks++; return 0, io.EOF })).WithContext(trace(&log))
	r.ContentLength = 4
	if _, err := newTransport(t, gone, nil).RoundTrip(r); err == nil || log != "get " || asks > 0 {
		t.Errorf("%q, %v; the body was read %d times", log, err, asks)
	}
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

func TestErrorsOfAnApplicationAreNamed(t *testing.T) {
	long := "X: " + strings.Repeat("x", 1000)
	for name, c := range map[string]struct{ sent, want string }{
		"overloaded":         {string(ended(0, 2)), ErrOverloaded.Error()},
		"no multiplexing":    {string(ended(0, 1)), "FCGI_CANT_MPX_CONN"},
		"no responder":       {string(ended(0, 3)), "FCGI_UNKNOWN_ROLE"},
		"unknown end":        {string(ended(0, 9)), "unknown status 9"},
		"nothing":            {"", errBrokeOff.Error()},
		"nothing but an end": {string(ended(1, 0)), errNoAnswer.Error()},
		"half a record":      {string(record(typeStdout, "X: y\n\n")[:5]), errBrokeOff.Error()},
		"half a header":      {string(record(typeStdout, "X: y\n")) + string(ended(0, 0)), errNoAnswer.Error()},
		"HTTP":               {"HTTP/1.1 200 OK\r\n\r\n", "is no FastCGI"},
		"another request's":  {"\x01\x06\x00\x02\x00\x00\x00\x00", "is no FastCGI"},
		"a foreign record":   {string(record(9, "")), "type 9"},
		"a short end":        {string(record(typeEnd, "123")), "3 bytes"},
		"a long header":      {string(record(typeStdout, long)) + string(record(typeStdout, long)), errHeadLong.Error()},
		"no field":           {string(record(typeStdout, "hello\n\n")), "no header field"},
		"a spaced field":     {string(record(typeStdout, "X : y\n\n")), "no header field"},
		"a folded field":     {string(record(typeStdout, "X: y\n z: a\n\n")), "no header field"},
		"a bare CR":          {string(record(typeStdout, "X: y\rSet-Cookie: a\n\n")), "no header field"},
		"a NUL":              {string(record(typeStdout, "X: y\x00\n\n")), "no header field"},
		"status 101":         {string(record(typeStdout, "Status: 101 Switching\n\n")), "status"},
		"status abc":         {string(record(typeStdout, "Status: abc\n\n")), "status"},
		"status 2000":        {string(record(typeStdout, "Status: 2000\n\n")), "status"},
		"two lengths":        {string(record(typeStdout, "Content-Length: 1\nContent-Length: 2\n\n")), "Content-Length"},
		"a negative length":  {string(record(typeStdout, "Content-Length: -1\n\n")), "Content-Length"},
		"a short body":       {string(record(typeStdout, "Content-Length: 3\n\nab")) + string(ended(0, 0)), errTooLittle.Error()},
		"a long body":        {string(record(typeStdout, "Content-Length: 3\n\nabcd")) + string(ended(0, 0)), errTooMuch.Error()},
		"a body without end": {string(record(typeStdout, "Content-Length: 3\n\nabc")), errBrokeOff.Error()},
	} {
		l := serveRaw(t, "unix", func(_ int, p *peer) {
			_, _, _ = p.ask()
			_, _ = io.WriteString(p, c.sent)
		})
		transport := newTransport(t, l, func(c *Config) { c.MaxHeaderBytes = 1500 })
		_, text, err := roundTrip(t, transport, newRequest(t, http.MethodGet, "/", nil))
		if err == nil || !strings.Contains(err.Error(), c.want) || len(text) > 3 {
			t.Errorf("%s: %q, %v", name, text, err)
		}
		if name == "overloaded" && !errors.Is(err, ErrOverloaded) {
			t.Error("ErrOverloaded is not wrapped")
		}
		if transport.idle() != 0 {
			t.Errorf("%s: the connection was kept", name)
		}
	}
}

func TestAnAnswersHeaderIsReadAsCGIHasIt(t *testing.T) {
	for sent, want := range map[string]string{
		"X: y\n\n":                                 "200 -1 map[X:[y]] body",
		"x-lower:  y \r\n\r\n":                     "200 -1 map[X-Lower:[y]] body",
		"\n":                                       "200 -1 map[] body",
		"\r\n":                                     "200 -1 map[] body",
		"Status: 404\n\n":                          "404 -1 map[] body",
		"Status: 404 Not Here\r\nA: b\n\r\n":       "404 -1 map[A:[b]] body",
		"Location: /x\n\n":                         "302 -1 map[Location:[/x]] body",
		"Location: https://a.test/\n\n":            "302 -1 map[Location:[https://a.test/]] body",
		"Location: /x\nStatus: 201\n\n":            "201 -1 map[Location:[/x]] body",
		"HTTP/1.1 410 Gone\nA: b\n\n":              "410 -1 map[A:[b]] body",
		"Content-Length: 4\n\n":                    "200 4 map[Content-Length:[4]] body",
		"Content-Length: 4\nContent-Length: 4\n\n": "200 4 map[Content-Length:[4]] body",
		"Connection: close\nTransfer-Encoding: chunked\n\n": "200 -1 map[] body",
	} {
		l := serveRaw(t, "unix", func(_ int, p *peer) {
			_, _, _ = p.ask()
			for i := range len(sent) { // each byte in a record of its own, with something else in between
				_ = p.write(typeStdout, sent[i:i+1])
				_ = p.write(typeStderr, "noise")
			}
			_ = p.write(typeStdout, "body")
			_ = p.answer("")
		})
		response, text := get(t, newTransport(t, l, nil), "/")
		got := fmt.Sprint(response.StatusCode, " ", response.ContentLength, " ", map[string][]string(response.Header), " ", text)
		if got != want {
			t.Errorf("%q: %s, not %s", sent, got, want)
		}
	}
}

func TestAnAnswerThatIsThereAtOnceSaysItsLength(t *testing.T) {
	head := string(record(typeStdout, "X: y\n\nab"))
	for sent, want := range map[string]int64{
		head + string(ended(0, 0)): 2,
		head + string(record(typeStdout, "cd")) + string(record(typeStdout, "")) + string(ended(0, 0)): 4,
		string(record(typeStdout, "Content-Length: 2\n\nab")) + string(ended(0, 0)):                    2,
		string(record(typeStdout, "Status: 204\n\n")) + string(ended(0, 0)):                            0,
		string(record(typeStdout, "Status: 304\n\n")) + string(ended(0, 0)):                            -1,
		head + string(record(typeStderr, "e")) + string(ended(0, 0)):                                   -1,
		head + string(ended(0, 0)) + "x":                                                               -1,
		head + string(ended(0, 2)):                                                                     -1,
		head + string(record(9, "")) + string(ended(0, 0)):                                             -1,
		head: -1,
	} {
		l := serveRaw(t, "unix", func(_ int, p *peer) {
			_, _, _ = p.ask()
			_, _ = io.WriteString(p, sent)
			_, _, _ = p.record()
		})
		response, err := newTransport(t, l, nil).RoundTrip(newRequest(t, http.MethodGet, "/", nil))
		if err != nil {
			t.Fatal(err)
		}
		if response.ContentLength != want || (response.Header.Get("Content-Length") != "") != (want > 0) {
			t.Errorf("%q: %d, %v", sent, response.ContentLength, response.Header)
		}
		response.Body.Close()
	}
}

func TestABodyMayBeClosedWhileSomebodyReads(t *testing.T) {
	l := serveRaw(t, "unix", func(_ int, p *peer) {
		_, _, _ = p.ask()
		_ = p.write(typeStdout, "X: y\n\na")
		_, _, _ = p.record()
	})
	response, err := newTransport(t, l, nil).RoundTrip(newRequest(t, http.MethodGet, "/", nil))
	if err != nil {
		t.Fatal(err)
	}
	ended, reading := make(chan error, 1), make(chan struct{})
	go func() {
		_, _ = response.Body.Read(make([]byte, 1))
		close(reading)
		_, err := io.ReadAll(response.Body)
		ended <- err
	}()
	<-reading
	response.Body.Close()
	if err := receive(t, ended); err == nil {
		t.Error("it was read to its end")
	}
}

func TestAnAnswerWithoutABodyHasNoneAndItsConnectionIsKept(t *testing.T) {
	l := serveRaw(t, "unix", func(_ int, p *peer) {
		for {
			params, _, err := p.ask()
			if err != nil {
				return
			}
			_ = p.answer("Status: " + params["QUERY_STRING"] + "\nContent-Length: 9\n\nunwanted")
		}
	})
	transport := newTransport(t, l, nil)
	for _, c := range []struct {
		method, status string
		length         int64
	}{{http.MethodHead, "200", 9}, {http.MethodGet, "204", 0}, {http.MethodGet, "304", 9}} {
		response, text, err := roundTrip(t, transport, newRequest(t, c.method, "/?"+c.status, nil))
		if err != nil || text != "" || response.ContentLength != c.length {
			t.Errorf("%+v: %q, %d, %v", c, text, response.ContentLength, err)
		}
	}
	if l.count() != 1 {
		t.Errorf("%d connections were made", l.count())
	}
}

func TestAnEndlessAnswerToHEADHoldsNobody(t *testing.T) {
	l := serveRaw(t, "unix", func(_ int, p *peer) {
		_, _, _ = p.ask()
		for p.write(typeStdout, "X: y\n\n"+strings.Repeat("x", 1000)) == nil {
			continue
		}
	})
	transport := newTransport(t, l, nil)
	if _, text, err := roundTrip(t, transport, newRequest(t, http.MethodHead, "/", nil)); err != nil || text != "" || transport.idle() != 0 {
		t.Errorf("%q, %v, %d kept", text, err, transport.idle())
	}
}

func TestStandardErrorIsReportedLineByLineUpToABound(t *testing.T) {
	l := serveRaw(t, "unix", func(_ int, p *peer) {
		params, _, _ := p.ask()
		_ = p.write(typeStderr, "first\r\nsec")
		_ = p.write(typeStdout, "X: y\n\n")
		_ = p.write(typeStderr, "ond\n\nthird")
		if params["QUERY_STRING"] == "much" {
			for range 20 {
				_ = p.write(typeStderr, strings.Repeat("x", 10_000))
			}
		}
		_, _ = p.Write(ended(255, 0))
	})
	var said []string
	transport := newTransport(t, l, func(c *Config) {
		c.Stderr = func(ctx context.Context, line string) {
			if ctx != t.Context() {
				t.Error("not the request's context")
			}
			said = append(said, line)
		}
	})
	get(t, transport, "/")
	if got := strings.Join(said, "|"); got != "first|second|third|[the application ended the request with the status 255]" {
		t.Error(got)
	}
	said = nil
	get(t, transport, "/?much")
	total, left := 0, false
	for _, line := range said {
		total += len(line)
		left = left || strings.Contains(line, "left out")
	}
	if total > mostStderr+200 || total < mostStderr/2 || !left || len(said) > 20 {
		t.Errorf("%d bytes in %d lines, %v", total, len(said), left)
	}
	get(t, newTransport(t, l, nil), "/?much") // nobody listens
}
