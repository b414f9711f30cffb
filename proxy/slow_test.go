package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// hurried limits bodies to 1,000 bytes a second after a tenth of a second.
func hurried(s *site) {
	s.handler.Limits = Limits{Headers: 20, BodyRate: 1000, Grace: 100 * time.Millisecond, Stall: time.Second}
}

func TestABodyThatDripsIsAnswered408AndItsConnectionClosed(t *testing.T) {
	s := newSite(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }), nil, hurried)
	for _, framing := range []string{"Content-Length: 1000\n\n", "Transfer-Encoding: chunked\n\n5\n"} {
		c := s.dial(t)
		write(t, c, "POST / HTTP/1.1\nHost: a.test\n"+framing+"drip")
		began := time.Now()
		answer, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || answer.StatusCode != http.StatusRequestTimeout || !answer.Close {
			t.Fatalf("%s: %+v, %v", framing, answer, err)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("it took %v", took)
		}
		_, _ = io.Copy(io.Discard, answer.Body)
		_, _ = io.ReadAll(c) // until it is closed
	}
	if n := s.handler.Metrics.Totals().Refused[slowBody]; n != 2 {
		t.Errorf("%d are counted", n)
	}
}

func TestADrippingBodyOverHTTP2IsAnswered408(t *testing.T) {
	s := newSite(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }), nil, hurried)
	body, end := io.Pipe()
	defer func() { _ = end.Close() }()
	request, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://example.com/", body)
	response, err := overHTTP2(t, s).Do(request)
	if err != nil || response.StatusCode != http.StatusRequestTimeout {
		t.Fatalf("%+v, %v", response, err)
	}
	_ = response.Body.Close()
}

func TestATargetThatReadsSlowlyIsNotTakenForASlowVisitor(t *testing.T) {
	const size = 32 << 20 // more than all buffers on the way
	s := newSite(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		<-time.After(time.Second) // ten times the grace
		n, _ := io.Copy(io.Discard, r.Body)
		_, _ = fmt.Fprint(w, n)
	}), nil, hurried)
	response, err := s.Client().Post(s.URL, "text/plain", io.LimitReader(zeros{}, size))
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(response.Body)
	if response.StatusCode != http.StatusOK || string(text) != fmt.Sprint(size) {
		t.Errorf("%d %s", response.StatusCode, text)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

func TestAVisitorMayTakeHisTimeOnceTheAnswerHasBegun(t *testing.T) {
	s := newSite(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		_, _ = io.WriteString(w, "begun ")
		_ = http.NewResponseController(w).Flush()
		text, _ := io.ReadAll(r.Body)
		_, _ = w.Write(text)
	}), nil, hurried)
	c := s.dial(t)
	write(t, c, "POST / HTTP/1.1\nHost: a.test\nContent-Length: 4\n\n")
	answer, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	<-time.After(500 * time.Millisecond)
	write(t, c, "late")
	if text, err := io.ReadAll(answer.Body); string(text) != "begun late" || err != nil {
		t.Errorf("%q, %v", text, err)
	}
}

func TestPatienceIsLostByWaitingAndEarnedByBytes(t *testing.T) {
	limits := Limits{BodyRate: 512, Grace: 10 * time.Second, Stall: 5 * time.Minute}
	for name, row := range map[string]struct {
		bytes int           // each time
		every time.Duration // waited before
		busy  time.Duration // with the target, after
		want  time.Duration // when it expires; 0 for not within an hour
	}{
		"nothing comes":                {0, time.Hour, 0, 10 * time.Second},
		"a byte each second":           {1, time.Second, 0, 10 * time.Second},
		"as fast as must be":           {513, time.Second, 0, 0},
		"a slow target, a fast sender": {1000, time.Millisecond, time.Minute, 0},
		"a large piece, then nothing":  {100 << 20, time.Hour, 0, 10 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var expired atomic.Int64
				began := time.Now()
				p := newPatience(limits, func() { expired.Store(int64(time.Since(began))) })
				for time.Since(began) < time.Hour && expired.Load() == 0 {
					p.wait()
					for waited := time.Duration(0); waited < row.every && expired.Load() == 0; waited += min(row.every, time.Second) {
						time.Sleep(min(row.every, time.Second))
					}
					p.got(row.bytes)
					time.Sleep(row.busy)
				}
				p.stop()
				if got := time.Duration(expired.Load()); got.Round(time.Second) != row.want {
					t.Errorf("after %v, want %v", got, row.want)
				}
			})
		})
	}
}

func TestWhateverCameBeforeASilenceEndsSomeTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var expired atomic.Int64
		began := time.Now()
		p := newPatience(Limits{BodyRate: 512, Grace: 10 * time.Second, Stall: 5 * time.Minute}, func() { expired.Store(int64(time.Since(began))) })
		p.wait()
		p.got(1 << 30) // worth 24 days
		p.wait()
		time.Sleep(time.Hour)
		p.stop()
		if got := time.Duration(expired.Load()); got != 5*time.Minute {
			t.Errorf("it ended after %v", got)
		}
	})
}

func TestAHeadOfTooManyFieldsIsAnswered431AndCounted(t *testing.T) {
	s := newSite(t, says("v1"), nil, hurried)
	head := "GET / HTTP/1.1\nHost: a.test\nConnection: close\n"
	for fields, want := range map[int]string{19: "HTTP/1.1 200", 20: "HTTP/1.1 431"} {
		if answer := s.raw(t, head+strings.Repeat("X-Same: 1\n", fields)+"\n"); !strings.HasPrefix(answer, want) {
			t.Errorf("%d fields and Connection: %.40q", fields, answer)
		}
	}
	if n := s.handler.Metrics.Totals().Refused[headerCount]; n != 1 {
		t.Errorf("%d are counted", n)
	}
}
